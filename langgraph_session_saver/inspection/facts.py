"""What a checkpoint's row says without its values: versions, who ran, what is due. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, TASKS
from sqlalchemy import Row

from langgraph_session_saver.encoding.keys import blob_key
from langgraph_session_saver.encoding.serde import is_small
from langgraph_session_saver.inspection.decode import TYPE, Undecodable, plain_frame
from langgraph_session_saver.inspection.history import Status
from langgraph_session_saver.projection.status import node_of

BRANCH, JOIN, START = "branch:to:", "join:", "__start__"
_NOT_NODES = {"__input__", "__interrupt__"}

ControlValues = Mapping[bytes, Any]
"""The decoded values of channels that say what is due, by blob."""


@dataclass(frozen=True, slots=True)
class Facts:
    """A checkpoint, decoded structurally but for its channels' values."""

    row: Row[Any]
    versions: Mapping[str, Any]
    seen: Mapping[str, Any]
    updated: Sequence[str]
    absent: frozenset[str]
    inline: Mapping[str, Any]
    """Values that the row itself holds."""
    metadata: Mapping[str, Any]
    time: datetime | None
    problem: str | None

    @property
    def id(self) -> str:
        """The checkpoint."""
        return str(self.row.checkpoint_id)

    @property
    def parent_id(self) -> str | None:
        """The checkpoint it follows."""
        parent: str | None = self.row.parent_checkpoint_id
        return parent

    @property
    def source(self) -> str | None:
        """What made it."""
        source = self.metadata.get("source")
        return source if isinstance(source, str) else None

    @property
    def step(self) -> int | None:
        """LangGraph's number of its step."""
        step = self.metadata.get("step")
        return step if isinstance(step, int) else None

    def key(self, channel: str) -> bytes:
        """The key of a channel's value."""
        return blob_key(self.row.checkpoint_ns, channel, self.versions[channel])

    def keys(self) -> dict[str, bytes]:
        """The keys of the values that have rows of their own, by channel."""
        return {
            c: self.key(c) for c in self.versions if c not in self.absent and c not in self.inline
        }

    def valued(self) -> list[str]:
        """The channels that have a value here."""
        return [c for c in self.versions if c not in self.absent]

    def inline_size(self, channel: str) -> int:
        """Serialised bytes of a value that the row itself holds."""
        value = self.inline[channel]
        return 0 if value is None else len(ormsgpack.packb(value))

    def has_value(self, channel: str) -> bool:
        """Whether a channel has a value here."""
        return channel in self.versions and channel not in self.absent

    def control_keys(self) -> dict[str, bytes]:
        """Of the keys, those whose values must be read to say what is due."""
        keys = self.keys()
        return {c: key for c, key in keys.items() if c == TASKS or c.startswith(JOIN)}

    def replays(self, channel: str) -> bool:
        """Whether a channel is a `DeltaChannel` that has no value of its own here."""
        counters = self.metadata.get("counters_since_delta_snapshot")
        return channel in self.absent and isinstance(counters, Mapping) and channel in counters


def facts_of(serde: SerializerProtocol, row: Row[Any]) -> Facts:
    """Read a checkpoint's row; what cannot be decoded is said, and the rest is still there."""
    stored = plain_frame(serde, row.type, row.data)
    metadata = plain_frame(serde, row.metadata_type, row.metadata_data)
    checkpoint, absent, inline = _parts(stored)
    problem = None
    if checkpoint is None:
        checkpoint = {}
        problem = f"{stored}" if isinstance(stored, Undecodable) else "it is not a checkpoint"
    elif not isinstance(metadata, Mapping):
        problem = f"its metadata {metadata}"
    return Facts(
        row=row,
        versions=_mapping(checkpoint.get("channel_versions")),
        seen=_mapping(checkpoint.get("versions_seen")),
        updated=_texts(checkpoint.get("updated_channels")),
        absent=frozenset(absent),
        inline=inline,
        metadata=_mapping(metadata),
        time=_time(checkpoint.get("ts")),
        problem=problem,
    )


def _parts(stored: Any) -> tuple[Mapping[str, Any] | None, list[str], Mapping[str, Any]]:
    if isinstance(stored, list) and len(stored) in {2, 3} and isinstance(stored[0], Mapping):
        inline = _mapping(stored[2]) if len(stored) == 3 else {}
        small = {channel: value for channel, value in inline.items() if is_small(value)}
        return stored[0], _texts(stored[1]), small
    return None, [], {}


def _mapping(value: Any) -> Mapping[str, Any]:
    """The entries of a mapping under text; an empty one for what is no mapping."""
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


