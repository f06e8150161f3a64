"""Import of another saver's threads.

The ids of all checkpoints are listed first. Then the checkpoints of each thread are read and stored
one by one, oldest first, so that a parent is stored before its children. The script of `put` stores
them: as deltas, and with the rows that their steps project.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from langgraph.checkpoint.base import WRITES_IDX_MAP, CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_session_saver.checkpointer.config import place_of
from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.checkpointer.get import decode
from langgraph_session_saver.checkpointer.maintenance import ThreadMaintenance
from langgraph_session_saver.checkpointer.put import CheckpointWriter
from langgraph_session_saver.checkpointer.put_writes import TaskWritesWriter
from langgraph_session_saver.encoding.caches import LRUCache
from langgraph_session_saver.encoding.keys import thread_key
from langgraph_session_saver.errors import ThreadNotFoundError
from langgraph_session_saver.sql.scripts import Aside, Request, Script
from langgraph_session_saver.transfer.channel_versions import Versions, unique_versions
from langgraph_session_saver.transfer.other_savers import (
    CheckpointRef,
    CheckpointRefs,
    Reader,
    StoredWrites,
)
from langgraph_session_saver.transfer.progress import Meter, OnProgress
from langgraph_session_saver.validation import check_thread_id

logger = logging.getLogger("langgraph_session_saver")

REMEMBERED = 64
"""Checkpoints whose versions are cached; a fork of an older one reads it again."""


@dataclass(slots=True)
class Imported:
    """What an import did."""

    threads: int = 0
    """Threads that are now the same in both savers."""
    checkpoints: int = 0
    """Checkpoints that were written."""
    kept: int = 0
    """Checkpoints that were stored already."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Threads that were not imported, and why."""


class _Different(Exception):  # noqa: N818 - it ends a thread's import, and never leaves this module
    """This saver has another thread of the same id, or the thread has continued here."""


def import_threads(
    context: Context,
    serde: SerializerProtocol,
    maintenance: ThreadMaintenance,
    reader: Reader,
    progress: OnProgress | None,
    thread_ids: Iterable[str] | None,
) -> Script[Imported]:
    """Import all threads of another saver, or some."""
    done = Imported()
    with closing(CheckpointRefs()) as refs:
        yield from _list_refs(reader, refs, thread_ids)
        # Not before the script runs: the context then knows the limits of the database.
        work = _Import(context, serde, maintenance, reader, Meter(progress, len(refs)))
        for thread_id in refs.threads():
            try:
                yield from work.import_thread(refs.of(thread_id), done)
                done.threads += 1
            except _Different as exc:
                done.skipped[thread_id] = str(exc)
                logger.warning("thread %r was not imported: %s", thread_id, exc)
    return done


def _list_refs(
    reader: Reader, refs: CheckpointRefs, thread_ids: Iterable[str] | None
) -> Script[None]:
    if thread_ids is None:
        yield from reader.list_refs(refs, None)
        return
    for thread_id in map(check_thread_id, thread_ids):
        yield from reader.list_refs(refs, thread_id)
        if not refs.of(thread_id):
            raise ThreadNotFoundError(
                f"{type(reader.saver).__name__} has no thread {thread_id!r} to import"
            )


