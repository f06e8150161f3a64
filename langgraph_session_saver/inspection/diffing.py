"""The script of `diff`: the values that differ between two checkpoints, compared one by one."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_session_saver.core import Core, Script
from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.inspection.comparing import compare
from langgraph_session_saver.inspection.decoding import Undecodable
from langgraph_session_saver.inspection.differences import ChannelDiff, ChannelKind, Diff
from langgraph_session_saver.inspection.showing import amount
from langgraph_session_saver.inspection.timeline import place_in
from langgraph_session_saver.inspection.values import NOTHING, TOO_LARGE, Side, Values


class Diffing:
    """Compares two checkpoints of a thread."""

    def __init__(self, core: Core) -> None:
        self._values = Values(core)

    def diff(
        self, serde: SerializerProtocol, thread_id: Any, a: Any, b: Any, checkpoint_ns: Any
    ) -> Script[Diff]:
        """Compare two checkpoints, value by value."""
        place = place_in(thread_id, checkpoint_ns)
        if a is None:
            raise InvalidConfigError("a is None: pass a checkpoint id, or the start of one")
        old = yield from self._values.find(serde, place, "a", a)
        new = yield from self._values.find(serde, place, "b", b)
        differing = sorted(
            channel
            for channel in old.versions.keys() | new.versions.keys()
            if old.versions.get(channel) != new.versions.get(channel)
        )
        values = yield from self._values.of(serde, place, (old, new), differing)
        compared = (_channel(channel, *sides) for channel, sides in values)
        found = tuple(channel for channel in compared if channel is not None)
        names = {one.channel for one in found}
        valued = (set(old.valued()) & set(new.valued())) | {
            c for c in old.versions.keys() & new.versions.keys() if new.replays(c)
        }
        return Diff(
            place.thread.thread_id,
            place.checkpoint_ns,
            old.id,
            new.id,
            found,
            tuple(sorted(valued - names)),
        )


def _channel(channel: str, old: Side, new: Side) -> ChannelDiff | None:
    """What differs in a channel; None where its value is the same."""
    if old is NOTHING and new is NOTHING:
        return None
    if old is NOTHING:
        return _one_sided(channel, "added", new)
    if new is NOTHING:
        return _one_sided(channel, "removed", old)
    note = old.note or new.note
    problems = [
        f"{when}: {_said(side)}"
        for when, side in (("before", old), ("after", new))
        if isinstance(side.value, Undecodable)
    ]
    if problems:
        notes = "; ".join([*problems, *([note] if note else [])])
        return ChannelDiff(channel, "changed", old.size, new.size, note=notes)
    found = compare(old.value, new.value)
    if not found.changes:
        return None
    return ChannelDiff(
        channel, "changed", old.size, new.size, changes=found.changes, more=found.more, note=note
    )


def _said(side: Side) -> str:
    if side.value is TOO_LARGE:
        return f"too large to be read for this: {amount(side.size)}, over {TOO_LARGE.reason}"
    return str(side.value)


def _one_sided(channel: str, kind: ChannelKind, side: Side) -> ChannelDiff:
    before, after = (None, side.size) if kind == "added" else (side.size, None)
    note = _said(side) if isinstance(side.value, Undecodable) else side.note
    return ChannelDiff(channel, kind, before, after, value=side.value, note=note)
