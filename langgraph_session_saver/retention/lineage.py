"""Which checkpoints of a thread to keep. Pure.

Retention counts the root namespace. Subgraphs keep what a kept root checkpoint needs, and a
`DeltaChannel` keeps the ancestors that it replays from, unlisted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from langgraph_session_saver.encoding.references import References, unpack


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
    def key(self) -> tuple[bytes, str]:
        """What its row is found by, within its thread."""
        return self.ns_key, self.checkpoint_id


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
