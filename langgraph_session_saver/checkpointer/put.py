"""Saving: a checkpoint with what it changed, and the writes of a task."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Connection

from langgraph_session_saver.checkpointer.config import place_of
from langgraph_session_saver.checkpointer.context import ATTEMPTS, Context, Noted
from langgraph_session_saver.checkpointer.encode import Incoming, merged
from langgraph_session_saver.encoding import references
from langgraph_session_saver.encoding.chains import StoredBlob, extend, whole
from langgraph_session_saver.encoding.delta import kept_items
from langgraph_session_saver.encoding.framing import frame
from langgraph_session_saver.encoding.keys import CheckpointKey, Place, blob_key, is_unique
from langgraph_session_saver.encoding.messages import is_long_message_list
from langgraph_session_saver.encoding.serde import dump
from langgraph_session_saver.errors import (
    CheckpointNotFoundError,
    HistoryLostError,
    ProjectionError,
)
from langgraph_session_saver.projection.project import Changes, Kept
from langgraph_session_saver.projection.rows import StaleViewError
from langgraph_session_saver.projection.status import send_nodes, status_at
from langgraph_session_saver.retention.apply import carry_out, read_contents
from langgraph_session_saver.retention.contents import Contents, Thinned
from langgraph_session_saver.retention.lineage import Origin, origin_of
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.sql.runner import BrokenReferenceError
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.storage.batch import Batch, Dependencies, RevisionCheck
from langgraph_session_saver.storage.checkpoints import CheckpointRows, ParentGoneError
from langgraph_session_saver.storage.threads import Head, new_revision
from langgraph_session_saver.validation import check_channels

logger = logging.getLogger("langgraph_session_saver")

UNUSED_BLOBS = 16
"""Blobs that nothing uses may wait until there are more, to go in one statement."""


class PutScripts:
    """The scripts of `put` and `put_writes`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    # -- checkpoints ------------------------------------------------------------------------

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
        """Check a checkpoint; the script that is returned stores it, and returns its config.

        What its tasks' errors will say of it is noted at once: LangGraph does not wait for a `put`
        before it runs them.
        """
        place = place_of(config)
        check_channels(list(checkpoint["channel_versions"]))
        saved = Incoming(place, checkpoint, merged(config, metadata), new_versions, serde)
        saved.is_orphan = is_orphan
        if place.is_root:
            saved.origin = self._origin(saved)
        versions = checkpoint["channel_versions"]
        self._context.noted.put(
            (place.thread.key, place.ns_key, checkpoint["id"]),
            Noted(
                send_nodes(checkpoint["channel_values"]),
                saved.step_number,
                saved.origin,
                {channel: versions[channel] for channel in saved.references.blobs},
            ),
        )
        return self._store(saved)

    def _origin(self, saved: Incoming) -> Origin:
        place = saved.place
        parent = self._context.noted.get((place.thread.key, place.ns_key, str(place.checkpoint_id)))
        return origin_of(
            saved.checkpoint["id"],
            place.checkpoint_id,
            saved.metadata,
            None if parent is None else parent.origin,
        )

    def _store(self, saved: Incoming) -> Script[RunnableConfig]:
        place = saved.place
        if not saved.is_orphan:
            yield from refuse_unknown_parent(self._context, place, saved.checkpoint["id"])
        rows = self._encode(saved, everything=saved.is_orphan)
        changes = self._project(saved)
        if not (yield from self._store_known(saved, rows, changes)):
            changes = yield from self._store_unknown(saved, rows, changes)
        self._remember(saved, changes)
        return place.at(saved.checkpoint["id"])

    def _store_known(
        self, saved: Incoming, rows: CheckpointRows, changes: Changes | None
    ) -> Script[bool]:
        """Store a step of a thread whose row is known; False if it is not, or not as known."""
        context, thread = self._context, saved.place.thread
        known = context.known.get(thread.key)
        if known is None or not known.suits(thread) or not saved.goes_on(known.head, changes):
            return False
        head, thinned = known.head, None
        revision = new_revision()
        if context.keep_last is not None:
            thinned = self._thinned(saved, rows, head.revision, revision)
            if thinned is None or thinned.newly_hidden:
                return False
        values = self._thread_values(saved, head, revision)
        batch = self._batch(saved, rows, changes, head, values)
        if thinned is not None:
            batch.removals = context.operations.removals(thread.key, thinned)
        if thinned is not None and thinned.oldest_root is not None:
            batch.late = (thread.key, thinned.oldest_root)
        try:
            stored = yield Request.batch(lambda conn: context.operations.steps.run(conn, batch))
        except BrokenReferenceError:
            stored = False
        if not stored:
            context.forget_row(thread.key)
            return False
        contents = None if thinned is None else thinned.contents
        context.learn(thread, head.changed(values), head.revision, contents)
        return True

    def _thread_values(self, saved: Incoming, head: Head, revision: int) -> dict[str, Any]:
        if not saved.place.is_root:
            return {"revision": revision, "updated_at": utc_now()}
        values = status_at(saved.reached(), head.status_checkpoint_id)
        values["revision"] = revision
        return values

    def _batch(
        self,
        saved: Incoming,
        rows: CheckpointRows,
        changes: Changes | None,
        head: Head,
        values: dict[str, Any],
    ) -> Batch:
        """All that a step of a known thread writes, but for what it prunes."""
        context, thread = self._context, saved.place.thread
        ops, projected = context.operations, context.projected
        batch = Batch([], RevisionCheck(thread.key, head.revision, values, rows.dependencies))
        if rows.blobs:
            batch.stores.append((ops.blobs, rows.blobs))
        if changes is not None:
            owner = {"session_id": head.session_id, "thread_key": thread.key}
            for store, made in (
                (projected.messages, changes.messages),
                (projected.usage, changes.usage),
            ):
                if made:
                    batch.stores.append((store, [{**row, **owner} for row in made]))
            if head.is_first:
                batch.session = (head.session_id, projected.session_values(changes))
        batch.stores.append((ops.checkpoints, [rows.checkpoint]))
        return batch

    def _store_unknown(
        self, saved: Incoming, rows: CheckpointRows, changes: Changes | None
    ) -> Script[Changes | None]:
        """Store a step under the lock of its thread's row, whatever that says."""
        context, place = self._context, saved.place
        for attempt in range(ATTEMPTS):
            try:
                operation = self._put_operation(saved, rows, changes)
                was, head, contents = yield Request.step(operation)
                break
            except ParentGoneError:
                if saved.has_just_looked:
                    raise unknown_parent(place) from None
                context.forget_thread(place.thread.key)
                saved.refuse_lost_deltas()
                rows = self._encode(saved, everything=True)
            except StaleViewError:
                context.views.forget(place.thread.key)
                changes = self._project(saved, whole=True)
            except BrokenReferenceError:
                if attempt == ATTEMPTS - 1:
                    raise
                context.forget_thread(place.thread.key)
                rows = self._encode(saved, everything=not rows.needs_parent)
        else:
            raise HistoryLostError(
                f"{saved.name()} could not be saved: others kept deleting what it refers to"
            )
        context.learn(place.thread, head, was.revision, contents)
        return changes

    def _put_operation(
        self, saved: Incoming, rows: CheckpointRows, changes: Changes | None
    ) -> Callable[[Connection], tuple[Head, Head, Contents | None]]:
        context, thread = self._context, saved.place.thread

        def operation(conn: Connection) -> tuple[Head, Head, Contents | None]:
            was = context.operations.threads.lock(conn, thread)
            is_first = saved.begins(was, changes) and rows.dependencies == Dependencies()
            store = self._begin if is_first else self._go_on
            head = store(conn, saved, rows, changes, was)
            if context.keep_last is None:
                return was, head, None
            return was, head, self._retain(conn, saved, rows, was.revision, head.revision)

        return operation

    def _begin(
        self,
        conn: Connection,
        saved: Incoming,
        rows: CheckpointRows,
        changes: Changes | None,
        head: Head,
    ) -> Head:
        """Store the first step of a thread: nothing is there that it has to be compared with."""
        values = self._thread_values(saved, head, new_revision())
        batch = self._batch(saved, rows, changes, head, values)
        if not self._context.operations.steps.run(conn, batch):
            raise BrokenReferenceError("a thread's row was changed while it was locked")
        return head.changed(values)

    def _go_on(
        self,
        conn: Connection,
        saved: Incoming,
        rows: CheckpointRows,
        changes: Changes | None,
        was: Head,
    ) -> Head:
        """Store a step of a thread, whatever that has become since it was known."""
        context, thread, head, reached = self._context, saved.place.thread, was, saved.reached()
        if saved.place.is_root and reached.id <= (head.checkpoint_id or ""):
            self._keep_former(conn, saved, rows)
        context.operations.put(conn, rows)
        is_newest = head.checkpoint_id is None or reached.id >= head.checkpoint_id
        if saved.place.is_root and is_newest:
            if changes is not None and reached.id != head.checkpoint_id:
                step = saved.step(whole=changes.is_whole)
                if head.is_outdated:
                    context.projector.show_all_columns(saved.step(whole=True), changes)
                context.projected.apply(conn, thread, head, step, changes)
            is_again = reached.id == was.checkpoint_id
            following = new_revision(was.revision if is_again else 0)
            return context.projected.note_checkpoint(conn, thread, head, reached, following)
        following = new_revision(was.revision)
        context.operations.threads.change(conn, thread.key, {"revision": following})
        return head.changed({"revision": following})

    def _keep_former(self, conn: Connection, saved: Incoming, rows: CheckpointRows) -> None:
        """Keep the blobs of a checkpoint that is put again: its writes may be changes of them."""
        place, checkpoint_id = saved.place, saved.checkpoint["id"]
        at = (place.thread.key, place.ns_key, checkpoint_id)
        replaced = self._context.operations.get_checkpoint(conn, *at)
        if replaced:
            saved.references = references.replacing(saved.references, replaced[0].refs)
            rows.checkpoint["refs"] = references.pack(saved.references)

    def _retain(
        self, conn: Connection, saved: Incoming, rows: CheckpointRows, known: int, revision: int
    ) -> Contents:
        """Delete what `keep_last` no longer keeps, a little with each step."""
        context, thread = self._context, saved.place.thread
        thinned = self._thinned(saved, rows, known, revision)
        if thinned is None:
            thinned = self._thin(read_contents(context.operations, conn, thread.key, revision))
        carry_out(context.operations, conn, thread.key, thinned)
        return thinned.contents

    def _thinned(
        self, saved: Incoming, rows: CheckpointRows, known: int, revision: int
    ) -> Thinned | None:
        """What this step leaves of its thread; None if what it stored is not known."""
        contents = self._context.contents.get(saved.place.thread.key)
        if contents is None or contents.revision != known:
            return None
        blobs = {row["blob_key"]: (row["base_key"], row["depth"]) for row in rows.blobs}
        return self._thin(contents.with_step(revision, saved.stored(), blobs))

    def _thin(self, contents: Contents) -> Thinned:
        return contents.keeping_last(int(self._context.keep_last or 1), UNUSED_BLOBS)

    def _encode(self, saved: Incoming, *, everything: bool = False) -> CheckpointRows:
        """Serialise a checkpoint and the channels that changed, or with `everything` all."""
        place, checkpoint = saved.place, saved.checkpoint
        values, versions = checkpoint["channel_values"], checkpoint["channel_versions"]
        plain: dict[str, Any] = dict(checkpoint)
        del plain["channel_values"]
        absent = [channel for channel in versions if channel not in values]
        keys = saved.references.blobs
        inline = {channel: values[channel] for channel, key in keys.items() if not key}
        typ, data = dump(saved.serde, [plain, absent, inline], saved.name)
        metadata_type, metadata = dump(saved.serde, saved.metadata, saved.metadata_name)
        rows = CheckpointRows(
            thread=place.thread,
            checkpoint={
                "thread_key": place.thread.key,
                "ns_key": place.ns_key,
                "checkpoint_id": checkpoint["id"],
                "checkpoint_ns": place.checkpoint_ns,
                "parent_checkpoint_id": place.checkpoint_id,
                "root_checkpoint_id": saved.root_id,
                "run_id": saved.run_id,
                "hidden": False,
                "refs": references.pack(saved.references),
                "type": typ,
                "data": self._context.check_size(frame(data), saved.name),
                "metadata_type": metadata_type,
                "metadata_data": self._context.check_size(frame(metadata), saved.metadata_name),
            },
            needs_parent=not everything,
        )
        saved.values = []
        for channel, version in (versions if everything else saved.new_versions).items():
            if keys.get(channel):
                rows.blobs.append(self._encode_channel(saved, channel, version))
        return rows

    def _encode_channel(self, saved: Incoming, channel: str, version: Any) -> dict[str, Any]:
        place = saved.place
        what = partial(saved.channel_name, channel)
        key = saved.references.blobs[channel]
        at = (place.thread.key, place.ns_key, channel)
        previous = self._context.cache.tip(*at) if is_unique(version) else None
        current, dumps = saved.checkpoint["channel_values"][channel], None
        if is_long_message_list(current):
            earlier = None if previous is None else (previous.key, previous.typed)
            dumps = partial(
                self._context.message_encoder.dumps, channel=at, key=key, earlier=earlier
            )
        typed = dump(saved.serde, current, what, dumps)
        saved.sizes[channel] = len(typed[1])
        if is_unique(version):
            value, stored = extend(previous, key, typed)
            if channel in saved.new_versions:
                saved.values.append(value)
            # Else it may be stored already, and as a change: what it is here must not be built on.
            if channel in self._context.projector.message_channels:
                count = kept_items(previous.typed, typed) if previous is not None else 0
                saved.kept[channel] = Kept(key, previous.key if previous else None, count)
        else:
            value, stored = whole(key, typed)
        self._context.check_size(stored.data, what)
        return _blob_row(place.thread.key, channel, stored)

    def _remember(self, saved: Incoming, changes: Changes | None) -> None:
        context, place = self._context, saved.place
        context.not_found.put((place.thread.key, place.ns_key, saved.checkpoint["id"]), False)  # noqa: FBT003
        for value in saved.values:
            context.cache.put(place.thread.key, value)
        context.cache.set_tips(place.thread.key, place.ns_key, saved.references.blobs)
        for channel, version in saved.new_versions.items():
            if channel not in saved.checkpoint["channel_values"]:
                key = blob_key(place.checkpoint_ns, channel, version)
                context.cache.set_empty(place.thread.key, key)
        if changes is not None and changes.view is not None:
            context.views.put(place.thread.key, changes.view)
            for problem in changes.problems:
                logger.warning("%s: %s", saved.name(), problem)

    # -- projections ------------------------------------------------------------------------

    def _project(self, saved: Incoming, *, whole: bool = False) -> Changes | None:
        """What the step changes in projected rows; None where it projects nothing.

        Raises:
            ProjectionError: Under the policy "raise", a value is bad that no write was.
        """
        context, place = self._context, saved.place
        if not place.is_root or not context.projector.projections:
            return None
        view = context.views.get(place.thread.key)
        changes = context.projector.project(
            saved.step(whole=whole), place.checkpoint_id, view, whole=whole, kept=saved.kept,
            sizes=saved.sizes,
        )  # fmt: skip
        if context.policy == "raise":
            self._raise_first_problem(saved, changes)
        if not context.records_errors:
            changes.problems, unrecorded = [], changes.problems
            for problem in unrecorded:
                logger.warning("%s: %s", saved.name(), problem)
        return changes

    def _raise_first_problem(self, saved: Incoming, changes: Changes) -> None:
        """Raise for a bad value, unless a reducer made it of writes that were good.

        LangGraph would reapply the stored writes at every resume, and the thread could never go
        on; such a value is recorded instead.
        """
        place = saved.place
        checked: frozenset[str] = frozenset()
        if place.checkpoint_id is not None:
            key = (place.thread.key, place.ns_key, place.checkpoint_id)
            checked = self._context.written.get(key) or frozenset()
        for problem in changes.problems:
            if problem.channel not in checked:
                raise ProjectionError(
                    f"{saved.name()}: {problem}. The checkpoint was not saved: mend the node (or "
                    "the input) and run the thread again"
                )


