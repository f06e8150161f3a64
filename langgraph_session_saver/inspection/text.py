"""Formatting for people: text that is safe in a terminal and in HTML, cut to a width."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

from langgraph_session_saver.inspection.decode import TYPE, Undecodable, without_snapshot
from langgraph_session_saver.log import printable
from langgraph_session_saver.projection.plain_json import OverBudgetError, shorten, to_json

WIDTH = 100
"""Columns of a printed line."""

RIGHT_ALIGNED = {"step", "size", "stored"}
"""Titles of columns of numbers."""

LARGEST_JSON = 10_000
"""Characters of a value that `to_dict` keeps whole, and the largest limit of `brief`."""

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


def html_table(title: str, heads: Sequence[str], rows: Iterable[Iterable[str]], footer: str) -> str:
    """A table for notebooks; `rows` are HTML, the rest is text."""

    def line(tag: str, cells: Iterable[str]) -> str:
        numeric = (' class="n"' if head in RIGHT_ALIGNED else "" for head in heads)
        cells = (f"<{tag}{n}>{cell}</{tag}>" for n, cell in zip(numeric, cells, strict=True))
        return f"<tr>{''.join(cells)}</tr>"

    return (
        f'{STYLE}<div class="lgss"><pre>{escape(title)}</pre>'
        f"<table><thead>{line('th', heads)}</thead>"
        f"<tbody>{''.join(line('td', row) for row in rows)}</tbody></table>"
        f'<p class="quiet">{escape(footer)}</p></div>'
    )


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
        for piece in _pieces(value):
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
    units = {str: "characters", bytes: "bytes", dict: "keys", list: "items", tuple: "items"}
    kind: Any = None if isinstance(value, Mapping) and TYPE in value else type(value)
    unit = units.get(kind)
    return f"{len(value):,} {unit}" if unit else "cut"


def _pieces(value: Any) -> Iterator[str]:
    """The text of a value as Python would show it, piece by piece."""
    value = without_snapshot(value)
    if isinstance(value, Mapping):
        yield from _mapping_pieces(value)
    elif isinstance(value, list | tuple):
        yield from _group("[", "]", (("", item) for item in value))
    elif isinstance(value, str):
        yield repr(value[: LARGEST_JSON + 1])
    elif isinstance(value, bytes):
        start = value[:16].hex(" ") + (" …" if len(value) > 16 else "")
        yield f"<{len(value):,} bytes: {start}>"
    elif isinstance(value, Undecodable):
        yield f"<{value}>"
    else:
        yield repr(value)


def _mapping_pieces(value: Mapping[Any, Any]) -> Iterator[str]:
    name = value.get(TYPE)
    if name is None:
        yield from _group("{", "}", ((f"{key!r}: ", item) for key, item in value.items()))
        return
    yield str(name).rpartition(".")[2]
    fields = {key: item for key, item in value.items() if key != TYPE}
    empty: tuple[Any, ...] = (None, "", [], {}, ())
    if str(name).startswith("langchain_core.messages."):
        fields.pop("type", None)  # "ai", of an AIMessage
    items = ((f"{key}=", item) for key, item in fields.items() if item not in empty)
    if fields.keys() == {"args"} and isinstance(fields["args"], list | tuple):
        items = (("", item) for item in fields["args"])
    elif fields.keys() == {"value"}:
        items = (("", item) for item in fields.values())
    yield from _group("(", ")", items)


def _group(start: str, end: str, items: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """Labelled items between brackets."""
    separator = start
    for label, item in items:
        yield f"{separator}{label}"
        yield from _pieces(item)
        separator = ", "
    yield end if separator == ", " else f"{start}{end}"
