"""Saving the writes of a task, the errors and interrupts among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import RESUME
from sqlalchemy import Connection

from langgraph_session_saver.checkpointer.config import configurable_of, place_of
from langgraph_session_saver.checkpointer.context import ATTEMPTS, Context
from langgraph_session_saver.checkpointer.put import refuse_unknown_parent
from langgraph_session_saver.encoding.chains import Value
from langgraph_session_saver.encoding.keys import Place, ThreadRef, blob_key, is_unique
from langgraph_session_saver.encoding.serde import dump
from langgraph_session_saver.encoding.task_writes import LARGE, frame_write
from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.projection.rules import check_writes
from langgraph_session_saver.projection.status import KINDS, incidents
from langgraph_session_saver.sql.runner import BrokenReferenceError
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.storage.batch import Batch
from langgraph_session_saver.storage.threads import Head
from langgraph_session_saver.validation import check_channels


class PutWritesScripts:
    """The script of `put_writes`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def put_writes(
        self,
        serde: SerializerProtocol,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> Script[None]:
        """Check what a task wrote after a checkpoint; the script that is returned stores it.

        The check is done at once: LangGraph does not wait for it before it starts the next `put`,
        and that one asks which channels' writes were good.
        """
        place = place_of(config)
        if place.checkpoint_id is None:
            raise InvalidConfigError(
                f"put_writes for thread {place.thread.thread_id!r} names no checkpoint_id: writes "
                "belong to a checkpoint"
            )
        context, key = self._context, (place.thread.key, place.ns_key, place.checkpoint_id)
        check_channels([channel for channel, _ in writes])
        if context.policy == "raise" and place.is_root:
            check_writes(context.projector.projections, writes)
            context.written.put(
                key, (context.written.get(key) or frozenset()) | {c for c, _ in writes}
            )
        return self._store_writes(serde, config, place, writes, task_id, task_path)

    def _store_writes(
        self,
        serde: SerializerProtocol,
        config: RunnableConfig,
        place: Place,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> Script[None]:
        context, key = self._context, (place.thread.key, place.ns_key, str(place.checkpoint_id))
        yield from refuse_unknown_parent(context, place)
        regular, special = self._encode_writes(serde, place, writes, task_id, task_path)
        says_status = any(channel in KINDS or channel == RESUME for channel, _ in writes)
        unless_pruned = key if context.keep_last is not None else None
        batch = context.operations.writes_batch(regular, special, unless_pruned)
        for attempt in range(ATTEMPTS):
            known = context.known.get(place.thread.key)
            try:
                if known is not None and known.suits(place.thread) and not says_status:
                    if batch.stores:
                        yield Request.batch(
                            lambda conn: context.operations.steps.run(conn, batch),
                            is_one_insert=batch.is_one_insert,
                        )
                    return
                operation = self._operation(config, place, batch, writes, task_id, task_path)
                head, was = yield Request.step(operation)
            except BrokenReferenceError:
                context.forget_row(place.thread.key)
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                context.learn(place.thread, head, was.revision)
                return

    def _operation(
        self,
        config: RunnableConfig,
        place: Place,
        batch: Batch,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> Callable[[Connection], tuple[Head, Head]]:
        """Stores writes under the lock of the thread's row; returns the row after and before."""
        context, thread = self._context, place.thread
        key = (thread.key, place.ns_key, str(place.checkpoint_id))

        def operation(conn: Connection) -> tuple[Head, Head]:
            was = head = context.operations.threads.lock(conn, thread)
            if batch.stores:
                context.operations.steps.run(conn, batch)
            # Not before the lock is held: the `put` that says a step's number and nodes may have
            # been under way.
            about, noted = self._about(config, place, task_id), context.noted.get(key)
            sends = noted.sends if noted is not None else ()
            if any(channel == RESUME for channel, _ in writes):
                head = context.projected.note_resumed(conn, thread, head, about)
            found = incidents(writes, place.checkpoint_ns, task_id, task_path, sends)
            if found:
                head = context.projected.note_incidents(
                    conn, thread, head, found, about, record=context.records_errors
                )
            return head, was

        return operation

    def _encode_writes(
        self,
        serde: SerializerProtocol,
        place: Place,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        regular: dict[int, dict[str, Any]] = {}
        special: dict[int, dict[str, Any]] = {}
        for position, (channel, value) in enumerate(writes):
            idx = WRITES_IDX_MAP.get(channel, position)
            what = partial(_name, task_id, channel)
            typed = dump(serde, value, what)
            held = self._held(place, channel) if len(typed[1]) >= LARGE else None
            (special if channel in WRITES_IDX_MAP else regular)[idx] = {
                "thread_key": place.thread.key,
                "ns_key": place.ns_key,
                "checkpoint_id": place.checkpoint_id,
                "task_id": task_id,
                "idx": idx,
                "task_path": task_path,
                "channel": channel,
                "type": typed[0],
                "data": self._context.check_size(frame_write(typed, held), what),
            }
        return list(regular.values()), list(special.values())

    def _held(self, place: Place, channel: str) -> Value | None:
        """What a channel held in a checkpoint, if that is stored and remembered."""
        if not place.is_root:  # only a root's is noticed when it is put again with other values
            return None
        thread_key = place.thread.key
        noted = self._context.noted.get((thread_key, place.ns_key, str(place.checkpoint_id)))
        version = None if noted is None else noted.versions.get(channel)
        if not is_unique(version):
            return None
        return self._context.cache.get(thread_key, blob_key(place.checkpoint_ns, channel, version))

    def _about(self, config: RunnableConfig, place: Place, task_id: str) -> dict[str, Any]:
        """What an error's row says about where it happened."""
        ancestors = configurable_of(config).get("checkpoint_map") or {}
        metadata = config.get("metadata") or {}
        run_id = metadata.get("run_id") or configurable_of(config).get("run_id")
        root_id = place.checkpoint_id if place.is_root else ancestors.get("")
        return {
            "checkpoint_id": place.checkpoint_id,
            "root_checkpoint_id": root_id,
            "checkpoint_ns": place.checkpoint_ns,
            "run_id": None if run_id is None else str(run_id),
            "task_id": task_id,
            "step": self._step_after(place.thread, b"", root_id),
        }

    def _step_after(self, thread: ThreadRef, ns_key: bytes, checkpoint_id: Any) -> int | None:
        """The number of the super-step that follows a checkpoint."""
        noted = self._context.noted.get((thread.key, ns_key, str(checkpoint_id)))
        return None if noted is None or noted.step is None else noted.step + 1


def _name(task_id: str, channel: str) -> str:
    """A write, for errors."""
    return f"the write of task {task_id!r} to channel {channel!r}"
