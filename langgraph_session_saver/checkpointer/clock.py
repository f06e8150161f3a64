"""Hosts whose clock is behind that of the host that saved the checkpoint before.

The ids of checkpoints stand for their order: LangGraph makes them from the host's clock, and it and
everybody else takes the greatest for the newest, and the lower ones for earlier. A checkpoint whose
id sorts before the one that it follows would be lost to every reader, so it is not saved.
"""

from __future__ import annotations

import re

from langgraph_session_saver.checkpointer.context import KnownCheckpoints
from langgraph_session_saver.checkpointer.encode import NewCheckpoint
from langgraph_session_saver.encoding.keys import CheckpointKey, Place, namespace_key
from langgraph_session_saver.errors import ClockError

_UUID6 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-6([0-9a-f]{3})-[0-9a-f]{4}-[0-9a-f]{12}")

_TICKS = 10_000_000
"""Units of a UUID's time in a second."""


def check_clock(known: KnownCheckpoints, new: NewCheckpoint) -> None:
    """Refuse a checkpoint that sorts before one that it follows, and what follows a refused one.

    It follows its parent and, in a subgraph, the checkpoints that the subgraph was called from.

    Raises:
        ClockError: The host's clock is behind.
    """
    thread_key, parents = new.place.thread.key, new.metadata.get("parents") or {}
    before = [
        CheckpointKey(thread_key, namespace_key(ns), str(name)) for ns, name in parents.items()
    ]
    if new.place.key is not None:
        before.append(new.place.key)
    for key in before:
        behind = known.behind.get(key) or seconds_behind(new.id, key.checkpoint_id)
        if behind:
            known.behind.put(new.key, behind)
            raise ClockError(
                f"{new.name()} was not saved: it follows {key.checkpoint_id!r}, whose id was made "
                f"by a clock that is {_shown(behind)} ahead of this host's. By its id it would be "
                "the older one, and nobody would read it. Set the clock of this host, or run the "
                f"thread again in {_shown(behind)}"
            )


def check_clock_of_writes(known: KnownCheckpoints, place: Place) -> None:
    """Refuse the writes of tasks that ran after a refused checkpoint.

    Raises:
        ClockError: The host's clock is behind.
    """
    if place.key is not None and (behind := known.behind.get(place.key)):
        raise ClockError(
            f"the writes of a task of thread {place.thread.thread_id!r} were not saved: the "
            f"checkpoint that it ran after was refused, because this host's clock is "
            f"{_shown(behind)} behind. Set the clock, or run the thread again in {_shown(behind)}"
        )


def seconds_behind(checkpoint_id: str, earlier_id: str) -> float:
    """How long before an earlier checkpoint one was made, by their ids; 0 if it was later.

    Ids that are not UUIDs of version 6 tell no time.
    """
    if checkpoint_id >= earlier_id:
        return 0.0
    found, earlier = _UUID6.fullmatch(checkpoint_id), _UUID6.fullmatch(earlier_id)
    if found is None or earlier is None:
        return 0.0
    ticks = int("".join(earlier.groups()), 16) - int("".join(found.groups()), 16)
    return max(ticks, 1) / _TICKS


def _shown(seconds: float) -> str:
    return f"{max(seconds, 0.1):,.1f} s"
