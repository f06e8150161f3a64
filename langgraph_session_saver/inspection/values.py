"""Find checkpoints of a thread, and decode their channels' values and their writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from langgraph.checkpoint.base import writes_sort_key
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_session_saver import errors
from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.checkpointer.get import CheckpointReader
from langgraph_session_saver.encoding import chains
from langgraph_session_saver.encoding.keys import Place
from langgraph_session_saver.inspection.checkpoint import DecodedCheckpoint
from langgraph_session_saver.inspection.decode import (
    MOST_UNPACKED,
    Decoder,
    Undecodable,
    replay,
)
from langgraph_session_saver.inspection.queries import NamespaceQueries
from langgraph_session_saver.inspection.text import format_bytes
from langgraph_session_saver.projection.status import node_of
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.storage.threads import params_of
from langgraph_session_saver.validation import check_checkpoint_id

LARGEST_READ = 16 << 20
"""Serialised bytes of the largest value that is decoded."""

FULL_ID = 32
"""Characters from which a checkpoint id is complete, and is looked up in other threads too."""

REPLAYED = (
    "a DeltaChannel: its last snapshot and the writes since, in order; the graph's reducer may "
    "combine them differently"
)

Sizes = Mapping[bytes, tuple[int | None, int]]
"""As `NamespaceQueries.value_sizes` returns them."""


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
    """Reads checkpoints of one namespace of a thread, and their values."""

    def __init__(
        self, context: Context, serde: SerializerProtocol, thread_id: Any, checkpoint_ns: Any
    ) -> None:
        configurable = {"thread_id": thread_id, "checkpoint_ns": checkpoint_ns}
        self.place = Place.of({"configurable": configurable}, context.owner_id)
        self.queries = NamespaceQueries(context.storage, self.place)
        self.decoder = Decoder(serde)
        self._checkpoints = context.storage.checkpoints
        self._exists = context.storage.threads.exists
        self._reader = CheckpointReader(context)
        self._thread = f"thread {self.place.thread.thread_id!r}"

    def page(self, before: str | None, limit: int) -> Request:
        """Request listed checkpoints older than `before`, newest first."""
        thread = self.place.thread
        wanted = {"thread": thread.key, "ns": self.place.ns_key, **params_of(thread)}
        if before is not None:
            wanted["before"] = before
        return Request.read(self._checkpoints.get_page, wanted, limit)

    def find(self, what: str, checkpoint_id: Any) -> Script[DecodedCheckpoint]:
        """Find the checkpoint with an id or the start of one; None finds the newest."""
        if checkpoint_id is not None:
            checkpoint_id = check_checkpoint_id(what, checkpoint_id)
        if checkpoint_id is None:
            rows = yield self.page(None, 1)
        elif checkpoint_id:
            rows = yield Request.read(self.queries.starting_with, checkpoint_id, 4)
        else:
            raise errors.InvalidConfigError(
                f"{what} is empty: pass a checkpoint id, or the start of one"
            )
        if not rows:
            yield from self.raise_missing(what, checkpoint_id)
        if len(rows) > 1 and rows[0].checkpoint_id != checkpoint_id:
            ids = ", ".join(row.checkpoint_id for row in rows[:3])
            raise errors.AmbiguousIdError(
                f"{what} is {checkpoint_id!r}, and several checkpoints of {self._thread} start "
                f"with it ({ids}{', …' if len(rows) > 3 else ''}): pass more of the id"
            )
        found = DecodedCheckpoint(self.decoder, rows[0])
        if found.is_unknown:
            raise errors.CorruptBlobError(
                f"checkpoint {found.id!r} of {self._thread} {found.problem}"
            )
        return found

    def check_thread(self) -> Script[None]:
        """Raise `ThreadNotFoundError` if the thread does not exist."""
        if not (yield Request.read(self._exists, self.place.thread)):
            raise errors.ThreadNotFoundError(
                f"there is no {self._thread}: pass the thread_id that the graph ran with"
            )

    def raise_missing(self, what: str, checkpoint_id: str | None) -> Script[None]:
        """Raise the error for an unknown checkpoint, which says where it is, or for none at all."""
        yield from self.check_thread()
        if checkpoint_id is None:
            others = yield Request.read(self.queries.namespaces, 10)
            names = ", ".join(map(repr, others))
            hint = f"it has checkpoints in {names}" if others else "it has no checkpoints at all"
            ns = self.place.checkpoint_ns
            raise errors.CheckpointNotFoundError(
                f"{self._thread} has no checkpoint in namespace {ns!r}: {hint}"
            )
        found = None
        if len(checkpoint_id) >= FULL_ID and self.place.thread.owner_id is None:
            found = yield Request.read(self.queries.anywhere, checkpoint_id)
        name = f"checkpoint {checkpoint_id!r}"
        if found is None:
            problem = f"{self._thread} has no {name}: pass an id from history()"
        elif found.thread_key != self.place.thread.key:
            problem = f"{name} belongs to another thread than {self._thread}"
        elif found.checkpoint_ns != self.place.checkpoint_ns:
            problem = (
                f"{name} of {self._thread} is in namespace {found.checkpoint_ns!r}: pass "
                f"checkpoint_ns={found.checkpoint_ns!r}"
            )
        else:
            problem = f"{name} of {self._thread} was pruned"
        raise errors.CheckpointNotFoundError(f"{what}: {problem}")

    # -- values -----------------------------------------------------------------------------

    def read_values(
        self, checkpoints: Sequence[DecodedCheckpoint], channels: Sequence[str]
    ) -> Script[list[list[ChannelValue | None]]]:
        """For each channel, its value in each checkpoint; None where it has no value."""
        keys = {one.keys[c] for one in checkpoints for c in channels if c in one.keys}
        sizes: Sizes = yield Request.read(self.queries.value_sizes, keys)
        blobs = yield from self.read_blobs(keys, sizes, LARGEST_READ)
        replayed = {}
        for one in checkpoints:
            for channel in filter(one.is_replayed, channels):
                replayed[one.id, channel] = yield from self._replay(one, channel)

        def value_of(one: DecodedCheckpoint, channel: str) -> ChannelValue | None:
            if channel in one.inline:
                return ChannelValue(channel, one.inline_size(channel), one.inline[channel])
            if key := one.keys.get(channel):
                return ChannelValue(channel, sizes[key][0], blobs[key])
            if (one.id, channel) in replayed:
                return ChannelValue(channel, None, replayed[one.id, channel], REPLAYED)
            return None

        return [[value_of(one, channel) for one in checkpoints] for channel in channels]

    def read_blobs(
        self, keys: Iterable[bytes], sizes: Sizes, largest: int
    ) -> Script[dict[bytes, Any]]:
        """By key, the decoded values; `Undecodable` if one is missing, damaged or too large."""
        values: dict[bytes, Any] = {}
        left, wanted = MOST_UNPACKED, set[bytes]()
        for key in sorted(keys):
            size = sizes[key][0] or 0
            if size > largest:
                too_large = f"it is over {format_bytes(largest)}, the most that is decoded"
                values[key] = Undecodable(too_large, size)
            elif size > left:
                values[key] = Undecodable("it and others are more than is decoded at once", size)
            else:
                wanted.add(key)
                left -= size
        for key, value in (yield from self._resolve(wanted)).items():
            if isinstance(value, chains.Value):
                values[key] = self.decoder.loads_typed(value.typed)
            else:
                values[key] = value
        return values

    def _resolve(self, keys: set[bytes]) -> Script[dict[bytes, chains.Value | Undecodable]]:
        """By blob key, the serialised values."""
        if not keys:
            return {}
        thread_key = self.place.thread.key
        rows = yield Request.read(self._checkpoints.get_chains, [(thread_key, key) for key in keys])
        found: dict[bytes, chains.Value | Undecodable] = {}
        for key in keys:
            try:
                value = chains.resolve(key, chains.of_thread(rows, thread_key))
                found[key] = value._replace(links=())  # which hold what the chain unpacks to
            except (errors.HistoryLostError, errors.CorruptBlobError) as exc:
                found[key] = Undecodable(str(exc))
        return found

    def _replay(self, checkpoint: DecodedCheckpoint, channel: str) -> Script[Any]:
        """The value of a `DeltaChannel`: its last snapshot with the writes since."""
        config = self.place.at(checkpoint.id)
        try:
            read = yield from self._reader.get_delta_history(self.decoder, config, [channel])
        except (errors.HistoryLostError, errors.CorruptBlobError) as exc:
            return Undecodable(str(exc))
        found = read[channel]
        return replay(found.get("seed"), [value for _, _, value in found["writes"]])

    def _read_writes(self, checkpoint: DecodedCheckpoint) -> Script[tuple[PendingWrite, ...]]:
        """What a checkpoint's tasks wrote, in order."""
        found = yield Request.read(self._checkpoints.get_writes, [checkpoint.row])
        rows = sorted(
            found.get(self.place.key_of(checkpoint.id), []),
            key=lambda row: writes_sort_key(row.task_path, row.task_id, row.idx),
        )
        found = yield from self._resolve(chains.held_keys(row.write_data for row in rows))
        bases = {key: value for key, value in found.items() if isinstance(value, chains.Value)}
        unwrap = partial(chains.unframe_write, held=bases.get)
        written = []
        for row in rows:
            node = node_of(row.task_path, checkpoint.sends) or "?"
            value = self.decoder.loads_stored(row.write_type, row.write_data, unwrap)
            value = str(value) if isinstance(value, Undecodable) else value
            written.append(PendingWrite(node, row.task_id, row.channel, value))
        return tuple(written)

    # -- the whole checkpoint ---------------------------------------------------------------

    def view(self, checkpoint_id: Any) -> Script[CheckpointView]:
        """Read the checkpoint with an id or the start of one; None reads the newest."""
        found = yield from self.find("checkpoint", checkpoint_id)
        read = yield from self.read_values([found], sorted(found.versions))
        values = [one for [one] in read if one is not None]
        keys = found.control_keys
        found.set_control({one.channel: one.value for one in values if one.channel in keys})
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
            writes=(yield from self._read_writes(found)),
        )
