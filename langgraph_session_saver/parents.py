"""A call that starts from a checkpoint which is not there is refused before anything is written."""

from __future__ import annotations

from langgraph_session_saver.configs import Place
from langgraph_session_saver.core import Core, Script, reading
from langgraph_session_saver.errors import CheckpointNotFoundError


def refuse_unknown_parent(core: Core, place: Place, new_id: str | None = None) -> Script[None]:
    """Refuse to go on from a checkpoint that was looked for, unless it is there by now."""
    parent = place.checkpoint_id
    if parent is None or not place.is_root:
        return
    key = (place.thread.key, place.ns_key, parent)
    if core.not_found.get(key):
        if new_id is not None:  # its tasks may write before this is found to be refused
            core.doubtful.put((place.thread.key, place.ns_key, new_id), parent)
        if not (yield reading(lambda conn: core.operations.get_checkpoint(conn, *key))):
            raise unknown_parent(place)
        core.not_found.put(key, False)  # noqa: FBT003


def unknown_parent(place: Place) -> CheckpointNotFoundError:
    """The error for a parent that does not exist."""
    return CheckpointNotFoundError(
        f"thread {place.thread.thread_id!r} has no checkpoint {place.checkpoint_id!r}: leave "
        "checkpoint_id out to go on from the newest, or take one from list(). Nothing was written"
    )
