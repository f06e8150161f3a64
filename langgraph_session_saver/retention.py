"""Which checkpoints of a thread to keep. Pure.

Retention counts the root namespace. Subgraphs keep what a kept root checkpoint needs, and a
`DeltaChannel` keeps the ancestors that it replays from, unlisted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice, pairwise
from typing import Any, NamedTuple

from langgraph_session_saver.references import References, unpack


@dataclass(slots=True, unsafe_hash=True)
class Stored:
    """A stored checkpoint, as far as retention cares; equal if it is the same one.

    What it refers to is decoded when it is first asked for: of 100,000 checkpoints of which one
    stays, that of few is. Not a frozen class, which takes three times as long to make.
    """

    ns_key: bytes
    checkpoint_id: str
    checkpoint_ns: str = field(compare=False)
    parent_id: str | None = field(compare=False)
    root_id: str | None = field(compare=False)
    """The root checkpoint that a subgraph's call, or for a root's own its run, started from."""
    run_id: str | None = field(compare=False)
    is_hidden: bool = field(compare=False)
    refs: References | bytes = field(compare=False)
    """What it refers to, or that as it is stored."""

    @property
    def references(self) -> References:
        """What it refers to."""
        if not isinstance(self.refs, References):
            self.refs = unpack(self.refs)
        return self.refs

    @property
    def replayed(self) -> Collection[str]:
        """Channels whose value is replayed from ancestors."""
        return self.references.replayed

    @property
    def valued(self) -> Collection[str]:
        """Channels whose value is stored with this checkpoint."""
        return self.references.blobs.keys()

    @property
    def blobs(self) -> set[bytes]:
        """The blobs that hold its values."""
        found = self.references
        return {*filter(None, found.blobs.values()), *found.former}

    @property
    def needs_no_other(self) -> bool:
        """Whether it is a listed root that replays nothing."""
        return not (self.checkpoint_ns or self.is_hidden or self.replayed)

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

    A subgraph call's namespace carries task ids, and stays as long as a checkpoint that a run can
    go on from calls it. One without task ids is a memory that outlives its calls. Namespaces that
    name no root keep as many as the root's does.
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
    # A caller's namespace is above its calls', and memories are called by nobody in particular.
    for ns in sorted(namespaces, key=lambda ns: (_is_call(ns), ns.count("|"))):
        found = namespaces[ns]
        needed = [row for row in found if row.root_id is not None and row.root_id >= oldest]
        if len(needed) < len(found):
            rooted = [row for row in found if row.root_id is not None]
            needed += [row for row in found if row.root_id is None][-count:]
            if _is_call(ns):
                needed += [row for row in rooted if row.references.caller in callers]
            else:
                needed += _remembered(rooted, bounds)
        kept.update(needed)
        callers.update([(ns, row.checkpoint_id) for row in needed])
    return Choice(kept, replayed_ancestors(rows, kept) - kept)


def keep_since(rows: Sequence[Stored], cutoff: datetime) -> Choice:
    """Keep root checkpoints from a moment on, at least the newest, with what they need."""
    recent = [
        row
        for row in rows
        if not row.checkpoint_ns
        and not row.is_hidden
        and datetime.fromisoformat(row.references.ts) >= cutoff
    ]
    return keep_last(rows, max(1, len(recent)))


def keep_other_runs(rows: Sequence[Stored], run_ids: Collection[str]) -> Choice:
    """Keep the checkpoints that other runs made."""
    return Choice({row for row in rows if row.run_id not in run_ids}, set())


def keep_nothing(rows: Sequence[Stored]) -> Choice:
    """Keep nothing."""
    del rows
    return Choice(set(), set())


def _remembered(oldest_first: Sequence[Stored], bounds: Collection[str]) -> Iterable[Stored]:
    """Of a memory: its checkpoints from the oldest kept root on, and those that replays start at.

    By their own ids, as a replay looks for them: a run that started from an older root may still
    write after a newer one is there. A replay takes the newest before a bound: before the root
    that is replayed or, if that is a fork or a copy, what it was made from; and so does one that
    is under way and has outrun the root it started from.

    Args:
        oldest_first: The memory.
        bounds: The oldest kept root, and older ones.
    """
    ids = [row.checkpoint_id for row in oldest_first]
    for bound in bounds:
        at = bisect_left(ids, bound)
        yield from oldest_first[max(at - 1, 0) : at]
    yield from oldest_first[bisect_left(ids, max(bounds)) :]


def replayed_ancestors(rows: Iterable[Stored], kept: Iterable[Stored]) -> set[Stored]:
    """Ancestors that `DeltaChannel`s of kept checkpoints are rebuilt from."""
    by_key = {row.key: row for row in rows}
    needed: set[Stored] = set()
    for row in kept:
        missing = set(row.replayed).difference(row.valued)
        at = row
        while missing and at.parent_id is not None:
            parent = by_key.get((at.ns_key, at.parent_id))
            if parent is None:
                break
            needed.add(parent)
            missing.difference_update(parent.valued)
            at = parent
    return needed


def _is_call(checkpoint_ns: str) -> bool:
    return ":" in checkpoint_ns


def caller_of(checkpoint_ns: str, metadata: Mapping[str, Any]) -> tuple[str, str] | None:
    """Namespace and id of the checkpoint whose task runs in a subgraph's namespace.

    Args:
        checkpoint_ns: `node:task|inner:task`, the caller's with one more node; a number after that
            counts the subgraphs that one task calls.
        metadata: A checkpoint's; its `parents` name one of each namespace above.
    """
    parts = checkpoint_ns.split("|")
    while len(parts) > 1 and parts[-1].isdigit():
        parts.pop()
    above = "|".join(parts[:-1])
    name = (metadata.get("parents") or {}).get(above) if checkpoint_ns else None
    return None if name is None else (above, str(name))


class Origin(NamedTuple):
    """The root checkpoints before which replays look for a memory's newest checkpoint."""

    run: str | None
    """For the run that made this checkpoint; None if it goes on from what is newest."""
    replay: str
    """For a replay of this checkpoint."""
    step: int | None


