"""The values of `DeltaChannel`s, for projections.

LangGraph hands a saver what is written to such a channel, and its value only now and then, as a
snapshot. In between, the value is the parent's with what the parent's tasks wrote. A process that
does not know these reads them once, as LangGraph does when it loads a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import partial
from operator import is_
from typing import Any, NamedTuple

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.checkpointer.encode import NewCheckpoint
from langgraph_session_saver.checkpointer.get import CheckpointReader
from langgraph_session_saver.checkpointer.known_deltas import DeltasAt, Sized
from langgraph_session_saver.encoding.serde import dump
from langgraph_session_saver.projection.project import SharedPrefix
from langgraph_session_saver.projection.rules import Problem, problem_with, without_snapshot
from langgraph_session_saver.sql.scripts import Script


class DeltaValues(NamedTuple):
    """The values of the `DeltaChannel`s that projections read, at a new checkpoint."""

    values: Mapping[str, Sized]
    before: Mapping[str, Any]
    """The values at the parent, of channels that have one there."""
    prefixes: Mapping[str, SharedPrefix]
    """For each list, what it has in common with the one at the parent."""
    problems: list[Problem]
    """Writes that could not be applied."""

    def seen_by(self, new: NewCheckpoint) -> NewCheckpoint:
        """The checkpoint with these values for its projections."""
        if not self.values:
            return new
        return new._replace(delta_values={c: one.value for c, one in self.values.items()})


def is_read(context: Context, new: NewCheckpoint) -> bool:
    """Whether a projection reads a `DeltaChannel` of a new checkpoint."""
    return bool(_channels_read(context, new))


def _channels_read(context: Context, new: NewCheckpoint) -> list[str]:
    reads, is_root = context.projector.reads, new.place.is_root
    return [channel for channel in new.delta_channels if reads(channel, is_root=is_root)]


def delta_values(
    context: Context, new: NewCheckpoint, sizes: Mapping[str, int]
) -> Script[DeltaValues]:
    """Work out the values at a new checkpoint; `sizes` are the serialised bytes of snapshots."""
    found = DeltaValues({}, {}, {}, [])
    channels = [channel for channel in _channels_read(context, new) if channel in new.versions]
    if not channels:
        return found
    known = DeltasAt({}) if new.place.key is None else context.known_deltas.at(new.place.key)
    before = known or (yield from _read(context, new, channels, found.problems))
    at_parent = before.values or {}
    values: dict[str, Sized] = {}
    prefixes: dict[str, SharedPrefix] = {}
    for channel in channels:
        was = at_parent.get(channel)
        if channel in new.values:
            snapshot = copy(without_snapshot(new.values[channel]))
            now = Sized(channel, snapshot, sizes.get(channel, 0))
        else:
            writes = before.written_to(channel)
            if was is None and not writes:
                continue
            now = _reduced(context, was or Sized(channel, None, 0), writes, found.problems)
        values[channel] = now
        prefixes[channel] = _shared(new, was.value if known and was else None, now.value)
    earlier = {channel: one.value for channel, one in at_parent.items()}
    return found._replace(values=values, before=earlier, prefixes=prefixes)


def _reduced(context: Context, was: Sized, writes: list[Sized], problems: list[Problem]) -> Sized:
    """A value after writes; the value before, and a problem, if they cannot be applied."""
    if not writes:
        return was
    written = [write.value for write in writes]
    try:
        value = context.projector.reduce(was.channel, was.value, written)
    except Exception as exc:  # noqa: BLE001 - an application's rule may raise anything
        expected = "writes that can be applied"
        problem = problem_with(was.channel, written, expected, exc, context.secret_keys)
        problems.append(problem)
        return was
    return Sized(was.channel, value, was.size + sum(write.size for write in writes))


def _read(
    context: Context, new: NewCheckpoint, channels: list[str], problems: list[Problem]
) -> Script[DeltasAt]:
    """Read the values at the parent, as snapshots and the writes since, and the parent's writes."""
    if new.place.checkpoint_id is None:
        return DeltasAt({})
    replays = yield from CheckpointReader(context).replay(
        new.serde, new.place, channels, with_own=True
    )

    def sized(channel: str, value: Any) -> Sized:
        what = partial(new.name_of, f"channel {channel!r}")
        return Sized(channel, value, len(dump(new.serde, value, what)[1]))

    values: dict[str, Sized] = {}
    read = DeltasAt(values)
    for channel, replay in replays.items():
        own = replay.writes.pop(0) if replay.writes else []
        for n, (task_id, _, value) in enumerate(own):
            read.writes[f"{n:010}", task_id, len(read.writes)] = sized(channel, value)
        seed = sized(channel, without_snapshot(replay.seed) if replay.has_seed else None)
        earlier = [sized(channel, value) for _, _, value in replay.all_writes()]
        if replay.has_seed or earlier:
            values[channel] = _reduced(context, seed, earlier, problems)
    return read


def _shared(new: NewCheckpoint, was: Any, now: Any) -> SharedPrefix:
    """What a list has in common with the one at the parent, named after their checkpoints."""
    parent_id, count = new.place.checkpoint_id, 0
    if isinstance(was, list) and isinstance(now, list) and len(was) <= len(now):
        count = len(was) if all(map(is_, was, now)) else 0
    return SharedPrefix(new.id.encode(), parent_id.encode() if parent_id else None, count)
