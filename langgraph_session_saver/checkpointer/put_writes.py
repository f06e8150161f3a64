"""Saving the writes of a task, errors and interrupts among them.

`put_writes` checks writes when it is called, not when its script runs: LangGraph does not wait for
it before the next `put`, which asks whose writes were good.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import ERROR, RESUME
from sqlalchemy import Connection

from langgraph_session_saver.checkpointer.clock import check_clock_of_writes
from langgraph_session_saver.checkpointer.context import ATTEMPTS, Context
from langgraph_session_saver.checkpointer.known_deltas import Sized
from langgraph_session_saver.checkpointer.put import check_parent
from langgraph_session_saver.encoding.chains import LARGE, Value, frame_write
from langgraph_session_saver.encoding.keys import CheckpointKey, Place, blob_key, is_unique
from langgraph_session_saver.encoding.serde import dump
from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.projection.rules import check_writes
from langgraph_session_saver.projection.status import KINDS, incidents
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.sql.runner import BrokenReferenceError
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.storage.batch import Batch, WritesCheck
from langgraph_session_saver.storage.pieces import HIGHEST_IDX
from langgraph_session_saver.storage.threads import Head
from langgraph_session_saver.validation import check_channels


class _TaskWrites(NamedTuple):
    """The writes of one task, as LangGraph hands them to `put_writes`."""

    place: Place
    key: CheckpointKey
    """The checkpoint that the task ran after."""
    config: RunnableConfig
    writes: Sequence[tuple[str, Any]]
    task_id: str
    task_path: str
    at: datetime
    """When they were made."""

    @property
    def sets_status(self) -> bool:
        """Whether an error, an interrupt or an answer to one is among the writes."""
        return any(channel in KINDS or channel == RESUME for channel, _ in self.writes)


class TaskWritesWriter:
    """Stores the writes of tasks, and what they say about their thread's status."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def put_writes(
        self,
        serde: SerializerProtocol,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
        at: datetime | None = None,
    ) -> Script[None]:
        """Check a task's writes, made at a time or now; return the script that stores them."""
        place = Place.of(config, self._context.owner_id)
        if place.key is None:
            raise InvalidConfigError(
                f"put_writes for thread {place.thread.thread_id!r} names no checkpoint_id: writes "
                "belong to a checkpoint"
            )
        context, channels = self._context, [channel for channel, _ in writes]
        check_channels(channels)
        check_clock_of_writes(context.known_checkpoints, place)
        if context.policy == "raise" and place.is_root:
            check_writes(context.projector.projections, writes, context.secret_keys)
            checked = context.known_checkpoints.checked_channels
            checked.put(place.key, (checked.get(place.key) or frozenset()).union(channels))
        task = _TaskWrites(place, place.key, config, writes, task_id, task_path, at or utc_now())
        return self._store(serde, task)

    def _store(self, serde: SerializerProtocol, task: _TaskWrites) -> Script[None]:
        yield from check_parent(self._context, task.place)
        regular, special, sizes = self._encode(serde, task)
        yield from self._insert(task, regular, special)
        if task.place.is_root or self._context.projector.subgraph_channels:
            self._note_deltas(task, sizes)

    def _note_deltas(self, task: _TaskWrites, sizes: Sequence[int]) -> None:
        """Note the stored writes, for the values of `DeltaChannel`s at the next checkpoint."""
        context = self._context
        writes = [
            ((task.task_path, task.task_id, n), Sized(channel, value, sizes[n]))
            for n, (channel, value) in enumerate(task.writes)
            if context.known_deltas.is_noted(channel)
        ]
        if writes:
            is_early = context.known_checkpoints.facts.get(task.key) is None
            context.known_deltas.note_writes(task.key, writes, is_early=is_early)

    def _insert(
        self, task: _TaskWrites, regular: list[dict[str, Any]], special: list[dict[str, Any]]
    ) -> Script[None]:
        context, thread = self._context, task.place.thread
        check = WritesCheck(task.key, context.keep_last is not None, thread.owner_id)
        writes_batch = context.storage.checkpoints.writes_batch
        batch = writes_batch(regular, special, check, context.piece_bytes)
        for attempt in range(ATTEMPTS):
            is_known = context.known_threads.head(thread) is not None
            try:
                is_simple = is_known and not task.sets_status and not batch.is_large
                is_stored = is_simple and (yield from self._store_known(batch))
                if is_stored:
                    return
                was, head = yield Request.of("step", self._run_locked, task, batch)
            except BrokenReferenceError:
                context.known_threads.forget_row(thread.key)
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                context.known_threads.learn(thread, head)
                context.known_threads.keep_contents(thread.key, was.revision, head.revision)
                return

    def _store_known(self, batch: Batch) -> Script[bool]:
        """Store the writes of a thread that is known; False if nothing was stored."""
        if not batch.upserts:
            return True
        run = partial(self._context.storage.batches.run, batch=batch)
        is_stored: bool = yield Request(run, batch.kind)
        return is_stored

    def _run_locked(self, conn: Connection, task: _TaskWrites, batch: Batch) -> tuple[Head, Head]:
        """Store writes and their status under the lock of the thread's row.

        Returns:
            The thread's row before and after.
        """
        context, thread = self._context, task.place.thread
        was = head = context.storage.threads.lock(conn, thread, task.at)
        if batch.is_large:  # the pieces of a write are stored together or not at all
            context.storage.threads.check_takes_steps(conn, thread, head.session_id)
        if batch.upserts and not context.storage.batches.run(conn, batch):
            context.storage.threads.check_takes_steps(conn, thread, head.session_id)
        # Only now: the put of this checkpoint may have been under way until the lock was free.
        facts = context.known_checkpoints.facts.get(task.key)
        about = self._about(task)
        if any(channel == RESUME for channel, _ in task.writes):
            head = context.projected.note_resumed(conn, thread, head, about)
        send_nodes = () if facts is None else facts.send_nodes
        found = incidents(
            task.writes, task.place.checkpoint_ns, task.task_id, task.task_path, send_nodes,
            context.secret_keys,
        )  # fmt: skip
        if found:
            head = context.projected.note_incidents(
                conn, thread, head, found, about, record=context.records_errors
            )
        return was, head

    def _encode(
        self, serde: SerializerProtocol, task: _TaskWrites
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[int]]:
        """Serialise writes.

        Returns:
            The rows of regular channels, then those of LangGraph's special ones, and the serialised
            bytes of each write. Of several writes to one special channel, the last stays.
        """
        sizes: list[int] = []
        regular: dict[int, dict[str, Any]] = {}
        special: dict[int, dict[str, Any]] = {}
        for position, (channel, value) in enumerate(task.writes):
            idx = WRITES_IDX_MAP.get(channel, position)
            what = partial(_name, task.task_id, channel)
            typed = dump(serde, self._redacted(value) if channel == ERROR else value, what)
            sizes.append(len(typed[1]))
            base = self._value_before(task, channel) if len(typed[1]) >= LARGE else None
            data = frame_write(typed, base)
            # The idx of a piece has no room for so many writes.
            self._context.check_size(data, what, in_pieces=idx < HIGHEST_IDX)
            (special if channel in WRITES_IDX_MAP else regular)[idx] = {
                "thread_key": task.key.thread_key,
                "ns_key": task.key.ns_key,
                "checkpoint_id": task.key.checkpoint_id,
                "task_id": task.task_id,
                "idx": idx,
                "task_path": task.task_path,
                "channel": channel,
                "type": typed[0],
                "data": data,
            }
        return list(regular.values()), list(special.values()), sizes

    def _redacted(self, error: Any) -> Any:
        """An error as LangGraph's serialiser stores it, as text, if it has a credential in it."""
        text = repr(error)
        redacted = self._context.secret_keys.redacted(text)
        return error if redacted == text else redacted

    def _value_before(self, task: _TaskWrites, channel: str) -> Value | None:
        """A channel's value in the checkpoint that the task ran after, if it is cached."""
        # Only for a root checkpoint, a second put keeps the blobs of the first.
        facts = self._context.known_checkpoints.facts.get(task.key) if task.place.is_root else None
        version = None if facts is None else facts.versions.get(channel)
        if not is_unique(version):
            return None
        key = blob_key(task.place.checkpoint_ns, channel, version)
        return self._context.blob_cache.get(task.key.thread_key, key)

    def _about(self, task: _TaskWrites) -> dict[str, Any]:
        """The columns of an error's row that say where and when it happened."""
        place, configurable = task.place, task.config["configurable"]
        run_id = (task.config.get("metadata") or {}).get("run_id") or configurable.get("run_id")
        root_id = place.checkpoint_id
        if not place.is_root:
            root_id = (configurable.get("checkpoint_map") or {}).get("")
        root_key = CheckpointKey(place.thread.key, b"", str(root_id))
        facts = self._context.known_checkpoints.facts.get(root_key)
        step = None if facts is None or facts.origin is None else facts.origin.step
        return {
            "checkpoint_id": place.checkpoint_id,
            "root_checkpoint_id": root_id,
            "checkpoint_ns": place.checkpoint_ns,
            "run_id": None if run_id is None else str(run_id),
            "task_id": task.task_id,
            "step": None if step is None else step + 1,
            "created_at": task.at,
        }


def _name(task_id: str, channel: str) -> str:
    """A write's name in error messages."""
    return f"the write of task {task_id!r} to channel {channel!r}"
