"""Deleting, pruning, sweeping and copying threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Connection

from langgraph_session_saver.checkpointer.context import ATTEMPTS, Context
from langgraph_session_saver.checkpointer.delta_values import delta_values
from langgraph_session_saver.checkpointer.encode import NewCheckpoint, new_checkpoint
from langgraph_session_saver.checkpointer.get import CheckpointReader
from langgraph_session_saver.encoding.keys import ThreadRef
from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.projection.project import Changes
from langgraph_session_saver.projection.rules import Step
from langgraph_session_saver.projection.status import KINDS, SEVERITY, status_at
from langgraph_session_saver.retention import policy
from langgraph_session_saver.retention.apply import carry_out, in_pieces, read_contents
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.sql.compiled import BATCH
from langgraph_session_saver.sql.scripts import Request, Script, in_transaction
from langgraph_session_saver.storage.thread_data import Left, Pace
from langgraph_session_saver.storage.threads import new_revision
from langgraph_session_saver.validation import check_age, check_count

DELETE = ("delete", "delete_all")
"""Strategies that keep nothing: LangGraph's name, and its server's."""

STRATEGIES = ("keep_latest", "keep_last", *DELETE)

PAGE = 200
"""Threads that a sweep reads at a time."""

COPIED = (
    "checkpoint_id", "status", "status_node", "status_step", "status_since",
    "status_checkpoint_id", "updated_at",
)  # fmt: skip
"""The columns of a thread's row that its copy has too."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What retention deleted, or with `dry_run` would delete."""

    threads: int = 0
    """Threads that lost something."""
    checkpoints: int = 0
    blobs: int = 0
    deleted_threads: int = 0
    """Threads that were deleted as a whole."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


class ThreadMaintenance:
    """Deletes, prunes, sweeps and copies threads."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def delete_thread(self, thread_id: Any) -> Script[None]:
        """Delete a thread and its projected rows."""
        yield from self.delete(self._ref(thread_id))

    def _ref(self, thread_id: Any, **named: Any) -> ThreadRef:
        """A thread that a call names, which the saver's owner must have."""
        return ThreadRef.of(thread_id, self._context.owner_id, **named)

    def delete(
        self, thread: ThreadRef, only_if: Callable[[Any], bool] | None = None
    ) -> Script[bool]:
        """Delete a thread, in as many transactions as it takes.

        The condition on the thread's row is checked in the first transaction only. Returns whether
        the thread no longer exists.

        Raises:
            AccessDeniedError: It belongs to another owner.
        """
        delete_piece = self._context.storage.thread_data.delete_thread
        pace, start = Pace(self._context.dialect.first_piece_factor), None
        while True:
            with pace.timed():
                left: Left = yield Request.write(delete_piece, thread, pace.most, only_if, start)
            self._context.forget_thread(thread.key)
            if left.what != "rest":
                return left.what == "nothing"
            only_if, start = None, left.start

    def delete_for_runs(self, serde: SerializerProtocol, run_ids: Sequence[str]) -> Script[None]:
        """Delete the checkpoints that runs made; projected rows then show what is left."""
        doomed = {str(run_id) for run_id in _check_ids("run_ids", run_ids)}
        if not doomed:
            return
        threads_of_runs = self._context.storage.thread_data.threads_of_runs
        limit = self._context.owner_id
        for thread_id in (yield Request.read(threads_of_runs, sorted(doomed), limit)):
            choose = partial(policy.keep_other_runs, run_ids=doomed)
            yield from self._prune_thread(serde, self._ref(thread_id), choose)

    def prune(
        self,
        serde: SerializerProtocol,
        thread_ids: Sequence[Any],
        strategy: str,
        keep_last_count: int | None,
        *,
        dry_run: bool = False,
    ) -> Script[Counts]:
        """Prune threads by a strategy, or with `dry_run` count what it would delete."""
        count = check_count("keep_last", keep_last_count) or self._context.keep_last
        if strategy not in STRATEGIES:
            raise InvalidConfigError(
                f"unknown pruning strategy {strategy!r}: use one of {', '.join(STRATEGIES)}"
            )
        choose: policy.Choose = policy.keep_nothing if strategy in DELETE else policy.keep_latest
        if strategy == "keep_last":
            if count is None:
                raise InvalidConfigError(
                    "prune(strategy='keep_last') needs a number: pass keep_last=, here or to the "
                    "saver"
                )
            choose = partial(policy.keep_last, count=count)
        total = Counts()
        for thread_id in _check_ids("thread_ids", thread_ids):
            thread = self._ref(thread_id)
            if dry_run or strategy not in DELETE:
                total += yield from self._prune_thread(serde, thread, choose, dry_run=dry_run)
            elif (yield from self.delete(thread)):
                total += Counts(threads=1, deleted_threads=1)
        return total

    def sweep(
        self,
        serde: SerializerProtocol,
        older_than: timedelta | None,
        idle_for: timedelta | None,
        *,
        dry_run: bool,
    ) -> Script[Counts]:
        """Apply age and idle limits to all threads, one after another."""
        check_age("older_than", older_than)
        check_age("idle_for", idle_for)
        if older_than is None and idle_for is None:
            raise InvalidConfigError("sweep needs a limit: pass older_than=, idle_for= or both")
        now, page = utc_now(), self._context.storage.threads.get_page
        counts, after = Counts(), b""

        def is_idle(thread: Any) -> bool:
            return idle_for is not None and thread.updated_at < now - idle_for

        while True:
            rows = yield Request.read(page, after, PAGE, self._context.owner_id)
            for row in rows:
                thread = self._ref(row.thread_id)
                if is_idle(row):
                    found = yield from self._prune_thread(
                        serde, thread, policy.keep_nothing, dry_run=True
                    )
                    if dry_run or (yield from self.delete(thread, is_idle)):
                        counts += found
                elif older_than is not None:
                    choose = partial(policy.keep_since, cutoff=now - older_than)
                    counts += yield from self._prune_thread(serde, thread, choose, dry_run=dry_run)
            if len(rows) < PAGE:
                return counts
            after = rows[-1].thread_key

    def copy_thread(
        self, serde: SerializerProtocol, source_id: Any, target_id: Any
    ) -> Script[None]:
        """Copy a thread's checkpoints and writes, and project the rows of the copy anew."""
        source, target = self._ref(source_id), self._ref(target_id)
        if target.key == source.key:
            raise InvalidConfigError(f"thread {target.thread_id!r} cannot be copied onto itself")
        yield from self.copy(serde, source, target)

    def copy(self, serde: SerializerProtocol, source: ThreadRef, target: ThreadRef) -> Script[bool]:
        """As `copy_thread`, into a session and for an owner; False if there is no such thread.

        It is one transaction, so that whoever is cut off leaves a whole copy or none.
        """
        is_copied = yield from in_transaction(self._copy, serde, source, target)
        self._context.forget_thread(target.key)
        return is_copied

    def _copy(
        self, serde: SerializerProtocol, source: ThreadRef, target: ThreadRef
    ) -> Script[bool]:
        storage = self._context.storage
        original = yield Request.write(storage.thread_data.copy_thread, source, target)
        if original is None:
            return False
        newest = yield from self._newest(serde, source)
        newest_id = None if newest is None else newest.checkpoint["id"]
        if (yield Request.read(storage.checkpoints.latest_root, target.key)) != newest_id:
            return True  # the target existed, and shows a newer one
        its = {name: getattr(original, name) for name in COPIED}
        yield Request.write(storage.threads.change, target.key, its)
        if newest is not None:
            yield from self._project_copy(serde, newest, source, target)
        return True

    # -- pruning one thread -----------------------------------------------------------------

    def _prune_thread(
        self,
        serde: SerializerProtocol,
        thread: ThreadRef,
        choose: policy.Choose,
        *,
        dry_run: bool = False,
    ) -> Script[Counts]:
        """Delete all but the chosen checkpoints of a thread, in as many transactions as it takes.

        If others change the thread after the choice is made, it is made again: at the last attempt
        under the lock of the thread's row.
        """
        total = Counts()
        for _ in range(ATTEMPTS - 1):
            thinned = yield Request.read(self._plan, thread, choose)
            if thinned is None or (choose is not policy.keep_nothing and thinned.is_of_nothing):
                return total
            if dry_run:
                return _counted(thinned)
            if not thinned.contents.rows:
                if (yield from self.delete(thread, partial(_is_at, thinned.contents.revision))):
                    return _counted(thinned)
                continue
            counts, is_done = yield from self._carry_out(serde, thread, thinned)
            total += counts
            if is_done:
                break
        else:
            thinned = yield from in_transaction(self._plan_and_carry_out, serde, thread, choose)
            if thinned is not None:
                total += _counted(thinned)
        self._context.forget_thread(thread.key)
        return replace(total, threads=int(bool(total.checkpoints)))

    def _plan(
        self, conn: Connection, thread: ThreadRef, choose: policy.Choose
    ) -> policy.Thinned | None:
        """What a prune deletes of a thread; None if there is no such thread."""
        storage = self._context.storage
        row = storage.threads.get(conn, thread)
        if row is None:
            return None
        return read_contents(storage, conn, thread.key, row.revision).thinned(choose)

    def _carry_out(
        self, serde: SerializerProtocol, thread: ThreadRef, thinned: policy.Thinned
    ) -> Script[tuple[Counts, bool]]:
        """Delete what is planned, a piece in each transaction, until others change the thread.

        Returns what was deleted, and whether that is all.
        """
        total, pace, revision = Counts(), Pace(), thinned.contents.revision
        # It takes less to name the blobs that stay than those that go, if these are many more.
        by_order = len(thinned.contents.blobs) <= BATCH < len(thinned.unused)
        for piece in in_pieces(thinned, pace):
            with pace.timed():
                following = yield from in_transaction(
                    self._delete_piece, serde, thread, piece, revision, by_order=by_order
                )
            if following is None:
                return total, False
            revision = following
            total += _counted(piece)
        return total, True

    def _delete_piece(
        self,
        serde: SerializerProtocol,
        thread: ThreadRef,
        piece: policy.Thinned,
        revision: int,
        *,
        by_order: bool = False,
    ) -> Script[int | None]:
        """Delete a piece of a thread of this revision, and show what is left in its rows.

        Returns the next revision, None if the thread has another one.
        """
        threads, checkpoints = self._context.storage.threads, self._context.storage.checkpoints
        row = yield Request.write(threads.lock_existing, thread)
        if row is None or row.revision != revision:
            return None
        yield Request.write(self._delete, thread, piece, by_order=by_order)
        following = new_revision(revision)
        kept = {"revision": following, "updated_at": row.updated_at}
        yield Request.write(threads.change, thread.key, kept)
        if (yield Request.read(checkpoints.latest_root, thread.key)) != row.checkpoint_id:
            yield from self._project_again(serde, thread)
        return following

    def _delete(
        self, conn: Connection, thread: ThreadRef, piece: policy.Thinned, *, by_order: bool
    ) -> None:
        storage = self._context.storage
        with storage.dialect.tuned_for_bulk_deletes(conn):
            carry_out(storage, conn, thread.key, piece, by_order=by_order)

    def _plan_and_carry_out(
        self, serde: SerializerProtocol, thread: ThreadRef, choose: policy.Choose
    ) -> Script[policy.Thinned | None]:
        """As `_plan`, and delete it in the same transaction."""
        yield Request.write(self._context.storage.threads.lock_existing, thread)
        thinned: policy.Thinned | None = yield Request.read(self._plan, thread, choose)
        if thinned is not None:
            yield from self._delete_piece(serde, thread, thinned, thinned.contents.revision)
        return thinned

    # -- projecting again -------------------------------------------------------------------
    #
    # In the transaction that deletes or copies checkpoints, and has locked the thread's row.

    def _project_again(self, serde: SerializerProtocol, thread: ThreadRef) -> Script[None]:
        """Make a thread's projected rows show its newest root checkpoint."""
        newest = yield from self._newest(serde, thread)
        if newest is None:
            yield Request.write(self._show_nothing, thread)
            return
        new, step, changes = yield from self._whole_changes(serde, newest, thread)
        changes.time = utc_now()  # of what is removed from the rows
        columns: dict[str, Any] = {**status_at(new.reached, None)}
        channels = {channel for _, channel, _ in newest.pending_writes or ()}
        if kinds := [KINDS[channel] for channel in channels & KINDS.keys()]:
            columns["status"] = max(kinds, key=SEVERITY.__getitem__)
        yield Request.write(self._apply, thread, step, changes)
        yield Request.write(self._context.storage.threads.change, thread.key, columns)

    def _project_copy(
        self,
        serde: SerializerProtocol,
        newest: CheckpointTuple,
        source: ThreadRef,
        target: ThreadRef,
    ) -> Script[None]:
        """Make the rows of a copy, with the times that those of its source have."""
        _, step, changes = yield from self._whole_changes(serde, newest, target)
        times = yield Request.read(self._context.storage.thread_data.row_times, source.key)
        entries = (entry for entries in changes.all_messages or () for entry in entries)
        messages = [entry.row for entry in entries if entry.row is not None]
        for rows, time in ((messages, "timestamp"), (changes.pages, "created_at")):
            for row in rows:
                row[time] = times.get(row["row_key"], row[time])
        yield Request.write(self._apply, target, step, changes)

    def _newest(
        self, serde: SerializerProtocol, thread: ThreadRef
    ) -> Script[CheckpointTuple | None]:
        """A thread's newest root checkpoint."""
        config: RunnableConfig = {"configurable": {"thread_id": thread.thread_id}}
        return (yield from CheckpointReader(self._context).get_tuple(serde, config))

    def _whole_changes(
        self, serde: SerializerProtocol, newest: CheckpointTuple, thread: ThreadRef
    ) -> Script[tuple[NewCheckpoint, Step, Changes]]:
        """What rows of a thread show at a checkpoint: one of its own, or one that it copies."""
        context, name = self._context, newest.config["configurable"]["thread_id"]
        config: RunnableConfig = newest.parent_config or {"configurable": {"thread_id": name}}
        new = new_checkpoint(context, serde, config, newest.checkpoint, newest.metadata, {})
        new = (yield from delta_values(context, new, {})).seen_by(new)
        step = new.step(whole=True)._replace(
            thread_id=thread.thread_id, session_id=thread.session_id or thread.thread_id
        )
        changes = context.projector.project(step, None, None, whole=True)
        changes.usage = []  # recorded once, by the step that used the tokens
        if not context.records_errors:
            changes.problems = []
        return new, step, changes

    def _apply(self, conn: Connection, thread: ThreadRef, step: Step, changes: Changes) -> None:
        head = self._context.storage.threads.lock_existing(conn, thread)
        self._context.projected.apply(conn, thread, head, step, changes)

    def _show_nothing(self, conn: Connection, thread: ThreadRef) -> None:
        """Make rows show that a thread has no root checkpoint: those of subgraphs are left."""
        threads, now = self._context.storage.threads, utc_now()
        head = threads.lock_existing(conn, thread)
        if head.is_first:
            threads.clear_columns(conn, head.session_id)
        self._context.projected.remove_messages(conn, thread.key, now)
        status = ("status", "status_node", "status_step", "status_since", "status_checkpoint_id")
        threads.change(conn, thread.key, dict.fromkeys(("checkpoint_id", *status)))


def _is_at(revision: int, thread: Any) -> bool:
    return bool(thread.revision == revision)


def _counted(thinned: policy.Thinned) -> Counts:
    is_all = not thinned.contents.rows
    loses = is_all or bool(thinned.gone)
    return Counts(int(loses), len(thinned.gone), len(thinned.unused), int(is_all))


def _check_ids(what: str, ids: Any) -> Sequence[Any]:
    """Check that ids are not one text, whose characters would be taken for ids."""
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise InvalidConfigError(f"{what} is {ids!r:.80}: pass a list of ids")
    return list(ids)
