"""The script of `import_from`: another saver's threads, saved here as if they had run here.

Ids come first, then each thread's checkpoints one by one, oldest first, so that a parent is here
before its children and one checkpoint at a time is in memory. Each is stored by the script of
`put`: history costs what changed, and rows are projected as the thread's steps did them.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_session_saver.checkpointer.config import place_of
from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.checkpointer.get import decode
from langgraph_session_saver.checkpointer.maintenance import ThreadMaintenance
from langgraph_session_saver.checkpointer.put import CheckpointWriter
from langgraph_session_saver.checkpointer.put_writes import TaskWritesWriter
from langgraph_session_saver.encoding.keys import thread_key
from langgraph_session_saver.errors import ThreadNotFoundError
from langgraph_session_saver.sql.scripts import Aside, Request, Script
from langgraph_session_saver.transfer.channel_versions import NONE, Versions, renamed
from langgraph_session_saver.transfer.other_savers import At, Ids, Peer, Written
from langgraph_session_saver.transfer.progress import Meter, OnProgress
from langgraph_session_saver.validation import check_thread_id

logger = logging.getLogger("langgraph_session_saver")

REMEMBERED = 64
"""Checkpoints of a thread whose versions are in memory; others are read when a fork needs them."""


@dataclass(slots=True)
class Imported:
    """What an import did."""

    threads: int = 0
    """Threads that are here now as they are there."""
    checkpoints: int = 0
    """Checkpoints that were written."""
    kept: int = 0
    """Checkpoints that were here already."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Threads that were left as they are here, and why."""


class Group(NamedTuple):
    """What one task wrote."""

    task_id: str
    task_path: str
    writes: list[tuple[str, Any]]


class _Different(Exception):  # noqa: N818 - it ends a thread's import, and never leaves this module
    """A thread of the same id is here, and is another or has gone on."""


@dataclass
class _Thread:
    """One thread while it is imported."""

    thread_id: str
    here: set[tuple[str, str]]
    """Namespace and id of its checkpoints that are here."""
    versions: OrderedDict[tuple[str, str], Versions] = field(default_factory=OrderedDict)

    def remember(self, at: At, versions: Versions) -> None:
        self.here.add(at[1:])
        self.versions[at[1:]] = versions
        if len(self.versions) > REMEMBERED:
            self.versions.popitem(last=False)


