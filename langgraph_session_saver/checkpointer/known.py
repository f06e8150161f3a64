"""Caches of what this process knows about threads and checkpoints.

An entry may be missing or outdated at any time: the database decides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from langgraph.checkpoint.base import ChannelVersions, Checkpoint

from langgraph_session_saver.encoding.caches import LRUCache
from langgraph_session_saver.encoding.keys import CheckpointKey, ThreadRef
from langgraph_session_saver.projection.project import ProjectedState
from langgraph_session_saver.projection.status import send_nodes
from langgraph_session_saver.retention.contents import Contents
from langgraph_session_saver.retention.lineage import Origin
from langgraph_session_saver.storage.threads import Head

CACHED_ENTRIES = 4_096
"""Threads, and checkpoints, in the caches of small facts."""

CACHED_MESSAGES = 200_000
"""Messages, over all threads, in the cache of projected state: about 40 MB."""

CACHED_ROWS = 200_000
"""Checkpoints and blobs, over all threads, in the cache of what threads store."""


class KnownThreads:
    """Threads by key, as of the last revision of their rows that this process made or saw."""

    def __init__(self) -> None:
        self._rows = LRUCache[bytes, tuple[ThreadRef, Head]](CACHED_ENTRIES)
        """Rows, each with the session and owner that it was found to agree with."""
        self.projected = LRUCache[bytes, ProjectedState](CACHED_MESSAGES, ProjectedState.weight)
        self.contents = LRUCache[bytes, Contents](CACHED_ROWS, Contents.weight)
        """What each thread stores; used under `keep_last` only."""

    def head(self, thread: ThreadRef) -> Head | None:
        """A thread's row, if it was checked against the session and owner that a call names."""
        checked, head = self._rows.get(thread.key) or (thread, None)
        return head if not thread.is_named or thread == checked else None

    def learn(self, thread: ThreadRef, head: Head) -> None:
        """Remember a thread's row after this process changed it."""
        checked, known = self._rows.get(thread.key) or (thread, None)
        if known is not None and not thread.is_named and known.session_id == head.session_id:
            thread = checked
        self._rows.put(thread.key, (thread, head))

    def keep_contents(self, thread_key: bytes, before: int, after: int) -> None:
        """Note that a thread stores the same after a change of its row's revision."""
        contents = self.contents.get(thread_key)
        if contents is not None and contents.revision == before:
            self.contents.put(thread_key, replace(contents, revision=after))

    def forget_row(self, thread_key: bytes) -> None:
        """Forget a thread's row: another process has changed it."""
        self._rows.forget(thread_key)
        self.contents.forget(thread_key)

    def forget(self, thread_key: bytes) -> None:
        """Forget a thread whose rows were deleted."""
        self.projected.forget(thread_key)
        self.forget_row(thread_key)


class CheckpointFacts(NamedTuple):
    """What later puts and writes ask about a checkpoint."""

    send_nodes: tuple[str, ...]
    """The nodes of its `Send` tasks."""
    step: int | None
    origin: Origin | None
    """None in a subgraph's namespace."""
    versions: ChannelVersions
    """The versions of the channels that have a value."""


def facts_of(checkpoint: Checkpoint, step: Any, origin: Origin | None) -> CheckpointFacts:
    """The facts about a checkpoint that is being put or was read."""
    values = checkpoint["channel_values"]
    versions = {
        channel: version
        for channel, version in checkpoint["channel_versions"].items()
        if channel in values
    }
    return CheckpointFacts(
        send_nodes(values), step if isinstance(step, int) else None, origin, versions
    )


class KnownCheckpoints:
    """Facts about checkpoints, by key."""

    def __init__(self) -> None:
        self.facts = LRUCache[CheckpointKey, CheckpointFacts](CACHED_ENTRIES)
        self._found = LRUCache[CheckpointKey, bool](CACHED_ENTRIES)
        self.missing_ancestor = LRUCache[CheckpointKey, CheckpointKey](CACHED_ENTRIES)
        """For a checkpoint whose put may have been refused: the ancestor that was not found."""
        self.checked_channels = LRUCache[CheckpointKey, frozenset[str]](CACHED_ENTRIES)
        """Channels whose writes passed their projections' checks (policy "raise")."""

    def note_found(self, key: CheckpointKey) -> None:
        """Note that a checkpoint was seen or saved; others may delete it later."""
        self._found.put(key, True)  # noqa: FBT003

    def note_missing(self, key: CheckpointKey) -> None:
        """Note that a read did not find a checkpoint, unless it was seen or saved before."""
        if self._found.get(key) is None:
            self._found.put(key, False)  # noqa: FBT003

    def was_missing(self, key: CheckpointKey) -> bool:
        """Whether a read did not find a checkpoint that was never seen nor saved."""
        return self._found.get(key) is False
