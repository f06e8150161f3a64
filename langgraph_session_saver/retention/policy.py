"""Which checkpoints of a thread to keep, and what is left of it then. Pure.

Only checkpoints of the root namespace are counted. Those of subgraphs are kept if a kept root
needs them. The ancestors that a `DeltaChannel` is replayed from are kept, hidden from `list`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from langgraph_session_saver.retention.lineage import (
    Stored,
    needed_of_memory,
    replayed_ancestors,
    running_roots,
)
from langgraph_session_saver.schema.column_types import utc_time
from langgraph_session_saver.schema.tables import PIECE_DEPTH


class Choice(NamedTuple):
    """The checkpoints of a thread that are kept: listed ones, and hidden ones to replay from."""

    kept: set[Stored]
    hidden: set[Stored]


Choose = Callable[[Sequence[Stored]], Choice]
"""From all checkpoints of a thread to those that stay."""


def keep_latest(rows: Sequence[Stored]) -> Choice:
    """Keep the newest checkpoint of each namespace that the newest root checkpoint needs."""
    in_order = sorted(keep_last(rows, 1).kept, key=lambda row: row.checkpoint_id)
    kept = set({row.ns_key: row for row in in_order}.values())
    return Choice(kept, replayed_ancestors(rows, kept) - kept)


def keep_last(rows: Sequence[Stored], count: int) -> Choice:
    """Keep the newest root checkpoints, and what they need of subgraphs.

    The namespace of a subgraph's call contains task ids, and is kept as long as a kept checkpoint
    calls it. A namespace without task ids is a memory, which outlives its calls. A namespace whose
    checkpoints name no root keeps as many as the root namespace.
    """
    namespaces: dict[str, list[Stored]] = {}
    for row in sorted(rows, key=lambda row: row.checkpoint_id):
        if not row.is_hidden:
            namespaces.setdefault(row.checkpoint_ns, []).append(row)
    roots = namespaces.pop("", [])[-count:]
    oldest = roots[0].checkpoint_id if roots else ""
    replayed = {root.parent_id for root in roots} | {root.root_id for root in roots}
    bounds = {oldest, *(name for name in replayed if name is not None and name < oldest)}
    kept, callers = set(roots), {("", row.checkpoint_id) for row in roots}
    # Memories, which have no one caller, come first, and callers before what they call.
    for ns in sorted(namespaces, key=lambda ns: (":" in ns, ns.count("|"))):
        found = namespaces[ns]
        needed = [row for row in found if row.root_id is not None and row.root_id >= oldest]
        if len(needed) < len(found):
            rooted = [row for row in found if row.root_id is not None]
            needed += [row for row in found if row.root_id is None][-count:]
            if ":" in ns:  # a call
                needed += [row for row in rooted if row.references.caller in callers]
            else:
                needed += needed_of_memory(rooted, bounds)
        kept.update(needed)
        callers.update([(ns, row.checkpoint_id) for row in needed])
    return Choice(kept, replayed_ancestors(rows, kept) - kept)


def keep_last_and_running(rows: Sequence[Stored], count: int) -> Choice:
    """As `keep_last`, and hidden what runs that have been overtaken still stand on.

    A run has only the id of its last checkpoint. Its next step refers to that checkpoint, and to
    those that a `DeltaChannel` is replayed from.
    """
    kept, hidden = keep_last(rows, count)
    roots = running_roots(rows, kept)
    names = {row.checkpoint_id for row in roots}
    running = roots.union(row for row in rows if row.checkpoint_ns and row.root_id in names)
    return Choice(kept, hidden | (running | replayed_ancestors(rows, running)) - kept)


def keep_since(rows: Sequence[Stored], cutoff: datetime) -> Choice:
    """Keep root checkpoints of a time or later, at least the newest one, and what they need."""
    recent = [
        row
        for row in rows
        if not row.checkpoint_ns
        and not row.is_hidden
        and (utc_time(row.references.ts) or cutoff) >= cutoff
    ]
    return keep_last(rows, max(1, len(recent)))


def keep_other_runs(rows: Sequence[Stored], run_ids: Collection[str]) -> Choice:
    """Keep the checkpoints that were not made by some runs."""
    return Choice({row for row in rows if row.run_id not in run_ids}, set())


def keep_nothing(_rows: Sequence[Stored]) -> Choice:
    """Keep nothing."""
    return Choice(set(), set())


# -- what is left -------------------------------------------------------------------------------

Bases = Mapping[bytes, "tuple[bytes | None, int]"]
"""Blobs by key: the base that each is a delta of, and its depth in the chain.

The base of a piece is the blob that it is of, and its depth is `PIECE_DEPTH`.
"""


def unused_blobs(blobs: Bases, used: Iterable[bytes]) -> dict[bytes, int]:
    """The blobs that no used blob is built from, with their depths, and their pieces."""
    needed: set[bytes] = set()
    for key in used:
        at: bytes | None = key
        while at is not None and at not in needed and at in blobs:
            needed.add(at)
            at = blobs[at][0]
    return {
        key: depth
        for key, (base, depth) in blobs.items()
        if (base if depth == PIECE_DEPTH else key) not in needed
    }


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything that a thread stores, as of one revision of its row."""

    revision: int
    rows: dict[tuple[bytes, str], Stored]
    """Oldest first."""
    blobs: Bases

    def weight(self) -> int:
        """Entries held in memory."""
        return len(self.rows) + len(self.blobs)

    def with_step(self, revision: int, row: Stored, blobs: Bases) -> Contents:
        """What is stored after one more checkpoint."""
        blobs = {**blobs, **self.blobs}  # a blob that exists is not replaced
        rows = {**self.rows, row.key: row}
        if self.rows and row.checkpoint_id < next(reversed(self.rows.values())).checkpoint_id:
            # Another run on the thread has stored a newer one meanwhile.
            rows = dict(sorted(rows.items(), key=lambda item: item[1].checkpoint_id))
        return Contents(revision, rows, blobs)

    def thinned(self, choose: Choose, *, slack: int = 0) -> Thinned:
        """What goes if only the chosen checkpoints are kept.

        Args:
            choose: From all checkpoints to those that stay.
            slack: Unused blobs that may wait until there are more, to be deleted together.
        """
        listed, hidden = choose(list(self.rows.values()))
        kept = {key: row for key, row in self.rows.items() if row in listed or row in hidden}
        gone = [row for key, row in self.rows.items() if key not in kept]
        newly_hidden = [row for row in hidden if not row.is_hidden]
        for row in newly_hidden:
            kept[row.key] = replace(row, is_hidden=True)
        roots = [row.checkpoint_id for row in kept.values() if not row.checkpoint_ns]
        unused = unused_blobs(self.blobs, (key for row in kept.values() for key in row.blobs))
        if len(unused) <= slack:
            unused = {}
        blobs = {key: blob for key, blob in self.blobs.items() if key not in unused}
        contents = Contents(self.revision, kept, blobs)
        return Thinned(contents, gone, newly_hidden, unused, min(roots, default=None))


@dataclass(frozen=True, slots=True)
class Thinned:
    """A thread after retention, and what has to be deleted for it."""

    contents: Contents
    gone: list[Stored]
    newly_hidden: list[Stored]
    unused: dict[bytes, int]
    """Blobs to delete, with their depths."""
    oldest_root: str | None
    """The oldest root checkpoint that is kept, be it hidden: a run may continue from that, too."""

    @property
    def is_of_nothing(self) -> bool:
        """Whether the thread had no checkpoint: its writes came before its first one."""
        return not self.contents.rows and not self.gone
