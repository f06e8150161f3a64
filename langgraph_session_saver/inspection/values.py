"""Find checkpoints of a thread, and decode their channels' values and their writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from langgraph.checkpoint.base import writes_sort_key
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Row

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.checkpointer.get import ANCESTORS
from langgraph_session_saver.encoding.chains import Value, of_thread, resolve
from langgraph_session_saver.encoding.keys import Place
from langgraph_session_saver.encoding.task_writes import held_keys
from langgraph_session_saver.errors import (
    AmbiguousIdError,
    CheckpointNotFoundError,
    CorruptBlobError,
    HistoryLostError,
    InvalidConfigError,
    ThreadNotFoundError,
)
from langgraph_session_saver.inspection.checkpoint import DecodedCheckpoint, decode_checkpoint
from langgraph_session_saver.inspection.decode import Undecodable, decode, decode_write, replay
from langgraph_session_saver.inspection.queries import NamespaceQueries
from langgraph_session_saver.inspection.text import format_bytes
from langgraph_session_saver.projection.status import node_of
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.validation import CHECKPOINT_ID_LENGTH, check_text

LARGEST_READ = 16 << 20
"""Serialised bytes of the largest value that is decoded."""

MOST_REPLAYED = 4 * ANCESTORS
"""Checkpoints over which a `DeltaChannel`'s writes are collected."""

FULL_ID = 32
"""Characters from which a checkpoint id is complete, and is looked up in other threads too."""

REPLAYED = (
    "a DeltaChannel: its last snapshot and the writes since, in order; the graph's reducer may "
    "combine them differently"
)

Sizes = Mapping[bytes, tuple[int | None, int]]
"""By blob key, the bytes of the serialised value and the bytes stored for it."""


@dataclass(frozen=True, slots=True)
class ChannelValue:
    """A channel's decoded value in a checkpoint, or `Undecodable`; the note says how or why."""

    channel: str
    size: int | None
    value: Any
    note: str | None = None


