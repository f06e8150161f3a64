"""A row of `session_checkpoints`, decoded without its channels' values. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal, TypeAlias

import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, TASKS
from sqlalchemy import Row

from langgraph_session_saver.encoding.keys import blob_key
from langgraph_session_saver.encoding.serde import is_small
from langgraph_session_saver.inspection.decode import TYPE, Undecodable, decode_frame
from langgraph_session_saver.projection.status import node_of

Status: TypeAlias = Literal["done", "passed", "pending", "interrupted", "error", "unknown"]
"""State of a checkpoint's tasks.

`done`: it has none. `passed`: they have run. `pending`: some have not run. `interrupted` and
`error`: one has. `unknown`: the checkpoint cannot be decoded.
"""

BRANCH, JOIN, START = "branch:to:", "join:", "__start__"

_NOT_NODES = {"__input__", "__interrupt__"}


@dataclass(frozen=True)
class DecodedCheckpoint:
    """A checkpoint's row, decoded.

    Attributes:
        row: The row of `session_checkpoints`.
        id: The checkpoint.
        parent_id: Its parent.
        source: "input", "loop", "update" or "fork".
        step: LangGraph's step number.
        versions: The version of each channel.
        seen: By node, the versions that it has seen.
        updated: The channels that the step updated.
        absent: The channels that have no value here.
        inline: By channel, the values that are stored in the row itself.
        metadata: The checkpoint's metadata.
        time: When it was created.
        problem: Why it cannot be decoded, or None.
        control: By channel, the decoded values of `control_keys`, once they have been read.
    """

    row: Row[Any]
    id: str
    parent_id: str | None
    source: str | None
    step: int | None
    versions: Mapping[str, Any]
    seen: Mapping[str, Any]
    updated: Sequence[str]
    absent: frozenset[str]
    inline: Mapping[str, Any]
    metadata: Mapping[str, Any]
    time: datetime | None
    problem: str | None
    control: dict[str, Any] = field(default_factory=dict)

    @property
    def valued(self) -> list[str]:
        """The channels that have a value here."""
        return [channel for channel in self.versions if channel not in self.absent]

    @cached_property
    def keys(self) -> Mapping[str, bytes]:
        """By channel, the key of its row in `session_blobs`, if it has one."""
        return {
            channel: blob_key(self.row.checkpoint_ns, channel, self.versions[channel])
            for channel in self.valued
            if channel not in self.inline
        }

    @property
    def control_keys(self) -> dict[str, bytes]:
        """The keys of the values that say which `Send` tasks and joins are due."""
        return {c: key for c, key in self.keys.items() if c == TASKS or c.startswith(JOIN)}

    def inline_size(self, channel: str) -> int:
        """Serialised bytes of a value that is stored in the row itself."""
        value = self.inline[channel]
        return 0 if value is None else len(ormsgpack.packb(value))

    def is_replayed(self, channel: str) -> bool:
        """Whether a channel is a `DeltaChannel` whose value is a snapshot and later writes."""
        counters = self.metadata.get("counters_since_delta_snapshot")
        return channel in self.absent and isinstance(counters, Mapping) and channel in counters

    # -- tasks ------------------------------------------------------------------------------

    @property
    def sends(self) -> list[str]:
        """The nodes of the `Send` tasks, in their order."""
        sends = self.control.get(TASKS)
        return [_send_node(send) for send in sends] if isinstance(sends, list) else []

    @property
    def due(self) -> list[str]:
        """The nodes that run next, once for each task."""
        valued = self.valued
        due = [channel.removeprefix(BRANCH) for channel in valued if channel.startswith(BRANCH)]
        due += self.sends
        if START in valued:
            due.append(START)
        for channel, arrived in self.control.items():
            if channel.startswith(JOIN):
                sources, _, target = channel.removeprefix(JOIN).rpartition(":")
                if _is_complete(arrived, set(sources.split("+"))):
                    due.append(target)
        return due

    def changed_since(self, parent: DecodedCheckpoint | None) -> tuple[str, ...]:
        """The channels with a new version; without a parent, those that the step updated."""
        if parent is not None and not parent.problem:
            changed = [c for c, new in self.versions.items() if parent.versions.get(c) != new]
        elif self.parent_id is not None and self.updated:
            changed = [c for c in self.updated if c in self.versions]
        else:
            changed = list(self.versions)
        return tuple(sorted(changed))

    def ran_since(self, parent: DecodedCheckpoint | None) -> tuple[str, ...]:
        """The nodes of the step that created the checkpoint.

        A triggered node has seen new versions. A node started by a `Send` has not, and is taken
        from the parent's tasks.
        """
        if self.source == "input" or (self.parent_id is not None and parent is None):
            return ()  # an input marks the nodes that it cancels as having seen the versions
        before = {} if parent is None else parent.seen
        ran = [
            node
            for node, seen in self.seen.items()
            if node not in _NOT_NODES and before.get(node) != seen
        ]
        if self.source == "loop" and parent is not None:
            ran = [node for node in ran if node not in parent.sends or before.get(node)]
            ran += parent.sends
        return tuple(ran)

    def status(
        self, writes: Iterable[Row[Any]], *, has_next_step: bool
    ) -> tuple[Status, tuple[str, ...]]:
        """The state of the tasks, and the nodes that have it.

        Args:
            writes: The rows that the tasks wrote, with or without their data.
            has_next_step: Whether another checkpoint is the step that these tasks made.
        """
        if self.problem and not self.versions:
            return "unknown", ()
        due = self.due
        if has_next_step:
            return "passed", tuple(due)
        outcomes = _nodes_by_outcome(writes, self.sends)
        if outcomes["error"]:
            return "error", tuple(outcomes["error"])
        if outcomes["interrupted"]:
            return "interrupted", tuple(outcomes["interrupted"])
        left = Counter(due) - Counter(outcomes["finished"])
        if left:
            return "pending", tuple(left.elements())
        return ("passed", tuple(due)) if due else ("done", ())


def decode_checkpoint(serde: SerializerProtocol, row: Row[Any]) -> DecodedCheckpoint:
    """Decode a row of `session_checkpoints`; parts that cannot be decoded are left empty."""
    stored = decode_frame(serde, row.type, row.data)
    metadata = decode_frame(serde, row.metadata_type, row.metadata_data)
    checkpoint: Mapping[str, Any] = {}
    absent: list[str] = []
    inline: Mapping[str, Any] = {}
    problem = None
    if isinstance(stored, Undecodable):
        problem = str(stored)
    elif isinstance(stored, list) and len(stored) in {2, 3} and isinstance(stored[0], Mapping):
        checkpoint, absent = stored[0], _texts(stored[1])
        inline = _text_keyed(stored[2]) if len(stored) == 3 else {}
    else:
        problem = "it is not a checkpoint"
    if problem is None and not isinstance(metadata, Mapping):
        problem = f"its metadata {metadata}"
    metadata = _text_keyed(metadata)
    source, step = metadata.get("source"), metadata.get("step")
    return DecodedCheckpoint(
        row=row,
        id=row.checkpoint_id,
        parent_id=row.parent_checkpoint_id,
        source=source if isinstance(source, str) else None,
        step=step if isinstance(step, int) else None,
        versions=_text_keyed(checkpoint.get("channel_versions")),
        seen=_text_keyed(checkpoint.get("versions_seen")),
        updated=_texts(checkpoint.get("updated_channels")),
        absent=frozenset(absent),
        inline={channel: value for channel, value in inline.items() if is_small(value)},
        metadata=metadata,
        time=_time(checkpoint.get("ts")),
        problem=problem,
    )


def _text_keyed(value: Any) -> Mapping[str, Any]:
    """The entries of a mapping whose keys are text; nothing of any other value."""
    if not isinstance(value, Mapping):
        return {}
    return {key: item for key, item in value.items() if isinstance(key, str)}


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _time(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _send_node(send: Any) -> str:
    args = send.get("args") if isinstance(send, Mapping) else None
    return args[0] if isinstance(args, list) and args and isinstance(args[0], str) else "?"


def _is_complete(arrived: Any, sources: set[str]) -> bool:
    """Whether a join's stored set holds all the nodes that it waits for."""
    if isinstance(arrived, Mapping) and str(arrived.get(TYPE)).endswith(".set"):
        return sources <= set(_texts(arrived.get("value")))
    return False


def _nodes_by_outcome(writes: Iterable[Row[Any]], sends: Sequence[str]) -> dict[str, list[str]]:
    """The nodes of tasks that wrote, under "finished", "error" and "interrupted".

    A task that succeeds later keeps the writes of its earlier error or interrupt.
    """
    tasks: dict[str, list[Row[Any]]] = {}
    for row in writes:
        tasks.setdefault(row.task_id, []).append(row)
    outcomes: dict[str, list[str]] = {"finished": [], "error": [], "interrupted": []}
    for rows in tasks.values():
        node = node_of(rows[0].task_path, sends) or "?"
        channels = {row.channel for row in rows}
        if any(row.idx >= 0 for row in rows):
            outcomes["finished"].append(node)
        elif ERROR in channels:
            outcomes["error"].append(node)
        elif INTERRUPT in channels:
            outcomes["interrupted"].append(node)
    return outcomes
