"""A page of a thread's history: its data, the query script, and how it prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any

from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.inspection import text
from langgraph_session_saver.inspection.checkpoint import DecodedCheckpoint, Status
from langgraph_session_saver.inspection.values import NamespaceReader, Sizes
from langgraph_session_saver.log import printable
from langgraph_session_saver.projection.plain_json import shorten
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.validation import check_checkpoint_id, check_number

LARGEST_PAGE = 1_000
"""Checkpoints of one page."""

LARGEST_CONTROL = 64_000
"""Bytes of a value that is read to find the due nodes: a `Send` may hold a whole state."""

COLUMNS = {
    "": 0, "checkpoint": 0, "step": 4, "source": 6, "ran": 0, "changed": 0, "status": 0, "time": 8,
    "size": 7, "stored": 7,
}  # fmt: skip
"""Titles and minimum widths of the printed columns; `Entry.cells` has the contents."""

ONLY_WIDE = {"source", "size"}
"""Columns that are left out of lines shorter than `WIDTH`."""

NARROWEST = 6
"""Columns are not cut below this width, even if the line then gets too long."""


@dataclass(frozen=True, slots=True)
class Older:
    """Where the next page starts: pass it as `before`.

    Attributes:
        checkpoint_id: The last checkpoint of this page.
        lanes: By column of the tree, the checkpoint that its line leads to; None where the line
            has ended.
    """

    checkpoint_id: str
    lanes: tuple[str | None, ...] = ()

    def __str__(self) -> str:
        return self.checkpoint_id


@dataclass(frozen=True, slots=True)
class Entry:
    """One checkpoint, without its values.

    Attributes:
        checkpoint_id: The checkpoint.
        parent_id: Its parent.
        parent_is_listed: False if it has no parent, or the parent was pruned.
        run_id: The run that created it.
        step: LangGraph's step number; None if the metadata cannot be decoded.
        source: "input", "loop", "update" or "fork".
        ran: The nodes of the step that created it, once for each task.
        changed: The channels that got a new version.
        status: The state of the tasks that follow it.
        nodes: The nodes of those tasks: the failed, interrupted or pending ones, else all.
        time: When it was created.
        size: Bytes of its serialised values, without those of a `DeltaChannel` between snapshots;
            None if unknown.
        stored: Bytes stored for it: its row, its writes and its new values.
        lane: Its column in the tree.
        graph: Its line of the tree.
        graph_above: The line above it, where branches that forked from it end; else "".
        problem: Why it cannot be decoded, or None.
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
        """The status with its nodes: `interrupted: ask`, or `→ ask` for a node that ran."""
        nodes = text.format_names(self.nodes)
        if self.status == "passed":
            return f"→ {nodes}".rstrip()
        return f"{self.status}: {nodes}" if nodes else self.status

    @property
    def told(self) -> str:
        """The application's channels that changed, or the problem."""
        return self.problem or ", ".join(c for c in self.changed if not text.is_internal(c))

    def cells(self, id_length: int) -> dict[str, str]:
        """The printed text of each of `COLUMNS`."""
        texts = (
            self.graph,
            self.checkpoint_id[:id_length],
            "?" if self.step is None else str(self.step),
            self.source or "?",
            text.format_names(self.ran),
            self.told,
            self.doing,
            "?" if self.time is None else f"{self.time:%H:%M:%S}",
            text.format_bytes(self.size),
            text.format_bytes(self.stored),
        )
        return dict(zip(COLUMNS, map(printable, texts), strict=True))


