"""Which checkpoints of a thread to keep. Pure.

Retention counts the root namespace. Subgraphs keep what a kept root checkpoint needs, and a
`DeltaChannel` keeps the ancestors that it replays from, unlisted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice, pairwise

from langgraph_session_saver.retention.lineage import Stored
from langgraph_session_saver.retention.policy import Choice, keep_last

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
