"""How checkpoints depend on each other by LangGraph's rules: callers, replays, memories. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from langgraph_session_saver.encoding.references import References, unpack


@dataclass(slots=True, unsafe_hash=True)
class Stored:
    """A stored checkpoint, as retention sees it; compared by its key.

    Its references are unpacked when they are first needed, which they are of few.
    """

    ns_key: bytes
    checkpoint_id: str
    checkpoint_ns: str = field(compare=False)
    parent_id: str | None = field(compare=False)
    root_id: str | None = field(compare=False)
    """The root checkpoint from which its subgraph's call started, or its run if it is a root."""
    run_id: str | None = field(compare=False)
    is_hidden: bool = field(compare=False)
    refs: References | bytes = field(compare=False)
    """Its references, packed or not."""

    @property
    def references(self) -> References:
        """Its references."""
        if not isinstance(self.refs, References):
            self.refs = unpack(self.refs)
        return self.refs

    @property
    def blobs(self) -> set[bytes]:
        """The blobs that it needs."""
        found = self.references
        return {*filter(None, found.blobs.values()), *found.former}

    @property
    def key(self) -> tuple[bytes, str]:
        """The key of its row within the thread."""
        return self.ns_key, self.checkpoint_id


def needed_of_memory(oldest_first: Sequence[Stored], bounds: Collection[str]) -> Iterable[Stored]:
    """The checkpoints of a memory from the oldest kept root on, and those that replays start at.

    A replay takes the memory's newest checkpoint before a bound, which is the replayed root or, if
    that is a fork or a copy, the root that it was made from. Ids are compared, as a replay does:
    a run that started from an older root may still write after a newer root exists.

    The bounds are the ids of the oldest kept root, and of older ones that replays may start from.
    """
    ids = [row.checkpoint_id for row in oldest_first]
    for bound in bounds:
        at = bisect_left(ids, bound)
        yield from oldest_first[max(at - 1, 0) : at]
    yield from oldest_first[bisect_left(ids, max(bounds)) :]


def replayed_ancestors(rows: Iterable[Stored], kept: Iterable[Stored]) -> set[Stored]:
    """The ancestors from which `DeltaChannel`s of kept checkpoints are replayed."""
    by_key = {row.key: row for row in rows}
    needed: set[Stored] = set()
    for row in kept:
        missing = set(row.references.replayed).difference(row.references.blobs)
        at = row
        while missing and at.parent_id is not None:
            parent = by_key.get((at.ns_key, at.parent_id))
            if parent is None:
                break
            needed.add(parent)
            missing.difference_update(parent.references.blobs)
            at = parent
    return needed


def caller_of(checkpoint_ns: str, metadata: Mapping[str, Any]) -> tuple[str, str] | None:
    """The namespace and id of the checkpoint whose task runs in a subgraph's namespace.

    A namespace is the caller's with one node more, such as `node:task|inner:task`, and a number if
    the task calls several subgraphs. The `parents` of a checkpoint's metadata name a checkpoint of
    each outer namespace.
    """
    if not checkpoint_ns:
        return None
    parts = checkpoint_ns.split("|")
    while len(parts) > 1 and parts[-1].isdigit():
        parts.pop()
    above = "|".join(parts[:-1])
    name = (metadata.get("parents") or {}).get(above)
    return None if name is None else (above, str(name))


class Origin(NamedTuple):
    """The roots before which a memory's newest checkpoint is looked up."""

    run: str | None
    """By the run that made this checkpoint; None if it takes the newest of all."""
    replay: str
    """By a replay of this checkpoint."""
    step: int | None


def origin_of(
    checkpoint_id: str, parent_id: str | None, metadata: Mapping[str, Any], parent: Origin | None
) -> Origin:
    """The origin of a root checkpoint; that of its parent may be unknown."""
    source = metadata.get("source")
    step = number if isinstance(number := metadata.get("step"), int) else None
    if source not in {"update", "fork"}:
        run = parent.run if parent is not None and source == "loop" else None
        return Origin(run, checkpoint_id, step)
    run = parent_id
    if source == "fork" and parent is not None and parent.step is not None:
        # A copy has the same parent as its original, and the step after the original's.
        is_copy = step != parent.step + 1
        run = parent_id if is_copy else parent.replay
    return Origin(run, parent_id or checkpoint_id, step)
