"""What this process knows of `DeltaChannel`s: their values at checkpoints, and the writes there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from langgraph.checkpoint.base import WRITES_IDX_MAP, PendingWrite

from langgraph_session_saver.encoding.caches import ENTRY_BYTES, LRUCache
from langgraph_session_saver.encoding.keys import CheckpointKey

Position = tuple[str, str, int]
"""A write's task path, task id and index, which order the writes of a checkpoint."""


class Sized(NamedTuple):
    """A channel's value, or a write to it, and about how many bytes it takes."""

    channel: str
    value: Any
    size: int


@dataclass(slots=True)
class DeltasAt:
    """What is known at a checkpoint."""

    values: Mapping[str, Sized] | None = None
    """The channels' values; None until the checkpoint is stored."""
    writes: dict[Position, Sized] = field(default_factory=dict)
    """All writes to the channels that the checkpoint's tasks have stored."""

    def size(self) -> int:
        """Memory that it takes, roughly, in bytes."""
        held = [*(self.values or {}).values(), *list(self.writes.values())]
        return ENTRY_BYTES + sum(one.size for one in held)

    def written_to(self, channel: str) -> list[Sized]:
        """The writes to a channel, in LangGraph's order."""
        return [one for _, one in sorted(self.writes.items()) if one.channel == channel]


class KnownDeltas:
    """What is known by checkpoint: everything about one, or nothing.

    A task's writes may come before the `put` of the checkpoint that they follow.

    Args:
        reads: Whether projections read a channel.
        limit: The most bytes that values and writes may take.
    """

    def __init__(self, reads: Callable[[str], bool], limit: int) -> None:
        self._reads = reads
        self._known = LRUCache[CheckpointKey, DeltasAt](limit, DeltasAt.size)
        self._early = LRUCache[CheckpointKey, bool](65_536)
        """Checkpoints with writes that came before their `put`."""

    def expect(self, key: CheckpointKey) -> None:
        """Keep the writes to a checkpoint that is being put, and has a `DeltaChannel`."""
        if self._early.get(key) is None:
            self._known.setdefault(key, DeltasAt())

    def note_writes(
        self, key: CheckpointKey, writes: Iterable[tuple[Position, Sized]], *, is_early: bool
    ) -> None:
        """Note stored writes to noted channels; of two at one position, the first stays."""
        known = self._known.get(key)
        if known is None:
            if not is_early:
                return
            self._early.put(key, True)  # noqa: FBT003
            known = self._known.setdefault(key, DeltasAt())
        for position, write in writes:
            known.writes.setdefault(position, write)
        self._known.put(key, known)

    def note_values(self, key: CheckpointKey, values: Mapping[str, Sized]) -> None:
        """Note the values at a checkpoint that was stored."""
        known = self._known.get(key)
        if known is not None:
            known.values = values
            self._known.put(key, known)

    def note_read(self, key: CheckpointKey, pending: Iterable[PendingWrite]) -> None:
        """Forget a checkpoint if it has other writes than those noted: others continued it."""
        known = self._known.get(key)
        if known is not None:
            noted = {(task, one.channel) for (_, task, _), one in list(known.writes.items())}
            if noted != {(task, name) for task, name, _ in pending if self.is_noted(name)}:
                self._known.forget(key)

    def at(self, key: CheckpointKey) -> DeltasAt | None:
        """What is known at a checkpoint, if its values are."""
        known = self._known.get(key)
        return None if known is None or known.values is None else known

    def forget(self, key: CheckpointKey) -> None:
        """Forget a checkpoint, because the next one was stored."""
        self._known.forget(key)

    def is_noted(self, channel: str) -> bool:
        """Whether writes to a channel are noted: projections read it."""
        return channel not in WRITES_IDX_MAP and self._reads(channel)

    def forget_thread(self, thread_key: bytes) -> None:
        """Forget the checkpoints of a deleted thread."""
        self._known.forget_where(lambda key: key.thread_key == thread_key)
