"""Reading one checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    writes_sort_key,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Row

from langgraph_session_saver.checkpointer.config import place_of
from langgraph_session_saver.checkpointer.context import Context, Noted
from langgraph_session_saver.encoding.caches import Whole
from langgraph_session_saver.encoding.chains import Value, of_thread, resolve
from langgraph_session_saver.encoding.framing import unframe
from langgraph_session_saver.encoding.keys import Place, blob_key
from langgraph_session_saver.encoding.references import blobs_of
from langgraph_session_saver.encoding.serde import join, load, load_joined
from langgraph_session_saver.encoding.task_writes import held_keys, unframe_write
from langgraph_session_saver.errors import CorruptBlobError, HistoryLostError
from langgraph_session_saver.projection.status import send_nodes
from langgraph_session_saver.retention.lineage import Origin, origin_of
from langgraph_session_saver.sql.scripts import Request, Script

Known = Callable[[bytes, bytes], Value | None]


@dataclass(slots=True)
class Saved:
    """A checkpoint's row, decoded but for its channels' values."""

    place: Place
    row: Row[Any]
    checkpoint: dict[str, Any]
    absent: frozenset[str]
    inline: Mapping[str, Any]
    """Values that the row itself holds."""
    keys: dict[str, bytes]
    """The key of every channel's value, but for those that the row itself holds."""

    @property
    def versions(self) -> ChannelVersions:
        """Every channel's version."""
        versions: ChannelVersions = self.checkpoint["channel_versions"]
        return versions

    @property
    def name(self) -> str:
        """The checkpoint, for errors."""
        return _name(self.place, self.row)

    def channel_name(self, channel: str) -> str:
        """One of its channels, for errors."""
        return f"channel {channel!r} of {self.name}"


def decode(serde: SerializerProtocol, place: Place, row: Row[Any]) -> Saved:
    """Read a checkpoint's row, without its values."""
    what = _name(place, row)
    stored = load(serde, (row.type, _unframed(row.data, what)), what)
    try:
        checkpoint, absent, *inline = stored
    except (TypeError, ValueError) as exc:
        raise CorruptBlobError(f"{what} is not a checkpoint with its empty channels") from exc
    ns, versions = place.checkpoint_ns, checkpoint["channel_versions"]
    try:
        keys = {channel: key for channel, key in blobs_of(row.refs).items() if key}
    except CorruptBlobError as exc:
        raise CorruptBlobError(f"{what}: {exc}") from exc
    keys |= {channel: blob_key(ns, channel, versions[channel]) for channel in absent}
    return Saved(place, row, checkpoint, frozenset(absent), inline[0] if inline else {}, keys)


def _name(place: Place, row: Row[Any]) -> str:
    return f"checkpoint {row.checkpoint_id!r} of thread {place.thread.thread_id!r}"


def _unframed(data: bytes, what: str) -> bytes:
    try:
        return unframe(data)
    except CorruptBlobError as exc:
        raise CorruptBlobError(f"{what}: {exc}") from exc


