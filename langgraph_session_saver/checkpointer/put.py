"""Saving a checkpoint, with what its step projects and what retention then deletes.

`put` takes note of a checkpoint when it is called, not when its script runs: LangGraph starts the
checkpoint's tasks without waiting for its put, and scripts may run in worker threads, in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Connection

from langgraph_session_saver.checkpointer.clock import check_clock
from langgraph_session_saver.checkpointer.context import ATTEMPTS, Context, facts_of
from langgraph_session_saver.checkpointer.delta_values import DeltaValues, delta_values, is_read
from langgraph_session_saver.checkpointer.encode import (
    EncodedCheckpoint,
    NewCheckpoint,
    encode,
    new_checkpoint,
    retained_row,
)
from langgraph_session_saver.checkpointer.parent_messages import parent_messages
from langgraph_session_saver.encoding.keys import CheckpointKey, Place, blob_key
from langgraph_session_saver.errors import (
    CheckpointNotFoundError,
    HistoryLostError,
    ProjectionError,
    SessionConflictError,
    SessionDeletedError,
    ThreadConflictError,
)
from langgraph_session_saver.log import logger
from langgraph_session_saver.projection.project import Changes
from langgraph_session_saver.projection.rows import StaleProjectionError
from langgraph_session_saver.projection.status import status_at
from langgraph_session_saver.projection.transcript import Parent
from langgraph_session_saver.retention.apply import carry_out, deletes_of, read_contents
from langgraph_session_saver.retention.policy import Contents, Thinned, keep_last_and_running
from langgraph_session_saver.sql.runner import BrokenReferenceError
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.storage.batch import Batch
from langgraph_session_saver.storage.checkpoints import ParentGoneError
from langgraph_session_saver.storage.threads import Head, new_revision

UNUSED_BLOBS = 16
"""Unused blobs that may stay until there are more, to be deleted in one statement."""


class _Put(NamedTuple):
    """A checkpoint on its way into the database."""

    new: NewCheckpoint
    encoded: EncodedCheckpoint
    deltas: DeltaValues
    parents: Mapping[str, Parent]
    """The messages of the parent, by channel."""
    changes: Changes | None = None
    """What the step changes in projected rows; None where it projects nothing."""


class CheckpointWriter:
    """Stores checkpoints: first as one batch on the thread's row as it is known, else locked."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def put(
        self,
        serde: SerializerProtocol,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
        *,
        is_orphan: bool = False,
    ) -> Script[RunnableConfig]:
        """Check the arguments and return a script that stores the checkpoint.

        The values of an orphan, whose parent is known not to exist, are all stored.
        """
        new = new_checkpoint(self._context, serde, config, checkpoint, metadata, new_versions)
        if self._context.checks_clock:
            check_clock(self._context.known_checkpoints, new)
        if is_read(self._context, new):
            self._context.known_deltas.expect(new.key)
        else:
            self._context.known_deltas.forget(new.key)
        self._context.known_checkpoints.facts.put(new.key, facts_of(checkpoint, new.origin))
        return self._store(new, is_orphan=is_orphan)

    def _store(self, new: NewCheckpoint, *, is_orphan: bool) -> Script[RunnableConfig]:
        # The original of a copy was found; its parent, which the copy has too, may be pruned.
        if not is_orphan and new.metadata.get("source") != "fork":
            yield from check_parent(self._context, new.place, new.key)
        encoded = encode(self._context, new, everything=is_orphan)
        deltas = yield from delta_values(self._context, new, encoded.sizes)
        new = deltas.seen_by(new)
        parents = yield from parent_messages(self._context, new, encoded.prefixes, deltas)
        put = _Put(new, encoded, deltas, parents)
        put = put._replace(changes=self._project(put))
        if not (yield from self._store_in_batch(put)):
            try:
                put = yield from self._store_locked(put)
            except (SessionConflictError, SessionDeletedError, ThreadConflictError):
                # What `put` noted of it would pass for the checkpoint that another has stored.
                self._context.known_checkpoints.facts.forget(new.key)
                self._context.known_deltas.forget(new.key)
                raise
        self._remember(put)
        return new.place.at(new.id)

    # -- in one batch -----------------------------------------------------------------------

    def _store_in_batch(self, put: _Put) -> Script[bool]:
        """Store a step of a thread whose row is known; False if it is not, or has changed."""
        context, new = self._context, put.new
        thread, threads = new.place.thread, context.known_threads
        head = threads.head(thread)
        if head is None or not _only_adds(put, head):
            return False
        if context.single_writer and not _continues(new, head):
            return False
        thinned, revision = None, new_revision()
        if context.keep_last is not None:
            thinned = self._thin_known(put, head.revision, revision)
            if thinned is None or thinned.newly_hidden:
                return False
        values = _thread_values(new, head, revision)
        batch = self._batch(put, head, values)
        if thinned is not None:
            batch.deletes = deletes_of(context.tables, thread.key, thinned)
            if thinned.oldest_root is not None:
                batch.orphans_before = (thread.key, thinned.oldest_root)
        try:
            stored = yield Request(
                lambda conn: context.storage.batches.run(conn, batch), batch.kind
            )
        except BrokenReferenceError:
            stored = False
        if not stored:
            threads.forget_row(thread.key)
            return False
        threads.learn(thread, head.changed(values))
        if thinned is not None:
            threads.contents.put(thread.key, thinned.contents)
        return True

    def _batch(self, put: _Put, head: Head, values: dict[str, Any]) -> Batch:
        """Everything that a step writes, if its thread's row is still `head`."""
        storage, projected = self._context.storage, self._context.projected
        batch = storage.checkpoints.put_batch(put.encoded.rows, head.revision, values)
        if put.changes is not None:
            # Before the checkpoint: the batch ends with a statement that always stores a row.
            batch.upserts[-1:-1] = projected.upserts(put.new.place.thread, head, put.changes)
            if head.is_first and put.new.place.is_root:
                batch.session = (head.session_id, projected.session_values(put.changes))
        return batch

    # -- under the thread's lock ------------------------------------------------------------

    def _store_locked(self, put: _Put) -> Script[_Put]:
        """Store a step under the lock of its thread's row; returns what was stored."""
        context, new = self._context, put.new
        thread = new.place.thread
        for attempt in range(ATTEMPTS):
            try:
                head, contents, changes = yield Request.of("step", self._run_locked, put)
                break
            except ParentGoneError:
                if _starts_from_given_parent(new):
                    raise _unknown_parent(new.place.checkpoint_id, new.place) from None
                context.forget_thread(thread.key)
                _refuse_lost_deltas(new)
                put = put._replace(encoded=encode(context, new, everything=True))
            except StaleProjectionError:
                context.known_threads.projected.forget(thread.key)
                put = put._replace(changes=self._project(put, whole=True))
            except BrokenReferenceError:
                if attempt == ATTEMPTS - 1:
                    raise
                context.forget_thread(thread.key)
                everything = not put.encoded.rows.needs_parent
                put = put._replace(encoded=encode(context, new, everything=everything))
        else:
            raise HistoryLostError(
                f"{new.name()} could not be saved: in {ATTEMPTS} attempts, others deleted what it "
                "refers to. Run the thread again"
            )
        context.known_threads.learn(thread, head)
        if contents is not None:
            context.known_threads.contents.put(thread.key, contents)
        return put._replace(changes=changes)

    def _run_locked(
        self, conn: Connection, put: _Put
    ) -> tuple[Head, Contents | None, Changes | None]:
        """Lock a thread and store a step of it.

        Returns:
            The thread's row after the step; under `keep_last` what the thread then stores; and
            what the step changed in projected rows.
        """
        context, thread = self._context, put.new.place.thread
        was = context.storage.threads.lock(conn, thread, put.new.time)
        if context.single_writer and not _continues(put.new, was):
            raise _overtaken(put.new, was)
        values = _thread_values(put.new, was, new_revision(was.revision))
        if _only_adds(put, was) and context.storage.batches.run(
            conn, self._batch(put, was, values)
        ):
            head, changes = was.changed(values), put.changes
        else:
            put = self._keep_replaced(conn, put, was)
            head, changes = self._continue_thread(conn, put, was)
        if context.keep_last is None:
            return head, None, changes
        return head, self._prune(conn, put, was.revision, head.revision), changes

    def _continue_thread(
        self, conn: Connection, put: _Put, was: Head
    ) -> tuple[Head, Changes | None]:
        context, new, changes = self._context, put.new, put.changes
        is_newest = new.place.is_root and new.id >= (was.checkpoint_id or "")
        is_repeated = new.id == was.checkpoint_id
        if is_newest:
            revision = new_revision(was.revision if is_repeated else 0)
            values = _thread_values(new, was, revision)
        else:
            values = {"revision": new_revision(was.revision), "updated_at": new.time}
        try:
            context.storage.checkpoints.put(conn, put.encoded.rows, was.revision, values)
        except (ParentGoneError, BrokenReferenceError):
            context.storage.threads.check_takes_steps(conn, new.place.thread, was.session_id)
            raise
        thread, projected = new.place.thread, context.projected
        if not is_newest:
            if changes is not None:
                projected.add(conn, thread, was, new.step(whole=False), changes)
                changes = replace(changes, state=None)
            return was.changed(values), changes
        if changes is not None and not is_repeated:
            if was.is_outdated:
                context.projector.show_all_columns(new.step(whole=True), changes)
            step = new.step(whole=changes.is_whole)
            changes = projected.apply(conn, thread, was, step, changes)
        projected.note_recovery(conn, thread, was, new.reached)
        return was.changed(values), changes

    def _keep_replaced(self, conn: Connection, put: _Put, head: Head) -> _Put:
        """Refer to the blobs of the checkpoint that this one replaces, if it does replace one."""
        new = put.new
        if not new.place.is_root or new.id > (head.checkpoint_id or ""):
            return put
        replaced = self._context.storage.checkpoints.get(conn, *new.key)
        if not replaced:
            return put
        put = put._replace(encoded=put.encoded.replacing(replaced[0].refs))
        # Its rows were written with it. The newest one's changes say what the rows show.
        return put if new.id == head.checkpoint_id else put._replace(changes=None)

    # -- retention --------------------------------------------------------------------------

    def _prune(self, conn: Connection, put: _Put, before: int, after: int) -> Contents:
        """Delete what `keep_last` no longer keeps after a step; returns what is left.

        The revisions are those of the thread's row before and after the step.
        """
        storage, thread_key = self._context.storage, put.new.place.thread.key
        thinned = self._thin_known(put, before, after)
        if thinned is None:
            thinned = self._thin(read_contents(storage, conn, thread_key, after))
        carry_out(storage, conn, thread_key, thinned)
        return thinned.contents

    def _thin_known(self, put: _Put, before: int, after: int) -> Thinned | None:
        """What `keep_last` leaves after a step; None if the thread's contents are not cached."""
        contents = self._context.known_threads.contents.get(put.new.place.thread.key)
        if contents is None or contents.revision != before:
            return None
        encoded = put.encoded
        row, blobs = retained_row(put.new, encoded), encoded.rows.bases()
        return self._thin(contents.with_step(after, row, blobs))

    def _thin(self, contents: Contents) -> Thinned:
        choose = partial(keep_last_and_running, count=self._context.keep_last or 1)
        return contents.thinned(choose, slack=UNUSED_BLOBS)

    # -- projections ------------------------------------------------------------------------

    def _project(self, put: _Put, *, whole: bool = False) -> Changes | None:
        """What a step changes in projected rows; None where it projects nothing.

        Raises:
            ProjectionError: Under the policy "raise", a value is bad that was not a task's write.
        """
        context, new, encoded, deltas = self._context, put.new, put.encoded, put.deltas
        place = new.place
        if not place.is_root:
            return self._project_subgraph(put)
        if not context.projector.projections:
            return None
        changes = context.projector.project(
            new.step(whole=whole),
            place.checkpoint_id,
            context.known_threads.projected.get(place.thread.key),
            whole=whole,
            sizes=encoded.sizes,
            prefixes={**encoded.prefixes, **deltas.prefixes},
            parents=put.parents,
        )
        changes.problems += deltas.problems
        if context.policy == "raise":
            self._raise_first_problem(new, changes)
        if not context.records_errors:
            _log_problems(new, changes)
            changes.problems = []
        return changes

    def _project_subgraph(self, put: _Put) -> Changes | None:
        """The usage of a subgraph's step; None if no projection counts it."""
        if not self._context.projector.subgraph_channels:
            return None
        return self._context.projector.project_usage(put.new.step(whole=False), put.parents)

    def _raise_first_problem(self, new: NewCheckpoint, changes: Changes) -> None:
        """Raise for a bad value, unless a reducer made it of good writes.

        The stored writes are applied again at every resume, so the thread would fail for ever.
        """
        parent, checked = new.place.key, frozenset[str]()
        if parent is not None:
            checked = self._context.known_checkpoints.checked_channels.get(parent) or checked
        for problem in changes.problems:
            if problem.channel not in checked:
                raise ProjectionError(
                    f"{new.name()}: {problem}. The checkpoint was not saved: correct the node (or "
                    "the input) and run the thread again"
                )

    def _remember(self, put: _Put) -> None:
        """Update the caches after a step was stored."""
        context, new, changes = self._context, put.new, put.changes
        thread_key, ns_key, _ = new.key
        context.known_checkpoints.note_found(new.key)
        context.known_deltas.note_values(new.key, put.deltas.values)
        if new.place.key is not None:
            context.known_deltas.forget(new.place.key)
        for value in put.encoded.values:
            context.blob_cache.put(thread_key, value)
        context.blob_cache.set_tips(thread_key, ns_key, put.encoded.references.blobs)
        for channel, version in new.new_versions.items():
            if channel not in new.values:
                key = blob_key(new.place.checkpoint_ns, channel, version)
                context.blob_cache.set_empty(thread_key, key)
        if changes is not None:
            _log_problems(new, changes)
            if changes.state is not None:
                context.known_threads.projected.put(thread_key, changes.state)


