"""The messages of a checkpoint's parent: a step is charged for those that its parent lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.checkpointer.delta_values import DeltaValues
from langgraph_session_saver.checkpointer.encode import NewCheckpoint
from langgraph_session_saver.checkpointer.get import CheckpointReader
from langgraph_session_saver.encoding.keys import blob_key
from langgraph_session_saver.errors import HistoryLostError
from langgraph_session_saver.projection.project import SharedPrefix
from langgraph_session_saver.projection.transcript import Parent
from langgraph_session_saver.sql.scripts import Script


def parent_messages(
    context: Context,
    new: NewCheckpoint,
    prefixes: Mapping[str, SharedPrefix],
    deltas: DeltaValues,
) -> Script[dict[str, Parent]]:
    """Find the parent's messages in each channel that projections read messages from.

    Args:
        context: The saver's context.
        new: The new checkpoint.
        prefixes: For each of its lists that changed, what it shares with an earlier one.
        deltas: The values of its `DeltaChannel`s.
    """
    projector, place = context.projector, new.place
    channels = projector.message_channels if place.is_root else projector.subgraph_channels
    found: dict[str, Parent] = {}
    unknown = []
    for channel in channels:
        value = new.delta_values.get(channel, new.values.get(channel))
        if channel not in new.new_versions:
            found[channel] = Parent(len(value) if isinstance(value, list | tuple) else 0)
        elif place.checkpoint_id is None:
            continue
        elif channel in deltas.values:
            shared = deltas.prefixes[channel].items
            found[channel] = Parent(shared, _list(None if shared else deltas.before.get(channel)))
        elif channel in new.values:
            shared = _shared(context, new, channel, prefixes.get(channel))
            if shared:
                found[channel] = Parent(shared)
            else:
                unknown.append(channel)
    if unknown:
        try:
            values = yield from CheckpointReader(context).get_known_values(
                new.serde, place, unknown
            )
        except HistoryLostError:  # the parent was deleted meanwhile
            values = {}
        found |= {channel: Parent(0, _list(values.get(channel))) for channel in unknown}
    return found


def _shared(context: Context, new: NewCheckpoint, channel: str, prefix: SharedPrefix | None) -> int:
    """How many messages in front of a list are all that the parent has; 0 if that is unknown."""
    key = new.place.key
    facts = None if key is None else context.known_checkpoints.facts.get(key)
    if prefix is None or facts is None or channel not in facts.versions:
        return 0
    base = blob_key(new.place.checkpoint_ns, channel, facts.versions[channel])
    return prefix.items if prefix.base == base else 0


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
