"""Reading checkpoints: `get_tuple` and `get_delta_channel_history`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    writes_sort_key,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Row

from langgraph_session_saver.checkpointer.context import Context, facts_of
from langgraph_session_saver.encoding.chains import (
    Value,
    held_keys,
    of_thread,
    resolve,
    unframe_write,
)
from langgraph_session_saver.encoding.framing import unframe
from langgraph_session_saver.encoding.keys import CheckpointKey, Place, blob_key
from langgraph_session_saver.encoding.nesting import check_metadata
from langgraph_session_saver.encoding.references import unpack
from langgraph_session_saver.encoding.serde import load
from langgraph_session_saver.errors import CorruptBlobError, HistoryLostError
from langgraph_session_saver.retention.lineage import origin_of
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.storage.checkpoints import BlobKey
from langgraph_session_saver.storage.threads import params_of

ANCESTORS = 512
"""Checkpoints on a path that one query walks."""

Values = dict[BlobKey, Value]
"""The values of blobs."""


@dataclass(slots=True)
class DecodedCheckpoint:
    """A checkpoint's row, decoded but for the values in `session_blobs`."""

    name: str
    """The checkpoint's name in error messages."""
    serde: SerializerProtocol
    place: Place
    row: Row[Any]
    checkpoint: dict[str, Any]
    empty_channels: frozenset[str]
    """Channels that have a version and no value."""
    inline: Mapping[str, Any]
    """Values stored in the row itself, by channel."""
    blobs: dict[str, bytes]
    """Blob keys by channel, including those that the empty channels would have."""

    def channel_name(self, channel: str) -> str:
        """A channel's name in error messages."""
        return f"channel {channel!r} of {self.name}"