def _log_problems(new: NewCheckpoint, changes: Changes) -> None:
    for problem in changes.problems:
        logger.warning("%s: %s", new.name(), problem)


def _thread_values(new: NewCheckpoint, head: Head, revision: int) -> dict[str, Any]:
    """The columns of a thread's row that a step changes."""
    if not new.place.is_root:
        return {"revision": revision, "updated_at": new.time}
    status = status_at(new.reached, head.status_checkpoint_id, head.status)
    return {**status, "revision": revision}


def _only_adds(put: _Put, head: Head) -> bool:
    """Whether a step can be stored without reading what its thread stores.

    That is so if it is the thread's first root checkpoint, or follows the newest one, which did not
    fail, and if it projects only columns, messages and usage.
    """
    new, changes = put.new, put.changes
    if head.is_outdated:
        return False
    if not new.place.is_root:
        return True
    if head.checkpoint_id is None:
        is_first = new.place.checkpoint_id is None and head.status is None
        return is_first and (changes is None or changes.only_adds)
    if new.id <= head.checkpoint_id or new.id <= (head.status_checkpoint_id or ""):
        return False
    if head.status == "error":
        return False
    return changes is None or (
        changes.base == head.checkpoint_id and changes.only_adds and changes.all_messages is None
    )


def _continues(new: NewCheckpoint, head: Head) -> bool:
    """Whether a checkpoint follows the thread's newest one, or is a fork made on purpose."""
    if not new.place.is_root or new.metadata.get("source") in {"update", "fork"}:
        return True
    return head.checkpoint_id in {None, new.place.checkpoint_id, new.id}


