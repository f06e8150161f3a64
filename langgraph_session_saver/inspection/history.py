"""A page of a thread's history: plain data that prints as a tree, and as HTML in notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from langgraph_session_saver.inspection.lanes import Lanes
from langgraph_session_saver.inspection.text import (
    STYLE,
    WIDTH,
    amount,
    counted,
    escape,
    fit,
    is_internal,
    printable,
)

Status: TypeAlias = Literal["done", "passed", "pending", "interrupted", "error", "unknown"]
"""Of a checkpoint: nothing is due; what was due has run; it has not; it asked; it failed."""

SHORTEST = 8
"""Characters of a checkpoint id that are printed at least."""

ENOUGH = 12
"""Characters of a column that are printed though the line gets too long."""


@dataclass(frozen=True, slots=True)
class Older:
    """Where the next page starts: pass it as `before`.

    Attributes:
        checkpoint_id: The last checkpoint of this page.
        lanes: The branches that go on below it.
    """

    checkpoint_id: str
    lanes: Lanes = ()

    def __str__(self) -> str:
        return self.checkpoint_id


@dataclass(frozen=True, slots=True)
class Entry:
    """One checkpoint, without its values.

    Attributes:
        checkpoint_id: The checkpoint.
        parent_id: The one it follows.
        parent_is_listed: False for a first checkpoint, and where a prune took the parent.
        run_id: The run that made it.
        step: LangGraph's number of the step; None where the metadata cannot be decoded.
        source: "input", "loop", "update" or "fork".
        ran: The nodes whose step made it, once for each task.
        changed: The channels that got a new version.
        status: What became of the tasks that it says are due.
        nodes: The nodes of these tasks: those that failed, asked or have not run, else all.
        time: When it was made.
        size: Bytes of its values as serialised, without a `DeltaChannel`'s between snapshots;
            None where that cannot be told.
        stored: Bytes that the database took for it: its row, its writes, and its new values.
        lane: Its column in the tree.
        graph: Its line of the tree.
        graph_above: The line above, where branches that forked from it end; else "".
        problem: What of it cannot be decoded.
    """

    checkpoint_id: str
    parent_id: str | None
    parent_is_listed: bool
    run_id: str | None
    step: int | None
    source: str | None
    ran: tuple[str, ...]
    changed: tuple[str, ...]
    status: Status
    nodes: tuple[str, ...]
    time: datetime | None
    size: int | None
    stored: int
    lane: int
    graph: str
    graph_above: str
    problem: str | None = None

    @property
    def doing(self) -> str:
        """Status and nodes in a few words: `interrupted: ask`; what ran next as `→ ask`."""
        nodes = counted(self.nodes)
        if self.status == "passed":
            return f"→ {nodes}".rstrip()
        return f"{self.status}: {nodes}" if nodes else self.status

    @property
    def told(self) -> str:
        """The application's channels that changed, or the problem."""
        return self.problem or ", ".join(c for c in self.changed if not is_internal(c))


@dataclass(frozen=True, slots=True)
class History:
    """Checkpoints of one namespace of a thread, newest first.

    Attributes:
        thread_id: The thread.
        checkpoint_ns: The namespace; "" is the root graph's.
        entries: The page.
        older: What to pass as `before` for the next page; None on the last.
    """

    thread_id: str
    checkpoint_ns: str
    entries: tuple[Entry, ...]
    older: Older | None

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Entry:
        return self.entries[index]

    @property
    def id_length(self) -> int:
        """Characters that tell the checkpoint ids of this page apart."""
        return _id_length(self.entries)

    def to_dict(self) -> dict[str, Any]:
        """Everything as dicts, lists, text and numbers."""
        entries = [
            asdict(entry) | {"time": entry.time.isoformat() if entry.time else None}
            for entry in self.entries
        ]
        older = None if self.older is None else asdict(self.older)
        return {
            "thread_id": self.thread_id,
            "checkpoint_ns": self.checkpoint_ns,
            "entries": entries,
            "older": older,
        }

    # -- text -------------------------------------------------------------------------------

    def __str__(self) -> str:
        return "\n".join([self._title(), *self._table(), *self._footer()])

    def _title(self) -> str:
        where = f", namespace {self.checkpoint_ns!r}" if self.checkpoint_ns else ""
        count = len(self.entries)
        return printable(
            f"thread {self.thread_id!r}{where}: {count} "
            f"checkpoint{'' if count == 1 else 's'}, newest first"
        )

    def _footer(self) -> list[str]:
        if self.older is None:
            return []
        return [f"… older ones: before={printable(self.older.checkpoint_id)!r}"]

    def _table(self) -> Iterator[str]:
        if not self.entries:
            return
        shape = _shape(self.entries)
        yield shape.line("", "checkpoint", "step", "source", _FLEXIBLE, "time", "size", "stored")
        day = None
        for entry in self.entries:
            if entry.time is not None and entry.time.date() != day:
                day = entry.time.date()
                yield f"{' ' * shape.graph} {day:%Y-%m-%d} (UTC)"
            if entry.graph_above:
                yield entry.graph_above
            yield shape.line(
                entry.graph,
                entry.checkpoint_id[: shape.id],
                "?" if entry.step is None else str(entry.step),
                entry.source or "?",
                _flexible(entry),
                "?" if entry.time is None else f"{entry.time:%H:%M:%S}",
                amount(entry.size),
                amount(entry.stored),
            )

    # -- HTML -------------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        heads = ("", "checkpoint", "step", "source", *_FLEXIBLE, "time (UTC)", "size", "stored")
        numeric = {"step", "size", "stored"}
        cells = (f"<th{_numeric(name in numeric)}>{name}</th>" for name in heads)
        length = _id_length(self.entries)
        return (
            f'{STYLE}<div class="lgss"><p>{escape(self._title())}</p>'
            f"<table><thead><tr>{''.join(cells)}</tr></thead><tbody>"
            f"{''.join(_html_row(entry, length) for entry in self.entries)}</tbody></table>"
            f"<p>{escape(' '.join(self._footer()))}</p></div>"
        )


