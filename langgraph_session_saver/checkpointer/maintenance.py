"""Deleting, pruning and copying whole threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Connection, Row

from langgraph_session_saver.checkpointer.context import ATTEMPTS, Context
from langgraph_session_saver.checkpointer.get import GetScripts
from langgraph_session_saver.encoding.keys import Place, ThreadRef, thread_key
from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.projection.rules import Step
from langgraph_session_saver.projection.status import DONE, KINDS, PENDING, SEVERITY, due_nodes
from langgraph_session_saver.retention.apply import carry_out, in_pieces, read_contents
from langgraph_session_saver.retention.contents import Thinned
from langgraph_session_saver.retention.lineage import Stored
from langgraph_session_saver.retention.policy import (
    Choice,
    keep_last,
    keep_latest,
    keep_nothing,
    keep_other_runs,
    keep_since,
)
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.sql.compiled import BATCH
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.storage.thread_data import Left, Pace, Position
from langgraph_session_saver.storage.threads import new_revision
from langgraph_session_saver.validation import check_thread_id

DELETE = ("delete", "delete_all")
"""LangGraph's word for keeping nothing, and that of its server."""

STRATEGIES = ("keep_latest", "keep_last", *DELETE)

PAGE = 200
"""Threads that a sweep looks up at a time."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What retention removed, or with `dry_run` would remove."""

    threads: int = 0
    """Threads that lose something."""
    checkpoints: int = 0
    blobs: int = 0
    deleted_threads: int = 0
    """Threads that go altogether."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


class MaintenanceScripts:
    """The scripts of `delete_thread`, `delete_for_runs`, `prune` and `copy_thread`."""

    def __init__(self, context: Context, reads: GetScripts) -> None:
        self._context = context
        self._reads = reads

    def delete_thread(self, thread_id: Any) -> Script[None]:
        """Delete a thread and what it projected."""
        key = thread_key(check_thread_id(thread_id))
        yield from self.delete(key)

    def delete(self, key: bytes, only_if: Callable[[Any], bool] | None = None) -> Script[bool]:
        """Delete a thread, in as many transactions as it takes.

        Args:
            key: The thread.
            only_if: What must be true of its row at the beginning; once begun, it is finished.

        Returns:
            Whether the thread is gone.
        """
        whole, pace = self._context.operations.whole, Pace(self._context.dialect.first_piece)
        start: Position | None = None
        while True:
            delete_piece = partial(
                whole.delete_thread,
                thread_key=key,
                most=pace.most,
                only_if=only_if,
                start=start,
            )
            with pace.timed():
                left: Left = yield Request.write(delete_piece)
            self._context.forget_thread(key)
            if left.what != "rest":
                return left.what == "nothing"
            only_if, start = None, left.start

    def delete_for_runs(self, serde: SerializerProtocol, run_ids: Sequence[str]) -> Script[None]:
        """Delete the checkpoints that runs made; rows then show what is left."""
        wanted = {str(run_id) for run_id in _several("run_ids", run_ids)}
        if not wanted:
            return
        ops = self._context.operations
        keys = yield Request.read(lambda conn: ops.whole.threads_of_runs(conn, sorted(wanted)))
        for key in keys:
            yield from self._thin_out(serde, key, partial(keep_other_runs, run_ids=wanted))

    def prune(
        self,
        serde: SerializerProtocol,
        thread_ids: Sequence[Any],
        strategy: str,
        keep_last_count: int | None,
        *,
        dry_run: bool = False,
    ) -> Script[Counts]:
        """Carry out a strategy on threads, or only count what would go."""
        if strategy not in STRATEGIES:
            raise InvalidConfigError(
                f"unknown pruning strategy {strategy!r}: use one of {', '.join(STRATEGIES)}"
            )
        if strategy == "keep_last" and keep_last_count is None:
            raise InvalidConfigError(
                "prune(strategy='keep_last') needs a number: pass keep_last=, here or to the saver"
            )
        total = Counts()
        for thread_id in _several("thread_ids", thread_ids):
            key = thread_key(check_thread_id(thread_id))
            if strategy in DELETE:
                gone = Counts(threads=1, deleted_threads=1)
                if dry_run:
                    counts = yield from self._thin_out(serde, key, keep_nothing, dry_run=True)
                    total += replace(gone, checkpoints=counts.checkpoints, blobs=counts.blobs)
                elif (yield from self.delete(key)):
                    total += gone
                continue
            choose: Callable[[Sequence[Stored]], Choice] = keep_latest
            if keep_last_count is not None and strategy == "keep_last":
                choose = partial(keep_last, count=keep_last_count)
            total += yield from self._thin_out(serde, key, choose, dry_run=dry_run)
        return total

    def sweep(
        self,
        serde: SerializerProtocol,
        older_than: timedelta | None,
        idle_for: timedelta | None,
        *,
        dry_run: bool,
    ) -> Script[Counts]:
        """Apply age and idle limits to every thread, a thread a transaction."""
        if older_than is None and idle_for is None:
            raise InvalidConfigError("sweep needs a limit: pass older_than=, idle_for= or both")
        now, ops = utc_now(), self._context.operations
        counts, after = Counts(), b""
        while True:
            threads = yield Request.read(
                lambda conn, after=after: ops.threads.page(conn, after, PAGE)  # type: ignore[misc]
            )
            for thread in threads:
                if idle_for is not None and thread.updated_at < now - idle_for:
                    counts += yield from self._sweep_away(serde, thread, now - idle_for, dry_run)
                elif older_than is not None:
                    choose = partial(keep_since, cutoff=now - older_than)
                    counts += yield from self._thin_out(
                        serde, thread.thread_key, choose, dry_run=dry_run
                    )
            if len(threads) < PAGE:
                return counts
            after = threads[-1].thread_key

    def _sweep_away(
        self,
        serde: SerializerProtocol,
        thread: Row[Any],
        cutoff: datetime,
        dry_run: bool,  # noqa: FBT001
    ) -> Script[Counts]:
        """Delete a thread that is still idle once its row is locked."""
        key = thread.thread_key
        counts = yield from self._thin_out(serde, key, keep_nothing, dry_run=True)
        is_idle = lambda row: bool(row.updated_at < cutoff)  # noqa: E731
        if not dry_run and not (yield from self.delete(key, is_idle)):
            return Counts()
        return replace(counts, threads=1, deleted_threads=1)

    def copy_thread(
        self, serde: SerializerProtocol, source_id: Any, target_id: Any
    ) -> Script[None]:
        """Copy a thread's checkpoints and writes; its rows are projected anew for the copy."""
        source = thread_key(check_thread_id(source_id))
        target_text = check_thread_id(target_id)
        target = ThreadRef(thread_key(target_text), target_text)
        if target.key == source:
            raise InvalidConfigError(f"thread {target_text!r} cannot be copied onto itself")
        ops = self._context.operations
        if (yield Request.write(lambda conn: ops.whole.copy_thread(conn, source, target))):
            self._context.forget_thread(target.key)
            yield from self._project_again(serde, target, keeps_status=True)

    # -- what they share --------------------------------------------------------------------

    def _thin_out(
        self,
        serde: SerializerProtocol,
        key: bytes,
        choose: Callable[[Sequence[Stored]], Choice],
        *,
        dry_run: bool = False,
    ) -> Script[Counts]:
        """Delete all but the chosen checkpoints of a thread, a piece a transaction.

        What to delete is worked out before a transaction is open, and again if somebody else has
        changed the thread meanwhile; at the last attempt nobody can.
        """
        total = Counts()
        for attempt in range(ATTEMPTS):
            plan = partial(self._plan, key, choose)
            if attempt == ATTEMPTS - 1:
                counts, thread_id = yield Request.write(partial(self._carry_out_locked, key, plan))
                total += counts
                break
            found: _Plan | None = yield Request.read(plan)
            if found is None:
                return total
            if dry_run:
                return _counted(found.thinned)
            revision = found.thinned.contents.revision
            if not found.thinned.contents.rows:
                if (yield from self.delete(key, partial(_is_at, revision))):
                    return _counted(found.thinned)
                continue
            counts, is_done = yield from self._carry_out(key, found)
            total += counts
            if is_done:
                thread_id = found.thread_id
                break
        self._context.forget_thread(key)
        yield from self._show_newest(serde, ThreadRef(key, thread_id))
        return replace(total, threads=int(bool(total.checkpoints)))

    def _plan(
        self, key: bytes, choose: Callable[[Sequence[Stored]], Choice], conn: Connection
    ) -> _Plan | None:
        ops = self._context.operations
        thread = ops.threads.look_up(conn, key)
        if thread is None:
            return None
        contents = read_contents(ops, conn, key, thread.revision)
        return _Plan(thread.thread_id, contents.thinned(choose(list(contents.rows.values()))))

    def _carry_out(self, key: bytes, plan: _Plan) -> Script[tuple[Counts, bool]]:
        """Carry out a plan; whether it was to the end, for the thread stayed as it was."""
        ops, total = self._context.operations, Counts()
        revision = plan.thinned.contents.revision
        # To name those that stay takes less than to name those that go.
        by_order = len(plan.thinned.contents.blobs) <= BATCH < len(plan.thinned.unused)

        def operation(conn: Connection, piece: Thinned, known: int, following: int) -> bool:
            thread = ops.threads.find(conn, key)
            if thread is None or thread.revision != known:
                return False
            with ops.dialect.in_bulk(conn):
                carry_out(ops, conn, key, piece, by_order=by_order)
            ops.threads.change(conn, key, {"revision": following, "updated_at": thread.updated_at})
            return True

        pace = Pace()
        for piece in in_pieces(plan.thinned, pace):
            following = new_revision(revision)
            delete_piece = partial(operation, piece=piece, known=revision, following=following)
            with pace.timed():
                is_as_known = yield Request.write(delete_piece)
            if not is_as_known:
                return total, False
            revision = following
            total += _counted(piece)
        return total, True

    def _carry_out_locked(
        self, key: bytes, plan: Callable[[Connection], _Plan | None], conn: Connection
    ) -> tuple[Counts, str]:
        """Plan and delete in one transaction, for a thread that is written to all the time."""
        ops = self._context.operations
        thread = ops.threads.find(conn, key)
        found = plan(conn) if thread is not None else None
        if found is None:
            return Counts(), ""
        carry_out(ops, conn, key, found.thinned)
        ops.threads.change(conn, key, {"revision": new_revision(thread.revision)})
        return _counted(found.thinned), found.thread_id

    def _show_newest(self, serde: SerializerProtocol, thread: ThreadRef) -> Script[None]:
        """Make a thread's rows show its newest checkpoint, if they show one that is gone."""
        ops = self._context.operations

        def is_gone(conn: Connection) -> bool:
            row = ops.threads.look_up(conn, thread.key)
            return row is not None and ops.latest_root(conn, thread.key) != row.checkpoint_id

        if (yield Request.read(is_gone)):
            yield from self._project_again(serde, thread)

    def _project_again(
        self, serde: SerializerProtocol, thread: ThreadRef, *, keeps_status: bool = False
    ) -> Script[None]:
        """Make a thread's rows show its newest root checkpoint, whatever they showed."""
        context = self._context
        place = Place(thread, "", b"", None)
        newest = yield from self._reads.get_tuple(serde, place.at(""))
        if newest is None:
            return
        step = _step_of(thread, newest)
        changes = context.projector.project(step, None, None, whole=True)
        changes.usage = []  # tokens are spent once, by the run that spent them
        if not context.records_errors:
            changes.problems = []
        shown = {"checkpoint_id": step.checkpoint_id} | ({} if keeps_status else _status_of(newest))

        def operation(conn: Connection) -> None:
            head = context.operations.threads.lock(conn, thread)
            context.projected.apply(conn, thread, head, step, changes)
            context.operations.threads.change(conn, thread.key, shown)

        yield Request.write(operation)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to go from a thread."""

    thread_id: str
    thinned: Thinned


def _is_at(revision: int, row: Any) -> bool:
    """Whether nobody has written to a thread since a plan was made for it."""
    return bool(row.revision == revision)


def _counted(thinned: Thinned) -> Counts:
    return Counts(
        threads=int(bool(thinned.gone)),
        checkpoints=len(thinned.gone),
        blobs=len(thinned.unused),
    )


def _several(what: str, ids: Any) -> Sequence[Any]:
    """Ids, and not one id, whose characters would be taken for ids of other threads or runs."""
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise InvalidConfigError(f"{what} is {ids!r:.80}: pass a list of ids")
    return list(ids)


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
