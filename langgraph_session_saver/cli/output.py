"""Output of commands: tables for people, JSON for programs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from langgraph_session_saver.inspection.text import WIDTH, quantity
from langgraph_session_saver.log import printable

STYLES = {
    **dict.fromkeys(("done", "success", "ok"), "green"),
    "running": "cyan",
    **dict.fromkeys(("pending", "building", "interrupted", "warning"), "yellow"),
    **dict.fromkeys(("error", "failed", "unknown"), "red"),
}
"""Colours of status words."""


def console(stream: TextIO) -> Console:
    """A console that prints text literally, in the terminal's width."""
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def to_json(value: object) -> str:
    """A value of a type that JSON does not have."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def table(*columns: str) -> Table:
    """A table without lines; `>` before a column's name aligns it right."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column.removeprefix(">"), justify="right" if column[:1] == ">" else "left")
    return made


def add_row(table: Table, *values: object) -> None:
    """Add a row of cells, or of values that `cell` formats."""
    table.add_row(*map(_as_cell, values))


def table_of_used(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    defaults: Mapping[str, object] | None = None,
) -> Table:
    """A table without the columns that are empty, or have their default, in every row."""
    cells = [[*map(_as_cell, row)] for row in rows]
    unused = [{"", _format((defaults or {}).get(column))} for column in columns]
    used = [n for n in range(len(columns)) if any(row[n].plain not in unused[n] for row in cells)]
    made = table(*(columns[n] for n in used))
    for row in cells:
        made.add_row(*(row[n] for n in used))
    return made


def _as_cell(value: object) -> Text:
    return value if isinstance(value, Text) else cell(value)


def cell(value: object, style: str = "") -> Text:
    """Untrusted text, a number or a time as a cell of one line, which is cut if it is too long."""
    return Text(_format(value), style, no_wrap=True, overflow="ellipsis")


def whole(value: object, style: str = "") -> Text:
    """As `cell`, but folded and not cut, as an id is for copying."""
    return Text(_format(value), style, overflow="fold")


def _format(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return printable(str(value))


def status_cell(status: str | None, node: str | None = None) -> Text:
    """A cell of a status with its node, such as `interrupted: ask`, in the status's colour."""
    text = f"{status}: {node}" if node else status
    return cell(text, STYLES.get((text or "").partition(":")[0], ""))


def properties(pairs: Iterable[tuple[str, Any]]) -> Table:
    """Names and values, one pair a line, without those that are None."""
    made = Table.grid("", "", padding=(0, 2, 0, 0))
    made.columns[0].style = "dim"
    for name, value in pairs:
        if value is not None:
            made.add_row(name, whole(value))
    return made


def listing(
    shown: Table, count: int, noun: str, *, total: int | None = None, next_page: str | None = None
) -> list[RenderableType]:
    """A table of `count` rows, with a line about those that are not in it."""
    if not count:
        return [Text(f"no {noun}s", "dim")]
    if next_page is None:
        return [shown]
    what = f"more {noun}s" if total is None else f"{count:,} of {quantity(total, noun)}, more"
    return [shown, Text(f"{what}: --after {next_page}", "dim", overflow="fold")]
