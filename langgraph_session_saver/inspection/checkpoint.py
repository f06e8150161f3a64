"""A row of `session_checkpoints`, decoded without its channels' values. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Literal, TypeAlias

import ormsgpack
from langgraph.checkpoint.serde.types import TASKS
from sqlalchemy import Row

from langgraph_session_saver.encoding.keys import blob_key
from langgraph_session_saver.encoding.serde import is_small
from langgraph_session_saver.inspection.decode import TYPE, Decoder, Undecodable
from langgraph_session_saver.projection.status import KINDS, due_nodes, node_of, send_nodes
from langgraph_session_saver.schema.column_types import utc_time

Status: TypeAlias = Literal["done", "passed", "pending", "interrupted", "error", "unknown"]
"""State of a checkpoint's tasks.

`done`: it has none. `passed`: they have run. `pending`: some have not run. `interrupted` and
`error`: one has. `unknown`: the checkpoint cannot be decoded.
"""


class DecodedCheckpoint:
    """A checkpoint's row, decoded; parts that cannot be decoded are empty."""

    def __init__(self, decoder: Decoder, row: Row[Any]) -> None:
        self.row = row
        self.id: str = row.checkpoint_id
        self.parent_id: str | None = row.parent_checkpoint_id
        self.problem: str | None = None
        """Why it cannot be decoded."""
        metadata = decoder.loads_stored(row.metadata_type, row.metadata_data)
        checkpoint: Mapping[str, Any] = {}
        absent: Any = None
        inline: list[Any] = []
        match decoder.loads_stored(row.type, row.data):
            case Undecodable() as problem:
                self.problem = str(problem)
            case [Mapping() as checkpoint, absent, *inline]:
                if not isinstance(metadata, Mapping):
                    self.problem = f"its metadata {metadata}"
            case _:
                self.problem = "it is not a checkpoint"
        self.versions = _text_keyed(checkpoint.get("channel_versions"))
        self.seen = _text_keyed(checkpoint.get("versions_seen"))
        """By node, the versions that it has seen."""
        self.updated = _texts(checkpoint.get("updated_channels"))
        self.time = utc_time(checkpoint.get("ts"))
        self.absent = frozenset(_texts(absent))
        """The channels that have no value here."""
        inlined = _text_keyed(inline[0] if inline else None)
        self.inline = {channel: value for channel, value in inlined.items() if is_small(value)}
        """By channel, the values that are stored in the row itself."""
        self.metadata = _text_keyed(metadata)
        source, step = self.metadata.get("source"), self.metadata.get("step")
        self.source = source if isinstance(source, str) else None
        self.step = step if isinstance(step, int) else None
        self.control: dict[str, Any] = {}
        """By channel, the values of `control_keys` as the graph has them, once they were read."""
        self.sends: tuple[str, ...] = ()
        """The nodes of the `Send` tasks, in their order."""

    @property
    def is_unknown(self) -> bool:
        """Whether nothing but its ids and perhaps its metadata is known."""
        return self.problem is not None and not self.versions

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
    def control_keys(self) -> dict[str, bytes]:
        """The keys of the values that say which `Send` tasks and joins are due."""
        return {c: key for c, key in self.keys.items() if c == TASKS or c.startswith("join:")}

    def set_control(self, decoded: Mapping[str, Any]) -> None:
        """Take the decoded values of `control_keys`, by channel."""
        for channel, value in decoded.items():
            if isinstance(value, list):
                sends = [SimpleNamespace(node=_send_node(send)) for send in value]
                self.control[channel] = sends
            elif isinstance(value, Mapping) and str(value.get(TYPE)).endswith(".set"):
                self.control[channel] = set(_texts(value.get("value")))
        self.sends = send_nodes(self.control)

    @property
    def due(self) -> list[str]:
        """The nodes that run next, once for each task."""
        return due_nodes(dict.fromkeys(self.valued) | self.control)

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
            if node not in {"__input__", "__interrupt__"} and before.get(node) != seen
        ]
        if self.source == "loop" and parent is not None:
            ran = [node for node in ran if node not in parent.sends or before.get(node)]
            ran += parent.sends
        return tuple(ran)

    def status(
        self, writes: Iterable[Row[Any]], *, has_next_step: bool
    ) -> tuple[Status, tuple[str, ...]]:
        """The state of the tasks by the rows that they wrote, and the nodes that have it.

        `has_next_step` says whether another checkpoint is the step that these tasks made.
        """
        if self.is_unknown:
            return "unknown", ()
        due = tuple(self.due)
        if has_next_step:
            return "passed", due
        tasks: dict[str, list[Row[Any]]] = {}
        for row in writes:
            tasks.setdefault(row.task_id, []).append(row)
        # A task that succeeds later keeps the writes of its earlier error or interrupt.
        nodes: dict[Status, list[str]] = {"done": [], "error": [], "interrupted": []}
        for rows in tasks.values():
            found = {"done" if row.idx >= 0 else KINDS.get(row.channel) for row in rows}
            if outcome := next((one for one in nodes if one in found), None):
                nodes[outcome].append(node_of(rows[0].task_path, self.sends) or "?")
        left = Counter(due) - Counter(nodes.pop("done"))
        for outcome, names in (nodes | {"pending": [*left.elements()]}).items():
            if names:
                return outcome, tuple(names)
        return ("passed" if due else "done"), due


def _text_keyed(value: Any) -> Mapping[str, Any]:
    """The entries of a mapping whose keys are text; nothing of any other value."""
    if not isinstance(value, Mapping):
        return {}
    return {key: item for key, item in value.items() if isinstance(key, str)}


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _send_node(send: Any) -> str:
    args = send.get("args") if isinstance(send, Mapping) else None
    return args[0] if isinstance(args, list) and args and isinstance(args[0], str) else "?"
