"""The table that is printed, and the tables that the documents show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from tests.benchmarks.measuring import Bar, Figure, Row, Unit
from tests.support.readme import README


def table(rows: Sequence[Row]) -> Table:
    """One table of all rows, with a line between workloads."""
    made = Table(title="langgraph-session-saver beside its peers", caption=_summary(rows))
    made.add_column("what", overflow="fold")
    made.add_column("database")
    made.add_column("ours")
    made.add_column("", justify="right", no_wrap=True)
    made.add_column("peer")
    made.add_column("", justify="right", no_wrap=True)
    made.add_column("ratio", justify="right", no_wrap=True)
    made.add_column("bar", justify="right", no_wrap=True)
    for number, row in enumerate(rows):
        ends = number + 1 == len(rows) or rows[number + 1].workload != row.workload
        made.add_row(
            f"{row.what} [dim]({row.note})[/dim]" if row.note else row.what,
            row.database,
            row.ours,
            amount(row.value, row.unit),
            row.peer or "",
            amount(row.peer_value, row.unit) if row.peer_value else "",
            "" if row.ratio is None else digits(row.ratio),
            _bar(row),
            end_section=ends,
        )
    return made


WHOLE_GRAPHS = ("chat-100", "chat-1000", "page-builder", "fan-out", "agent", "large-dict")
"""Workloads whose rows are shown although they have no bar."""

IN_README = (
    ("chat of 400 turns on disk, vacuumed", "SQLite"),
    ("time per turn, chat of 400", "SQLite"),
    ("time per turn, chat of 400", "PostgreSQL"),
    ("64 threads at once, 5 ms round trip, ainvoke", "PostgreSQL"),
    ("put + put_writes, 1,050,000 checkpoints", "PostgreSQL"),
    ("time per turn, chat of 30", "SQLite"),
    ("put + put_writes, 2 KB state", "SQLite"),
    ("get_tuple in a new process, 2 KB state", "SQLite"),
    ("64 threads at once, ainvoke", "PostgreSQL"),
    ("delete_thread of 100,000 checkpoints", "SQLite"),
)
"""The rows that the README shows, as what was measured and on which database."""

_HEADING = "| what | database | ours | peer | ratio | bar |"


def documented_tables(rows: Sequence[Row]) -> dict[Path, str]:
    """The table that each document shows, by the document."""
    shown = [row for row in rows if row.bar is not None or row.workload in WHOLE_GRAPHS]
    chosen = [_chosen(shown, *named) for named in IN_README]
    return {README: markdown(chosen), Path(__file__).with_name("README.md"): markdown(shown)}


def with_table(text: str, table: str) -> str:
    """A document's text with its table of measurements replaced."""
    before, heading, rest = text.partition(_HEADING)
    lines = rest.splitlines(keepends=True)[1:] if heading else []
    after = next((at for at, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return before + table + "\n" + "".join(lines[after:]) if heading else text


def markdown(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    lines = [_HEADING, "|---|---|---|---|---|---|"]
    for row in rows:
        option = row.ours.partition(", ")[2]
        off = f" ({option})" if option else ""
        peer = f"{row.peer}: {amount(row.peer_value, row.unit)}" if row.peer_value else ""
        ratio = "" if row.ratio is None else digits(row.ratio)
        verdict = "" if row.bar is None else limit(row.bar, row.unit) + _sign(row)
        cells = [row.what + off, row.database, amount(row.value, row.unit), peer, ratio, verdict]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def bars_met(rows: Sequence[Row]) -> str:
    """How many rows meet their bar: "47 of 58"."""
    barred = [row for row in rows if row.bar]
    return f"{sum(bool(row.is_met) for row in barred)} of {len(barred)}"


def _chosen(rows: Sequence[Row], what: str, database: str) -> Row:
    """The first row of this name and database: with all options on, beside the first peer."""
    return next(row for row in rows if (row.what, row.database) == (what, database))


def _summary(rows: Sequence[Row]) -> str:
    return f"{bars_met(rows)} bars met; medians; ratio = ours / peer"


def _bar(row: Row) -> Text:
    if row.bar is None:
        return Text("")
    told = limit(row.bar, row.unit) + _sign(row)
    return Text(told, style="green" if row.is_met else "red")


def _sign(row: Row) -> str:
    return " ✓" if row.is_met else " ✗"


def limit(bar: Bar, unit: Unit) -> str:
    """What a bar asks for: "≤ 1.4", "≥ 2.5", "≤ 4 MB"."""
    sign = "≥" if bar.at_least else "≤"
    return f"{sign} {bar.limit:g}" + (f" {unit}" if bar.of == "value" else "")


def amount(figure: Figure, unit: Unit) -> str:
    """A median with its unit, in three digits."""
    return f"{digits(figure.median)} {unit}"


def digits(value: float) -> str:
    """A number in three digits, with no zeros that say nothing."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
