"""Import of another saver's threads.

The ids of all checkpoints are listed first. Then the checkpoints of each thread are read and stored
one by one, oldest first, so that a parent is stored before its children. The script of `put` stores
them: as deltas, and with the rows that their steps project.

Plain version numbers are replaced by unique versions, so that forks stay apart. Numbers repeat: two
forks of one checkpoint give different values the version 4. A unique version has the number and a
hash of the checkpoint where the version first appears. A checkpoint therefore gets the same
versions whenever it is imported.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    Checkpoint,
    CheckpointTuple,
    get_checkpoint_id,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.checkpointer.get import decode
from langgraph_session_saver.checkpointer.maintenance import ThreadMaintenance
from langgraph_session_saver.checkpointer.put import CheckpointWriter
from langgraph_session_saver.checkpointer.put_writes import TaskWritesWriter
from langgraph_session_saver.encoding.caches import LRUCache
from langgraph_session_saver.encoding.keys import Place, ThreadRef, hash_key, next_version
from langgraph_session_saver.errors import InvalidConfigError, ThreadNotFoundError
from langgraph_session_saver.log import logger
from langgraph_session_saver.schema.column_types import utc_time
from langgraph_session_saver.sql.scripts import Aside, Request, Script
from langgraph_session_saver.transfer.other_savers import CheckpointRef, CheckpointRefs, Reader
from langgraph_session_saver.transfer.progress import Meter, OnProgress
from langgraph_session_saver.validation import check_thread_id

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


class Versions(NamedTuple):
    """The versions of a checkpoint's channels, and those that each node has seen."""

    channels: Mapping[str, Any] = {}
    seen: Mapping[str, Mapping[str, Any]] = {}


class _Different(Exception):  # noqa: N818 - it ends a thread's import, and never leaves this module
    """This saver has another thread of the same id, or the thread has continued here."""


@dataclass
class Importer:
    """Imports threads of one other saver."""

    context: Context
    serde: SerializerProtocol
    maintenance: ThreadMaintenance
    reader: Reader

    def import_threads(
        self, progress: OnProgress | None, thread_ids: Iterable[str] | None
    ) -> Script[Imported]:
        """Import all threads, or some."""
        done = Imported()
        # Not before the script runs: the context now knows the limits of the database. Nothing is
        # pruned before a thread is whole: a fork may start from any checkpoint.
        context = self.context.for_import()
        self._writer, self._task_writes = CheckpointWriter(context), TaskWritesWriter(context)
        self._versions: LRUCache[CheckpointRef, Versions] = LRUCache(REMEMBERED)
        with closing(CheckpointRefs()) as refs:
            for thread_id in [None] if thread_ids is None else map(check_thread_id, thread_ids):
                yield from self.reader.list_refs(refs, thread_id)
                if thread_id is not None and not refs.of(thread_id):
                    raise ThreadNotFoundError(
                        f"{type(self.reader.saver).__name__} has no thread {thread_id!r} to import"
                    )
            self._meter = Meter(progress, len(refs))
            for found in refs.threads():
                try:
                    yield from self._import_thread(refs.of(found), done)
                    done.threads += 1
                except _Different as exc:
                    done.skipped[found] = str(exc)
                    logger.warning("thread %r was not imported: %s", found, exc)
        return done

    def _import_thread(self, refs: Sequence[CheckpointRef], done: Imported) -> Script[None]:
        """Import a thread, or continue an import that was interrupted.

        Raises:
            _Different: Nothing was written.
        """
        thread_id, keep_last = refs[0].thread_id, self.context.keep_last
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
            if keep_last is None or ref.checkpoint_id > oldest:  # else it was pruned here
                written += yield from self._store(ref, stored)
            self._meter.advance(1, thread_id)
        done.checkpoints += written
        if keep_last is not None and written:
            yield from self.maintenance.prune(self.serde, [thread_id], "keep_last", keep_last)

    def _stored_checkpoints(self, thread_id: str) -> Script[set[CheckpointRef]]:
        storage, thread = self.context.storage, ThreadRef.of(thread_id, self.context.owner_id)
        yield Request.read(storage.threads.get, thread)  # raises if it is another owner's
        rows = yield Request.read(storage.thread_data.checkpoint_rows, thread.key)
        return {CheckpointRef(thread_id, row.checkpoint_ns, row.checkpoint_id) for row in rows}

    def _read(self, ref: CheckpointRef) -> Script[tuple[Mapping[str, Any], Sequence[Any]] | None]:
        """A stored checkpoint, and its row joined with its writes; None if it was deleted."""
        place = Place.of(ref.config(), self.context.owner_id)
        key = place.key_of(ref.checkpoint_id)
        rows = yield Request.read(self.context.storage.checkpoints.get, *key)
        return (decode(self.serde, place, rows[0]).checkpoint, rows) if rows else None

    # -- stored checkpoints -------------------------------------------------------------------

    def _compare(self, ref: CheckpointRef) -> Script[None]:
        """Check that a stored checkpoint is the same, and add the writes that it got since."""
        found: CheckpointTuple | None = yield Aside(self.reader.get_tuple(ref))
        read = yield from self._read(ref)
        if found is None or read is None:
            return
        ours, rows = read
        versions = _unique_versions(found.checkpoint, _versions_of(ours))
        parent_id = get_checkpoint_id(found.parent_config) if found.parent_config else None
        same_parent = parent_id == rows[0].parent_checkpoint_id
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
        found: CheckpointTuple | None = yield Aside(self.reader.get_tuple(ref))
        if found is None:
            return 0
        parent_id = get_checkpoint_id(found.parent_config) if found.parent_config else None
        parent = ref._replace(checkpoint_id=parent_id or "")
        is_orphan = parent_id is not None and parent not in stored
        before = (yield from self._stored_versions(parent)) if parent in stored else Versions()
        versions = _unique_versions(found.checkpoint, before)
        values = found.checkpoint["channel_values"]
        checkpoint: Any = {**_without_values(found, versions), "channel_values": values}
        new = {
            channel: version
            for channel, version in versions.channels.items()
            if before.channels.get(channel) != version
        }
        yield from self._writer.put(
            self.serde, parent.config(), checkpoint, found.metadata, new, is_orphan=is_orphan
        )
        stored.add(ref)
        self._versions.put(ref, versions)
        if found.pending_writes:
            yield from self._store_writes(ref, found)
        return 1

    def _stored_versions(self, ref: CheckpointRef) -> Script[Versions]:
        """The versions of a stored checkpoint."""
        if (known := self._versions.get(ref)) is not None:
            return known
        read = yield from self._read(ref)
        return _versions_of(read[0]) if read else Versions()

    def _store_writes(self, ref: CheckpointRef, found: CheckpointTuple) -> Script[None]:
        config, metadata = ref.config(), found.metadata
        config["configurable"]["checkpoint_map"] = metadata.get("parents") or {}
        config["metadata"] = {"run_id": metadata.get("run_id")}
        tasks: dict[str, list[tuple[str, Any]]] = defaultdict(list)
        for task_id, channel, value in found.pending_writes or ():
            tasks[task_id].append((channel, value))
        at = utc_time(found.checkpoint["ts"])  # no saver keeps the time of writes
        call = self.reader.task_paths(ref)
        rows: list[tuple[str, str]] = [] if call is None else (yield Aside(call))
        paths = dict(rows)
        if len(rows) > len(paths) or not tasks.keys() <= paths.keys():
            paths = {task_id: f"{n:010}" for n, task_id in enumerate(tasks)}  # to keep the order
        for task_id, writes in tasks.items():
            # Special channels have fixed indexes; the others must be numbered from 0.
            writes.sort(key=lambda write: write[0] in WRITES_IDX_MAP)
            path = paths[task_id]
            yield from self._task_writes.put_writes(self.serde, config, writes, task_id, path, at)


