"""How checkpoints depend on each other by LangGraph's rules: callers, replays, memories. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from langgraph.checkpoint.serde.types import TASKS

from langgraph_session_saver.encoding.references import References, unpack
from langgraph_session_saver.errors import CorruptBlobError
from langgraph_session_saver.schema.column_types import utc_time

START = "__start__"
"""LangGraph's channel of a run's input."""

STARTING_NODES = (START, "branch:to:", "join:", TASKS)
"""How the names of LangGraph's channels begin that start nodes."""


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
            try:
                self.refs = unpack(self.refs)
            except CorruptBlobError as exc:
                raise CorruptBlobError(
                    f"checkpoint {self.checkpoint_id!r}, namespace {self.checkpoint_ns!r}: {exc}"
                ) from exc
        return self.refs

    @property
    def blobs(self) -> set[bytes]:
        """The blobs that it needs."""
        found = self.references
        return {*filter(None, found.blobs.values()), *found.former}

    @property
    def is_input(self) -> bool:
        """Whether it is a root checkpoint with which a run of new input starts."""
        return START in self.references.blobs

    @property
    def starts_nodes(self) -> bool:
        """Whether it has channels that start nodes."""
        return any(channel.startswith(STARTING_NODES) for channel in self.references.blobs)

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
        at, walked = row, {row}
        while missing and at.parent_id is not None:
            parent = by_key.get((at.ns_key, at.parent_id))
            if parent is None or parent in walked:  # a cycle is damage, which a replay reports
                break
            walked.add(parent)
            missing.difference_update(parent.references.blobs)
            at = parent
        needed |= walked - {row}
    return needed


RUNNING = 16
"""Overtaken runs of a thread whose last checkpoints stay, at most."""

JUST_READ = 4
"""Superseded checkpoints that stay, because a run that starts may have read them."""

JUST_READ_BY_MANY = 16
"""As `JUST_READ`, in a thread whose runs overlap."""

LONGEST_STEP = timedelta(hours=1)
"""A run that has saved nothing for so long is taken to have ended."""


def running_roots(rows: Iterable[Stored], kept: Collection[Stored]) -> set[Stored]:
    """The root checkpoints, beside the kept ones, that runs may continue from.

    Nodes are due after the last checkpoint of a run that goes on, and nothing but other runs has
    continued from it. A run that starts has read a checkpoint which others may have superseded
    since: it then stores whole values again, but those of `DeltaChannel`s would be lost with
    the ancestors.
    """
    newest_first = sorted(
        (row for row in rows if not row.checkpoint_ns),
        key=lambda row: row.checkpoint_id,
        reverse=True,
    )
    others = [row for row in newest_first if row not in kept]
    if not others:
        return set()
    due = {row.checkpoint_id: row for row in others if row.starts_nodes}
    for row in newest_first:
        if row.parent_id in due and not row.is_input:
            del due[row.parent_id]
    now = utc_time(newest_first[0].references.ts)
    ends = [row for row in due.values() if _is_within(LONGEST_STEP, row, now)][:RUNNING]
    parents = [row.parent_id for row in newest_first]
    overlap = ends or len(set(parents)) < len(parents)
    starts = others[: JUST_READ_BY_MANY if overlap else JUST_READ]
    if not any(row.references.replayed for row in starts):
        starts = []
    return {*ends, *starts}


def _is_within(time: timedelta, row: Stored, now: datetime | None) -> bool:
    then = utc_time(row.references.ts)
    return then is None or now is None or now - then < time


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
