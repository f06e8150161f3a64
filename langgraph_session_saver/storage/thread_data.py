"""Statements on everything that a thread stores: to read, delete and copy it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from time import perf_counter
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from langgraph_session_saver.encoding.keys import ThreadRef
from langgraph_session_saver.retention.policy import Bases
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.compiled import BATCH, batches
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.storage.batch import checkpoint_of_write
from langgraph_session_saver.storage.threads import Threads, is_owned, owner_params

PIECE = 10_000
"""Rows, of checkpoints or of blobs, that the first of several transactions deletes."""

LARGEST = 200_000
"""Rows that one transaction deletes at most."""

FASTER = 10
"""How many times more a transaction may delete than the one before."""

SECONDS = 0.3
"""The time that a transaction should take, for others wait for it."""

SAMPLE = 20
"""Blobs whose size is looked at before some are deleted."""

BYTES = 100 << 20
"""Bytes of blobs that one transaction deletes at most, judging by the sample."""

Position = tuple[bytes, str]
"""A place in the order of a thread's checkpoints: namespace key and checkpoint id."""


class Left(NamedTuple):
    """What a transaction that deletes from a thread has left of it."""

    what: Literal["nothing", "rest", "thread"]
    start: Position | None = None
    """Where the next transaction starts: PostgreSQL still passes over deleted rows one by one."""


