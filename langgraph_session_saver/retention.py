"""Which checkpoints of a thread to keep. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored checkpoint, as far as retention cares."""

    ns_key: bytes
    checkpoint_ns: str
    checkpoint_id: str
    parent_id: str | None
    root_id: str | None
    """For a subgraph's: the root checkpoint that its call started from."""
    run_id: str | None
    is_hidden: bool
    replayed: frozenset[str]
    """Channels whose value is replayed from ancestors."""
    valued: frozenset[str]
    """Channels whose value is stored with this checkpoint."""
    blobs: frozenset[bytes]


def keep_latest(rows: Sequence[Stored]) -> tuple[set[Stored], set[Stored]]:
    """The newest checkpoint of each namespace, and what it replays from, to be kept unlisted.

    A subgraph call's namespace carries the call's task id; it goes with the root checkpoint that
    it started from, once that one is saved and not kept.
    """
    newest: dict[bytes, Stored] = {}
    for row in rows:
        if not row.is_hidden:
            known = newest.get(row.ns_key)
            if known is None or row.checkpoint_id > known.checkpoint_id:
                newest[row.ns_key] = row
    saved_roots = {row.checkpoint_id for row in rows if not row.checkpoint_ns}
    root = newest.get(b"")
    kept = {
        row
        for row in newest.values()
        if not (
            root is not None
            and _is_call(row.checkpoint_ns)
            and row.root_id in saved_roots
            and row.root_id != root.checkpoint_id
        )
    }
    return kept, replayed_ancestors(rows, kept) - kept


def replayed_ancestors(rows: Iterable[Stored], kept: Iterable[Stored]) -> set[Stored]:
    """Ancestors that `DeltaChannel`s of kept checkpoints are rebuilt from."""
    by_id = {(row.ns_key, row.checkpoint_id): row for row in rows}
    needed: set[Stored] = set()
    for row in kept:
        missing = set(row.replayed - row.valued)
        at = row
        while missing and at.parent_id is not None:
            parent = by_id.get((at.ns_key, at.parent_id))
            if parent is None:
                break
            needed.add(parent)
            missing -= parent.valued
            at = parent
    return needed


def _is_call(checkpoint_ns: str) -> bool:
    return ":" in checkpoint_ns.rpartition("|")[2]
