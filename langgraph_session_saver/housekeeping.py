"""Deleting, pruning and copying whole threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Connection, Row

from langgraph_session_saver.codec import load, unframe
from langgraph_session_saver.configs import Place, check_thread_id, thread_key
from langgraph_session_saver.core import Core, Script, reading, writing
from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.projections import Step
from langgraph_session_saver.reading import Reading, decode
from langgraph_session_saver.retention import Stored, keep_latest
from langgraph_session_saver.status import DONE, KINDS, PENDING, SEVERITY, due_nodes
from langgraph_session_saver.threads import ThreadRef
from langgraph_session_saver.types import utc_now

STRATEGIES = ("keep_latest", "delete")


class Housekeeping:
    """The scripts of `delete_thread`, `delete_for_runs`, `prune` and `copy_thread`."""

    def __init__(self, core: Core, reads: Reading) -> None:
        self._core = core
        self._reads = reads

    def delete_thread(self, thread_id: Any) -> Script[None]:
        """Delete a thread and what it projected."""
        key = thread_key(check_thread_id(thread_id))
        yield writing(lambda conn: self._core.operations.delete_thread(conn, key))
        self._core.forget_thread(key)

    def delete_for_runs(self, serde: SerializerProtocol, run_ids: Sequence[str]) -> Script[None]:
        """Delete the checkpoints that runs made; rows then show what is left."""
        wanted = {str(run_id) for run_id in run_ids}
        if not wanted:
            return
        ops = self._core.operations
        keys = yield reading(lambda conn: ops.threads_of_runs(conn, sorted(wanted)))
        for key in keys:

            def choose(rows: Sequence[Stored]) -> tuple[set[Stored], set[Stored]]:
                return {row for row in rows if row.run_id not in wanted}, set()

            yield from self._thin_out(serde, key, choose)

    def prune(
        self, serde: SerializerProtocol, thread_ids: Sequence[Any], strategy: str
    ) -> Script[None]:
        """Carry out a strategy on threads."""
        if strategy not in STRATEGIES:
            raise InvalidConfigError(
                f"unknown pruning strategy {strategy!r}: use one of {', '.join(STRATEGIES)}"
            )
        for thread_id in thread_ids:
            if strategy == "delete":
                yield from self.delete_thread(thread_id)
            else:
                key = thread_key(check_thread_id(thread_id))
                yield from self._thin_out(serde, key, keep_latest)

    def copy_thread(
        self, serde: SerializerProtocol, source_id: Any, target_id: Any
    ) -> Script[None]:
        """Copy a thread's checkpoints and writes; its rows are projected anew for the copy."""
        source = thread_key(check_thread_id(source_id))
        target_text = check_thread_id(target_id)
        target = ThreadRef(thread_key(target_text), target_text)
        if target.key == source:
            raise InvalidConfigError(f"thread {target_text!r} cannot be copied onto itself")
        ops = self._core.operations
        if (yield writing(lambda conn: ops.copy_thread(conn, source, target))):
            self._core.forget_thread(target.key)
            yield from self._project_again(serde, target, keeps_status=True)

    # -- what they share --------------------------------------------------------------------

    def _thin_out(
        self,
        serde: SerializerProtocol,
        key: bytes,
        choose: Callable[[Sequence[Stored]], tuple[set[Stored], set[Stored]]],
    ) -> Script[None]:
        """Delete all but the chosen checkpoints of a thread, in one transaction."""
        core, ops = self._core, self._core.operations

        def operation(conn: Connection) -> tuple[str | None, bool]:
            thread = ops.threads.find(conn, key)
            if thread is None:
                return None, False
            ref = ThreadRef(key, thread.thread_id)
            rows = [_stored(serde, ref, row) for row in ops.checkpoint_rows(conn, key)]
            kept, hidden = choose(rows)
            if not kept:
                ops.delete_thread(conn, key)
                return None, False
            gone = [row for row in rows if row not in kept and row not in hidden]
            ops.delete_checkpoints(conn, key, [(row.ns_key, row.checkpoint_id) for row in gone])
            ops.hide(conn, key, [(row.ns_key, row.checkpoint_id) for row in hidden])
            used = {blob for row in (*kept, *hidden) for blob in row.blobs}
            ops.delete_unused_blobs(conn, key, used)
            newest = ops.latest_root(conn, key)
            return thread.thread_id, newest != thread.checkpoint_id

        thread_id, has_new_head = yield writing(operation)
        core.forget_thread(key)
        if has_new_head:
            yield from self._project_again(serde, ThreadRef(key, thread_id))

    def _project_again(
        self, serde: SerializerProtocol, thread: ThreadRef, *, keeps_status: bool = False
    ) -> Script[None]:
        """Make a thread's rows show its newest root checkpoint, whatever they showed."""
        core = self._core
        place = Place(thread, "", b"", None)
        newest = yield from self._reads.get_tuple(serde, place.at(""))
        if newest is None:
            return
        step = _step_of(thread, newest)
        changes = core.projector.project(step, None, None, whole=True)
        changes.usage = []  # tokens are spent once, by the run that spent them
        if not core.records_errors:
            changes.problems = []
        shown = {"checkpoint_id": step.checkpoint_id} | ({} if keeps_status else _status_of(newest))

        def operation(conn: Connection) -> None:
            head = core.operations.threads.lock(conn, thread)
            core.projected.apply(conn, thread, head, step, changes)
            core.operations.threads.change(conn, thread.key, shown)

        yield writing(operation)


def _status_of(found: CheckpointTuple) -> dict[str, Any]:
    """What a thread does, read from its newest checkpoint and the writes that wait there."""
    due = due_nodes(found.checkpoint["channel_values"])
    kinds = [KINDS[channel] for _, channel, _ in found.pending_writes or () if channel in KINDS]
    return {
        "status": max(kinds, key=SEVERITY.__getitem__) if kinds else PENDING if due else DONE,
        "status_node": ", ".join(due) or None,
        "status_step": found.metadata.get("step"),
        "status_since": utc_now(),
        "status_checkpoint_id": found.checkpoint["id"],
    }


def _step_of(thread: ThreadRef, found: CheckpointTuple) -> Step:
    values = found.checkpoint["channel_values"]
    return Step(
        session_id=thread.thread_id,
        thread_id=thread.thread_id,
        checkpoint_id=found.checkpoint["id"],
        run_id=found.metadata.get("run_id"),
        metadata=dict(found.metadata),
        values=values,
        changed=frozenset(values),
        versions=found.checkpoint["channel_versions"],
    )


def _stored(serde: SerializerProtocol, thread: ThreadRef, row: Row[Any]) -> Stored:
    """What retention needs to know of a checkpoint."""
    place = Place(thread, row.checkpoint_ns, row.ns_key, row.checkpoint_id)
    saved = decode(serde, place, row)
    what = f"the metadata of {saved.name}"
    metadata = load(serde, (row.metadata_type, unframe(row.metadata_data)), what)
    return Stored(
        ns_key=row.ns_key,
        checkpoint_ns=row.checkpoint_ns,
        checkpoint_id=row.checkpoint_id,
        parent_id=row.parent_checkpoint_id,
        root_id=row.root_checkpoint_id,
        run_id=row.run_id,
        is_hidden=row.hidden,
        replayed=frozenset(metadata.get("counters_since_delta_snapshot") or ()),
        valued=frozenset(saved.versions) - saved.absent,
        blobs=frozenset(saved.key(channel) for channel in saved.versions),
    )