class Pace:
    """Chooses how many rows the next transaction deletes, by the time that the last one took.

    The first one deletes a multiple of `PIECE`.
    """

    def __init__(self, first: int = 1) -> None:
        self.most = first * PIECE
        """The rows of the next transaction."""

    def restart(self) -> None:
        """Start again, because rows of another table follow."""
        self.most = PIECE

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Time a transaction that deletes `most` rows."""
        started = perf_counter()
        yield
        self.note(perf_counter() - started)

    def note(self, seconds: float) -> None:
        """Adjust to the time that a transaction took.

        Only a transaction of twice the time halves the next one: on SQLite, half as many blobs
        do not take half the time, because they are spread over most pages of the index.
        """
        if seconds < SECONDS:
            faster = min(SECONDS / max(seconds, SECONDS / FASTER), FASTER)
            self.most = min(int(faster * self.most), LARGEST)
        elif seconds > 2 * SECONDS:
            self.most = max(self.most // 2, 1)


class ThreadData:
    """Reads, deletes and copies the rows of whole threads."""

    def __init__(self, tables: Tables, dialect: Dialect, threads: Threads) -> None:
        self.tables = tables
        self.dialect = dialect
        self.threads = threads
        self._delete_newest_blobs = dialect.delete_newest_blobs(tables.blobs)

    # -- deleting a thread ------------------------------------------------------------------

    def delete_thread(
        self,
        conn: sa.Connection,
        thread: ThreadRef,
        most: int,
        only_if: Callable[[Any], bool] | None = None,
        start: Position | None = None,
    ) -> Left:
        """Delete a thread, its projected rows, and its session if the saver made that.

        Deletes at most `most` rows, from where the transaction before stopped; call again while
        the rest is left. A thread whose row does not meet the condition stays.

        Raises:
            AccessDeniedError: It belongs to another owner.
        """
        thread_key = thread.key
        row = self.threads.lock_existing(conn, thread)
        if row is None:
            return Left("nothing")
        if only_if is not None and not only_if(row):
            return Left("thread")
        with self.dialect.tuned_for_bulk_deletes(conn):
            left = self._delete_piece(conn, thread_key, most, start)
            if left is not None:
                self.threads.change(conn, thread_key, {"updated_at": row.updated_at})
                return left
            self._delete_rest(conn, row)
        return Left("nothing")

    def _delete_piece(
        self, conn: sa.Connection, thread_key: bytes, most: int, start: Position | None
    ) -> Left | None:
        """Delete a part of a thread that has more than `most` rows; None if it has fewer.

        Checkpoints go before the blobs that they are built from, so that everything that is left
        can be read, even if this process does not live to the end.
        """
        c = self.tables.checkpoints.c
        ids = sa.select(c.ns_key, c.checkpoint_id).where(
            c.thread_key == thread_key, _from(c, start)
        )
        in_order = ids.order_by(c.ns_key, c.checkpoint_id).limit(1)
        first_left = conn.execute(in_order.offset(most)).one_or_none()
        if first_left is not None:
            end: Position = (first_left.ns_key, first_left.checkpoint_id)
            self._delete_checkpoints_between(conn, thread_key, start, end)
            return Left("rest", end)
        most = self._blobs_for(conn, thread_key, most)
        b = self.tables.blobs.c
        blobs = sa.select(b.blob_key).where(b.thread_key == thread_key).limit(1).offset(most)
        if conn.execute(blobs).one_or_none() is None:
            return None
        if conn.execute(in_order).one_or_none() is not None:
            for table in (self.tables.writes, self.tables.checkpoints):
                where = (table.c.thread_key == thread_key, _from(table.c, start))
                conn.execute(sa.delete(table).where(*where))
        else:
            self.delete_newest_blobs(conn, thread_key, most)
        return Left("rest", start)

    def _blobs_for(self, conn: sa.Connection, thread_key: bytes, most: int) -> int:
        """The most blobs that one transaction deletes: fewer, if they are large."""
        b = self.tables.blobs.c
        some = sa.select(sa.func.length(b.data).label("size")).where(b.thread_key == thread_key)
        size = conn.scalar(sa.select(sa.func.avg(some.limit(SAMPLE).subquery().c.size)))
        return max(min(most, int(BYTES / max(size or 0, 1))), 1)

    def _delete_checkpoints_between(
        self, conn: sa.Connection, thread_key: bytes, start: Position | None, end: Position
    ) -> None:
        """Delete checkpoints and their writes from one position to before another."""
        ns_key, checkpoint_id = end
        for table in (self.tables.writes, self.tables.checkpoints):
            c = table.c
            before = [sa.and_(c.ns_key == ns_key, c.checkpoint_id < checkpoint_id)]
            if ns_key:  # not the root, which comes first
                before.append(c.ns_key < ns_key)
            for where in before:
                ranged = sa.and_(c.thread_key == thread_key, where, _from(c, start))
                conn.execute(sa.delete(table).where(ranged))

    def delete_newest_blobs(
        self, conn: sa.Connection, thread_key: bytes, most: int, staying: Collection[bytes] = ()
    ) -> None:
        """Delete blobs of a locked thread, deltas before their bases, as the database chooses.

        `staying` are the keys of a few that stay, and of all their bases.
        """
        params = {"thread": thread_key, "most": most, "staying": list(staying)}
        conn.execute(self._delete_newest_blobs, params)

    def _delete_rest(self, conn: sa.Connection, row: Any) -> None:
        t, thread_key = self.tables, row.thread_key
        if row.is_first:
            self.threads.clear_first_title(conn, thread_key, row.session_id)
        stored = () if self.dialect.cascades_thread_deletes else (t.writes, t.checkpoints, t.blobs)
        for table in (*stored, *self.threads.child_tables(), t.threads):
            conn.execute(sa.delete(table).where(table.c.thread_key == thread_key))
        if row.is_first:
            self.threads.clear_columns(conn, row.session_id)
            self.threads.promote_next(conn, row.session_id)
        self.threads.drop_empty_session(conn, row.session_id)

    # -- retention --------------------------------------------------------------------------

    def threads_of_runs(
        self, conn: sa.Connection, run_ids: Sequence[str], owner_id: str | None
    ) -> list[str]:
        """The ids of the threads, or of an owner's threads, in which runs made checkpoints."""
        c, t = self.tables.checkpoints.c, self.tables.threads.c
        query = sa.select(t.thread_id).where(t.thread_key == c.thread_key)
        if owner_id is not None:
            query = query.where(is_owned(self.tables))
        params = owner_params(owner_id, is_limited=True)
        found: set[str] = set()
        for batch in batches(list(run_ids)):
            found |= set(conn.execute(query.where(c.run_id.in_(batch)), params).scalars())
        return sorted(found)

    def checkpoint_rows(self, conn: sa.Connection, thread_key: bytes) -> Sequence[Any]:
        """All checkpoints of a thread, hidden ones too, with the columns of `Stored`."""
        c = self.tables.checkpoints.c
        columns = (
            c.ns_key, c.checkpoint_id, c.checkpoint_ns, c.parent_checkpoint_id,
            c.root_checkpoint_id, c.run_id, c.hidden, c.refs,
        )  # fmt: skip
        return conn.execute(sa.select(*columns).where(c.thread_key == thread_key)).all()

    def delete_checkpoints(
        self,
        conn: sa.Connection,
        thread_key: bytes,
        doomed: Iterable[Position],
        staying: Iterable[Position],
    ) -> None:
        """Delete checkpoints of a locked thread and their writes; `staying` are all others."""
        others = _by_namespace(staying)
        # Not the writes of checkpoints that are still to come.
        is_there = checkpoint_of_write(self.tables).is_not(None)
        w, c = self.tables.writes, self.tables.checkpoints
        for ns_key, ids in _by_namespace(doomed).items():
            first, last = min(ids), max(ids)
            between = [name for name in others[ns_key] if first < name < last]
            # A range is faster than a list of many ids.
            is_range = len(between) <= BATCH
            for batch in [ids] if is_range else batches(ids):
                for table, condition in ((w, is_there), (c, sa.true())):
                    name = table.c.checkpoint_id
                    ranged = name.between(first, last) & name.not_in(between)
                    is_one = ranged if is_range else name.in_(batch)
                    here = (table.c.thread_key == thread_key, table.c.ns_key == ns_key)
                    conn.execute(sa.delete(table).where(*here, is_one, condition))

    def hide(self, conn: sa.Connection, thread_key: bytes, hidden: Iterable[Position]) -> None:
        """Hide checkpoints of a thread from `list`."""
        c = self.tables.checkpoints
        for ns_key, ids in _by_namespace(hidden).items():
            here = sa.update(c).where(c.c.thread_key == thread_key, c.c.ns_key == ns_key)
            for batch in batches(ids):
                conn.execute(here.where(c.c.checkpoint_id.in_(batch)).values(hidden=True))

    def blob_bases(self, conn: sa.Connection, thread_key: bytes) -> Bases:
        """The base and the depth of every blob of a thread."""
        b = self.tables.blobs.c
        query = sa.select(b.blob_key, b.base_key, b.depth).where(b.thread_key == thread_key)
        return {key: (base_key, depth) for key, base_key, depth in conn.execute(query)}

    def delete_blobs(self, conn: sa.Connection, thread_key: bytes, doomed: Iterable[bytes]) -> None:
        """Delete blobs of a thread, in a transaction that holds the lock of its row."""
        b = self.tables.blobs
        for batch in batches(sorted(doomed)):
            conn.execute(sa.delete(b).where(b.c.thread_key == thread_key, b.c.blob_key.in_(batch)))

    # -- copying ----------------------------------------------------------------------------

    def copy_thread(self, conn: sa.Connection, source: ThreadRef, target: ThreadRef) -> Any:
        """Copy checkpoints, blobs and writes, for the source's owner if the call names none.

        Returns:
            The source's row, locked; None if there is no source that the call may read.

        Raises:
            AccessDeniedError: The target belongs to another owner.
        """
        row = self.threads.lock_existing(conn, source._replace(owner_id=None))
        if row is None:
            return None
        owner_id = self.threads.owner_of(conn, row)
        if not source.admits(owner_id):
            return None
        if target.owner_id is None:
            target = target._replace(owner_id=owner_id)
        self.threads.lock(conn, target, row.created_at)
        for table in (self.tables.blobs, self.tables.checkpoints, self.tables.writes):
            old = table.alias("old")
            columns = [c for c in old.c if c.name != "thread_key"]
            query = sa.select(sa.bindparam("target", target.key, old.c.thread_key.type), *columns)
            query = query.where(old.c.thread_key == source.key)
            if table is self.tables.blobs:
                query = query.order_by(old.c.depth)  # bases before their deltas
            key = [c.name for c in table.primary_key]
            names = ["thread_key", *(c.name for c in columns)]
            conn.execute(self.dialect.insert_ignore(table, key).from_select(names, query))
        return row

    def row_times(self, conn: sa.Connection, thread_key: bytes) -> dict[bytes, datetime]:
        """The times of a thread's messages and pages, by `row_key`."""
        m, v = self.tables.messages.c, self.tables.versions.c
        pages = sa.select(v.row_key, v.created_at).where(v.thread_key == thread_key)
        messages = sa.select(m.row_key, m.timestamp).where(m.thread_key == thread_key)
        return {row.row_key: row.timestamp for row in conn.execute(messages.union_all(pages))}


def _by_namespace(positions: Iterable[Position]) -> defaultdict[bytes, list[str]]:
    """The ids of checkpoints by namespace key."""
    found: defaultdict[bytes, list[str]] = defaultdict(list)
    for ns_key, checkpoint_id in positions:
        found[ns_key].append(checkpoint_id)
    return found


def _from(c: Any, start: Position | None) -> sa.ColumnElement[bool]:
    """A condition: a row is at a position or after it."""
    if start is None:
        return sa.true()
    ns_key, checkpoint_id = start
    position = sa.tuple_(
        sa.literal(ns_key, c.ns_key.type), sa.literal(checkpoint_id, c.checkpoint_id.type)
    )
    return sa.tuple_(c.ns_key, c.checkpoint_id) >= position
