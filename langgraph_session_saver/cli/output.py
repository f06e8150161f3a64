"""How answers look: tables for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, TextIO

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from langgraph_session_saver.inspection.text import WIDTH, printable

Side = Literal["left", "right"]

STYLES = {
    "done": "green",
    "success": "green",
    "ok": "green",
    "running": "cyan",
    "pending": "yellow",
    "building": "yellow",
    "interrupted": "yellow",
    "warning": "yellow",
    "error": "red",
    "failed": "red",
    "unknown": "red",
}
"""Colours of words for how something stands."""


def console(stream: TextIO) -> Console:
    """A console that takes text as it is, with colour and the terminal's width on a terminal."""
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def print_json(data: Any) -> None:
    """Write an answer as JSON, alone on standard output."""
    sys.stdout.write(json.dumps(data, indent=2, default=_as_json) + "\n")


def _as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def table(*columns: str) -> Table:
    """A table without lines; a column whose name starts with `>` is of numbers."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        side: Side = "right" if column.startswith(">") else "left"
        made.add_column(column.removeprefix(">"), justify=side)
    return made


def cell(value: object, style: str = "", *, whole: bool = False) -> Text:
    """One line of untrusted text, cut with an ellipsis where there is no room.

    Args:
        value: What to print; None is nothing.
        style: How.
        whole: Whether it is folded instead, as an id is that somebody may copy.
    """
    text = "" if value is None else printable(str(value))
    if whole:
        return Text(text, style, overflow="fold")
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def status_cell(text: str | None) -> Text:
    """How something stands, in its colour: `interrupted: ask`."""
    word = (text or "").partition(":")[0]
    return cell(text, STYLES.get(word, ""))


def when(moment: datetime | None) -> str:
    """An instant, in UTC, to the second."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def quantity(count: int, one: str, many: str = "") -> str:
    """A number and what it counts: `1 thread`, `2 threads`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def facts(pairs: Iterable[tuple[str, Any]]) -> Table:
    """Names and values, a line each; what is None is left out."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    made.add_column(style="dim")
    made.add_column()
    for name, value in pairs:
        if value is not None:
            made.add_row(name, value if isinstance(value, Text) else cell(value, whole=True))
    return made


def counts(pairs: Sequence[tuple[int, str]]) -> str:
    """Numbers of things in a sentence's form: `2 threads, 14 checkpoints`."""
    return ", ".join(quantity(count, what) for count, what in pairs)


def listing(
    shown: Table, count: int, what: str, *, has_more: bool = False, total: int | None = None
) -> list[RenderableType]:
    """A table, or that there is nothing, and whether there is more."""
    if not count:
        return [Text(f"no {what}s", "dim")]
    if total is not None and count < total:
        return [shown, Text(f"{count:,} of {quantity(total, what)}: --limit shows more", "dim")]
    return [shown, Text("there are more: --limit shows them", "dim")] if has_more else [shown]
