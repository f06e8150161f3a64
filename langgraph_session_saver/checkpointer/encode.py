"""A checkpoint as LangGraph hands it to `put`, and as rows. No connection is open here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.encoding import references
from langgraph_session_saver.encoding.chains import Value, extend, whole
from langgraph_session_saver.encoding.delta import kept_items
from langgraph_session_saver.encoding.framing import frame
from langgraph_session_saver.encoding.keys import CheckpointKey, Place, Typed, blob_key, is_unique
from langgraph_session_saver.encoding.messages import is_long_message_list
from langgraph_session_saver.encoding.nesting import check_metadata
from langgraph_session_saver.encoding.references import References
from langgraph_session_saver.encoding.serde import dump, is_small
from langgraph_session_saver.errors import ValueTooLargeError
from langgraph_session_saver.projection.project import SharedPrefix
from langgraph_session_saver.projection.rules import Step, is_snapshot
from langgraph_session_saver.projection.status import Reached, due_nodes
from langgraph_session_saver.retention.lineage import Origin, Stored, caller_of, origin_of
from langgraph_session_saver.schema.column_types import utc_now, utc_time
from langgraph_session_saver.storage.checkpoints import CheckpointRows
from langgraph_session_saver.validation import check_channels

_SURROGATES = re.compile("[\ud800-\udfff]")


class NewCheckpoint(NamedTuple):
    """A checkpoint to store, as LangGraph hands it to `put`."""

    place: Place
    """Thread, namespace and parent checkpoint."""
    id: str
    key: CheckpointKey
    """The primary key of the checkpoint's row."""
    time: datetime
    """When it was made, by its own account."""
    checkpoint: Checkpoint
    values: dict[str, Any]
    versions: ChannelVersions
    """The versions of all channels, those without a value among them."""
    new_versions: ChannelVersions
    metadata: dict[str, Any]
    run_id: str | None
    step_number: int | None
    """The super-step that ends with the checkpoint."""
    origin: Origin | None
    """None in a subgraph's namespace."""
    root_id: str | None
    """The root checkpoint that the run, or the subgraph's call, started from."""
    serde: SerializerProtocol
    delta_channels: frozenset[str]
    """The `DeltaChannel`s of the graph, whose values are not in `values`, or as a snapshot."""
    delta_values: Mapping[str, Any] = MappingProxyType({})
    """Those of their values that projections read."""

    @property
    def reached(self) -> Reached:
        """What the thread's status depends on."""
        return Reached(self.id, due_nodes(self.values), self.step_number, self.time)

    def name(self) -> str:
        """The checkpoint's name in error messages."""
        return f"checkpoint {self.id!r} of thread {self.place.thread.thread_id!r}"

    def name_of(self, part: str) -> str:
        """The name of a part of the checkpoint in error messages."""
        return f"{part} of {self.name()}"

    def step(self, *, whole: bool) -> Step:
        """What projections see; with `whole`, all channels count as changed."""
        thread, values = self.place.thread, {**self.values, **self.delta_values}
        return Step(
            session_id=thread.session_id or thread.thread_id,
            thread_id=thread.thread_id,
            checkpoint_id=self.id,
            time=self.time,
            run_id=self.run_id,
            metadata=self.metadata,
            values=values,
            changed=frozenset(values if whole else self.new_versions),
            versions=self.versions,
            delta_channels=self.delta_channels,
        )


def new_checkpoint(
    context: Context,
    serde: SerializerProtocol,
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    new_versions: ChannelVersions,
) -> NewCheckpoint:
    """Check and collect the arguments of a `put`."""
    place, checkpoint_id = Place.of(config, context.owner_id), checkpoint["id"]
    check_channels(list(checkpoint["channel_versions"]))
    merged: dict[str, Any] = {
        key: value if not isinstance(value, str) or value.isascii() else _SURROGATES.sub("", value)
        for key, value in context.secret_keys.left_out(
            get_checkpoint_metadata(config, metadata)
        ).items()
    }
    origin, root_id = None, (merged.get("parents") or {}).get("")
    if place.is_root:
        facts = None if place.key is None else context.known_checkpoints.facts.get(place.key)
        parent = None if facts is None else facts.origin
        origin = origin_of(checkpoint_id, place.checkpoint_id, merged, parent)
        root_id = origin.run
    run_id, step = merged.get("run_id"), merged.get("step")
    values = checkpoint["channel_values"]
    snapshots = frozenset(name for name, value in values.items() if is_snapshot(value))
    return NewCheckpoint(
        place=place,
        id=checkpoint_id,
        key=place.key_of(checkpoint_id),
        time=utc_time(checkpoint["ts"]) or utc_now(),
        checkpoint=checkpoint,
        values=values,
        versions=checkpoint["channel_versions"],
        new_versions=new_versions,
        metadata=merged,
        run_id=None if run_id is None else str(run_id)[:255],
        step_number=step if isinstance(step, int) else None,
        origin=origin,
        root_id=root_id,
        serde=serde,
        delta_channels=snapshots.union(merged.get("counters_since_delta_snapshot") or ()),
    )


