"""The statements on all that a thread stores: what retention reads of it, deletes and copies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    delete,
    func,
    literal,
    select,
    true,
    tuple_,
    update,
)

from langgraph_session_saver.encoding.keys import KEY_BYTES, ThreadRef
from langgraph_session_saver.retention.contents import Bases
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.compiled import BATCH, batches
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.storage.threads import Threads

PIECE = 10_000
"""Checkpoints, or blobs, that the first transaction of many deletes: about 0.1 s."""

LARGEST = 200_000

FASTER = 10
"""Times as much that a transaction may delete as the one before did."""

SECONDS = 0.3
"""What a transaction that deletes is to take: others wait for it."""

SAMPLE, BYTES = 20, 100 << 20
"""Blobs that are looked at to tell how many take the room that a transaction may free."""

COUNTED = 2_000
"""Blobs that are counted to tell whether there are more than so many."""

Position = tuple[bytes, str]
"""Where a checkpoint is among those of its thread: its namespace's key and its id."""


class Left(NamedTuple):
    """What a transaction left of a thread that it deleted from."""

    what: Literal["nothing", "rest", "thread"]
    start: Position | None = None
    """Before it there are no checkpoints: on PostgreSQL those that went are passed one by one."""


class Pace:
    """How much the next of many transactions deletes: as much as takes the time that it may.

    Args:
        first: Pieces that the first takes.

    Attributes:
        most: Rows, of checkpoints or of blobs.
    """

    def __init__(self, first: int = 1) -> None:
        self.most = first * PIECE

    def restart(self) -> None:
        """Begin anew, with rows of another kind."""
        self.most = PIECE

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Learn from a transaction that deletes as much."""
        started = perf_counter()
        yield
        self.note(perf_counter() - started)

    def note(self, seconds: float) -> None:
        """Learn how long a transaction took.

        Half as much does not take half the time: on SQLite blobs are strewn over an index, and any
        few thousand touch most of its pages.
        """
        if seconds < SECONDS:
            faster = min(SECONDS / max(seconds, SECONDS / FASTER), FASTER)
            self.most = min(int(faster * self.most), LARGEST)
        elif seconds > 2 * SECONDS:
            self.most = max(self.most // 2, 1)


class ThreadRows:
    """Reads, deletes and copies a thread's rows."""

    def __init__(self, tables: Tables, dialect: Dialect, threads: Threads) -> None:
        self.tables = tables
        self.dialect = dialect
        self.threads = threads
        self._delete_newest_blobs = {
            but_some: dialect.delete_newest_blobs(tables.blobs, but_some=but_some)
            for but_some in (False, True)
        }

    def delete_thread(
        self,
        conn: Connection,
        thread_key: bytes,
        most: int,
        only_if: Callable[[Any], bool] | None = None,
        start: Position | None = None,
    ) -> Left:
        """Delete a thread, what it projected, and its session if the saver made that for it.

        Args:
            conn: A transaction.
            thread_key: The thread.
            most: Checkpoints, or small blobs, that it takes.
            only_if: What must be true of its row; else the thread stays.
            start: Where the transaction before stopped.

        Returns:
            What is left: the rest, if there is more than it takes, is for the same call again.
        """
        row = self.threads.find(conn, thread_key)
        if row is None:
            return Left("nothing")
        if only_if is not None and not only_if(row):
            return Left("thread")
        with self.dialect.in_bulk(conn):
            left = self._delete_piece(conn, thread_key, most, start)
            if left is not None:
                self.threads.change(conn, thread_key, {"updated_at": row.updated_at})
                return left
            self._delete_rest(conn, row)
        return Left("nothing")

    def _delete_piece(
        self, conn: Connection, thread_key: bytes, most: int, start: Position | None
    ) -> Left | None:
        """Delete some of a thread if it is too much; checkpoints, then what they were built from.

        So that what is there can be read: by others, and if this process does not live to the end.
        """
        c = self.tables.checkpoints.c
        ids = select(c.ns_key, c.checkpoint_id).where(c.thread_key == thread_key, _from(c, start))
        in_order = ids.order_by(c.ns_key, c.checkpoint_id).limit(1)
        first_left = conn.execute(in_order.offset(most)).one_or_none()
        if first_left is not None:
            end: Position = (first_left.ns_key, first_left.checkpoint_id)
            self._delete_checkpoints_between(conn, thread_key, start, end)
            return Left("rest", end)
        most = self._blobs_for(conn, thread_key, most)
        if not self._has_more_blobs(conn, thread_key, most):
            return None
        if conn.execute(in_order).one_or_none() is not None:
            for table in (self.tables.writes, self.tables.checkpoints):
                where = (table.c.thread_key == thread_key, _from(table.c, start))
                conn.execute(delete(table).where(*where))
        else:
            self.delete_newest_blobs(conn, thread_key, most)
        return Left("rest", start)

    def _has_more_blobs(self, conn: Connection, thread_key: bytes, most: int) -> bool:
        """Whether a thread has more blobs than that, roughly where it is many.

        Their keys are hashes: a part of all that there can be has the same part of a thread's.
        """
        b, parts = self.tables.blobs.c, max(most // COUNTED, 1)
        last = ((1 << 8 * KEY_BYTES) // parts - 1).to_bytes(KEY_BYTES, "big")
        of_part = select(b.blob_key).where(b.thread_key == thread_key, b.blob_key <= last)
        return conn.execute(of_part.limit(1).offset(most // parts)).one_or_none() is not None

    def _blobs_for(self, conn: Connection, thread_key: bytes, most: int) -> int:
        """How many blobs take no longer than so many checkpoints with their writes."""
        b = self.tables.blobs.c
        some = select(func.length(b.data).label("size")).where(b.thread_key == thread_key)
        size = conn.scalar(select(func.avg(some.limit(SAMPLE).subquery().c.size)))
        return max(min(most, int(BYTES / max(size or 0, 1))), 1)

    def _delete_checkpoints_between(
        self, conn: Connection, thread_key: bytes, start: Position | None, end: Position
    ) -> None:
        """Delete checkpoints and writes of a thread, in the order of their keys."""
        ns_key, checkpoint_id = end
        for table in (self.tables.writes, self.tables.checkpoints):
            c = table.c
            before = [and_(c.ns_key == ns_key, c.checkpoint_id < checkpoint_id)]
            if ns_key:  # the root's is empty
                before.append(c.ns_key < ns_key)
            for where in before:
                ranged = and_(c.thread_key == thread_key, where, _from(c, start))
                conn.execute(delete(table).where(ranged))

    def delete_newest_blobs(
        self, conn: Connection, thread_key: bytes, most: int, staying: Collection[bytes] = ()
    ) -> None:
        """Delete blobs of a thread, changes before what they change, in the database's own order.

        Args:
            conn: A transaction that holds the thread's row.
            thread_key: The thread.
            most: How many at most; exactly as many if some stay.
            staying: A few that stay, with all that they are changes of.
        """
        params: dict[str, Any] = {"thread": thread_key, "most": most}
        if staying:
            params["staying"] = list(staying)
        conn.execute(self._delete_newest_blobs[bool(staying)], params)

    def _delete_rest(self, conn: Connection, row: Any) -> None:
        t, thread_key = self.tables, row.thread_key
        stored = () if self.dialect.leaves_it_to_references else (t.writes, t.checkpoints, t.blobs)
        for table in (*stored, *self.threads.child_tables(), t.threads):
            conn.execute(delete(table).where(table.c.thread_key == thread_key))
        if row.is_first:
            self.threads.clear_columns(conn, row.session_id)
            self.threads.promote_next(conn, row.session_id)
        self.threads.drop_empty_session(conn, row.session_id)

    def threads_of_runs(self, conn: Connection, run_ids: Sequence[str]) -> list[bytes]:
        """The threads that these runs wrote to."""
        c = self.tables.checkpoints.c
        found: set[bytes] = set()
        for batch in batches(list(run_ids)):
            found |= set(conn.execute(select(c.thread_key).where(c.run_id.in_(batch))).scalars())
        return sorted(found)

    def checkpoint_rows(self, conn: Connection, thread_key: bytes) -> Sequence[Any]:
        """All checkpoints of a thread, hidden ones too, as `Stored` is made of them."""
        c = self.tables.checkpoints.c
        columns = (
            c.ns_key, c.checkpoint_id, c.checkpoint_ns, c.parent_checkpoint_id,
            c.root_checkpoint_id, c.run_id, c.hidden, c.refs,
        )  # fmt: skip
        return conn.execute(select(*columns).where(c.thread_key == thread_key)).all()

    def delete_checkpoints(
        self,
        conn: Connection,
        thread_key: bytes,
        doomed: Iterable[tuple[bytes, str]],
        staying: Iterable[tuple[bytes, str]],
    ) -> None:
        """Delete checkpoints of a thread with their writes.

        Args:
            conn: A transaction that holds the thread's row.
            thread_key: The thread.
            doomed: Namespace keys and ids of those to delete.
            staying: Of all the others that there are.
        """
        by_namespace: dict[bytes, list[str]] = {}
        for ns_key, checkpoint_id in doomed:
            by_namespace.setdefault(ns_key, []).append(checkpoint_id)
        others: dict[bytes, list[str]] = {}
        for ns_key, checkpoint_id in staying:
            others.setdefault(ns_key, []).append(checkpoint_id)
        w, c = self.tables.writes, self.tables.checkpoints
        # Of checkpoints that are there: writes may come before their checkpoint does. Looked up
        # for each: PostgreSQL takes IN and EXISTS for joins and, without statistics, for nested
        # loops. Of 100,000 checkpoints, the first 5,000 had not gone after 6 minutes.
        its_checkpoint = select(c.c.checkpoint_id).where(
            c.c.thread_key == w.c.thread_key,
            c.c.ns_key == w.c.ns_key,
            c.c.checkpoint_id == w.c.checkpoint_id,
        )
        is_there = its_checkpoint.scalar_subquery().is_not(None)
        for ns_key, ids in by_namespace.items():
            first, last = min(ids), max(ids)
            between = [name for name in others.get(ns_key, ()) if first < name < last]
            # As a range: to name 5,000 ids takes longer than to delete them.
            is_range = len(between) <= BATCH
            for batch in [ids] if is_range else batches(ids):
                for table, condition in ((w, is_there), (c, true())):
                    name = table.c.checkpoint_id
                    ranged = and_(name.between(first, last), name.not_in(between))
                    conn.execute(
                        delete(table).where(
                            table.c.thread_key == thread_key,
                            table.c.ns_key == ns_key,
                            ranged if is_range else name.in_(batch),
                            condition,
                        )
                    )

    def hide(
        self, conn: Connection, thread_key: bytes, hidden: Iterable[tuple[bytes, str]]
    ) -> None:
        """Keep checkpoints of a thread without listing them."""
        c = self.tables.checkpoints
        for ns_key, checkpoint_id in hidden:
            conn.execute(
                update(c)
                .where(
                    c.c.thread_key == thread_key,
                    c.c.ns_key == ns_key,
                    c.c.checkpoint_id == checkpoint_id,
                )
                .values(hidden=True)
            )

    def blob_bases(self, conn: Connection, thread_key: bytes) -> Bases:
        """All blobs of a thread, with what they are changes of."""
        b = self.tables.blobs.c
        rows = conn.execute(
            select(b.blob_key, b.base_key, b.depth).where(b.thread_key == thread_key)
        ).all()
        return {blob_key: (base_key, depth) for blob_key, base_key, depth in rows}

    def delete_blobs(self, conn: Connection, thread_key: bytes, doomed: Iterable[bytes]) -> None:
        """Delete blobs of a thread, whose row the transaction holds."""
        b = self.tables.blobs
        for batch in batches(sorted(doomed)):
            conn.execute(delete(b).where(b.c.thread_key == thread_key, b.c.blob_key.in_(batch)))

    def copy_thread(self, conn: Connection, source: bytes, target: ThreadRef) -> bool:
        """Copy checkpoints, blobs and writes; False if there is no such source."""
        row = self.threads.find(conn, source)
        if row is None:
            return False
        self.threads.lock(conn, target)
        for table in (self.tables.blobs, self.tables.checkpoints, self.tables.writes):
            old = table.alias("old")
            columns = [c for c in old.c if c.name != "thread_key"]
            query = select(bindparam("target", target.key, old.c.thread_key.type), *columns)
            query = query.where(old.c.thread_key == source)
            if table is self.tables.blobs:
                query = query.order_by(old.c.depth)  # as they are when steps store them
            key = [c.name for c in table.primary_key]
            conn.execute(
                self.dialect.insert_ignore(table, key).from_select(
                    ["thread_key", *(c.name for c in columns)], query
                )
            )
        kept = ("checkpoint_id", "status", "status_node", "status_step", "status_since",
                "status_checkpoint_id")  # fmt: skip
        self.threads.change(conn, target.key, {name: getattr(row, name) for name in kept})
        return True


def _from(c: Any, start: Position | None) -> ColumnElement[bool]:
    """Whether rows are at a position or after it."""
    if start is None:
        return true()
    ns_key, checkpoint_id = start
    position = tuple_(literal(ns_key, c.ns_key.type), literal(checkpoint_id, c.checkpoint_id.type))
    return tuple_(c.ns_key, c.checkpoint_id) >= position
