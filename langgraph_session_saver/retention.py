"""Which checkpoints of a thread to keep. Pure.

Retention counts the root namespace. Subgraphs keep what a kept root checkpoint needs, and a
`DeltaChannel` keeps the ancestors that it replays from, unlisted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored checkpoint, as far as retention cares; equal if it is the same one."""

    ns_key: bytes
    checkpoint_id: str
    checkpoint_ns: str = field(compare=False)
    parent_id: str | None = field(compare=False)
    root_id: str | None = field(compare=False)
    """For a subgraph's: the root checkpoint that its call started from."""
    run_id: str | None = field(compare=False)
    ts: str = field(compare=False)
    is_hidden: bool = field(compare=False)
    replayed: frozenset[str] = field(compare=False)
    """Channels whose value is replayed from ancestors."""
    valued: frozenset[str] = field(compare=False)
    """Channels whose value is stored with this checkpoint."""
    blobs: frozenset[bytes] = field(compare=False)

    @property
    def key(self) -> tuple[bytes, str]:
        """What its row is found by, within its thread."""
        return self.ns_key, self.checkpoint_id


class Choice(NamedTuple):
    """What stays of a thread: listed, and unlisted for others to replay from."""

    kept: set[Stored]
    hidden: set[Stored]


def keep_latest(rows: Sequence[Stored]) -> Choice:
    """Keep the newest checkpoint of each namespace that the newest root checkpoint needs."""
    newest: dict[bytes, Stored] = {}
    for row in sorted(keep_last(rows, 1).kept, key=lambda row: row.checkpoint_id):
        newest[row.ns_key] = row
    kept = set(newest.values())
    return Choice(kept, replayed_ancestors(rows, kept) - kept)


def keep_last(rows: Sequence[Stored], count: int) -> Choice:
    """Keep the newest root checkpoints, and of subgraphs what these need.

    A subgraph call's namespace carries task ids, and goes with the root checkpoint that the call
    started from. One without task ids outlives its calls: of it the newest from before the oldest
    kept root stays too, for a replay starts there. Namespaces that name no root keep as many.
    """
    listed = [row for row in rows if not row.is_hidden]
    namespaces: dict[bytes, list[Stored]] = {}
    for row in sorted(listed, key=lambda row: row.checkpoint_id, reverse=True):
        namespaces.setdefault(row.ns_key, []).append(row)
    roots = namespaces.pop(b"", [])[:count]
    oldest = roots[-1].checkpoint_id if roots else ""
    kept = set(roots)
    for others in namespaces.values():
        kept |= _needed_of_namespace(others, oldest, count)
    return Choice(kept, replayed_ancestors(rows, kept) - kept)


def keep_since(rows: Sequence[Stored], cutoff: datetime) -> Choice:
    """Keep root checkpoints from a moment on, at least the newest, with what they need."""
    recent = [
        row
        for row in rows
        if not row.checkpoint_ns and not row.is_hidden and datetime.fromisoformat(row.ts) >= cutoff
    ]
    return keep_last(rows, max(1, len(recent)))


def keep_other_runs(rows: Sequence[Stored], run_ids: Collection[str]) -> Choice:
    """Keep the checkpoints that other runs made."""
    return Choice({row for row in rows if row.run_id not in run_ids}, set())


def keep_nothing(rows: Sequence[Stored]) -> Choice:
    """Keep nothing."""
    del rows
    return Choice(set(), set())


def _needed_of_namespace(newest_first: list[Stored], oldest: str, count: int) -> set[Stored]:
    unrooted = [row for row in newest_first if row.root_id is None]
    rooted = [row for row in newest_first if row.root_id is not None]
    needed = [row for row in rooted if str(row.root_id) >= oldest]
    if not _is_call(newest_first[0].checkpoint_ns):
        # By their own ids, as a replay looks for them: a run that started from an older root may
        # still write after a newer one is there.
        needed += [row for row in rooted if row.checkpoint_id >= oldest]
        needed += [row for row in rooted if row.checkpoint_id < oldest][:1]
    return {*unrooted[:count], *needed}


def replayed_ancestors(rows: Iterable[Stored], kept: Iterable[Stored]) -> set[Stored]:
    """Ancestors that `DeltaChannel`s of kept checkpoints are rebuilt from."""
    by_key = {row.key: row for row in rows}
    needed: set[Stored] = set()
    for row in kept:
        missing = set(row.replayed - row.valued)
        at = row
        while missing and at.parent_id is not None:
            parent = by_key.get((at.ns_key, at.parent_id))
            if parent is None:
                break
            needed.add(parent)
            missing -= parent.valued
            at = parent
    return needed


def _is_call(checkpoint_ns: str) -> bool:
    return ":" in checkpoint_ns


Bases = Mapping[bytes, "tuple[bytes | None, int]"]
"""Blobs by key: what each is a change of, and its depth."""


def unused_blobs(blobs: Bases, used: Iterable[bytes]) -> dict[bytes, int]:
    """The blobs that nothing used is built from, with their depths."""
    needed: set[bytes] = set()
    for key in used:
        at: bytes | None = key
        while at is not None and at not in needed and at in blobs:
            needed.add(at)
            at = blobs[at][0]
    return {key: depth for key, (_, depth) in blobs.items() if key not in needed}


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a thread stores, as of one revision of its row."""

    revision: int
    rows: Mapping[tuple[bytes, str], Stored]
    blobs: Bases

    def weight(self) -> int:
        """Entries held in memory."""
        return len(self.rows) + len(self.blobs)

    def with_step(self, revision: int, row: Stored, blobs: Bases) -> Contents:
        """What is stored after one more checkpoint."""
        # A blob that is there already stays as it is.
        return Contents(revision, {**self.rows, row.key: row}, {**blobs, **self.blobs})

    def thinned(self, choice: Choice, *, slack: int = 0) -> Thinned:
        """What goes if only a choice stays.

        Args:
            choice: What stays.
            slack: Unused blobs that may stay until there are more, to be deleted together.
        """
        staying = {row.key: row for row in (*choice.kept, *choice.hidden)}
        gone = [row for key, row in self.rows.items() if key not in staying]
        newly_hidden = [row for row in choice.hidden if not row.is_hidden]
        for row in newly_hidden:
            staying[row.key] = replace(row, is_hidden=True)
        used = (key for row in staying.values() for key in row.blobs)
        unused = unused_blobs(self.blobs, used)
        if len(unused) <= slack:
            unused = {}
        left = {key: blob for key, blob in self.blobs.items() if key not in unused}
        roots = [row.checkpoint_id for row in choice.kept if not row.checkpoint_ns]
        return Thinned(
            Contents(self.revision, staying, left), gone, newly_hidden, unused,
            oldest_root=min(roots, default=None),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Thinned:
    """A thread after retention, and what has to go for it."""

    contents: Contents
    gone: list[Stored]
    newly_hidden: list[Stored]
    unused: dict[bytes, int]
    oldest_root: str | None