def _overtaken(new: NewCheckpoint, head: Head) -> ThreadConflictError:
    return ThreadConflictError(
        f"thread {new.place.thread.thread_id!r} was continued by another run, which saved "
        f"checkpoint {head.checkpoint_id!r}, while this one ran from {new.place.checkpoint_id!r}: "
        f"{new.name()} was not saved. Run the thread again, or leave single_writer out to keep both"
    )


def _refuse_lost_deltas(new: NewCheckpoint) -> None:
    """Raise if a checkpoint without ancestors has a `DeltaChannel` that only they store."""
    counters = new.metadata.get("counters_since_delta_snapshot") or {}
    lost = [channel for channel in counters if channel not in new.values]
    if lost:
        raise HistoryLostError(
            f"thread {new.place.thread.thread_id!r} was deleted or pruned while it ran, and its "
            f"DeltaChannel {', '.join(map(repr, lost))} is stored as changes of what was deleted: "
            f"{new.name()} was not saved. Run the thread again from its beginning"
        )


# -- the parent check ---------------------------------------------------------------------------


def check_parent(
    context: Context, place: Place, new_key: CheckpointKey | None = None
) -> Script[None]:
    """Refuse to continue from a root checkpoint that a read did not find and that is still missing.

    What follows the refused checkpoint `new_key` is refused, too: LangGraph runs a checkpoint's
    tasks without waiting for its put, and before 1.2.15 puts the next one even if that failed.

    Raises:
        CheckpointNotFoundError: The checkpoint, or an ancestor, does not exist.
    """
    if place.key is None or not place.is_root:
        return
    known = context.known_checkpoints
    for key in (place.key, known.missing_ancestor.get(place.key)):
        if key is None or not known.was_missing(key):
            continue
        if new_key is not None:
            known.missing_ancestor.put(new_key, key)
        if not (yield Request.read(context.storage.checkpoints.get, *key)):
            raise _unknown_parent(key.checkpoint_id, place)
        known.note_found(key)


def _starts_from_given_parent(new: NewCheckpoint) -> bool:
    """Whether a checkpoint is the first of a call that did not find its parent.

    LangGraph numbers a run's steps from -1 if it found no checkpoint to continue from. A copy has
    the original's parent, which it did not look for; its source is "fork".
    """
    is_update = new.metadata.get("source") == "update"
    return new.place.is_root and (is_update or new.step_number == -1)


def _unknown_parent(checkpoint_id: str | None, place: Place) -> CheckpointNotFoundError:
    return CheckpointNotFoundError(
        f"thread {place.thread.thread_id!r} has no checkpoint {checkpoint_id!r}: leave "
        "checkpoint_id out to continue from the newest, or take one from list(). Nothing was "
        "written"
    )