def decode(serde: SerializerProtocol, place: Place, row: Row[Any]) -> DecodedCheckpoint:
    """Decode a checkpoint's row.

    Raises:
        CorruptBlobError: The row is damaged.
        SerializationError: The serde cannot read it.
    """
    what = f"checkpoint {row.checkpoint_id!r} of thread {place.thread.thread_id!r}"
    if not place.is_root:
        what += f", namespace {place.checkpoint_ns!r}"
    with naming(what):
        data, references = unframe(row.data), unpack(row.refs)
    stored = load(serde, (row.type, data), what)
    try:
        checkpoint, empty, *inline = stored
        ns, versions = place.checkpoint_ns, dict(checkpoint["channel_versions"])
        blobs = {channel: key for channel, key in references.blobs.items() if key}
        blobs |= {channel: blob_key(ns, channel, versions[channel]) for channel in empty}
        inlined = dict(inline[0]) if inline else {}
    except (AttributeError, LookupError, TypeError, ValueError) as exc:
        raise CorruptBlobError(f"{what} is not a checkpoint and a list of empty channels") from exc
    return DecodedCheckpoint(what, serde, place, row, checkpoint, frozenset(empty), inlined, blobs)


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Start the message of an error about stored bytes with the name of what they belong to."""
    try:
        yield
    except (CorruptBlobError, HistoryLostError) as exc:
        raise type(exc)(f"{what}: {exc}") from exc


@dataclass(slots=True)
class Replay:
    """What the value of a `DeltaChannel` is made of."""

    writes: list[list[PendingWrite]] = field(default_factory=list)
    """The writes of each checkpoint, of the newest first."""
    seed: Any = None
    """The value that the last of these checkpoints stores, if `has_seed`."""
    has_seed: bool = False

    def start_from(self, seed: Any) -> None:
        """Set the seed."""
        self.seed, self.has_seed = seed, True

    def all_writes(self) -> list[PendingWrite]:
        """The writes, oldest first."""
        return [write for writes in reversed(self.writes) for write in writes]


class CheckpointReader:
    """Reads checkpoints and the values of their channels."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def get_tuple(
        self, serde: SerializerProtocol, config: RunnableConfig
    ) -> Script[CheckpointTuple | None]:
        """Read the checkpoint that a config names, or the newest of its namespace."""
        place = Place.of(config, self._context.owner_id)
        try:
            return (yield from self._read(serde, place))
        except (CorruptBlobError, HistoryLostError):
            # A prune or a new put of the checkpoint may have come between the two queries.
            self._context.forget_thread(place.thread.key)
            return (yield from self._read(serde, place))

    def get_values(
        self, serde: SerializerProtocol, place: Place, wanted: Callable[[str], bool]
    ) -> Script[dict[str, Any] | None]:
        """Read some channels' values of a checkpoint; None if there is no such checkpoint."""
        rows = yield self._request(place)
        if not rows:
            return None
        decoded = decode(serde, place, rows[0])
        decoded.blobs = {name: key for name, key in decoded.blobs.items() if wanted(name)}
        decoded.inline = {name: value for name, value in decoded.inline.items() if wanted(name)}
        values = yield from self._values_of(decoded)
        return self._channel_values(decoded, values)

    def get_known_values(
        self, serde: SerializerProtocol, place: Place, channels: Collection[str]
    ) -> Script[dict[str, Any]]:
        """Read some channels' values of a checkpoint, without a query if they are cached."""
        facts = None if place.key is None else self._context.known_checkpoints.facts.get(place.key)
        found: dict[str, Any] = {}
        if facts is not None:
            for channel in channels & facts.versions.keys():
                key = blob_key(place.checkpoint_ns, channel, facts.versions[channel])
                value = self._context.blob_cache.get(place.thread.key, key)
                if value is None:
                    break
                what = partial(
                    "channel {!r} of checkpoint {!r}".format, channel, place.checkpoint_id
                )
                found[channel] = load(serde, value.typed, what, self._context.message_decoder)
            else:
                return found
        return (yield from self.get_values(serde, place, lambda name: name in channels)) or {}

    def blobs_of(
        self, checkpoints: Iterable[DecodedCheckpoint]
    ) -> dict[BlobKey, tuple[DecodedCheckpoint, str]]:
        """The blobs not known to be missing; for each, a checkpoint and a channel that have it."""
        return {
            (decoded.place.thread.key, key): (decoded, channel)
            for decoded in checkpoints
            for channel, key in decoded.blobs.items()
            if not self._context.blob_cache.is_empty(decoded.place.thread.key, key)
        }

    def read_values(self, blobs: Iterable[BlobKey]) -> Script[Values]:
        """The values of blobs, from the cache or the database; missing blobs are left out."""
        cache = self._context.blob_cache
        wanted = set(blobs)
        values = {at: value for at in wanted if (value := cache.get(*at)) is not None}
        missing = wanted - values.keys()
        if not missing:
            return values
        rows = yield Request.read(self._context.storage.checkpoints.get_chains, missing)
        # Shortest chain first: a longer one then ends at a value that is already resolved.
        for at in sorted(missing & rows.keys(), key=lambda at: rows[at].depth):
            values[at] = value = self._resolve(at, rows, values)
            cache.put(at[0], value)
        return values

    def _resolve(self, at: BlobKey, rows: Mapping[BlobKey, Row[Any]], values: Values) -> Value:
        """Rebuild a value from the rows of its chain, down to one that is known."""
        thread_key, key = at

        def known(base: bytes) -> Value | None:
            return values.get((thread_key, base)) or self._context.blob_cache.get(thread_key, base)

        return resolve(key, of_thread(rows, thread_key), known)

    def note_empty(self, decoded: DecodedCheckpoint, channel: str) -> None:
        """Remember that a channel has no blob, or raise if the checkpoint says that it has one."""
        if channel not in decoded.empty_channels:
            raise HistoryLostError(
                f"{decoded.channel_name(channel)} is not in the database: rows of session_blobs "
                "were deleted by hand, or the thread is being deleted"
            )
        self._context.blob_cache.set_empty(decoded.place.thread.key, decoded.blobs[channel])

    def assemble(
        self, decoded: DecodedCheckpoint, values: Values, writes: Iterable[Row[Any]]
    ) -> CheckpointTuple:
        """Deserialise a checkpoint's values, metadata and writes."""
        place, row, serde = decoded.place, decoded.row, decoded.serde
        channel_values = self._channel_values(decoded, values)
        parent_id = row.parent_checkpoint_id
        return CheckpointTuple(
            place.at(row.checkpoint_id),
            {**decoded.checkpoint, "channel_values": channel_values},  # type: ignore[typeddict-item]
            load_metadata(serde, decoded.name, row),
            place.at(parent_id) if parent_id else None,
            _load_writes(decoded, writes, of_thread(values, place.thread.key)),
        )

    def _request(self, place: Place) -> Request:
        get = self._context.storage.checkpoints.get
        owner = params_of(place.thread)
        return Request.read(get, place.thread.key, place.ns_key, place.checkpoint_id, owner)

    def _read(self, serde: SerializerProtocol, place: Place) -> Script[CheckpointTuple | None]:
        """Read a checkpoint with its values and its writes."""
        context, thread_key = self._context, place.thread.key
        rows = yield self._request(place)
        if not rows:
            if place.key is not None:
                context.known_checkpoints.note_missing(place.key)
            return None
        decoded = decode(serde, place, rows[0])
        values = yield from self._values_of(decoded)
        context.blob_cache.set_tips(thread_key, place.ns_key, decoded.blobs)
        writes = [row for row in rows if row.task_id is not None]
        # Most are values of this checkpoint, but not if it was put again since.
        bases = {(thread_key, key) for key in held_keys(row.write_data for row in writes)}
        with naming(decoded.name):
            values |= yield from self.read_values(bases - values.keys())
        found = self.assemble(decoded, values, writes)
        self._remember(place.key_of(rows[0].checkpoint_id), decoded, found)
        return found

    def _values_of(self, decoded: DecodedCheckpoint) -> Script[Values]:
        """The values that a checkpoint refers to."""
        blobs = self.blobs_of([decoded])
        with naming(decoded.name):
            values = yield from self.read_values(blobs)
        for at in blobs.keys() - values.keys():
            self.note_empty(*blobs[at])
        return values

    def _channel_values(self, decoded: DecodedCheckpoint, values: Values) -> dict[str, Any]:
        thread_key, messages = decoded.place.thread.key, self._context.message_decoder
        found = dict(decoded.inline)
        for channel, key in decoded.blobs.items():
            value = values.get((thread_key, key))
            if value is not None:
                what = partial(decoded.channel_name, channel)
                found[channel] = load(decoded.serde, value.typed, what, messages)
        return found

    def _remember(
        self, key: CheckpointKey, decoded: DecodedCheckpoint, found: CheckpointTuple
    ) -> None:
        """Remember what later puts and writes ask about a checkpoint."""
        known = self._context.known_checkpoints
        known.note_found(key)
        if known.facts.get(key) is None:
            origin, row = None, decoded.row
            if decoded.place.is_root:
                origin = origin_of(
                    key.checkpoint_id, row.parent_checkpoint_id, found.metadata, None
                )
                origin = origin._replace(run=row.root_checkpoint_id)
            known.facts.put(key, facts_of(found.checkpoint, origin))
        self._context.known_deltas.note_read(key, found.pending_writes or ())
        if found.pending_writes and self._context.policy == "raise":
            channels = frozenset(channel for _, channel, _ in found.pending_writes)
            known.checked_channels.put(key, channels)

    # -- what `DeltaChannel`s replay --------------------------------------------------------

    def get_delta_history(
        self, serde: SerializerProtocol, config: RunnableConfig, channels: Sequence[str]
    ) -> Script[dict[str, DeltaChannelHistory]]:
        """Walk from a checkpoint's parent to the nearest ancestor that stores each channel's value.

        Takes a fixed number of queries for every `ANCESTORS` checkpoints, however many channels.
        """
        place = Place.of(config, self._context.owner_id)
        replays = yield from self.replay(serde, place, channels, with_own=False)
        found: dict[str, DeltaChannelHistory] = {}
        for channel, one in replays.items():
            found[channel] = {"writes": one.all_writes()}
            if one.has_seed:
                found[channel]["seed"] = one.seed
        return found

    def replay(
        self, serde: SerializerProtocol, place: Place, channels: Sequence[str], *, with_own: bool
    ) -> Script[dict[str, Replay]]:
        """What channels' values at a checkpoint are made of; `with_own`, at a child of it."""
        found = {channel: Replay() for channel in channels}
        path = yield from self._path(serde, place, place.checkpoint_id)
        walked: set[str] = set()
        if not with_own:
            walked.update(decoded.row.checkpoint_id for decoded in path[:1])
            del path[:1]
        while path and not all(one.has_seed for one in found.values()):
            for decoded in path:
                if decoded.row.checkpoint_id in walked:
                    raise CorruptBlobError(f"{decoded.name} is among its own ancestors")
                walked.add(decoded.row.checkpoint_id)
            yield from self._collect(path, found)
            parent_id = path[-1].row.parent_checkpoint_id
            path = (yield from self._path(serde, place, parent_id)) if parent_id else []
        return found

    def _path(
        self, serde: SerializerProtocol, place: Place, start: str | None
    ) -> Script[list[DecodedCheckpoint]]:
        """A checkpoint (the newest without `start`) and its ancestors, newest first."""
        get_ancestors = self._context.storage.checkpoints.get_ancestors
        thread, owner = place.thread, params_of(place.thread)
        rows = yield Request.read(get_ancestors, thread.key, place.ns_key, start, ANCESTORS, owner)
        return [decode(serde, place, row) for row in rows]

    def _collect(
        self, path: Sequence[DecodedCheckpoint], replays: Mapping[str, Replay]
    ) -> Script[None]:
        """Add each channel's writes, newest first, down to the ancestor that stores its value."""
        statements, thread_key = self._context.storage.checkpoints, path[0].place.thread.key
        unseeded = {channel: one for channel, one in replays.items() if not one.has_seed}
        blobs = {
            (thread_key, key)
            for decoded in path
            for channel, key in decoded.blobs.items()
            if channel in unseeded
        }
        rows = [decoded.row for decoded in path]
        stored, writes = yield Request.read(
            lambda conn: (statements.existing_blobs(conn, blobs), statements.get_writes(conn, rows))
        )
        for channel, found in unseeded.items():
            for decoded in path:
                written = writes.get(decoded.place.key_of(decoded.row.checkpoint_id), [])
                mine = [row for row in written if row.channel == channel]
                at = (thread_key, decoded.blobs.get(channel, b""))
                needed = {(thread_key, key) for key in held_keys(row.write_data for row in mine)}
                with naming(decoded.name):
                    values = yield from self.read_values(needed | ({at} & stored))
                pending = _load_writes(decoded, mine, of_thread(values, thread_key))
                found.writes.append(pending)
                if channel in decoded.inline:
                    found.start_from(decoded.inline[channel])
                elif at in stored:
                    what = decoded.channel_name(channel)
                    if at not in values:
                        raise HistoryLostError(f"{what} is not in the database")
                    found.start_from(load(decoded.serde, values[at].typed, what))
                if found.has_seed:
                    break


