"""What a thread stores, and what is left of it when only some checkpoints are kept. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from langgraph_session_saver.retention.lineage import Stored
from langgraph_session_saver.retention.policy import Choose

Bases = Mapping[bytes, "tuple[bytes | None, int]"]
"""Blobs by key: the base that each is a delta of, and its depth in the chain."""


def unused_blobs(blobs: Bases, used: Iterable[bytes]) -> dict[bytes, int]:
    """The blobs that no used blob is built from, with their depths."""
    needed: set[bytes] = set()
    for key in used:
        at: bytes | None = key
        while at is not None and at not in needed and at in blobs:
            needed.add(at)
            at = blobs[at][0]
    return {key: depth for key, (_, depth) in blobs.items() if key not in needed}


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
        roots = [row.checkpoint_id for row in listed if not row.checkpoint_ns]
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
    """The oldest root checkpoint that is kept."""
