"""Storing a batch one statement after another, in the caller's transaction.

A process that saved a thread's last checkpoint knows everything about the thread's row that a step
needs. Instead of locking and reading the row, it updates the row on condition that the revision is
still the one it knows. If it is not, nothing is stored, and the step is stored under the lock of
the row. PostgreSQL runs a batch as one statement (`single_statement`), MariaDB as one block
(`block`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.compiled import Statement, Statements, batches
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.storage.batch import (
    FIRST_TITLE,
    Batch,
    RevisionCheck,
    Upsert,
    WritesCheck,
    checkpoint_of_write,
    orphan_params,
    revision_check,
    unless_titled,
)
from langgraph_session_saver.storage.parameters import Rows, padded, row_binds, row_params, updating
from langgraph_session_saver.storage.pieces import AT_ONCE, PieceRows

KEYS_OF_ONE_DELETE = 64

Part = tuple[Statement, Sequence[Mapping[str, Any]]]
"""A statement, and the parameters of each time that it is run."""


class InTurn:
    """Runs the statements of a batch one after another."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._tables = tables
        self._dialect = dialect
        sessions = tables.sessions
        update = updating(sa.update(sessions)).where(sessions.c.id == sa.bindparam("session"))
        first_title = sa.bindparam(FIRST_TITLE, type_=sessions.c.title.type)
        self._update_session = Statements(update)
        self._update_untitled = Statements(
            update.values(title=unless_titled(sessions, first_title))
        )
        self._delete_orphans = Statement(delete_orphaned_writes(tables))
        # Each of these is compiled for every combination of arguments that comes up.
        self._revision_check = cache(
            lambda shape: Statements(updating(revision_check(tables, shape)))
        )
        self._insert_row = cache(
            lambda upsert: Statement(upsert.statement(dialect), upsert.columns)
        )
        self._delete = cache(
            lambda table, key, count: Statement(
                sa.delete(table).where(has_one_key("row", table, key, count))
            )
        )
        self._inserts: dict[Any, Statement] = {}

    def run(self, conn: sa.Connection, batch: Batch) -> bool:
        """Store a batch; returns False, storing nothing, if the revision check fails.

        Returns False also if there is a `writes_check` and no row was stored: it failed, or the
        writes were stored before.
        """
        if batch.revision_check is not None:
            statement, params = self._check(batch.revision_check)
            if not statement.run(conn, params):
                return False
        stored = 0
        for statement, rows in self._parts(batch):
            stored = statement.run_each(conn, rows)
        return batch.writes_check is None or stored > 0

    def put(self, conn: sa.Connection, upsert: Upsert, rows: Rows) -> None:
        """Store rows of one table."""
        self.run(conn, Batch([(upsert, rows)]))

    def change_session(
        self, conn: sa.Connection, session_id: str, values: Mapping[str, Any]
    ) -> None:
        """Update columns of a session's row, `updated_at` among them."""
        self._session_update(values).run(conn, {"session": session_id, **values})

    def delete_orphans(self, conn: sa.Connection, thread_key: bytes, before: str) -> None:
        """Delete writes that have no checkpoint and are older than the given one."""
        self._delete_orphans.run(conn, orphan_params((thread_key, before)))

    def _check(self, check: RevisionCheck) -> tuple[Statement, dict[str, Any]]:
        statement = self._revision_check(check.shape).of(check.values)
        return statement, {**check.params(), **check.values}

    def _parts(self, batch: Batch) -> Iterator[Part]:
        """The statements after the revision check."""
        for upsert, rows in batch.upserts:
            for some in batches(rows, AT_ONCE) if isinstance(rows, PieceRows) else [rows]:
                yield self._upsert(upsert, some, batch.writes_check)
        if batch.session is not None:
            session_id, values = batch.session
            yield self._session_update(values), [{"session": session_id, **values}]
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

    def _session_update(self, names: Collection[str]) -> Statement:
        columns = [name for name in names if name != FIRST_TITLE]
        return (self._update_untitled if FIRST_TITLE in names else self._update_session).of(columns)

    def _upsert(self, upsert: Upsert, rows: Rows, check: WritesCheck | None) -> Part:
        count = len(rows) if upsert.fits_one_statement(rows) else 1
        if count == 1 and check is None:
            return self._insert_row(upsert), rows  # a row is its own parameters
        params = {} if check is None else check.params()
        shape = (upsert, count, None if check is None else check.shape)
        statement = self._inserts.get(shape)
        if statement is None:
            statement = self._inserts[shape] = self._build_insert(upsert, count, check)
        return statement, [
            row_params("row", upsert.columns, some) | params for some in batches(rows, count)
        ]

    def _build_insert(self, upsert: Upsert, count: int, check: WritesCheck | None) -> Statement:
        insert = upsert.statement(self._dialect)
        rows = row_binds("row", upsert.table, upsert.columns, count)
        if check is None:
            return Statement(insert.values(rows))
        given = self._dialect.select_parameter
        selects = [sa.select(*(given(p).label(name) for name, p in row.items())) for row in rows]
        if count > 1:
            # One condition for all rows: MariaDB would evaluate one of each row each time.
            selects = [sa.select(*sa.union_all(*selects).subquery("given").c)]
        given_rows = selects[0].where(check.condition(self._tables))
        return Statement(
            insert.from_select(list(upsert.columns), given_rows, include_defaults=False)
        )


def delete_orphaned_writes(tables: Tables, *others: sa.ColumnElement[bool]) -> sa.Delete:
    """Delete writes of a thread without a checkpoint that are older than one, and some others."""
    w = tables.writes.c
    is_orphan = sa.and_(
        w.checkpoint_id < sa.bindparam("orphans_before", type_=sa.Text()),
        checkpoint_of_write(tables).is_(None),
    )
    of_thread = w.thread_key == sa.bindparam("orphans_thread", type_=w.thread_key.type)
    return sa.delete(tables.writes).where(of_thread, sa.or_(is_orphan, *others))


def has_one_key(
    name: str, table: sa.Table, key: Sequence[str], count: int
) -> sa.ColumnElement[bool]:
    """A condition: a row has one of several keys, all of one thread."""
    c, (thread, *rest) = table.c, key
    rows = row_binds(name, table, key, count)
    of_thread = c[thread] == rows[0][thread]  # once: MariaDB is slow if every key has it
    if len(rest) == 1:
        return sa.and_(of_thread, c[rest[0]].in_([row[rest[0]] for row in rows]))
    return sa.and_(of_thread, sa.or_(*(sa.and_(*(c[n] == row[n] for n in rest)) for row in rows)))
