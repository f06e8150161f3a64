"""What a saver must answer, kept in Python: `InMemorySaver`, with retention and rows beside it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver

from tests.support.compare import ids
from tests.support.kept import needed
from tests.support.reference_rows import ReferenceRows, Step, worst_of

Key: TypeAlias = tuple[str, str]
"""The namespace and the id of a checkpoint."""


class Removed(NamedTuple):
    """What a sweep removes."""

    threads: int
    checkpoints: int
    deleted_threads: int


class Reference:
    """Answers as a saver must: reads from `checkpoints`, rows from `rows`.

    Args:
        keep_last: The number of root checkpoints that each thread keeps.
        keep_versions: The number of pages that each session keeps.
    """

    def __init__(self, keep_last: int | None, keep_versions: int | None) -> None:
        self.keep_last = keep_last
        self.checkpoints = InMemorySaver()
        self.rows = ReferenceRows(keep_versions)
        self.history: dict[str, dict[Key, CheckpointTuple]] = {}
        """All that each thread ever had; what is gone tells where the rest comes from."""

    # -- saving -------------------------------------------------------------------------------

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: Any,
        new_versions: Mapping[str, Any],
        parent_values: Mapping[str, Any],
    ) -> None:
        """Save a checkpoint; without its parent, all that it has counts as new."""
        thread, ns = (config["configurable"][name] for name in ("thread_id", "checkpoint_ns"))
        parent_id = config["configurable"].get("checkpoint_id")
        is_orphan = parent_id is not None and not self.has(thread, (ns, parent_id))
        stored = checkpoint["channel_versions"] if is_orphan else new_versions
        is_repeated = self.has(thread, (ns, checkpoint["id"]))
        self.checkpoints.put(config, checkpoint, metadata, dict(stored))
        self.rows.thread(thread, config["configurable"].get("session_id"), checkpoint["ts"])
        named = {"thread_id": thread, "checkpoint_ns": ns}
        at: Any = {"configurable": {**named, "checkpoint_id": checkpoint["id"]}}
        parent: Any = {"configurable": {**named, "checkpoint_id": parent_id}} if parent_id else None
        found = CheckpointTuple(at, checkpoint, metadata, parent)
        self.history.setdefault(thread, {})[ns, checkpoint["id"]] = found
        if not ns and not is_repeated:
            self.rows.put(
                Step(
                    thread,
                    checkpoint["id"],
                    parent_id,
                    checkpoint["channel_values"],
                    parent_values,
                    frozenset(new_versions),
                    checkpoint["channel_versions"],
                )
            )
        if self.keep_last is not None:
            self._prune(thread, self._needed(thread, self.keep_last))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task: str,
        path: str,
        now: str,
    ) -> None:
        """Save the writes of a task."""
        self.checkpoints.put_writes(config, writes, task, path)
        named = config["configurable"]
        thread = self.rows.thread(named["thread_id"], named.get("session_id"), now)
        roots = {"": named["checkpoint_id"]} if not named["checkpoint_ns"] else {}
        root_id = named.get("checkpoint_map", roots).get("")
        self.rows.put_writes(thread, named["checkpoint_id"], root_id, task, writes)

    # -- what is there ------------------------------------------------------------------------

    def stored(self, thread: str) -> dict[Key, Any]:
        """The checkpoints of a thread."""
        return {
            (ns, name): saved
            for ns, found in self.checkpoints.storage.get(thread, {}).items()
            for name, saved in found.items()
        }

    def has(self, thread: str, key: Key) -> bool:
        """Whether a thread has a checkpoint."""
        return key in self.stored(thread)

    def newest_root(self, thread: str) -> str | None:
        """The id of a thread's newest root checkpoint."""
        return max((name for ns, name in self.stored(thread) if not ns), default=None)

    # -- deleting -----------------------------------------------------------------------------

    def delete_thread(self, thread: str) -> None:
        """Delete a thread."""
        self.checkpoints.delete_thread(thread)
        self.rows.delete_thread(thread)

    def delete_session(self, session_id: str) -> None:
        """Delete a session with its threads."""
        session = self.rows.sessions[session_id]
        for thread in self.rows.threads_of(session):
            self.checkpoints.delete_thread(thread.id)
        self.rows.delete_session(session)

    def delete_for_runs(self, run_ids: Collection[str]) -> None:
        """Delete the checkpoints of runs; a thread of which none is left is deleted."""
        for thread, found in list(self.history.items()):
            stored = self.stored(thread).keys()
            kept = {key for key in stored if found[key].metadata.get("run_id") not in run_ids}
            if not kept and stored:
                self.delete_thread(thread)
            elif kept != stored:
                self._prune(thread, kept)
                self._show_newest(thread)

    def prune(self, thread: str, strategy: str, count: int | None) -> None:
        """Prune a thread."""
        if strategy == "delete":
            self.delete_thread(thread)
        elif strategy == "keep_last":
            self._prune(thread, self._needed(thread, count or self.keep_last or 1))
        else:
            in_order = sorted(self._needed(thread, 1), key=lambda key: key[1])
            self._prune(thread, {(ns, name) for ns, name in dict(in_order).items()})

    def sweep_old(self, is_old: Callable[[str], bool]) -> Removed:
        """Delete root checkpoints whose time is old, but not the newest of a thread."""
        total = Removed(0, 0, 0)
        for thread in list(self.history):
            stored = self.stored(thread).keys()
            times = [self.history[thread][key].checkpoint["ts"] for key in stored if not key[0]]
            kept = self._needed(thread, max(1, sum(not is_old(time) for time in times)))
            gone = len(stored - kept)
            total = Removed(total.threads + bool(gone), total.checkpoints + gone, 0)
            self._prune(thread, kept)
        return total

    def sweep_idle(self) -> Removed:
        """Delete all threads, of which none is as young as the limit."""
        threads = list(self.rows.threads)
        removed = Removed(len(threads), sum(len(self.stored(t)) for t in threads), len(threads))
        for thread in threads:
            self.delete_thread(thread)
        return removed

    def copy_thread(self, source: str, target: str, session_id: str | None = None) -> None:
        """Copy a thread to a new one."""
        memory = self.checkpoints
        for (ns, name), saved in self.stored(source).items():
            memory.storage[target][ns][name] = saved
        for key, written in list(memory.writes.items()):
            if key[0] == source:
                memory.writes[target, *key[1:]] = dict(written)
        for blob, typed in list(memory.blobs.items()):
            if blob[0] == source:
                memory.blobs[target, *blob[1:]] = typed
        if source in self.history:
            self.history[target] = dict(self.history[source])
        if source in self.rows.threads:
            self.rows.copy_thread(source, target, session_id, self._newest_step(source))

    def _needed(self, thread: str, count: int) -> set[Key]:
        """What `keep_last` keeps."""
        history = self.history.get(thread, {})
        gone = history.keys() - self.stored(thread).keys()
        return needed(list(history.values()), count, gone)

    def _prune(self, thread: str, kept: Iterable[Key]) -> None:
        """Delete all checkpoints but some, and writes from before all that is left.

        Writes may come before their checkpoint, and stay if that may still come.
        """
        memory = self.checkpoints
        gone = self.stored(thread).keys() - set(kept)
        for ns, name in gone:
            del memory.storage[thread][ns][name]
            memory.writes.pop((thread, ns, name), None)
        oldest = min((name for ns, name in self.stored(thread) if not ns), default="")
        for key in list(memory.writes):
            if key[0] == thread and key[2] < oldest and not self.has(thread, key[1:]):
                del memory.writes[key]

    # -- rows ---------------------------------------------------------------------------------

    def _newest_step(self, thread: str) -> Step | None:
        newest = self.newest_root(thread)
        if newest is None:
            return None
        saved = self.history[thread]["", newest].checkpoint
        parent = self.history[thread]["", newest].parent_config
        parent_id = None if parent is None else ids(parent)[2]
        values, versions = saved["channel_values"], saved["channel_versions"]
        return Step(thread, newest, parent_id, values, {}, frozenset(versions), versions)

    def _show_newest(self, name: str) -> None:
        """Make rows show the newest checkpoint, if that is another than they show."""
        step, thread = self._newest_step(name), self.rows.threads[name]
        if step is None:
            self.rows.show_nothing(thread)
        if step is None or step.id == thread.newest:
            return
        self.rows.show_newest(step)
        writes = self.checkpoints.writes.get((name, "", step.id), {})
        thread.status = worst_of(channel for _, channel, *_ in writes.values()) or "done"
        thread.status_at = step.id