@dataclass(frozen=True, slots=True)
class History:
    """Checkpoints of one namespace of a thread, newest first.

    Attributes:
        thread_id: The thread.
        checkpoint_ns: The namespace; "" is the root graph's.
        entries: The checkpoints of this page.
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

    def to_dict(self) -> dict[str, Any]:
        """The page as dicts, lists, text and numbers."""
        return text.record_to_dict(self)

    @property
    def title(self) -> str:
        """The first printed line."""
        where = f", namespace {self.checkpoint_ns!r}" if self.checkpoint_ns else ""
        count = text.quantity(len(self.entries), "checkpoint")
        return printable(f"thread {self.thread_id!r}{where}: {count}, newest first")

    @property
    def id_length(self) -> int:
        """Characters of a checkpoint id that are unique on this page."""
        ids = {entry.checkpoint_id for entry in self.entries}
        lengths = count(len("checkpoint"))
        return next(n for n in lengths if len({one[:n] for one in ids}) == len(ids))

    # -- text and HTML ----------------------------------------------------------------------

    def __str__(self) -> str:
        return "\n".join(filter(None, (self.title, self.table(), self._footer())))

    def _footer(self) -> str:
        older = self.older and printable(self.older.checkpoint_id)
        return f"… older ones: before={older!r}" if older else ""

    def table(self, width: int = text.WIDTH) -> str:
        """The checkpoints as a table in lines of a width."""
        if not self.entries:
            return ""
        id_length = self.id_length
        rows = [entry.cells(id_length) for entry in self.entries]
        heads = {title: title for title in COLUMNS}
        widths, gap = _column_widths([heads, *rows], width)

        def line(cells: Mapping[str, str]) -> str:
            return gap.join(
                cells[title].rjust(room)
                if title in text.RIGHT_ALIGNED
                else shorten(cells[title], room).ljust(room)
                for title, room in widths.items()
            )

        lines = [line(heads)]
        day = None
        for entry, row in zip(self.entries, rows, strict=True):
            if entry.time is not None and entry.time.date() != day:
                day = entry.time.date()
                lines.append(f"{' ' * widths['']}{gap}{day:%Y-%m-%d} (UTC)")
            lines += [*filter(None, [entry.graph_above]), line(row)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        heads = [title.replace("time", "time (UTC)") for title in COLUMNS]
        id_length = self.id_length
        rows = [_html_cells(entry, id_length) for entry in self.entries]
        return text.html_table(self.title, heads, rows, self._footer())


def _column_widths(rows: Sequence[Mapping[str, str]], width: int) -> tuple[dict[str, int], str]:
    """By title, the widths of the columns; and the gap between them."""
    widths = {
        title: max(least, *(len(row[title]) for row in rows))
        for title, least in COLUMNS.items()
        if width >= text.WIDTH or title not in ONLY_WIDE
    }
    total, gaps = sum(widths.values()), len(widths) - 1
    gap = "  " if total + 2 * gaps <= width else " "
    excess = total + len(gap) * gaps - width
    for title in ("changed", "ran", "status", "source"):
        if excess > 0 and widths.get(title, 0) > NARROWEST:
            cut = min(excess, widths[title] - NARROWEST)
            widths[title] -= cut
            excess -= cut
    return widths, gap


def _html_cells(entry: Entry, id_length: int) -> Iterable[str]:
    cells = {title: text.escape(cell) for title, cell in entry.cells(id_length).items()}
    checkpoint_id, changed = map(text.escape, (entry.checkpoint_id, ", ".join(entry.changed)))
    above = f"{text.escape(entry.graph_above)}\n" if entry.graph_above else ""
    day = f"{entry.time:%Y-%m-%d} " if entry.time else ""
    cells |= {
        "": f'<pre class="graph">{above}{cells[""]}</pre>',
        "checkpoint": f'<code title="{checkpoint_id}">{cells["checkpoint"]}</code>',
        "changed": f'<div title="{changed}">{cells["changed"]}</div>',
        "time": f"{day}{cells['time']}",
    }
    return cells.values()


# -- the tree -----------------------------------------------------------------------------------


class Tree:
    """Draws checkpoints as `git log --graph` does, newest first."""

    def __init__(self, lanes: Iterable[str | None] = ()) -> None:
        self.lanes = list(lanes)
        """As those of `Older`, below the last checkpoint that was drawn."""

    def draw(self, checkpoint_id: str, parent_id: str | None) -> tuple[int, str, str]:
        """Draw a checkpoint after all its children: its column, its line, and the line above it.

        Branches join in the line above. Without a parent, the checkpoint's own line ends.
        """
        lanes = self.lanes
        if checkpoint_id not in lanes:
            if None not in lanes:
                lanes.append(None)
            lanes[lanes.index(None)] = checkpoint_id
        lane, *joining = [n for n, wanted in enumerate(lanes) if wanted == checkpoint_id]
        for other in joining:
            lanes[other] = None
        cells = ["|" if wanted is not None else " " for wanted in lanes]
        above = list(" ".join(cells) + " ") if joining else []
        for other in joining:
            for at in range(2 * lane + 1, 2 * other - 1):
                above[at] = above[at].replace(" ", "_")
            above[2 * other - 1] = "/"
        cells[lane] = "*"
        lanes[lane] = parent_id
        while lanes and lanes[-1] is None:
            lanes.pop()
        return lane, " ".join(cells).rstrip(), "".join(above).rstrip()


# -- reading ------------------------------------------------------------------------------------


def read_history(reader: NamespaceReader, limit: Any, before: Any) -> Script[History]:
    """Read a page of the history of a namespace."""
    queries, decoder = reader.queries, reader.decoder
    check_number("limit", limit, LARGEST_PAGE, 1)
    start = before if before is None or isinstance(before, Older) else Older(before)
    last = check_checkpoint_id("before", start.checkpoint_id) if start else None
    if last == "":
        raise InvalidConfigError("before is empty: pass the `older` of a page, or a checkpoint id")
    rows = yield reader.page(last, limit + 1)
    if not rows:
        yield from reader.check_thread() if start else reader.raise_missing("before", None)
    page = [DecodedCheckpoint(decoder, row) for row in rows[:limit]]
    ids = [one.id for one in page]
    known = {one.id: one for one in page}
    missing = {one.parent_id for one in page if one.parent_id} - known.keys()
    if missing:
        parents = yield Request.read(queries.checkpoints, missing)
        known |= {row.checkpoint_id: DecodedCheckpoint(decoder, row) for row in parents}
    writes = yield Request.read(queries.write_sizes, ids)
    keys = {key for one in page for key in one.keys.values()}
    control = {key for one in known.values() for key in one.control_keys.values()}
    sizes: Sizes = yield Request.read(queries.value_sizes, keys | control)
    filled = {key for key in control if (sizes[key][0] or 0) > 1}
    values = yield from reader.read_blobs(filled, sizes, LARGEST_CONTROL)
    for one in known.values():
        one.set_control({c: values.get(key) for c, key in one.control_keys.items()})
    continued = {one.parent_id for one in known.values() if one.source == "loop"}
    tree = Tree(start.lanes if start else ())

    def entry(one: DecodedCheckpoint) -> Entry:
        parent, written = known.get(one.parent_id or ""), writes.get(one.id, [])
        is_listed = parent is not None and not parent.row.hidden
        changed = one.changed_since(parent)
        status, nodes = one.status(written, has_next_step=one.id in continued)
        lane, graph, graph_above = tree.draw(one.id, one.parent_id if is_listed else None)
        values: list[int | None] = [one.inline_size(channel) for channel in one.inline]
        values += [sizes[key][0] for key in one.keys.values()]
        stored = len(one.row.data) + len(one.row.metadata_data)
        stored += sum(row.stored for row in written)
        stored += sum(sizes[one.keys[c]][1] for c in changed if c in one.keys)
        return Entry(
            checkpoint_id=one.id,
            parent_id=one.parent_id,
            parent_is_listed=is_listed,
            run_id=one.row.run_id,
            step=one.step,
            source=one.source,
            ran=one.ran_since(parent),
            changed=changed,
            status=status,
            nodes=nodes,
            time=one.time,
            size=None if one.is_unknown or None in values else sum(filter(None, values)),
            stored=stored,
            lane=lane,
            graph=graph,
            graph_above=graph_above,
            problem=one.problem,
        )

    entries = tuple(map(entry, page))
    older = Older(ids[-1], tuple(tree.lanes)) if len(rows) > limit else None
    return History(reader.place.thread.thread_id, reader.place.checkpoint_ns, entries, older)