def _unique_versions(checkpoint: Checkpoint, parent: Versions) -> Versions:
    """A checkpoint's versions, with unique ones in place of numbers.

    A version that the parent has is the one that the parent is stored with.
    """

    def unique(version: Any, channel: str, *known: Any) -> Any:
        """The version, or the known one that has its number."""
        number = _number(version)
        if number is None:
            return version
        for other in known:
            counter = str(other).partition(".")[0]
            if counter.isdecimal() and int(counter) == number:
                return other
        counter = next_version(number - 1).partition(".")[0]
        return f"{counter}.{hash_key(channel, str(number), checkpoint['id']).hex()[:12]}"

    channels = {
        channel: unique(version, channel, parent.channels.get(channel))
        for channel, version in checkpoint["channel_versions"].items()
    }
    seen = {}
    for node, versions in checkpoint["versions_seen"].items():
        before = parent.seen.get(node, {})
        seen[node] = {
            name: unique(v, name, before.get(name), parent.channels.get(name), channels.get(name))
            for name, v in versions.items()
        }
    return Versions(channels, seen)


def _number(version: Any) -> int | None:
    """The number of a plain version; None for a version that is unique already."""
    if isinstance(version, str):
        return int(version) if version.isdecimal() else None
    if version != int(version):
        raise InvalidConfigError(
            f"a channel has the version {version!r}: expected text or a whole number"
        )
    return int(version)


def _versions_of(checkpoint: Mapping[str, Any]) -> Versions:
    return Versions(checkpoint["channel_versions"], checkpoint["versions_seen"])


def _without_values(found: CheckpointTuple, versions: Versions) -> dict[str, Any]:
    """A checkpoint without its values, with other versions."""
    plain = {name: value for name, value in found.checkpoint.items() if name != "channel_values"}
    plain["channel_versions"] = dict(versions.channels)
    plain["versions_seen"] = {node: dict(seen) for node, seen in versions.seen.items()}
    return plain