class _Import:
    """Imports threads of one other saver."""

    def __init__(
        self,
        context: Context,
        serde: SerializerProtocol,
        maintenance: ThreadMaintenance,
        reader: Reader,
        meter: Meter,
    ) -> None:
        # Nothing is pruned before a thread is whole: a fork may start from any checkpoint.
        self._keep_last = context.keep_last
        self._context = context = context.without_pruning()
        self._serde = serde
        self._maintenance = maintenance
        self._writer = CheckpointWriter(context)
        self._task_writes = TaskWritesWriter(context)
        self._reader = reader
        self._meter = meter
        self._versions: LRUCache[CheckpointRef, Versions] = LRUCache(REMEMBERED)

    def import_thread(self, refs: Sequence[CheckpointRef], done: Imported) -> Script[None]:
        """Import a thread, or continue an import that was interrupted.

        Raises:
            _Different: Nothing was written.
        """
        thread_id = refs[0].thread_id
        stored = yield from self._stored_checkpoints(thread_id)
        if more := stored - set(refs):
            raise _Different(
                f"it has {len(more)} checkpoints here that the other saver has not (it continued "
                "here, or is another thread). Delete it here first to import it again"
            )
        kept = [ref for ref in refs if ref in stored]
        for ref in kept:
            yield from self._compare(ref)
            self._meter.advance(1, thread_id)
        done.kept += len(kept)
        oldest = min((ref.checkpoint_id for ref in kept if not ref.checkpoint_ns), default="")
        written = 0
        for ref in refs:
            if ref in stored:
                continue
            if self._keep_last is None or ref.checkpoint_id > oldest:  # else it was pruned here
                written += yield from self._store(ref, stored)
            self._meter.advance(1, thread_id)
        done.checkpoints += written
        if self._keep_last is not None and written:
            yield from self._maintenance.prune(
                self._serde, [thread_id], "keep_last", self._keep_last
            )

    def _stored_checkpoints(self, thread_id: str) -> Script[set[CheckpointRef]]:
        key = thread_key(check_thread_id(thread_id))
        rows = yield Request.read(
            lambda conn: self._context.storage.thread_data.checkpoint_rows(conn, key)
        )
        return {CheckpointRef(thread_id, row.checkpoint_ns, row.checkpoint_id) for row in rows}

    def _read(self, ref: CheckpointRef) -> Script[tuple[Mapping[str, Any], Sequence[Any]] | None]:
        """A stored checkpoint, and its row joined with its writes; None if it was deleted."""
        place = place_of(ref.config())
        key = (place.thread.key, place.ns_key, place.checkpoint_id)
        rows = yield Request.read(lambda conn: self._context.storage.checkpoints.get(conn, *key))
        return (decode(self._serde, place, rows[0]).checkpoint, rows) if rows else None

    # -- stored checkpoints -------------------------------------------------------------------

    def _compare(self, ref: CheckpointRef) -> Script[None]:
        """Check that a stored checkpoint is the same, and add the writes that it got since."""
        found: CheckpointTuple | None = yield Aside(self._reader.get_tuple(ref))
        read = yield from self._read(ref)
        if found is None or read is None:
            return
        ours, rows = read
        versions = unique_versions(found.checkpoint, _versions_of(ours))
        same_parent = _parent_id(found) == rows[0].parent_checkpoint_id
        if not same_parent or _without_values(found, versions) != ours:
            raise _Different(
                f"its checkpoint {ref.checkpoint_id!r} has other content here. Delete the thread "
                "here first to import it again"
            )
        self._versions.put(ref, versions)
        known = Counter((row.task_id, row.channel) for row in rows if row.task_id is not None)
        if Counter((task, channel) for task, channel, _ in found.pending_writes or ()) - known:
            yield from self._store_writes(ref, found)

    # -- missing checkpoints ------------------------------------------------------------------

    def _store(self, ref: CheckpointRef, stored: set[CheckpointRef]) -> Script[int]:
        """Store a checkpoint with its writes, and return 1; 0 if the other saver deleted it."""
        found: CheckpointTuple | None = yield Aside(self._reader.get_tuple(ref))
        if found is None:
            return 0
        parent_id = _parent_id(found)
        parent = ref._replace(checkpoint_id=parent_id or "")
        is_orphan = parent_id is not None and parent not in stored
        before = (yield from self._stored_versions(parent)) if parent in stored else Versions()
        versions = unique_versions(found.checkpoint, before)
        values = found.checkpoint["channel_values"]
        checkpoint: Any = {**_without_values(found, versions), "channel_values": values}
        new = {
            channel: version
            for channel, version in versions.channels.items()
            if before.channels.get(channel) != version
        }
        yield from self._writer.put(
            self._serde, parent.config(), checkpoint, found.metadata, new, is_orphan=is_orphan
        )
        stored.add(ref)
        self._versions.put(ref, versions)
        if found.pending_writes:
            yield from self._store_writes(ref, found)
        return 1

    def _stored_versions(self, ref: CheckpointRef) -> Script[Versions]:
        """The versions of a stored checkpoint."""
        known = self._versions.get(ref)
        if known is not None:
            return known
        read = yield from self._read(ref)
        return _versions_of(read[0]) if read else Versions()

    def _store_writes(self, ref: CheckpointRef, found: CheckpointTuple) -> Script[None]:
        config, metadata = ref.config(), found.metadata
        config["configurable"]["checkpoint_map"] = metadata.get("parents") or {}
        config["metadata"] = {"run_id": metadata.get("run_id")}
        call = self._reader.stored_writes(ref)
        stored: StoredWrites | None = None if call is None else (yield Aside(call))
        tasks = writes_by_task(found.pending_writes or [], stored)
        for (path, task_id), writes in tasks.items():
            yield from self._task_writes.put_writes(self._serde, config, writes, task_id, path)


PendingWrites = Sequence[tuple[str, str, Any]]
"""Task, channel and value of each write, in the saver's order."""


def writes_by_task(
    pending: PendingWrites, stored: StoredWrites | None
) -> dict[tuple[str, str], list[tuple[str, Any]]]:
    """Channels and values by task path and task, with paths that keep the order of the writes."""
    paths = _stored_paths(pending, stored)
    if paths is None:
        order = {task: n for n, task in enumerate(dict.fromkeys(task for task, _, _ in pending))}
        paths = [f"{order[task]:010}" for task, _, _ in pending]
    tasks: dict[tuple[str, str], list[tuple[str, Any]]] = defaultdict(list)
    for (task, channel, value), path in zip(pending, paths, strict=True):
        tasks[path, task].append((channel, value))
    for writes in tasks.values():
        # Special channels have fixed indexes; the others must be numbered from 0.
        writes.sort(key=lambda write: write[0] in WRITES_IDX_MAP)
    return tasks


def _stored_paths(pending: PendingWrites, stored: StoredWrites | None) -> list[str] | None:
    """The path of each write; None if the stored writes are not these."""
    if stored is None or Counter(row[:2] for row in stored) != Counter(row[:2] for row in pending):
        return None
    paths: dict[tuple[str, str], deque[str]] = defaultdict(deque)
    for task, channel, path, _ in sorted(stored, key=lambda row: row[3]):
        paths[task, channel].append(path)
    return [paths[task, channel].popleft() for task, channel, _ in pending]


def _versions_of(checkpoint: Mapping[str, Any]) -> Versions:
    return Versions(checkpoint["channel_versions"], checkpoint["versions_seen"])


def _without_values(found: CheckpointTuple, versions: Versions) -> dict[str, Any]:
    """A checkpoint without its values, with other versions."""
    plain = {name: value for name, value in found.checkpoint.items() if name != "channel_values"}
    plain["channel_versions"] = dict(versions.channels)
    plain["versions_seen"] = {node: dict(seen) for node, seen in versions.seen.items()}
    return plain


def _parent_id(found: CheckpointTuple) -> str | None:
    config = found.parent_config
    return config["configurable"].get("checkpoint_id") if config else None