_FLEXIBLE = ("ran", "changed", "status")
_CHANGED = 1


def _id_length(entries: Sequence[Entry]) -> int:
    """Characters that tell the ids of a page apart."""
    ids = sorted(entry.checkpoint_id for entry in entries)
    common = [
        next((n for n in range(min(len(a), len(b))) if a[n] != b[n]), min(len(a), len(b)))
        for a, b in pairwise(ids)
    ]
    return max(SHORTEST, len("checkpoint"), *(n + 1 for n in common))


def _flexible(entry: Entry) -> tuple[str, str, str]:
    return counted(entry.ran), entry.told, entry.doing


@dataclass(frozen=True, slots=True)
class _Shape:
    """How wide the columns are, and what is between them."""

    graph: int
    id: int
    flexible: tuple[int, ...]
    gap: str

    def line(
        self,
        graph: str,
        checkpoint_id: str,
        step: str,
        source: str,
        flexible: Sequence[str],
        time: str,
        size: str,
        stored: str,
    ) -> str:
        return self.gap.join(
            [
                f"{graph:<{self.graph}} {fit(checkpoint_id, self.id)}",
                f"{step:>4}",
                fit(source, 6),
                *(fit(text, width) for text, width in zip(flexible, self.flexible, strict=True)),
                f"{time:<8}",
                f"{size:>7}",
                f"{stored:>7}",
            ]
        )


def _shape(entries: Sequence[Entry]) -> _Shape:
    """Columns as wide as they need to be, cut where there is no room for all."""
    graph = max(len(line) for e in entries for line in (e.graph, e.graph_above))
    id_length = _id_length(entries)
    rows = [_FLEXIBLE, *(_flexible(entry) for entry in entries)]
    needs = [max(map(len, column)) for column in zip(*rows, strict=True)]
    least = sum(min(need, ENOUGH) for need in needs)
    room = WIDTH - graph - id_length - 33  # what the columns of fixed width take
    gap = "  " if sum(needs) <= room - 2 * 8 else " "
    while sum(needs) > max(room - len(gap) * 8, least):
        cut = _CHANGED if needs[_CHANGED] > ENOUGH else needs.index(max(needs))
        needs[cut] -= 1
    return _Shape(graph, id_length, tuple(needs), gap)


def _numeric(is_number: bool) -> str:  # noqa: FBT001 - the one thing it is asked
    return ' class="n"' if is_number else ""


def _html_row(entry: Entry, length: int) -> str:
    above = f"{entry.graph_above}\n" if entry.graph_above else ""
    time = "?" if entry.time is None else f"{entry.time:%Y-%m-%d %H:%M:%S}"
    every = escape(", ".join(entry.changed))
    return (
        f'<tr><td><pre class="graph">{escape(above + entry.graph)}</pre></td>'
        f'<td><code title="{escape(entry.checkpoint_id)}">'
        f"{escape(entry.checkpoint_id[:length])}</code></td>"
        f'<td class="n">{"?" if entry.step is None else entry.step}</td>'
        f"<td>{escape(entry.source or '?')}</td>"
        f"<td>{escape(counted(entry.ran))}</td>"
        f'<td title="{every}">{escape(entry.told)}</td>'
        f"<td>{escape(entry.doing)}</td>"
        f"<td>{time}</td>"
        f'<td class="n">{amount(entry.size)}</td><td class="n">{amount(entry.stored)}</td></tr>'
    )
