"""A call that starts from a checkpoint which is not there is refused before anything is written."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import Connection

from langgraph_session_saver.configs import Place
from langgraph_session_saver.core import Core, Script, reading
from langgraph_session_saver.errors import CheckpointNotFoundError
from langgraph_session_saver.gates import CheckpointKey


def refuse_unknown_parent(core: Core, place: Place, new_id: str | None = None) -> Script[None]:
    """Refuse to go on from a checkpoint that was looked for, unless it is there by now.

    Nor from one that itself may be refused for that: LangGraph does not wait for a `put` before it
    runs that checkpoint's tasks, and before 1.2.15 puts the next one though it was refused.
    """
    parent = place.checkpoint_id
    if parent is None or not place.is_root:
        return
    at = (place.thread.key, place.ns_key)
    for named in filter(None, (parent, core.doubtful.get((*at, parent)))):
        if not core.not_found.get((*at, named)):
            continue
        if new_id is not None:
            core.doubtful.put((*at, new_id), named)
        if not (yield reading(partial(_look_for, core, (*at, named)))):
            raise unknown_parent(place._replace(checkpoint_id=named))
        core.not_found.put((*at, named), False)  # noqa: FBT003


def _look_for(core: Core, key: CheckpointKey, conn: Connection) -> Any:
    return core.operations.get_checkpoint(conn, *key)


def unknown_parent(place: Place) -> CheckpointNotFoundError:
    """The error for a parent that does not exist."""
    return CheckpointNotFoundError(
        f"thread {place.thread.thread_id!r} has no checkpoint {place.checkpoint_id!r}: leave "
        "checkpoint_id out to go on from the newest, or take one from list(). Nothing was written"
    )