class GetScripts:
    """The script of `get_tuple`, and what other reads have of it."""

    def __init__(self, context: Context) -> None:
        self._context = context

    # -- one checkpoint ---------------------------------------------------------------------

    def get_tuple(
        self, serde: SerializerProtocol, config: RunnableConfig
    ) -> Script[CheckpointTuple | None]:
        """Read a checkpoint; a blob that goes missing meanwhile is looked for once more."""
        place = place_of(config)
        rows = yield self._looking_up(place)
        try:
            found = self._from_memory(serde, place, rows)
            if found is not None:
                return found
            return (yield from self._from_database(serde, place, rows))
        except HistoryLostError:
            self._context.forget_thread(place.thread.key)
            rows = yield self._looking_up(place)
            return (yield from self._from_database(serde, place, rows))

    def _looking_up(self, place: Place) -> Request:
        operations = self._context.operations
        return Request.lookup(
            lambda conn: operations.get_checkpoint(
                conn, place.thread.key, place.ns_key, place.checkpoint_id
            )
        )

    def _from_memory(
        self, serde: SerializerProtocol, place: Place, rows: Sequence[Row[Any]]
    ) -> CheckpointTuple | None:
        """Make a checkpoint whose values are all remembered; None if they are not.

        A graph goes on from what it saved, and its state is looked at again and again: of 2 KB,
        that takes 20 µs where 33 go by if each value is named for an error.
        """
        if not rows:
            return None
        row = rows[0]
        key = (place.thread.key, place.ns_key, row.checkpoint_id)
        whole = self._context.wholes.get(key)
        if (
            whole is None
            or whole.serde is not serde
            or whole.data != row.data
            or whole.metadata != row.metadata_data
        ):
            return self._from_values(serde, place, rows)
        try:
            loaded = serde.loads_typed(("msgpack", whole.joined))
        except Exception:  # noqa: BLE001
            return None  # whoever reads one by one finds out what is wrong, and names it
        return self._found(serde, place, rows, whole, loaded)

    def _from_values(
        self, serde: SerializerProtocol, place: Place, rows: Sequence[Row[Any]]
    ) -> CheckpointTuple | None:
        context, row, thread_key = self._context, rows[0], place.thread.key
        try:
            keys = blobs_of(row.refs)
            parts = [(row.type, unframe(row.data)), (row.metadata_type, unframe(row.metadata_data))]
            channels = [channel for channel, key in keys.items() if key]
            for channel in channels:
                value = context.cache.get(thread_key, keys[channel])
                if value is None:
                    return None
                parts.append(value.typed)
            joined = join(parts)
            loaded = load_joined(serde, joined) if joined else None
            if loaded is None:
                joined = None
                loaded = [load(serde, part, "", context.message_decoder) for part in parts]
            (checkpoint, absent, *_), *_ = loaded
        except (TypeError, ValueError):  # `SerializationError` and `CorruptBlobError` among them
            return None  # whoever reads one by one finds out what is wrong, and names it
        for channel in absent:
            version = checkpoint["channel_versions"][channel]
            if not context.cache.is_empty(
                thread_key, blob_key(place.checkpoint_ns, channel, version)
            ):
                return None
        whole = Whole(serde, row.data, row.metadata_data, keys, channels, joined or b"")
        if joined:
            context.wholes.put((thread_key, place.ns_key, row.checkpoint_id), whole)
        return self._found(serde, place, rows, whole, loaded)

    def _found(
        self,
        serde: SerializerProtocol,
        place: Place,
        rows: Sequence[Row[Any]],
        whole: Whole,
        loaded: Sequence[Any],
    ) -> CheckpointTuple:
        row = rows[0]
        (checkpoint, _, *inline), metadata, *values = loaded
        channel_values = inline[0] if inline else {}
        channel_values.update(zip(whole.channels, values, strict=True))
        checkpoint["channel_values"] = channel_values
        self._context.cache.set_tips(place.thread.key, place.ns_key, whole.keys)
        held = partial(self._context.cache.get, place.thread.key)
        writes = pending_of(serde, _writes_of(rows), "write_", held)
        found = _made(place, row, checkpoint, metadata, writes)
        self._remember(place, row, found)
        return found

    def _from_database(
        self, serde: SerializerProtocol, place: Place, rows: Sequence[Row[Any]]
    ) -> Script[CheckpointTuple | None]:
        context = self._context
        if not rows:
            if place.checkpoint_id is not None:
                key = (place.thread.key, place.ns_key, place.checkpoint_id)
                if context.not_found.get(key) is None:  # else a running graph may have lost it
                    context.not_found.put(key, True)  # noqa: FBT003
            return None
        saved = decode(serde, place, rows[0])
        values = yield from self._values([saved], context.cache.get, context.cache.put)
        context.cache.set_tips(place.thread.key, place.ns_key, blobs_of(rows[0].refs))
        writes = _writes_of(rows)
        # A checkpoint that was put again has other values than its writes are changes of.
        held = held_keys(row.write_data for row in writes)
        yield from self.add_values(place.thread.key, held, values)
        found = self.assemble(serde, saved, values, writes, "write_")
        self._remember(place, rows[0], found)
        return found

    def get_values(
        self, serde: SerializerProtocol, place: Place, wanted: Callable[[str], bool]
    ) -> Script[dict[str, Any] | None]:
        """Read the values of some channels of a checkpoint; None if it is not there."""
        context = self._context
        rows = yield self._looking_up(place)
        if not rows:
            return None
        saved = decode(serde, place, rows[0])
        saved.keys = {channel: key for channel, key in saved.keys.items() if wanted(channel)}
        values = yield from self._values([saved], context.cache.get, context.cache.put)
        return {channel: value for channel, value in saved.inline.items() if wanted(channel)} | {
            channel: load(serde, value.typed, saved.channel_name(channel), context.message_decoder)
            for channel, key in saved.keys.items()
            if (value := values.get((place.thread.key, key))) is not None
        }

    def _remember(self, place: Place, row: Row[Any], found: CheckpointTuple) -> None:
        context, key = self._context, (place.thread.key, place.ns_key, row.checkpoint_id)
        if context.not_found.get(key) is not False:
            context.not_found.put(key, False)  # noqa: FBT003
        if context.noted.get(key) is None:
            step = found.metadata.get("step")
            sends = send_nodes(found.checkpoint["channel_values"])
            number = step if isinstance(step, int) else None
            every = found.checkpoint["channel_versions"]
            versions = {c: every[c] for c in found.checkpoint["channel_values"] if c in every}
            context.noted.put(key, Noted(sends, number, _origin(place, row, found), versions))
        if found.pending_writes and context.policy == "raise":
            channels = frozenset(channel for _, channel, _ in found.pending_writes)
            context.written.put(key, channels)

    def _values(
        self, saved: Sequence[Saved], known: Known, learn: Callable[[bytes, Value], None] | None
    ) -> Script[dict[tuple[bytes, bytes], Value]]:
        """The values that checkpoints refer to, from memory where they are remembered.

        Args:
            saved: The checkpoints.
            known: Looks up a value.
            learn: Takes each value that had to be read, with its thread's key.
        """
        context = self._context
        found: dict[tuple[bytes, bytes], Value] = {}
        missing: dict[tuple[bytes, bytes], tuple[Saved, str]] = {}
        for one in saved:
            for channel, key in one.keys.items():
                at = (one.place.thread.key, key)
                value = known(*at)
                if value is not None:
                    found[at] = value
                elif not context.cache.is_empty(*at):
                    missing[at] = (one, channel)
        if not missing:
            return found
        rows = yield Request.lookup(lambda conn: context.operations.get_chains(conn, missing))
        # Oldest first: a chain then ends at once, at the value before.
        for at in sorted(missing, key=lambda at: rows[at].depth if at in rows else 0):
            if at in rows:
                found[at] = _resolve(at, rows, found, known)
                if learn is not None:
                    learn(at[0], found[at])
                continue
            self.check_empty(*missing[at])
        return found

    def add_values(
        self,
        thread_key: bytes,
        keys: Iterable[bytes],
        values: dict[tuple[bytes, bytes], Value],
    ) -> Script[None]:
        """Add the values under some keys that are not among those at hand, if they are stored."""
        context = self._context
        missing = {(thread_key, key) for key in keys} - values.keys()
        for at in tuple(missing):
            known = context.cache.get(*at)
            if known is not None:
                values[at] = known
                missing.remove(at)
        if not missing:
            return
        rows = yield Request.lookup(lambda conn: context.operations.get_chains(conn, missing))
        for at in missing & rows.keys():
            values[at] = _resolve(at, rows, values, context.cache.get)

    def check_empty(self, one: Saved, channel: str) -> None:
        """Remember that a channel is empty, as a value that is not in the database says.

        Raises:
            HistoryLostError: The checkpoint says that there is one.
        """
        if channel not in one.absent:
            raise HistoryLostError(
                f"channel {channel!r} of {one.name} is not in the database: rows of "
                "session_blobs were deleted by hand, or the thread is being deleted"
            )
        self._context.cache.set_empty(one.place.thread.key, one.keys[channel])

    def assemble(
        self,
        serde: SerializerProtocol,
        saved: Saved,
        values: Mapping[tuple[bytes, bytes], Value],
        writes: Sequence[Row[Any]],
        prefix: str,
    ) -> CheckpointTuple:
        """Deserialise a checkpoint, with values that `_values` or a listing found."""
        thread_key, names = saved.place.thread.key, saved.channel_name
        channel_values = {
            channel: load(
                serde, value.typed, partial(names, channel), self._context.message_decoder
            )
            for channel, key in saved.keys.items()
            if (value := values.get((thread_key, key))) is not None
        }
        checkpoint = {**saved.checkpoint, "channel_values": {**saved.inline, **channel_values}}
        metadata = self.metadata(serde, saved.name, saved.row)
        pending = pending_of(serde, writes, prefix, of_thread(values, thread_key))
        return _made(saved.place, saved.row, checkpoint, metadata, pending)

    def metadata(self, serde: SerializerProtocol, name: str, row: Row[Any]) -> Any:
        """A checkpoint's metadata."""
        what = f"the metadata of {name}"
        return load(serde, (row.metadata_type, _unframed(row.metadata_data, what)), what)