@dataclass(frozen=True, slots=True)
class PendingWrite:
    """A value that a task wrote after a checkpoint, decoded."""

    node: str
    task_id: str
    channel: str
    value: Any


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """A checkpoint with its values, the nodes that are due, and what its tasks wrote so far."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    parent_id: str | None
    run_id: str | None
    step: int | None
    source: str | None
    time: datetime | None
    due: tuple[str, ...]
    metadata: Mapping[str, Any]
    values: tuple[ChannelValue, ...]
    writes: tuple[PendingWrite, ...]


class NamespaceReader:
    """Reads checkpoints of one namespace of a thread, and their values.

    Raises:
        InvalidConfigError: The thread id or namespace is not valid.
    """

    def __init__(
        self, context: Context, serde: SerializerProtocol, thread_id: Any, checkpoint_ns: Any
    ) -> None:
        configurable = {"thread_id": thread_id, "checkpoint_ns": checkpoint_ns}
        self.place = Place.of({"configurable": configurable})
        self.queries = NamespaceQueries(context.tables, self.place)
        self.serde = serde
        self._checkpoints = context.storage.checkpoints
        self._thread_key = self.place.thread.key
        self._thread = f"thread {self.place.thread.thread_id!r}"

    def find(self, what: str, checkpoint_id: Any) -> Script[DecodedCheckpoint]:
        """Find the checkpoint with an id or the start of one; None finds the newest."""
        if checkpoint_id is None:
            rows = yield Request.read(lambda conn: self.queries.page(conn, None, 1))
        elif check_text(what, checkpoint_id, CHECKPOINT_ID_LENGTH):
            rows = yield Request.read(
                lambda conn: self.queries.starting_with(conn, checkpoint_id, 4)
            )
        else:
            raise InvalidConfigError(f"{what} is empty: pass a checkpoint id, or the start of one")
        if not rows:
            if checkpoint_id is None:
                yield from self.raise_empty()
            yield from self._raise_unknown(what, checkpoint_id)
        if len(rows) > 1 and rows[0].checkpoint_id != checkpoint_id:
            ids = ", ".join(row.checkpoint_id for row in rows[:3])
            raise AmbiguousIdError(
                f"{what} is {checkpoint_id!r}, and several checkpoints of {self._thread} start "
                f"with it ({ids}{', …' if len(rows) > 3 else ''}): pass more of the id"
            )
        found = decode_checkpoint(self.serde, rows[0])
        if not found.versions and found.problem:
            raise CorruptBlobError(f"checkpoint {found.id!r} of {self._thread} {found.problem}")
        return found

    def check_thread(self) -> Script[None]:
        """Check that the thread exists.

        Raises:
            ThreadNotFoundError: It does not.
        """
        if not (yield Request.read(self.queries.has_thread)):
            raise ThreadNotFoundError(
                f"there is no {self._thread}: pass the thread_id that the graph ran with"
            )

    def raise_empty(self) -> Script[None]:
        """Raise the error for a namespace without checkpoints.

        Raises:
            ThreadNotFoundError: The thread does not exist.
            CheckpointNotFoundError: It exists.
        """
        yield from self.check_thread()
        others = yield Request.read(lambda conn: self.queries.namespaces(conn, 10))
        names = ", ".join(map(repr, others))
        hint = f"it has checkpoints in {names}" if others else "it has no checkpoints at all"
        raise CheckpointNotFoundError(
            f"{self._thread} has no checkpoint in namespace {self.place.checkpoint_ns!r}: {hint}"
        )

    def _raise_unknown(self, what: str, checkpoint_id: str) -> Script[None]:
        """Raise the error for an unknown checkpoint id; it says where the checkpoint is, if so."""
        yield from self.check_thread()
        found = None
        if len(checkpoint_id) >= FULL_ID:
            found = yield Request.read(lambda conn: self.queries.anywhere(conn, checkpoint_id))
        name = f"checkpoint {checkpoint_id!r}"
        if found is None:
            problem = f"{self._thread} has no {name}: pass an id from history()"
        elif found.thread_key != self._thread_key:
            problem = f"{name} belongs to another thread than {self._thread}"
        elif found.checkpoint_ns != self.place.checkpoint_ns:
            problem = (
                f"{name} of {self._thread} is in namespace {found.checkpoint_ns!r}: pass "
                f"checkpoint_ns={found.checkpoint_ns!r}"
            )
        else:
            problem = f"{name} of {self._thread} was pruned"
        raise CheckpointNotFoundError(f"{what}: {problem}")

    # -- values -----------------------------------------------------------------------------

    def read_values(
        self, checkpoints: Sequence[DecodedCheckpoint], channels: Sequence[str]
    ) -> Script[list[list[ChannelValue | None]]]:
        """For each channel, its value in each checkpoint; None where it has no value."""
        keys = {one.keys[c] for one in checkpoints for c in channels if c in one.keys}
        sizes: Sizes = yield Request.read(lambda conn: self.queries.value_sizes(conn, keys))
        small = {key for key in keys if (sizes.get(key, (0, 0))[0] or 0) <= LARGEST_READ}
        blobs = yield from self.read_blobs(small)
        too_large = f"it is over {format_bytes(LARGEST_READ)}, the most that is decoded"
        found: list[list[ChannelValue | None]] = []
        for channel in channels:
            values: list[ChannelValue | None] = []
            for one in checkpoints:
                if channel in one.inline:
                    value = one.inline[channel]
                    values.append(ChannelValue(channel, one.inline_size(channel), value))
                elif channel in one.keys:
                    key = one.keys[channel]
                    size, _ = sizes.get(key, (None, 0))
                    value = blobs[key] if key in small else Undecodable(too_large, size)
                    values.append(ChannelValue(channel, size, value))
                elif one.is_replayed(channel):
                    value = yield from self._replayed(one, channel)
                    values.append(ChannelValue(channel, None, value, REPLAYED))
                else:
                    values.append(None)
            found.append(values)
        return found

    def read_blobs(self, keys: set[bytes]) -> Script[dict[bytes, Any]]:
        """By blob key, the decoded values; `Undecodable` where rows are missing or damaged."""
        found = yield from self._resolve(keys)
        return {
            key: decode(self.serde, value.typed) if isinstance(value, Value) else value
            for key, value in found.items()
        }

    def _resolve(self, keys: set[bytes]) -> Script[dict[bytes, Value | Undecodable]]:
        """By blob key, the serialised values."""
        if not keys:
            return {}
        wanted = [(self._thread_key, key) for key in keys]
        rows = yield Request.read(lambda conn: self._checkpoints.get_chains(conn, wanted))
        found: dict[bytes, Value | Undecodable] = {}
        for key in keys:
            try:
                found[key] = resolve(key, of_thread(rows, self._thread_key), lambda _: None)
            except (HistoryLostError, CorruptBlobError) as exc:
                found[key] = Undecodable(str(exc))
        return found

    def _replayed(self, checkpoint: DecodedCheckpoint, channel: str) -> Script[Any]:
        """The value of a `DeltaChannel`: its last snapshot with the writes since."""
        path: list[DecodedCheckpoint] = []
        start = checkpoint.parent_id
        while start is not None and len(path) < MOST_REPLAYED:
            ancestors = yield from self._ancestors(start)
            start = ancestors[-1].parent_id if ancestors else None
            for ancestor in ancestors:
                path.append(ancestor)
                if channel in ancestor.valued:
                    start = None
                    break
        if start is not None:
            return Undecodable(f"its last snapshot is over {MOST_REPLAYED:,} checkpoints away")
        snapshot = None
        if path and channel in path[-1].inline:
            snapshot = path[-1].inline[channel]
        elif path and channel in path[-1].keys:
            key = path[-1].keys[channel]
            snapshot = (yield from self.read_blobs({key}))[key]
        ids = [ancestor.id for ancestor in path]
        rows = yield Request.read(lambda conn: self.queries.writes(conn, ids, channel))
        age = {checkpoint_id: -n for n, checkpoint_id in enumerate(ids)}
        rows = sorted(
            (row for row in rows if row.idx >= 0),
            key=lambda row: (age[row.checkpoint_id], _write_order(row)),
        )
        return replay(snapshot, (yield from self._written(rows)))

    def _ancestors(self, start: str) -> Script[list[DecodedCheckpoint]]:
        at = (self._thread_key, self.place.ns_key, start, ANCESTORS)
        rows = yield Request.read(lambda conn: self._checkpoints.get_ancestors(conn, *at))
        return [decode_checkpoint(self.serde, row) for row in rows]

    # -- writes -----------------------------------------------------------------------------

    def read_writes(self, checkpoint: DecodedCheckpoint) -> Script[tuple[PendingWrite, ...]]:
        """What a checkpoint's tasks wrote, in order."""
        rows: Sequence[Row[Any]] = yield Request.read(
            lambda conn: self.queries.writes(conn, [checkpoint.id])
        )
        rows = sorted(rows, key=_write_order)
        values = yield from self._written(rows)
        return tuple(
            PendingWrite(
                node_of(row.task_path, checkpoint.sends) or "?",
                row.task_id,
                row.channel,
                str(value) if isinstance(value, Undecodable) else value,
            )
            for row, value in zip(rows, values, strict=True)
        )

    def _written(self, rows: Sequence[Row[Any]]) -> Script[list[Any]]:
        """The decoded values of writes."""
        found = yield from self._resolve(held_keys(row.data for row in rows))
        bases = {key: value for key, value in found.items() if isinstance(value, Value)}
        return [decode_write(self.serde, row, bases) for row in rows]

    # -- the whole checkpoint ---------------------------------------------------------------

    def view(self, checkpoint_id: Any) -> Script[CheckpointView]:
        """Read the checkpoint with an id or the start of one; None reads the newest."""
        found = yield from self.find("checkpoint", checkpoint_id)
        replayed = [channel for channel in found.versions if found.is_replayed(channel)]
        channels = sorted({*found.valued, *replayed})
        read = yield from self.read_values([found], channels)
        values = [one for [one] in read if one is not None]
        found.control.update(
            {one.channel: one.value for one in values if one.channel in found.control_keys}
        )
        return CheckpointView(
            thread_id=self.place.thread.thread_id,
            checkpoint_ns=self.place.checkpoint_ns,
            checkpoint_id=found.id,
            parent_id=found.parent_id,
            run_id=found.row.run_id,
            step=found.step,
            source=found.source,
            time=found.time,
            due=tuple(found.due),
            metadata=found.metadata,
            values=tuple(
                ChannelValue(one.channel, one.size, None, str(one.value))
                if isinstance(one.value, Undecodable)
                else one
                for one in values
            ),
            writes=(yield from self.read_writes(found)),
        )


def _write_order(row: Row[Any]) -> Any:
    return writes_sort_key(row.task_path, row.task_id, row.idx)