def load_metadata(serde: SerializerProtocol, checkpoint_name: str, row: Row[Any]) -> Any:
    """Deserialise a checkpoint's metadata."""
    what = f"the metadata of {checkpoint_name}"
    with naming(what):
        data = unframe(row.metadata_data)
        try:
            check_metadata(row.metadata_type, data)
        except ValueError as exc:
            raise CorruptBlobError(str(exc)) from exc
    metadata = load(serde, (row.metadata_type, data), what)
    if not isinstance(metadata, Mapping):
        raise CorruptBlobError(f"{what} is a {type(metadata).__name__}, and not a mapping")
    return metadata


def _load_writes(
    decoded: DecodedCheckpoint,
    writes: Iterable[Row[Any]],
    base_of: Callable[[bytes], Value | None],
) -> list[PendingWrite]:
    """Deserialise a checkpoint's writes, in LangGraph's order.

    `base_of` looks up the values that writes are stored as changes of.
    """
    found: list[PendingWrite] = []
    for row in sorted(writes, key=lambda row: writes_sort_key(row.task_path, row.task_id, row.idx)):
        what = f"the write of task {row.task_id!r} to channel {row.channel!r} at {decoded.name}"
        with naming(what):
            data = unframe_write(row.write_data, base_of)
        found.append((row.task_id, row.channel, load(decoded.serde, (row.write_type, data), what)))
    return found
