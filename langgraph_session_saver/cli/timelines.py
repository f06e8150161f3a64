"""A thread's history and one checkpoint, as a terminal shows them."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from langgraph_session_saver.cli.output import cell, facts, quantity, status_cell, table, when
from langgraph_session_saver.inspection.checkpoint_view import ChannelValue, View
from langgraph_session_saver.inspection.history import History
from langgraph_session_saver.inspection.text import amount, brief, counted, is_internal

ROOMY = 100
"""Columns from which a timeline has its less important ones too."""


def timeline(history: History, width: int) -> Iterator[RenderableType]:
    """The tree of a page of checkpoints."""
    where = f", namespace {history.checkpoint_ns!r}" if history.checkpoint_ns else ""
    count = quantity(len(history), "checkpoint")
    yield cell(f"thread {history.thread_id!r}{where}: {count}, newest first", whole=True)
    is_roomy = width >= ROOMY
    more = ["source"] if is_roomy else []
    sizes = [">size", ">stored"] if is_roomy else [">stored"]
    shown = table(
        "", "checkpoint", ">step", *more, "ran", "changed", "status", "time (UTC)", *sizes
    )
    length = history.id_length
    day = None
    for one in history:
        if one.time is not None and one.time.date() != day:
            day = one.time.date()
            blanks = [cell("") for _ in range(6 + len(more))]
            shown.add_row(*blanks, cell(day, "dim"))
        if one.graph_above:
            shown.add_row(cell(one.graph_above, "dim"))
        shown.add_row(
            Text(one.graph, "dim", no_wrap=True),
            Text(one.checkpoint_id[:length], "cyan", no_wrap=True, overflow="crop"),
            cell("?" if one.step is None else one.step),
            *([cell(one.source or "?", "dim")] if is_roomy else []),
            cell(counted(one.ran)),
            cell(one.told, "red" if one.problem else ""),
            status_cell(one.doing),
            cell("?" if one.time is None else f"{one.time:%H:%M:%S}"),
            *([cell(amount(one.size))] if is_roomy else []),
            cell(amount(one.stored)),
        )
    for number in (0, 1):
        shown.columns[number].no_wrap = True
    yield shown
    if history.older is not None:
        yield Text(f"older ones: --before {history.older.checkpoint_id}", "dim", overflow="fold")


def view(found: View, width: int) -> Iterator[RenderableType]:
    """One checkpoint."""
    where = found.checkpoint_ns or None
    yield facts(
        [
            ("thread", found.thread_id),
            ("namespace", where),
            ("checkpoint", found.checkpoint_id),
            ("parent", found.parent_id),
            ("run", found.run_id),
            ("step", f"{'?' if found.step is None else found.step} ({found.source or '?'})"),
            ("time (UTC)", when(found.time) or None),
            ("runs next", counted(found.due) or "nothing"),
        ]
    )
    yield Text("")
    shown = table("channel", ">size", "value")
    for one in found.values:
        if not is_internal(one.channel):
            shown.add_row(cell(one.channel, "cyan"), cell(amount(one.size)), _value(one, width))
    yield shown if shown.row_count else Text("no values", "dim")
    if hidden := sum(is_internal(one.channel) for one in found.values):
        yield Text(f"({hidden} of LangGraph's own channels not shown: --json has them)", "dim")
    if found.writes:
        yield Text("")
        written = table("written by", "to", "value")
        for write in found.writes:
            text = brief(write.value, 2 * width)
            written.add_row(cell(write.node), cell(write.channel, "cyan"), cell(text, whole=True))
        yield written


def _value(one: ChannelValue, width: int) -> Text:
    """A value over a few lines, or what is to be known of it."""
    if one.value is None and one.note:
        return cell(one.note, "red", whole=True)
    text = cell(brief(one.value, 4 * width), whole=True)
    if one.note:
        text.append(f"\n({one.note})", "dim")
    return text
