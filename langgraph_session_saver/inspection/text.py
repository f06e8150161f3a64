"""Text for people: printable, cut to a width, and safe in a terminal and in HTML. Pure."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from langgraph_session_saver.inspection.decode import SNAPSHOT, TYPE, Undecodable
from langgraph_session_saver.projection.plain_json import shorten

WIDTH = 100
"""Columns that printed text fits in."""

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
"""Inherits colour and background, so it reads alike on light and dark pages."""


def escape(value: object) -> str:
    """Untrusted text for HTML, in elements as in quoted attributes."""
    return html.escape(printable(str(value), keep="\n"), quote=True)


def printable(text: str, keep: str = "") -> str:
    """Text without what a terminal would obey: control characters and the like are spelled out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _spelled(c) for c in text)


def _spelled(character: str) -> str:
    short = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return short.get(character) or f"\\u{ord(character):04x}"


def fit(text: str, width: int) -> str:
    """Text in exactly so many columns, cut with an ellipsis."""
    return shorten(printable(text), width).ljust(width)


def amount(size: int | None) -> str:
    """A number of bytes in at most eight characters."""
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


def counted(names: Iterable[str]) -> str:
    """Names once each, with how often: `a, w x3`."""
    times = Counter(names)
    return ", ".join(name if n == 1 else f"{name} x{n}" for name, n in times.items())


def is_internal(channel: str) -> bool:
    """Whether a channel is one of LangGraph's own, which say what runs next."""
    return channel.startswith(("branch:to:", "join:", "__")) and channel != "__root__"


def brief(value: Any, limit: int = 300) -> str:
    """A decoded value on one line, cut to a number of characters, which says what is missing."""
    writer = _Brief(limit)
    writer.write(value)
    text = printable("".join(writer.parts))
    if not writer.is_cut and len(text) <= limit:
        return text
    whole = f" ({_whole(value)})"
    return shorten(text, max(8, limit - len(whole))) + whole


def _whole(value: Any) -> str:
    if isinstance(value, str):
        return f"{len(value):,} characters"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, Mapping):
        return "cut" if TYPE in value else f"{len(value):,} keys"
    return f"{len(value):,} items" if isinstance(value, list | tuple) else "cut"


class _Brief:
    """Writes a value until it is long enough."""

    def __init__(self, limit: int) -> None:
        self.parts: list[str] = []
        self.is_cut = False
        self._left = limit

    def write(self, value: Any) -> None:
        if isinstance(value, Mapping):
            self._mapping(value)
        elif isinstance(value, list | tuple):
            self._items(value, "[", "]")
        elif isinstance(value, str):
            room = max(0, self._left) + 1
            self.is_cut = self.is_cut or len(value) > room
            self._put(repr(value[:room]))
        elif isinstance(value, bytes):
            shown = value[:16].hex(" ") + (" …" if len(value) > 16 else "")
            self._put(f"<{len(value):,} bytes: {shown}>")
        elif isinstance(value, Undecodable):
            self._put(f"<{value}>")
        else:
            self._put(str(value) if isinstance(value, int | float | bool) else repr(value))

    def _put(self, text: str) -> None:
        self.parts.append(text)
        self._left -= len(text)

    def _items(self, values: Iterable[Any], start: str, end: str) -> None:
        self._put(start)
        for n, value in enumerate(values):
            if self._left <= 0:
                self.is_cut = True
                return
            if n:
                self._put(", ")
            self.write(value)
        self._put(end)

    def _mapping(self, value: Mapping[Any, Any]) -> None:
        name = value.get(TYPE)
        if name is None:
            self._pairs(value, "{", "}", ": ")
            return
        if name == SNAPSHOT:
            self.write(value.get("value"))
            return
        self._put(str(name).rpartition(".")[2])
        rest = {key: item for key, item in value.items() if key != TYPE}
        if str(name).startswith("langchain_core.messages."):
            rest.pop("type", None)  # "ai", of an AIMessage
        if rest.keys() == {"args"} and isinstance(rest["args"], list | tuple):
            self._items(rest["args"], "(", ")")
        elif rest.keys() == {"value"}:
            self._items([rest["value"]], "(", ")")
        else:
            said = {key: item for key, item in rest.items() if item not in (None, "", [], {}, ())}
            self._pairs(said, "(", ")", "=")

    def _pairs(self, value: Mapping[Any, Any], start: str, end: str, between: str) -> None:
        self._put(start)
        for n, (key, item) in enumerate(value.items()):
            if self._left <= 0:
                self.is_cut = True
                return
            shown = key if between == "=" else repr(key)
            self._put(f"{', ' if n else ''}{shown}{between}")
            self.write(item)
        self._put(end)
