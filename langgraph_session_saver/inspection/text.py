"""Formatting for people: text that is safe in a terminal and in HTML, cut to a width."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

from langgraph_session_saver.inspection.decode import SNAPSHOT, TYPE, Undecodable
from langgraph_session_saver.projection.plain_json import OverBudgetError, shorten, to_json

WIDTH = 100
"""Columns of a printed line."""

LARGEST_JSON = 10_000
"""Characters of a value that `to_dict` keeps whole."""

STYLE = (
    "<style>"
    ".lgss{color:inherit;font-size:13px}"
    ".lgss table{border-collapse:collapse;color:inherit;background:none}"
    ".lgss th,.lgss td{padding:2px 8px;text-align:left;vertical-align:top;color:inherit;"
    "border-bottom:1px solid rgba(128,128,128,.35)}"
    ".lgss .n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}"
    ".lgss pre,.lgss code{font-family:ui-monospace,monospace;margin:0;white-space:pre-wrap;"
    "color:inherit;background:none}"
    ".lgss .graph{white-space:pre}"
    ".lgss .quiet{opacity:.65}"
    "</style>"
)
"""Inherits colour and background, so that it suits light and dark pages."""


def escape(value: object) -> str:
    """Escape untrusted text for HTML elements and quoted attributes."""
    return html.escape(printable(str(value), keep="\n"), quote=True)


def html_table(title: str, heads: str, rows: str, footer: str) -> str:
    """A table for notebooks; `heads` and `rows` are HTML, `title` and `footer` are text."""
    return (
        f'{STYLE}<div class="lgss"><pre>{escape(title)}</pre>'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        f'<p class="quiet">{escape(footer)}</p></div>'
    )


def printable(text: str, keep: str = "") -> str:
    """Escape control characters and others that are not printable."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escape_code(c) for c in text)


def _escape_code(character: str) -> str:
    short = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return short.get(character) or f"\\u{ord(character):04x}"


def format_bytes(size: int | None) -> str:
    """A number of bytes in at most eight characters; "?" where it is unknown."""
    if size is None:
        return "?"
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:,.0f} TB"


def format_names(names: Iterable[str]) -> str:
    """Distinct names with the number of their repetitions: `a, w x3`."""
    times = Counter(names)
    return ", ".join(name if n == 1 else f"{name} x{n}" for name, n in times.items())


def quantity(count: int, noun: str) -> str:
    """A number with its noun: `1 thread`, `2 threads`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def is_internal(channel: str) -> bool:
    """Whether a channel is one of LangGraph's own, which schedule nodes."""
    return channel.startswith(("branch:to:", "join:", "__")) and channel != "__root__"


def record_to_dict(record: Any) -> dict[str, Any]:
    """A dataclass instance as JSON data; of large values only their start, as text."""
    return {field.name: _field_to_json(getattr(record, field.name)) for field in fields(record)}


def _field_to_json(value: Any) -> Any:
    if is_dataclass(value):
        return record_to_dict(value)
    if isinstance(value, tuple):
        return [_field_to_json(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    try:
        return to_json(value, budget=LARGEST_JSON)
    except OverBudgetError:
        return {"$beginning": brief(value, LARGEST_JSON)}


def brief(value: Any, limit: int = 300) -> str:
    """A decoded value on one line; if it is cut, the line ends with the value's length."""
    text = ""
    try:
        for piece in _pieces(value, limit):
            text += piece
            if len(text) > limit:
                break
    except RecursionError:
        text += "…"
    text = printable(text)
    if len(text) <= limit:
        return text
    length = f" ({_length(value)})"
    return shorten(text, max(8, limit - len(length))) + length


def _length(value: Any) -> str:
    if isinstance(value, str):
        return f"{len(value):,} characters"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, Mapping):
        return "cut" if TYPE in value else f"{len(value):,} keys"
    return f"{len(value):,} items" if isinstance(value, list | tuple) else "cut"


_EMPTY: tuple[Any, ...] = (None, "", [], {}, ())
"""Values of fields that are left out."""


def _pieces(value: Any, limit: int) -> Iterator[str]:
    """The text of a value as Python would show it, piece by piece."""
    if isinstance(value, Mapping):
        yield from _mapping_pieces(value, limit)
    elif isinstance(value, list | tuple):
        yield from _group("[", "]", (("", item) for item in value), limit)
    elif isinstance(value, str):
        yield repr(value[: limit + 1])
    elif isinstance(value, bytes):
        start = value[:16].hex(" ") + (" …" if len(value) > 16 else "")
        yield f"<{len(value):,} bytes: {start}>"
    elif isinstance(value, Undecodable):
        yield f"<{value}>"
    else:
        yield repr(value)


def _mapping_pieces(value: Mapping[Any, Any], limit: int) -> Iterator[str]:
    name = value.get(TYPE)
    if name is None:
        yield from _group("{", "}", ((f"{key!r}: ", item) for key, item in value.items()), limit)
        return
    if name == SNAPSHOT:
        yield from _pieces(value.get("value"), limit)
        return
    yield str(name).rpartition(".")[2]
    fields = {key: item for key, item in value.items() if key != TYPE}
    if str(name).startswith("langchain_core.messages."):
        fields.pop("type", None)  # "ai", of an AIMessage
    items = ((f"{key}=", item) for key, item in fields.items() if item not in _EMPTY)
    if fields.keys() == {"args"} and isinstance(fields["args"], list | tuple):
        items = (("", item) for item in fields["args"])
    elif fields.keys() == {"value"}:
        items = (("", item) for item in fields.values())
    yield from _group("(", ")", items, limit)


def _group(start: str, end: str, items: Iterable[tuple[str, Any]], limit: int) -> Iterator[str]:
    """Labelled items between brackets."""
    separator = start
    for label, item in items:
        yield f"{separator}{label}"
        yield from _pieces(item, limit)
        separator = ", "
    yield end if separator == ", " else f"{start}{end}"