class EncodedCheckpoint(NamedTuple):
    """A checkpoint as rows, and what goes into the caches once they are stored."""

    rows: CheckpointRows
    references: References
    """The blobs and checkpoints that the row keeps alive; packed in its column `refs`."""
    values: list[Value]
    """The values of the changed channels, to store later changes against."""
    sizes: dict[str, int]
    """The serialised bytes of the stored channels."""
    prefixes: dict[str, SharedPrefix]
    """For channels of messages: what the list has in common with the one before."""

    def replacing(self, packed: bytes) -> EncodedCheckpoint:
        """Add the blobs of a replaced checkpoint, by its packed references, to the references.

        The replaced checkpoint's writes may be stored as changes of these blobs.
        """
        merged = references.replacing(self.references, packed)
        row = {**self.rows.checkpoint, "refs": references.pack(merged)}
        return self._replace(rows=replace(self.rows, checkpoint=row), references=merged)


def encode(context: Context, new: NewCheckpoint, *, everything: bool = False) -> EncodedCheckpoint:
    """Serialise a checkpoint and its changed channels, or with `everything` all channels."""
    thread_key, refs = new.place.thread.key, _references(new)
    row = _checkpoint_row(context, new, refs)
    rows = CheckpointRows(row, context.piece_bytes, needs_parent=not everything)
    values: list[Value] = []
    sizes: dict[str, int] = {}
    prefixes: dict[str, SharedPrefix] = {}
    tips = context.blob_cache.tips(thread_key, new.place.ns_key)
    for channel in new.versions if everything else new.new_versions:
        key = refs.blobs.get(channel)
        if not key:
            continue
        unique, previous = is_unique(new.versions[channel]), None
        if unique and channel in tips:
            previous = context.blob_cache.get(thread_key, tips[channel])
        what = partial(new.name_of, f"channel {channel!r}")
        typed = dump(
            new.serde, new.values[channel], what, _list_encoder(context, new, channel, previous)
        )
        kept = 0 if previous is None else kept_items(previous.typed, typed)
        value, stored = extend(previous, key, typed, kept) if unique else whole(key, typed)
        context.check_size(stored.data, what, in_pieces=True)
        sizes[channel] = len(typed[1])
        rows.add_blob({"thread_key": thread_key, "channel": channel, **stored._asdict()})
        # An unchanged channel's blob may be stored already, as a change of another value.
        if unique and channel in new.new_versions:
            values.append(value)
        if unique and channel in context.projector.message_channels:
            prefixes[channel] = SharedPrefix(key, previous.key if previous else None, kept)
    return EncodedCheckpoint(rows, refs, values, sizes, prefixes)


def _list_encoder(
    context: Context, new: NewCheckpoint, channel: str, previous: Value | None
) -> Callable[[SerializerProtocol, Any], Typed] | None:
    """What serialises a long list of messages in place of the serde; None for other values."""
    if not is_long_message_list(new.values[channel]):
        return None
    return partial(
        context.message_encoder.dumps,
        channel=(new.place.thread.key, new.place.ns_key, channel),
        key=blob_key(new.place.checkpoint_ns, channel, new.versions[channel]),
        earlier=None if previous is None else (previous.key, previous.typed),
    )


def retained_row(new: NewCheckpoint, encoded: EncodedCheckpoint) -> Stored:
    """A checkpoint as retention sees it."""
    return Stored(
        ns_key=new.place.ns_key,
        checkpoint_id=new.id,
        checkpoint_ns=new.place.checkpoint_ns,
        parent_id=new.place.checkpoint_id,
        root_id=new.root_id,
        run_id=new.run_id,
        is_hidden=False,
        refs=encoded.references,
    )


def _references(new: NewCheckpoint) -> References:
    ns, values = new.place.checkpoint_ns, new.values
    return References(
        ts=new.checkpoint["ts"],
        replayed=new.metadata.get("counters_since_delta_snapshot") or (),
        blobs={
            channel: b"" if is_small(values[channel]) else blob_key(ns, channel, version)
            for channel, version in new.versions.items()
            if channel in values
        },
        caller=caller_of(ns, new.metadata),
    )


def _checkpoint_row(context: Context, new: NewCheckpoint, refs: References) -> dict[str, Any]:
    place = new.place
    plain: dict[str, Any] = dict(new.checkpoint)
    del plain["channel_values"]
    empty = [channel for channel in new.versions if channel not in new.values]
    inline = {channel: new.values[channel] for channel, key in refs.blobs.items() if not key}
    metadata_name = partial(new.name_of, "the metadata")
    typ, data = dump(new.serde, [plain, empty, inline], new.name)
    metadata_type, metadata = dump(new.serde, new.metadata, metadata_name)
    try:
        check_metadata(metadata_type, metadata)
    except ValueError as exc:
        raise ValueTooLargeError(f"{metadata_name()}: {exc}. Nothing was written") from exc
    return {
        "thread_key": place.thread.key,
        "ns_key": place.ns_key,
        "checkpoint_id": new.id,
        "checkpoint_ns": place.checkpoint_ns,
        "parent_checkpoint_id": place.checkpoint_id,
        "root_checkpoint_id": new.root_id,
        "run_id": new.run_id,
        "hidden": False,
        "refs": references.pack(refs),
        "type": typ,
        "data": context.check_size(frame(data), new.name),
        "metadata_type": metadata_type,
        "metadata_data": context.check_size(frame(metadata), metadata_name),
    }
