"""Storing a batch one statement after another, in the caller's transaction.

A process that saved a thread's last checkpoint knows everything about the thread's row that a step
needs. Instead of locking and reading the row, it updates the row on condition that the revision is
still the one it knows. If it is not, nothing is stored, and the step is stored under the lock of
the row. PostgreSQL runs a batch as one statement (`single_statement`), MariaDB as one block
(`block`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    or_,
    select,
    union_all,
    update,
)

from langgraph_session_saver.encoding.keys import CheckpointKey
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.compiled import Statement, Statements, batches
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.storage.batch import (
    Batch,
    RevisionCheck,
    Upsert,
    is_not_pruned,
    not_pruned_params,
    orphan_params,
    revision_check,
)
from langgraph_session_saver.storage.parameters import Rows, padded, row_binds, row_params

KEYS_OF_ONE_DELETE = 64

Part = tuple[Statement, Sequence[Mapping[str, Any]]]
"""A statement, and the parameters of each time that it is run."""


class InTurn:
    """Runs the statements of a batch one after another."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._tables = tables
        self._dialect = dialect
        sessions = tables.sessions
        self._update_session = Statements(
            update(sessions).where(sessions.c.id == bindparam("session"))
        )
        self._delete_orphans = Statement(delete_orphaned_writes(tables))
        # Each of these is compiled for every combination of arguments that comes up.
        self._revision_check = cache(lambda shape: Statements(revision_check(tables, shape)))
        self._insert_row = cache(
            lambda upsert: Statement(upsert.statement(dialect), upsert.columns)
        )
        self._delete = cache(
            lambda table, key, count: Statement(
                delete(table).where(has_one_key("row", table, key, count))
            )
        )
        self._insert = cache(self._build_insert)

    def run(self, conn: Connection, batch: Batch) -> bool:
        """Store a batch; returns False, storing nothing, if the revision check fails."""
        if batch.revision_check is not None:
            statement, params = self._check(batch.revision_check)
            if not statement.run(conn, params):
                return False
        for statement, rows in self._parts(batch):
            statement.run_each(conn, rows)
        return True

    def put(self, conn: Connection, upsert: Upsert, rows: Rows) -> None:
        """Store rows of one table."""
        self.run(conn, Batch([(upsert, rows)]))

    def change_session(self, conn: Connection, session_id: str, values: Mapping[str, Any]) -> None:
        """Update columns of a session's row."""
        self._update_session.of(values).run(conn, {"session": session_id, **values})

    def delete_orphans(self, conn: Connection, thread_key: bytes, before: str) -> None:
        """Delete writes that have no checkpoint and are older than the given one."""
        self._delete_orphans.run(conn, orphan_params((thread_key, before)))

    def _check(self, check: RevisionCheck) -> tuple[Statement, dict[str, Any]]:
        statement = self._revision_check(check.shape).of(check.values)
        return statement, {**check.params(), **check.values}

    def _parts(self, batch: Batch) -> Iterator[Part]:
        """The statements after the revision check."""
        for upsert, rows in batch.upserts:
            yield self._upsert(upsert, rows, batch.unless_pruned)
        if batch.session is not None:
            session_id, values = batch.session
            yield self._update_session.of(values), [{"session": session_id, **values}]
        for table, rows in batch.deletes:
            if table is self._tables.writes and batch.orphans_before is not None:
                before = batch.orphans_before[1]
                if all(row["checkpoint_id"] < before for row in rows):
                    continue  # orphans, now that their checkpoints are deleted
            key = tuple(rows[0])
            for some in map(padded, batches(rows, KEYS_OF_ONE_DELETE)):
                yield self._delete(table, key, len(some)), [row_params("row", key, some)]
        if batch.orphans_before is not None:
            yield self._delete_orphans, [orphan_params(batch.orphans_before)]

    def _upsert(
        self, upsert: Upsert, rows: Rows, unless_pruned: CheckpointKey | None = None
    ) -> Part:
        count = len(rows) if upsert.fits_one_statement(rows) else 1
        if count == 1 and unless_pruned is None:
            return self._insert_row(upsert), rows  # a row is its own parameters
        statement = self._insert(upsert, count, unless_pruned=unless_pruned is not None)
        condition = not_pruned_params(unless_pruned)
        return statement, [
            row_params("row", upsert.columns, some) | condition for some in batches(rows, count)
        ]

    def _build_insert(self, upsert: Upsert, count: int, *, unless_pruned: bool) -> Statement:
        insert = upsert.statement(self._dialect)
        rows = row_binds("row", upsert.table, upsert.columns, count)
        if not unless_pruned:
            return Statement(insert.values(rows))
        given = self._dialect.select_parameter
        selects = (select(*(given(p).label(name) for name, p in row.items())) for row in rows)
        # One condition for all rows: MariaDB would evaluate one of each row each time.
        given_rows = union_all(*selects).subquery("given")
        return Statement(
            insert.from_select(
                list(upsert.columns),
                select(*given_rows.c).where(is_not_pruned(self._tables)),
                include_defaults=False,
            )
        )


def delete_orphaned_writes(tables: Tables, *others: ColumnElement[bool]) -> Delete:
    """Delete writes of a thread without a checkpoint that are older than one, and some others."""
    w, c = tables.writes.c, tables.checkpoints.c
    # A scalar subquery, which is looked up for each row: PostgreSQL turns EXISTS into a join and,
    # without statistics, into a scan of all checkpoints.
    its_checkpoint = select(c.checkpoint_id).where(
        c.thread_key == w.thread_key, c.ns_key == w.ns_key, c.checkpoint_id == w.checkpoint_id
    )
    is_orphan = and_(
        w.checkpoint_id < bindparam("orphans_before", type_=Text()),
        its_checkpoint.scalar_subquery().is_(None),
    )
    of_thread = w.thread_key == bindparam("orphans_thread", type_=w.thread_key.type)
    return delete(tables.writes).where(of_thread, or_(is_orphan, *others))


def has_one_key(name: str, table: Table, key: Sequence[str], count: int) -> ColumnElement[bool]:
    """A condition: a row has one of several keys, all of one thread."""
    c, (thread, *rest) = table.c, key
    rows = row_binds(name, table, key, count)
    of_thread = c[thread] == rows[0][thread]  # once: MariaDB is slow if every key has it
    if len(rest) == 1:
        return and_(of_thread, c[rest[0]].in_([row[rest[0]] for row in rows]))
    return and_(of_thread, or_(*(and_(*(c[n] == row[n] for n in rest)) for row in rows)))