def _resolve(
    at: tuple[bytes, bytes],
    rows: Mapping[tuple[bytes, bytes], Row[Any]],
    found: Mapping[tuple[bytes, bytes], Value],
    known: Known,
) -> Value:
    thread_key, key = at
    return resolve(
        key,
        of_thread(rows, thread_key),
        lambda wanted: found.get((thread_key, wanted)) or known(thread_key, wanted),
    )


def _origin(place: Place, row: Row[Any], found: CheckpointTuple) -> Origin | None:
    if not place.is_root:
        return None
    origin = origin_of(row.checkpoint_id, row.parent_checkpoint_id, found.metadata, None)
    return origin._replace(run=row.root_checkpoint_id)


def _made(
    place: Place, row: Row[Any], checkpoint: Any, metadata: Any, writes: list[PendingWrite]
) -> CheckpointTuple:
    parent = row.parent_checkpoint_id
    return CheckpointTuple(
        place.at(row.checkpoint_id),
        checkpoint,
        metadata,
        place.at(parent) if parent else None,
        writes,
    )


def _writes_of(rows: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """The writes that a checkpoint was read with."""
    return ordered(rows) if rows[0].task_id is not None else ()


def ordered(writes: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """Writes in the order that LangGraph gives them."""
    if len(writes) < 2:
        return writes
    return sorted(writes, key=lambda row: writes_sort_key(row.task_path, row.task_id, row.idx))


def pending_of(
    serde: SerializerProtocol,
    writes: Sequence[Row[Any]],
    prefix: str,
    held: Callable[[bytes], Value | None],
) -> list[PendingWrite]:
    """Deserialise writes.

    Args:
        serde: The saver's serialiser, at this moment.
        writes: Their rows.
        prefix: What the names of their columns start with.
        held: Looks up the values that they are changes of.
    """
    return [_pending(serde, row, prefix, held) for row in writes] if writes else []


def _pending(
    serde: SerializerProtocol, row: Row[Any], prefix: str, held: Callable[[bytes], Value | None]
) -> PendingWrite:
    what = f"the write of task {row.task_id!r} to channel {row.channel!r}"
    typ, framed = getattr(row, f"{prefix}type"), getattr(row, f"{prefix}data")
    try:
        data = unframe_write(framed, held)
    except (CorruptBlobError, HistoryLostError) as exc:
        raise type(exc)(f"{what}: {exc}") from exc
    return row.task_id, row.channel, load(serde, (typ, data), what)


ANCESTORS = 512
"""Checkpoints on a path that one query walks."""


class DeltaHistoryScripts:
    """The script of `get_delta_channel_history`."""

    def __init__(self, context: Context, reads: GetScripts) -> None:
        self._context = context
        self._reads = reads

    def read(
        self, serde: SerializerProtocol, config: RunnableConfig, channels: Sequence[str]
    ) -> Script[dict[str, DeltaChannelHistory]]:
        """Walk up from a checkpoint until each channel has a stored value.

        Four queries for every `ANCESTORS` checkpoints walked, however many channels.
        """
        place = place_of(config)
        collected: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
        seeds: dict[str, Any] = {}
        walk = yield from self._ancestors(serde, place, place.checkpoint_id, is_target=True)
        while walk and len(seeds) < len(collected):
            yield from self._collect(serde, walk, collected, seeds)
            parent = walk[-1].row.parent_checkpoint_id
            if parent is None:
                break
            walk = yield from self._ancestors(serde, place, parent, is_target=False)
        history: dict[str, DeltaChannelHistory] = {}
        for channel, writes in collected.items():
            history[channel] = {"writes": writes[::-1]}
            if channel in seeds:
                history[channel]["seed"] = seeds[channel]
        return history

    def _ancestors(
        self, serde: SerializerProtocol, place: Place, start: str | None, *, is_target: bool
    ) -> Script[list[Saved]]:
        context = self._context
        rows = yield Request.read(
            lambda conn: context.operations.get_ancestors(
                conn, place.thread.key, place.ns_key, start, ANCESTORS
            )
        )
        return [decode(serde, place, row) for row in (rows[1:] if is_target else rows)]

    def _collect(
        self,
        serde: SerializerProtocol,
        walk: Sequence[Saved],
        collected: dict[str, list[PendingWrite]],
        seeds: dict[str, Any],
    ) -> Script[None]:
        """Take each channel's writes, newest first, down to the ancestor that holds its value."""
        context = self._context
        open_channels = [channel for channel in collected if channel not in seeds]
        keys = {
            (one.place.thread.key, one.keys[channel])
            for one in walk
            for channel in open_channels
            if channel in one.keys
        }
        stored = yield Request.read(lambda conn: context.operations.existing_blobs(conn, keys))
        writes = yield Request.read(
            lambda conn: context.operations.get_writes(conn, [one.row for one in walk])
        )
        for channel in open_channels:
            for one in walk:
                at = (one.row.thread_key, one.row.ns_key, one.row.checkpoint_id)
                mine = [row for row in writes.get(at, []) if row.channel == channel]
                collected[channel] += (yield from self._written(serde, at[0], mine))[::-1]
                if channel in one.inline:
                    seeds[channel] = one.inline[channel]
                    break
                if channel not in one.versions:
                    continue
                key = (at[0], one.keys[channel])
                if key in stored:
                    value = yield from self._value(one, channel, key)
                    seeds[channel] = load(serde, value.typed, one.channel_name(channel))
                    break

    def _written(
        self, serde: SerializerProtocol, thread_key: bytes, rows: Sequence[Row[Any]]
    ) -> Script[list[PendingWrite]]:
        held: dict[tuple[bytes, bytes], Value] = {}
        yield from self._reads.add_values(thread_key, held_keys(row.data for row in rows), held)
        return pending_of(serde, ordered(rows), "", of_thread(held, thread_key))

    def _value(self, one: Saved, channel: str, at: tuple[bytes, bytes]) -> Script[Value]:
        found: dict[tuple[bytes, bytes], Value] = {}
        yield from self._reads.add_values(at[0], at[1:], found)
        if at not in found:
            raise HistoryLostError(f"{one.channel_name(channel)} is not in the database")
        return found[at]
