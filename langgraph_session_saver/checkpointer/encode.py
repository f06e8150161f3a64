"""A checkpoint on its way into the database: what LangGraph gives, and what is stored of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_session_saver.encoding.chains import Value
from langgraph_session_saver.encoding.keys import Place, blob_key
from langgraph_session_saver.encoding.references import References
from langgraph_session_saver.encoding.serde import is_small
from langgraph_session_saver.errors import HistoryLostError
from langgraph_session_saver.projection.project import Changes, Kept
from langgraph_session_saver.projection.rules import Step
from langgraph_session_saver.projection.status import Reached, due_nodes
from langgraph_session_saver.retention.lineage import Origin, Stored, caller_of
from langgraph_session_saver.storage.threads import Head

_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class Incoming:
    """One `put`, as LangGraph gives it, and as it is stored."""

    place: Place
    checkpoint: Checkpoint
    metadata: dict[str, Any]
    new_versions: ChannelVersions
    serde: SerializerProtocol
    origin: Origin | None = None
    """None for a subgraph's."""
    values: list[Value] = field(default_factory=list)
    kept: dict[str, Kept] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """Serialised bytes of the channels that changed."""
    is_orphan: bool = False
    """Whether its parent is known to be gone, so that all of it is to be stored."""
    references: References = field(init=False)
    """The rows that it keeps alive."""

    def __post_init__(self) -> None:
        self.references = self._references()

    def name(self) -> str:
        """The checkpoint, for errors."""
        return f"checkpoint {self.checkpoint['id']!r} of thread {self.place.thread.thread_id!r}"

    def metadata_name(self) -> str:
        """Its metadata, for errors."""
        return f"the metadata of {self.name()}"

    def channel_name(self, channel: str) -> str:
        """One of its channels, for errors."""
        return f"channel {channel!r} of {self.name()}"

    @property
    def run_id(self) -> str | None:
        """The run that made it."""
        run_id = self.metadata.get("run_id")
        return None if run_id is None else str(run_id)[:255]

    @property
    def step_number(self) -> int | None:
        """The super-step that it ends."""
        number = self.metadata.get("step")
        return number if isinstance(number, int) else None

    def stored(self) -> Stored:
        """What retention needs to know of this checkpoint."""
        place = self.place
        return Stored(
            ns_key=place.ns_key,
            checkpoint_id=self.checkpoint["id"],
            checkpoint_ns=place.checkpoint_ns,
            parent_id=place.checkpoint_id,
            root_id=self.root_id,
            run_id=self.run_id,
            is_hidden=False,
            refs=self.references,
        )

    def _references(self) -> References:
        values, ns = self.checkpoint["channel_values"], self.place.checkpoint_ns
        return References(
            ts=self.checkpoint["ts"],
            replayed=self.metadata.get("counters_since_delta_snapshot") or (),
            blobs={
                channel: b"" if is_small(values[channel]) else blob_key(ns, channel, version)
                for channel, version in self.checkpoint["channel_versions"].items()
                if channel in values
            },
            caller=caller_of(ns, self.metadata),
        )

    @property
    def root_id(self) -> str | None:
        """The root checkpoint that its call, or a root's own run, started from."""
        if self.origin is not None:
            return self.origin.run
        root_id: str | None = (self.metadata.get("parents") or {}).get("")
        return root_id

    def reached(self) -> Reached:
        """What the thread's status depends on."""
        due = due_nodes(self.checkpoint["channel_values"]) if self.place.is_root else []
        return Reached(self.checkpoint["id"], due, self.step_number)

    def step(self, *, whole: bool) -> Step:
        """What projections see of it; with `whole`, all its channels count as changed."""
        thread, values = self.place.thread, self.checkpoint["channel_values"]
        return Step(
            session_id=thread.session_id or thread.thread_id,
            thread_id=thread.thread_id,
            checkpoint_id=self.checkpoint["id"],
            run_id=self.run_id,
            metadata=self.metadata,
            values=values,
            changed=frozenset(values if whole else self.new_versions),
            versions=self.checkpoint["channel_versions"],
        )

    def goes_on(self, head: Head, changes: Changes | None) -> bool:
        """Whether it only adds to what its thread's row and its rows show.

        A root checkpoint is the newest, follows the one that was, and nothing failed there; what
        it projects are columns, messages and usage alone.
        """
        if head.is_outdated:
            return False
        if not self.place.is_root:
            return True
        if head.checkpoint_id is None or head.status == "error":
            return False
        new_id = self.checkpoint["id"]
        if new_id <= head.checkpoint_id or new_id <= (head.status_checkpoint_id or ""):
            return False
        return changes is None or (
            changes.base == head.checkpoint_id
            and changes.only_adds
            and not changes.compare_messages
        )

    def begins(self, head: Head, changes: Changes | None) -> bool:
        """Whether it is the first of its thread, and what it projects is columns and new rows."""
        if not self.place.is_root or self.place.checkpoint_id is not None:
            return False
        if head.checkpoint_id is not None or head.status is not None:
            return False
        return not head.is_outdated and (changes is None or changes.only_adds)

    @property
    def has_just_looked(self) -> bool:
        """Whether it is the first of a call that has just asked for its parent in vain.

        LangGraph numbers a run's steps from -1 where it found no checkpoint to go on from. (A copy
        follows what its original follows, and nobody asked for that.)
        """
        is_update = self.metadata.get("source") == "update"
        return self.place.is_root and (is_update or self.step_number == -1)

    def refuse_lost_deltas(self) -> None:
        """Refuse a `DeltaChannel` between snapshots, which lives in its ancestors alone.

        Raises:
            HistoryLostError: It has one, and the ancestors are gone.
        """
        counters = self.metadata.get("counters_since_delta_snapshot") or {}
        lost = [c for c in counters if c not in self.checkpoint["channel_values"]]
        if lost:
            raise HistoryLostError(
                f"thread {self.place.thread.thread_id!r} was deleted or pruned while it ran, and "
                f"its DeltaChannel {', '.join(map(repr, lost))} is stored as changes of what is "
                f"gone: {self.name()} was not saved. Run the thread again from its beginning"
            )


def merged(config: RunnableConfig, metadata: CheckpointMetadata) -> dict[str, Any]:
    """LangGraph's merge of metadata and config, without what no text column takes."""
    found = get_checkpoint_metadata(config, metadata)
    return {
        key: _SURROGATES.sub("", value) if isinstance(value, str) and not value.isascii() else value
        for key, value in found.items()
    }
