"""The statements on all that a thread stores: what retention reads of it, deletes and copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

from sqlalchemy import Connection, and_, bindparam, delete, func, select, update

from langgraph_session_saver.dialects import Dialect
from langgraph_session_saver.retention import Bases
from langgraph_session_saver.statements import BATCH, batches
from langgraph_session_saver.tables import Tables
from langgraph_session_saver.threads import ThreadRef, Threads

PIECE = 5_000
"""Checkpoints, or blobs, that one transaction deletes: about 0.1 s."""

Left = Literal["nothing", "checkpoints", "blobs", "thread"]


class ThreadRows:
    """Reads, deletes and copies a thread's rows."""

    def __init__(self, tables: Tables, dialect: Dialect, threads: Threads) -> None:
        self.tables = tables
        self.dialect = dialect
        self.threads = threads

    def delete_thread(
        self, conn: Connection, thread_key: bytes, only_if: Callable[[Any], bool] | None = None
    ) -> Left:
        """Delete a thread, what it projected, and its session if the saver made that for it.

        Args:
            conn: A transaction, which takes `PIECE` checkpoints at most.
            thread_key: The thread.
            only_if: What must be true of its row; else the thread stays.

        Returns:
            What is left because it is too much to be deleted here: checkpoints are for the same
            call again, blobs for `delete_blobs` first.
        """
        row = self.threads.find(conn, thread_key)
        if row is None:
            return "nothing"
        if only_if is not None and not only_if(row):
            return "thread"
        left: Left = "nothing"
        if self._delete_checkpoints_piece(conn, thread_key):
            left = "checkpoints"
        elif self._has_many_blobs(conn, thread_key):
            left = "blobs"
        if left == "nothing":
            self._delete_rest(conn, row)
        else:
            self.threads.change(conn, thread_key, {"updated_at": row.updated_at})
        return left

    def _delete_checkpoints_piece(self, conn: Connection, thread_key: bytes) -> bool:
        """Delete the first of too many checkpoints with their writes; False if they are few."""
        t, c = self.tables, self.tables.checkpoints.c
        query = select(c.ns_key, c.checkpoint_id).where(c.thread_key == thread_key)
        rows = conn.execute(query.order_by(c.ns_key, c.checkpoint_id).limit(PIECE + 1)).all()
        if len(rows) <= PIECE:
            return False
        last = {row.ns_key: row.checkpoint_id for row in rows[:PIECE]}
        for ns_key, checkpoint_id in last.items():
            for table in (t.writes, t.checkpoints):
                of_thread = (table.c.thread_key == thread_key, table.c.ns_key == ns_key)
                until = table.c.checkpoint_id <= checkpoint_id
                conn.execute(delete(table).where(*of_thread, until))
        return True

    def _has_many_blobs(self, conn: Connection, thread_key: bytes) -> bool:
        b = self.tables.blobs.c
        some = select(b.blob_key).where(b.thread_key == thread_key).limit(PIECE + 1).subquery()
        return bool(conn.execute(select(func.count()).select_from(some)).scalar_one() > PIECE)

    def _delete_rest(self, conn: Connection, row: Any) -> None:
        t, thread_key = self.tables, row.thread_key
        for table in (t.writes, t.checkpoints, *self.threads.child_tables()):
            conn.execute(delete(table).where(table.c.thread_key == thread_key))
        its_blobs = t.blobs.c.thread_key == thread_key
        conn.execute(self.dialect.delete_in_order(t.blobs, its_blobs, t.blobs.c.depth))
        conn.execute(delete(t.threads).where(t.threads.c.thread_key == thread_key))
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
        """All checkpoints of a thread, hidden ones too, without what they hold."""
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
        for ns_key, ids in by_namespace.items():
            first, last = min(ids), max(ids)
            between = [name for name in others.get(ns_key, ()) if first < name < last]
            ranges: list[Any] = [c.c.checkpoint_id.in_(batch) for batch in batches(ids)]
            if len(between) <= BATCH:
                # As a range: to name 5,000 ids takes longer than to delete them.
                name = c.c.checkpoint_id
                ranges = [and_(name.between(first, last), name.not_in(between))]
            for doomed_here in ranges:
                where = (c.c.thread_key == thread_key, c.c.ns_key == ns_key, doomed_here)
                # Of checkpoints that are there: writes may come before their checkpoint does.
                theirs = w.c.checkpoint_id.in_(select(c.c.checkpoint_id).where(*where))
                of_thread = (w.c.thread_key == thread_key, w.c.ns_key == ns_key)
                conn.execute(delete(w).where(*of_thread, theirs))
                conn.execute(delete(c).where(*where))

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
        )
        return {row.blob_key: (row.base_key, row.depth) for row in rows}

    def delete_blobs(
        self,
        conn: Connection,
        thread_key: bytes,
        doomed: Mapping[bytes, int],
        staying: Bases,
    ) -> None:
        """Delete blobs of a thread, changes before what they change.

        Args:
            conn: A transaction that holds the thread's row.
            thread_key: The thread.
            doomed: Keys and depths of those to delete.
            staying: All the others within the range of their keys.
        """
        b = self.tables.blobs.c
        deepest_first = sorted(doomed, key=lambda key: (-doomed[key], key))
        for depth, found in groupby(deepest_first, key=doomed.__getitem__):
            keys = list(found)
            others = [k for k, (_, at) in staying.items() if at == depth and keys[0] < k < keys[-1]]
            of_depth = (b.thread_key == thread_key, b.depth == depth)
            if not depth and len(keys) > BATCH >= len(others):
                wanted = [b.blob_key.between(keys[0], keys[-1]), b.blob_key.not_in(others)]
                conn.execute(delete(self.tables.blobs).where(*of_depth, *wanted))
                continue
            for batch in batches(keys):
                conn.execute(
                    delete(self.tables.blobs).where(
                        b.thread_key == thread_key, b.blob_key.in_(batch)
                    )
                )

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
                query = query.order_by(old.c.depth)  # InnoDB checks each row as it comes
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