class Importing:
    """Reads another saver and saves what it has."""

    def __init__(
        self, context: Context, serde: SerializerProtocol, maintenance: ThreadMaintenance
    ) -> None:
        self._keep_last = context.keep_last
        # Nothing is pruned before a thread is whole: a fork may start from any of its checkpoints.
        self._context = context.without_pruning()
        self._serde = serde
        self._maintenance = maintenance
        self._writer = CheckpointWriter(self._context)
        self._task_writes = TaskWritesWriter(self._context)

    def import_from(
        self, peer: Peer, progress: OnProgress | None, thread_ids: Iterable[str] | None
    ) -> Script[Imported]:
        """Import all threads, or some."""
        done = Imported()
        with closing(Ids()) as ids:
            yield from self._gather(peer, ids, thread_ids)
            meter = Meter(progress, len(ids))
            for thread_id in ids.threads():
                there = ids.of(thread_id)
                try:
                    yield from self._import(peer, thread_id, there, done, meter)
                    done.threads += 1
                except _Different as exc:
                    done.skipped[thread_id] = str(exc)
                    logger.warning("thread %r was not imported: %s", thread_id, exc)
        return done

    def _gather(self, peer: Peer, ids: Ids, thread_ids: Iterable[str] | None) -> Script[None]:
        if thread_ids is None:
            yield from peer.gather(ids, None)
            return
        for thread_id in thread_ids:
            name = check_thread_id(thread_id)
            yield from peer.gather(ids, name)
            if not ids.of(name):
                raise ThreadNotFoundError(
                    f"{type(peer.saver).__name__} has no thread {name!r}: nothing of it to import"
                )

    def _import(
        self, peer: Peer, thread_id: str, there: list[At], done: Imported, meter: Meter
    ) -> Script[None]:
        """Import a thread, or go on with it.

        Raises:
            _Different: Another one is here, or it has gone on; nothing was written.
        """
        thread = _Thread(thread_id, (yield from self._here(thread_id)))
        self._refuse_more(thread, there)
        known = [at for at in there if at[1:] in thread.here]
        for at in known:
            yield from self._compare(peer, at, thread)
            meter.advance(1, thread_id)
        done.kept += len(known)
        oldest = min((name for ns, name in thread.here if not ns), default="")
        before = done.checkpoints
        for at in there:
            if at[1:] in thread.here:
                continue
            if self._keep_last is None or at.checkpoint_id > oldest:  # else it was pruned here
                done.checkpoints += yield from self._store(peer, at, thread)
            meter.advance(1, thread_id)
        if self._keep_last is not None and done.checkpoints > before:
            yield from self._maintenance.prune(
                self._serde, [thread_id], "keep_last", self._keep_last
            )

    def _here(self, thread_id: str) -> Script[set[tuple[str, str]]]:
        key = thread_key(check_thread_id(thread_id))
        rows = yield Request.read(
            lambda conn: self._context.operations.whole.checkpoint_rows(conn, key)
        )
        return {(row.checkpoint_ns, row.checkpoint_id) for row in rows}

    def _refuse_more(self, thread: _Thread, there: Sequence[At]) -> None:
        more = thread.here - {at[1:] for at in there}
        if more:
            raise _Different(
                f"it has {len(more)} checkpoints here that the other saver has not (it went on "
                "here, or is another thread). Delete it here first to import it anew"
            )

    # -- checkpoints that are here ------------------------------------------------------------

    def _compare(self, peer: Peer, at: At, thread: _Thread) -> Script[None]:
        """See that a checkpoint is the same; add writes that it got since."""
        found: CheckpointTuple | None = yield Aside(peer.get_tuple(at))
        rows = yield from self._rows(at)
        if found is None or not rows:
            return
        ours = decode(self._serde, place_of(at.config()), rows[0])
        versions = renamed(found.checkpoint, _versions_of(ours.checkpoint))
        plain = _plain(found, versions)
        if plain != ours.checkpoint or _parent_id(found) != rows[0].parent_checkpoint_id:
            raise _Different(
                f"its checkpoint {at.checkpoint_id!r} is another one here. Delete the thread here "
                "first to import it anew"
            )
        thread.remember(at, versions)
        have = Counter((row.task_id, row.channel) for row in rows if row.task_id is not None)
        pending = found.pending_writes or []
        if Counter((task, channel) for task, channel, _ in pending) - have:
            yield from self._store_writes(peer, at, found)

    def _rows(self, at: At) -> Script[Sequence[Any]]:
        place = place_of(at.config())
        key = (place.thread.key, place.ns_key, place.checkpoint_id)
        rows: Sequence[Any] = yield Request.read(
            lambda conn: self._context.operations.get_checkpoint(conn, *key)
        )
        return rows

    def _parent(self, found: CheckpointTuple, at: At, thread: _Thread) -> Script[Versions]:
        """The versions of a checkpoint's parent, if that is here."""
        parent = _parent_id(found)
        key = (at.checkpoint_ns, parent or "")
        if parent is None or key not in thread.here:
            return NONE
        if key in thread.versions:
            return thread.versions[key]
        at = At(at.thread_id, at.checkpoint_ns, parent)
        rows = yield from self._rows(at)
        if not rows:
            return NONE
        return _versions_of(decode(self._serde, place_of(at.config()), rows[0]).checkpoint)

    # -- checkpoints that are not -------------------------------------------------------------

    def _store(self, peer: Peer, at: At, thread: _Thread) -> Script[int]:
        found: CheckpointTuple | None = yield Aside(peer.get_tuple(at))
        if found is None:  # deleted there meanwhile
            return 0
        parent = yield from self._parent(found, at, thread)
        versions = renamed(found.checkpoint, parent)
        checkpoint: Any = {
            **_plain(found, versions), "channel_values": found.checkpoint["channel_values"]
        }  # fmt: skip
        parent_id = _parent_id(found)
        is_orphan = parent_id is not None and (at.checkpoint_ns, parent_id) not in thread.here
        new = {
            channel: version
            for channel, version in versions.channels.items()
            if parent.channels.get(channel) != version
        }
        config = at.config()
        config["configurable"]["checkpoint_id"] = parent_id
        yield from self._writer.put(
            self._serde, config, checkpoint, found.metadata, new, is_orphan=is_orphan
        )
        thread.remember(at, versions)
        if found.pending_writes:
            yield from self._store_writes(peer, at, found)
        return 1

    def _store_writes(self, peer: Peer, at: At, found: CheckpointTuple) -> Script[None]:
        config = at.config()
        metadata: Any = found.metadata
        config["configurable"]["checkpoint_map"] = metadata.get("parents") or {}
        config["metadata"] = {"run_id": metadata.get("run_id")}
        pending = found.pending_writes or []
        written: Written | None = yield Aside(peer.written(at))
        for group in arranged(pending, written):
            yield from self._task_writes.put_writes(
                self._serde, config, group.writes, group.task_id, group.task_path
            )


def arranged(pending: Sequence[tuple[str, str, Any]], written: Written | None) -> list[Group]:
    """Writes by task, with paths that keep them in their order.

    Args:
        pending: Task, channel and value, as a saver gives them in order.
        written: What it keeps of them, in any order; None if that cannot be asked.
    """
    paths = _own_paths(pending, written)
    if paths is None:
        tasks = list(dict.fromkeys(task for task, _, _ in pending))
        paths = [f"{tasks.index(task):010}" for task, _, _ in pending]
    groups: dict[tuple[str, str], Group] = {}
    for (task, channel, value), path in zip(pending, paths, strict=True):
        group = groups.setdefault((path, task), Group(task, path, []))
        group.writes.append((channel, value))
    for group in groups.values():
        # Those that have a place of their own come last: the others are numbered from 0.
        group.writes.sort(key=lambda write: write[0] in WRITES_IDX_MAP)
    return list(groups.values())


def _own_paths(
    pending: Sequence[tuple[str, str, Any]], written: Written | None
) -> list[str] | None:
    """The path of each write, if they are those that the saver keeps."""
    if written is None:
        return None
    paths: dict[tuple[str, str], deque[str]] = {}
    for task, channel, path, _ in sorted(written, key=lambda row: row[3]):
        paths.setdefault((task, channel), deque()).append(path)
    if Counter(row[:2] for row in written) != Counter(row[:2] for row in pending):
        return None
    return [paths[task, channel].popleft() for task, channel, _ in pending]


def _versions_of(checkpoint: Mapping[str, Any]) -> Versions:
    return Versions(checkpoint["channel_versions"], checkpoint["versions_seen"])


def _plain(found: CheckpointTuple, versions: Versions) -> dict[str, Any]:
    """A checkpoint without its values, with versions of ours."""
    plain = {name: value for name, value in found.checkpoint.items() if name != "channel_values"}
    return {
        **plain,
        "channel_versions": dict(versions.channels),
        "versions_seen": {node: dict(seen) for node, seen in versions.seen.items()},
    }


def _parent_id(found: CheckpointTuple) -> str | None:
    config: RunnableConfig | None = found.parent_config
    return config["configurable"].get("checkpoint_id") if config else None
