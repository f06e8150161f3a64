"""A call that starts from a checkpoint which is not there is refused before anything is written."""

from __future__ import annotations

from langgraph_session_saver.configs import Place
from langgraph_session_saver.core import Core, Script, reading
from langgraph_session_saver.errors import CheckpointNotFoundError


def refuse_unknown_parent(core: Core, place: Place, new_id: str | None = None) -> Script[None]:
    """Refuse to go on from a checkpoint that was looked for, unless it is there by now."""
    parent, thread_key, ns_key = place.checkpoint_id, place.thread.key, place.ns_key
    if parent is None or not place.is_root:
        return
    if core.not_found.get((thread_key, ns_key, parent)):
        # What LangGraph before 1.2.15 puts after a refused checkpoint goes on from that in vain.
        missing = core.doubtful.get((thread_key, ns_key, parent)) or parent
        if new_id is not None:  # its tasks may write before this is found to be refused
            core.doubtful.put((thread_key, ns_key, new_id), missing)
        found = yield reading(
            lambda conn: core.operations.get_checkpoint(conn, thread_key, ns_key, parent)
        )
        if not found:
            if new_id is not None:
                core.not_found.put((thread_key, ns_key, new_id), True)  # noqa: FBT003
            raise unknown_parent(place._replace(checkpoint_id=missing))
        core.not_found.put((thread_key, ns_key, parent), False)  # noqa: FBT003


def unknown_parent(place: Place) -> CheckpointNotFoundError:
    """The error for a parent that does not exist."""
    return CheckpointNotFoundError(
        f"thread {place.thread.thread_id!r} has no checkpoint {place.checkpoint_id!r}: leave "
        "checkpoint_id out to go on from the newest, or take one from list(). Nothing was written"
    )