def _blob_row(thread_key: bytes, channel: str, stored: StoredBlob) -> dict[str, Any]:
    return {
        "thread_key": thread_key,
        "blob_key": stored.key,
        "base_key": stored.base,
        "depth": stored.depth,
        "level": stored.level,
        "channel": channel,
        "type": stored.type,
        "data": stored.data,
    }


def refuse_unknown_parent(
    context: Context, place: Place, new_id: str | None = None
) -> Script[None]:
    """Refuse to go on from a checkpoint that was looked for, unless it is there by now.

    Nor from one that itself may be refused for that: LangGraph does not wait for a `put` before it
    runs that checkpoint's tasks, and before 1.2.15 puts the next one though it was refused.
    """
    parent = place.checkpoint_id
    if parent is None or not place.is_root:
        return
    at = (place.thread.key, place.ns_key)
    for named in filter(None, (parent, context.doubtful.get((*at, parent)))):
        if not context.not_found.get((*at, named)):
            continue
        if new_id is not None:
            context.doubtful.put((*at, new_id), named)
        if not (yield Request.read(partial(_look_for, context, (*at, named)))):
            raise unknown_parent(place._replace(checkpoint_id=named))
        context.not_found.put((*at, named), False)  # noqa: FBT003


def _look_for(context: Context, key: CheckpointKey, conn: Connection) -> Any:
    return context.operations.get_checkpoint(conn, *key)


def unknown_parent(place: Place) -> CheckpointNotFoundError:
    """The error for a parent that does not exist."""
    return CheckpointNotFoundError(
        f"thread {place.thread.thread_id!r} has no checkpoint {place.checkpoint_id!r}: leave "
        "checkpoint_id out to go on from the newest, or take one from list(). Nothing was written"
    )
