"""The table that is printed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from tests.benchmarks.measuring import Bar, Figure, Row, Unit


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
"""Workloads that are shown though nothing says what they have to reach."""


def markdown(rows: Sequence[Row]) -> str:
    """The rows that have a bar and those of whole graphs, as the README shows them."""
    lines = ["| what | database | ours | peer | ratio | bar |", "|---|---|---|---|---|---|"]
    for row in rows:
        if row.bar is None and row.workload not in WHOLE_GRAPHS:
            continue
        option = row.ours.partition(", ")[2]
        off = f" ({option})" if option else ""
        peer = f"{row.peer}: {amount(row.peer_value, row.unit)}" if row.peer_value else ""
        ratio = "" if row.ratio is None else digits(row.ratio)
        verdict = "" if row.bar is None else limit(row.bar, row.unit) + _sign(row)
        cells = [row.what + off, row.database, amount(row.value, row.unit), peer, ratio, verdict]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _summary(rows: Sequence[Row]) -> str:
    barred = [row for row in rows if row.bar]
    met = sum(bool(row.is_met) for row in barred)
    return f"{met} of {len(barred)} bars met; medians; ratio = ours / peer"


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
