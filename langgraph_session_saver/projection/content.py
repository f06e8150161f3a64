"""What a message says, as text and JSON: its content, and the tools that it calls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from langgraph_session_saver.projection.plain_json import clean_text, shorten, to_json
from langgraph_session_saver.schema.column_types import JsonText

_KINDS = {"user": "human", "assistant": "ai", "function": "tool"}

_NOT_SAID = frozenset(
    ("reasoning", "thinking", "redacted_thinking", "tool_use", "tool_call", "tool_call_chunk",
     "invalid_tool_call", "server_tool_use", "server_tool_call", "function_call",
     "input_json_delta")
)  # fmt: skip
"""Types of content blocks that are not part of what a message says."""


def field_of(message: Any, name: str) -> Any:
    """A field of a message, or of a mapping in its place."""
    return message.get(name) if isinstance(message, dict) else getattr(message, name, None)


def kind_of(message: Any) -> str:
    """A message's type in LangChain's words: human, ai, system, tool and so on."""
    kind = str(field_of(message, "type") or field_of(message, "role") or "")
    if kind == "chat":
        kind = str(field_of(message, "role"))
    kind = kind.removesuffix("MessageChunk").lower()
    return _KINDS.get(kind, kind)


def text_of(message: Any) -> str:
    """A message's text, without content that is not text."""
    return "".join(text for text, _ in _parts(field_of(message, "content")))


def content_of(message: Any) -> str:
    """A message's text, and in place of other content a reference such as `[image: <URL>]`."""
    return "".join(text or reference for text, reference in _parts(field_of(message, "content")))


def _parts(content: Any) -> Iterator[tuple[str, str]]:
    """The blocks of a message's content, each as text or as a reference to what it holds."""
    for block in content if isinstance(content, list | tuple) else [content]:
        if isinstance(block, str):
            yield block, ""
        elif not isinstance(block, Mapping) or block.get("type") in _NOT_SAID:
            continue
        elif block.get("type") == "text":
            yield str(block.get("text", "")), ""
        else:
            kind = str(block.get("type", "content")).removeprefix("input_").removesuffix("_url")
            where = _reference(block).replace("]", "%5D")
            yield "", f"[{': '.join(filter(None, (kind, where)))}]"


_REFERENCE = re.compile(
    r"\[(?:audio|content|document|file|image|media|text-plain|video)(?:: [^\]]*)?(?:\]|$)"
)
"""What `content_of` puts in the place of what people send; the end of it may be cut off."""


def without_references(content: str) -> str:
    """What `text_of` gives of the message that has this content."""
    return _REFERENCE.sub("", content)


def _reference(block: Mapping[str, Any]) -> str:
    """Where a block's data is, or its type and size if the block holds it."""
    found = dict(_leaves(block))
    for name in ("url", "image_url", "audio_url", "video_url", "file_uri", "file_url"):
        if name in found and not found[name].startswith("data:"):
            return shorten(found[name], 2_048)
    for name in ("file_id", "filename"):
        if name in found:
            return shorten(found[name], 255)
    mime = found.get("mime_type") or found.get("media_type") or found.get("format") or ""
    for name in ("base64", "data", "file_data", "url", "image_url"):
        if name in found:
            header, _, data = found[name].rpartition(",")
            mime = mime or header.removeprefix("data:").partition(";")[0]
            size = len(data) * 3 // 4 - data[-2:].count("=")
            return f"{mime}, {size:,} bytes".removeprefix(", ")
    return shorten(mime, 255)


def _leaves(block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The texts in a block and in the objects that it holds, which providers nest differently."""
    for name, value in block.items():
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, Mapping):
            yield from ((inner, text) for inner, text in value.items() if isinstance(text, str))


def tool_calls_of(message: Any) -> JsonText | None:
    """The tools that a message calls, as a list of objects with `name`, `args` and `id`, in JSON.

    A call that the model wrote wrongly has its arguments as text, and an `error`.
    """
    calls = [
        {name: call.get(name) for name in ("name", "args", "id")}
        for call in map(_plain_call, field_of(message, "tool_calls") or ())
    ]
    calls += [
        {name: call.get(name) for name in ("name", "args", "id", "error")}
        for call in field_of(message, "invalid_tool_calls") or ()
    ]
    return JsonText(json_text(to_json(calls))) if calls else None


def _plain_call(call: Any) -> Mapping[str, Any]:
    """A tool call in LangChain's form, of one in that or in OpenAI's."""
    function = call.get("function")
    if not isinstance(function, Mapping):
        return call  # type: ignore[no-any-return]
    return {"id": call.get("id"), "name": function.get("name"), "args": function.get("arguments")}


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def json_text(value: Any) -> str:
    """The one text that equal JSON values have."""
    return _ENCODER.encode(value)


def optional_text(value: Any) -> str | None:
    """Text that databases store; None for no value."""
    return None if value is None else clean_text(str(value))