def origin_of(
    checkpoint_id: str,
    parent_id: str | None,
    metadata: Mapping[str, Any],
    parent: Origin | None,
) -> Origin:
    """What a root checkpoint's origin is, by LangGraph's rules.

    Args:
        checkpoint_id: The checkpoint.
        parent_id: The one it follows.
        metadata: Its metadata.
        parent: The origin of the one it follows, if that is known.
    """
    source = metadata.get("source")
    step = number if isinstance(number := metadata.get("step"), int) else None
    if source not in {"update", "fork"}:
        run = parent.run if parent is not None and source == "loop" else None
        return Origin(run, checkpoint_id, step)
    run = parent_id
    if source == "fork" and parent is not None and parent.step is not None:
        # A copy follows what its original follows, and is numbered after the original.
        is_copy = step != parent.step + 1
        run = parent_id if is_copy else parent.replay
    return Origin(run, parent_id or checkpoint_id, step)


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


_WHOLE: tuple[bytes | None, int] = (None, 0)


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a thread stores, as of one revision of its row."""

    revision: int
    rows: dict[tuple[bytes, str], Stored]
    """Oldest first."""
    blobs: Bases
    released: int = 0
    """At least as many as the blobs that nothing uses."""
    only_roots: bool = False
    """Whether all are known to be listed roots that replay nothing: none needs another."""

    def weight(self) -> int:
        """Entries held in memory."""
        return len(self.rows) + len(self.blobs)

    def with_step(self, revision: int, row: Stored, blobs: Bases) -> Contents:
        """What is stored after one more checkpoint."""
        blobs = {**blobs, **self.blobs}  # one that is there already stays as it is
        rows = {**self.rows, row.key: row}
        if self.rows and row.checkpoint_id < next(reversed(self.rows.values())).checkpoint_id:
            # Another run on the thread was faster.
            rows = dict(sorted(rows.items(), key=lambda item: item[1].checkpoint_id))
        only_roots = self.only_roots and row.needs_no_other
        return Contents(revision, rows, blobs, self.released, only_roots)

    def keeping_last(self, count: int, slack: int) -> Thinned:
        """What goes if `keep_last` roots stay, with what they need.

        Args:
            count: Roots that stay.
            slack: Unused blobs that may stay until there are more, to be deleted together.
        """
        if not self.only_roots:
            return self.thinned(keep_last(list(self.rows.values()), count), slack=slack)
        surplus = len(self.rows) - count
        if surplus <= 0:
            return Thinned(self, [], [], {}, oldest_root=None)
        *gone, oldest = islice(self.rows.values(), surplus + 1)
        released = self.released
        for row, following in pairwise([*gone, oldest]):
            released += self._released_between(row, following)
        staying = dict(islice(self.rows.items(), surplus, None))
        return self._without(staying, gone, [], oldest.checkpoint_id, released, slack)

    def _released_between(self, row: Stored, following: Stored) -> int:
        """At least as many blobs as may be used no more once the first of two checkpoints goes.

        What the next one changes is still used. With the last change of a chain, so may be all
        that it is a change of.
        """
        kept = following.blobs
        changed = {self.blobs[key][0] for key in kept if key in self.blobs}
        return sum(
            1 + self.blobs.get(key, _WHOLE)[1]
            for key in row.blobs
            if key not in kept and key not in changed
        )

    def thinned(self, choice: Choice, *, slack: int = 0) -> Thinned:
        """What goes if only a choice stays.

        Args:
            choice: What stays.
            slack: Unused blobs that may stay until there are more, to be deleted together.
        """
        chosen = choice.kept | choice.hidden
        staying = {key: row for key, row in self.rows.items() if row in chosen}
        gone = [row for key, row in self.rows.items() if key not in staying]
        newly_hidden = [row for row in choice.hidden if not row.is_hidden]
        for row in newly_hidden:
            staying[row.key] = replace(row, is_hidden=True)
        roots = [row.checkpoint_id for row in choice.kept if not row.checkpoint_ns]
        return self._without(
            staying, gone, newly_hidden, min(roots, default=None), len(self.blobs), slack
        )

    def _without(
        self,
        staying: dict[tuple[bytes, str], Stored],
        gone: list[Stored],
        newly_hidden: list[Stored],
        oldest_root: str | None,
        released: int,
        slack: int,
    ) -> Thinned:
        """What is left, without the blobs that nothing uses if they may be more than the slack."""
        left, unused = self.blobs, dict[bytes, int]()
        if released > slack:
            unused = unused_blobs(left, (key for row in staying.values() for key in row.blobs))
            released = len(unused)
            if released > slack // 2:
                left = {key: blob for key, blob in left.items() if key not in unused}
                released = 0
            else:
                unused = {}
        only_roots = self.only_roots or all(row.needs_no_other for row in staying.values())
        contents = Contents(self.revision, staying, left, released, only_roots)
        return Thinned(contents, gone, newly_hidden, unused, oldest_root)


@dataclass(frozen=True, slots=True)
class Thinned:
    """A thread after retention, and what has to go for it."""

    contents: Contents
    gone: list[Stored]
    newly_hidden: list[Stored]
    unused: dict[bytes, int]
    oldest_root: str | None