# -- what changed, and who ran ------------------------------------------------------------------


def changed_channels(one: Facts, parent: Facts | None) -> tuple[str, ...]:
    """The channels that got a new version; of an orphan those that it says it updated."""
    if parent is None or parent.problem:
        if one.parent_id is None or not one.updated:
            return tuple(sorted(one.versions))
        return tuple(sorted(c for c in one.updated if c in one.versions))
    new = (c for c, version in one.versions.items() if parent.versions.get(c) != version)
    return tuple(sorted(new))


def nodes_that_ran(
    one: Facts, parent: Facts | None, values: ControlValues
) -> tuple[str, ...]:  # fmt: skip
    """The nodes of the step that made a checkpoint.

    A node that was triggered has seen new versions. One that a `Send` started has not, and is
    read from the parent's tasks.
    """
    if one.source == "input" or (one.parent_id is not None and parent is None):
        return ()  # LangGraph marks what an input cuts short as seen
    before = {} if parent is None else parent.seen
    ran = [
        node
        for node, seen in one.seen.items()
        if node not in _NOT_NODES and before.get(node) != seen
    ]
    if one.source == "loop" and parent is not None:
        sent = sends_of(parent, values)
        ran = [node for node in ran if node not in sent or before.get(node)] + sent
    return tuple(ran)


def sends_of(one: Facts, values: ControlValues) -> list[str]:
    """The nodes of a checkpoint's `Send` tasks, in their order."""
    key = one.control_keys().get(TASKS)
    sends = values.get(key) if key is not None else None
    return [_send_node(send) for send in sends] if isinstance(sends, list) else []


def _send_node(send: Any) -> str:
    args = send.get("args") if isinstance(send, Mapping) else None
    return args[0] if isinstance(args, list) and args and isinstance(args[0], str) else "?"


def due_nodes(one: Facts, values: ControlValues) -> list[str]:
    """The nodes that a checkpoint's channels say run next."""
    valued = one.valued()
    due = [channel.removeprefix(BRANCH) for channel in valued if channel.startswith(BRANCH)]
    due += sends_of(one, values)
    if START in valued:
        due.append(START)
    for channel, key in one.control_keys().items():
        if channel.startswith(JOIN):
            sources, _, target = channel.removeprefix(JOIN).rpartition(":")
            if _is_complete(values.get(key), set(sources.split("+"))):
                due.append(target)
    return due


def _is_complete(seen: Any, sources: set[str]) -> bool:
    if isinstance(seen, Mapping) and str(seen.get(TYPE)).endswith(".set"):
        items = seen.get("value")
        return isinstance(items, list) and sources <= {i for i in items if isinstance(i, str)}
    return False


# -- what became of it --------------------------------------------------------------------------


def status_of(
    one: Facts, writes: Iterable[Row[Any]], values: ControlValues, *, has_next_step: bool
) -> tuple[Status, tuple[str, ...]]:
    """What became of the tasks that a checkpoint says are due, and the nodes it is about.

    Args:
        one: The checkpoint.
        writes: What its tasks wrote, as far as channels and paths say.
        values: Its control values.
        has_next_step: Whether a listed checkpoint is the step that these tasks made.
    """
    if one.problem and not one.versions:
        return "unknown", ()
    due = due_nodes(one, values)
    if has_next_step:
        return "passed", tuple(due)
    became = _by_outcome(writes, sends_of(one, values))
    if became.failed:
        return "error", tuple(became.failed)
    if became.asked:
        return "interrupted", tuple(became.asked)
    left = Counter(due) - Counter(became.finished)
    if left:
        return "pending", tuple(left.elements())
    return ("passed", tuple(due)) if due else ("done", ())


@dataclass(slots=True)
class _Outcomes:
    """The nodes of tasks that wrote something, by what became of them."""

    finished: list[str]
    failed: list[str]
    asked: list[str]


def _by_outcome(writes: Iterable[Row[Any]], sends: Sequence[str]) -> _Outcomes:
    """Sort tasks: one that finished after an answer or another try keeps its old writes."""
    tasks: dict[str, list[Row[Any]]] = {}
    for row in writes:
        tasks.setdefault(row.task_id, []).append(row)
    became = _Outcomes([], [], [])
    for rows in tasks.values():
        node = node_of(rows[0].task_path, sends) or "?"
        channels = {row.channel for row in rows}
        if any(row.idx >= 0 for row in rows):
            became.finished.append(node)
        elif ERROR in channels:
            became.failed.append(node)
        elif INTERRUPT in channels:
            became.asked.append(node)
    return became
