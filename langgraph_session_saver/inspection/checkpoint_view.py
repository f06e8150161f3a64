"""One checkpoint with its values, decoded structurally: the script that reads it, and its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from langgraph.checkpoint.base import writes_sort_key
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Row

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.encoding.chains import Value
from langgraph_session_saver.inspection.decode import Undecodable, plain_write
from langgraph_session_saver.inspection.diff import plain
from langgraph_session_saver.inspection.facts import due_nodes, sends_of
from langgraph_session_saver.inspection.queries import Lookups
from langgraph_session_saver.inspection.timeline import place_in
from langgraph_session_saver.inspection.values import Side, Values
from langgraph_session_saver.projection.status import node_of
from langgraph_session_saver.sql.scripts import Request, Script


@dataclass(frozen=True, slots=True)
class ChannelValue:
    """A channel's value in a checkpoint.

    Attributes:
        channel: Its name.
        size: Serialised bytes; None where that cannot be told.
        value: The value, decoded; None where it cannot be.
        note: What to know about it: that it cannot be decoded, or how it was put together.
    """

    channel: str
    size: int | None
    value: Any
    note: str | None


@dataclass(frozen=True, slots=True)
class PendingWrite:
    """What a task wrote after a checkpoint."""

    node: str
    task_id: str
    channel: str
    value: Any


@dataclass(frozen=True, slots=True)
class View:
    """A checkpoint.

    Attributes:
        thread_id: The thread.
        checkpoint_ns: The namespace; "" is the root graph's.
        checkpoint_id: The checkpoint.
        parent_id: The one it follows.
        run_id: The run that made it.
        step: LangGraph's number of the step.
        source: "input", "loop", "update" or "fork".
        time: When it was made.
        due: The nodes that it says run next.
        metadata: Its metadata, decoded.
        values: Its channels' values, by name.
        writes: What its tasks wrote, in order: errors and interrupts among them.
    """

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

    def to_dict(self) -> dict[str, Any]:
        """Everything as dicts, lists, text and numbers; large values as their beginning."""
        return asdict(self) | {
            "time": self.time.isoformat() if self.time else None,
            "due": list(self.due),
            "metadata": plain(dict(self.metadata)),
            "values": [
                {
                    "channel": one.channel,
                    "size": one.size,
                    "value": plain(one.value),
                    "note": one.note,
                }
                for one in self.values
            ],
            "writes": [
                {
                    "node": one.node,
                    "task_id": one.task_id,
                    "channel": one.channel,
                    "value": plain(one.value),
                }
                for one in self.writes
            ],
        }


class Viewing:
    """Reads one checkpoint."""

    def __init__(self, context: Context) -> None:
        self._values = Values(context)
        self._lookups = Lookups(context.tables)

    def view(
        self, serde: SerializerProtocol, thread_id: Any, name: Any, checkpoint_ns: Any
    ) -> Script[View]:
        """Read the checkpoint whose id starts so, or the newest for None."""
        place = place_in(thread_id, checkpoint_ns)
        found = yield from self._values.find(serde, place, "the checkpoint", name)
        replayed = [channel for channel in found.versions if found.replays(channel)]
        channels = sorted({*found.valued(), *replayed})
        sides = yield from self._values.of(serde, place, (found,), channels)
        at = (place.thread.key, place.ns_key, found.id)
        writes: Sequence[Row[Any]] = yield Request.read(
            lambda conn: self._lookups.writes_of(conn, *at)
        )
        held = yield from self._values.held(place.thread.key, writes)
        control = {
            found.key(channel): side.value
            for channel, [side] in sides
            if channel in found.control_keys()
        }
        sends = sends_of(found, control)
        return View(
            place.thread.thread_id,
            place.checkpoint_ns,
            found.id,
            found.parent_id,
            found.row.run_id,
            found.step,
            found.source,
            found.time,
            tuple(due_nodes(found, control)),
            found.metadata,
            tuple(_value(channel, side) for channel, [side] in sides),
            tuple(_write(serde, row, sends, held) for row in sorted(writes, key=_in_order)),
        )


def _in_order(row: Row[Any]) -> Any:
    return writes_sort_key(row.task_path, row.task_id, row.idx)


def _value(channel: str, side: Side) -> ChannelValue:
    if isinstance(side.value, Undecodable):
        return ChannelValue(channel, side.size, None, str(side.value))
    return ChannelValue(channel, side.size, side.value, side.note)


def _write(
    serde: SerializerProtocol, row: Row[Any], sends: Sequence[str], held: Mapping[bytes, Value]
) -> PendingWrite:
    value = plain_write(serde, row, held)
    shown = str(value) if isinstance(value, Undecodable) else value
    return PendingWrite(node_of(row.task_path, sends) or "?", row.task_id, row.channel, shown)
