"""Storing a batch on PostgreSQL as one statement: one round trip, and no transaction to begin."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator

from langgraph_session_saver.schema.column_types import Json
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.compiled import Statement
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.storage.batch import (
    FIRST_TITLE,
    Batch,
    Upsert,
    orphan_params,
    revision_check,
    unless_titled,
)
from langgraph_session_saver.storage.in_turn import InTurn, delete_orphaned_writes, has_one_key
from langgraph_session_saver.storage.parameters import Rows, later, row_params

FEW = 4
"""Rows up to which each value is a parameter; the columns of more rows are arrays."""


class SingleStatement(InTurn):
    """Runs a batch as one INSERT, with everything else in CTEs before it.

    All CTEs see the database as it is when the statement starts. If the revision check has to wait
    for the lock of the thread's row, PostgreSQL evaluates it again with the row as it is then: the
    revision differs, and nothing is stored. So what a successful statement saw is what is there.
    """

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        super().__init__(tables, dialect)
        self._statements: dict[Any, Statement] = {}

    def run(self, conn: sa.Connection, batch: Batch) -> bool:
        """As `InTurn.run`."""
        if batch.is_large:
            return super().run(conn, batch)
        shape = _shape(batch)
        statement = self._statements.get(shape)
        if statement is None:
            statement = self._statements[shape] = Statement(self._build(batch))
        params = orphan_params(batch.orphans_before)
        if batch.writes_check is not None:
            params |= batch.writes_check.params()
        if batch.revision_check is not None:
            params |= batch.revision_check.params()
            params |= _prefixed("thread", batch.revision_check.values)
        if batch.session is not None:
            session_id, new = batch.session
            params |= {"in_session": session_id, **_prefixed("session", new)}
        for number, (upsert, rows) in enumerate(batch.upserts):
            params |= _params(f"upsert{number}", upsert.columns, rows)
        for number, (_, rows) in enumerate(batch.deletes):
            params |= _params(f"delete{number}", tuple(rows[0]), rows)
        # The count is that of the last upsert, which always has a row.
        is_checked = batch.revision_check is not None or batch.writes_check is not None
        return statement.run(conn, params) > 0 or not is_checked

    def _build(self, batch: Batch) -> sa.Insert:
        checked: sa.ColumnElement[bool] = sa.true()
        ctes: list[sa.CTE] = []
        if batch.revision_check is not None:
            threads = self._tables.threads
            check = revision_check(self._tables, batch.revision_check.shape)
            check = check.values(_new_values("thread", threads, batch.revision_check.values))
            passed = check.returning(threads.c.thread_key).cte("passed")
            checked = sa.select(passed.c.thread_key).exists()
        if batch.session is not None:
            sessions = self._tables.sessions
            its_row = sessions.c.id == sa.bindparam("in_session", type_=sa.Text())
            new = _new_values("session", sessions, batch.session[1])
            ctes.append(
                sa.update(sessions).where(its_row, checked).values(new).cte("updated_session")
            )
        others: list[sa.ColumnElement[bool]] = []
        for number, (table, rows) in enumerate(batch.deletes):
            name = f"delete{number}"
            is_deleted = _has_given_key(name, table, tuple(rows[0]), len(rows))
            if batch.orphans_before is not None and table is self._tables.writes:
                others.append(is_deleted)
            else:
                ctes.append(sa.delete(table).where(is_deleted, checked).cte(name))
        if batch.orphans_before is not None:
            # The deleted checkpoints still seem to be there, so their writes are named.
            orphans = delete_orphaned_writes(self._tables, *others)
            ctes.append(orphans.where(checked).cte("orphans"))
        *first, last = [
            self._insert_given(f"upsert{number}", upsert, len(rows), batch, checked)
            for number, (upsert, rows) in enumerate(batch.upserts)
        ]
        ctes += [insert.cte(f"upserted{number}") for number, insert in enumerate(first)]
        return last.add_cte(*ctes)

    def _insert_given(
        self, name: str, upsert: Upsert, count: int, batch: Batch, checked: sa.ColumnElement[bool]
    ) -> sa.Insert:
        rows = _given(name, upsert.table, upsert.columns, count)
        if batch.writes_check is not None:
            rows = rows.where(batch.writes_check.condition(self._tables))
        insert, columns = upsert.statement(self._dialect), list(upsert.columns)
        return insert.from_select(columns, rows.where(checked), include_defaults=False)


def _shape(batch: Batch) -> Any:
    """A key that is equal for batches of the same SQL."""
    check = batch.revision_check
    return (
        None if check is None else (tuple(check.values), check.shape),
        tuple((upsert, min(len(rows), FEW + 1)) for upsert, rows in batch.upserts),
        None if batch.session is None else tuple(batch.session[1]),
        tuple((table, tuple(rows[0]), min(len(rows), FEW + 1)) for table, rows in batch.deletes),
        None if batch.writes_check is None else batch.writes_check.shape,
        batch.orphans_before is not None,
    )


def _new_values(name: str, table: sa.Table, columns: Collection[str]) -> dict[str, Any]:
    """Parameters for the new values of some columns."""
    new: dict[str, Any] = {
        column: sa.bindparam(f"{name}_{column}", type_=table.c[column].type)
        for column in columns
        if column != FIRST_TITLE
    }
    if FIRST_TITLE in columns:
        title = sa.bindparam(f"{name}_{FIRST_TITLE}", type_=table.c.title.type)
        new["title"] = unless_titled(table, title)
    return new | {"updated_at": later(table.c.updated_at, new["updated_at"])}


def _prefixed(name: str, new: dict[str, Any]) -> dict[str, Any]:
    """The values of `_new_values`."""
    return {f"{name}_{column}": value for column, value in new.items()}


def _has_given_key(
    name: str, table: sa.Table, key: Sequence[str], count: int
) -> sa.ColumnElement[bool]:
    """A condition: a row has one of several keys."""
    if count <= FEW:
        return has_one_key(name, table, key, count)
    return sa.tuple_(*(table.c[column] for column in key)).in_(_given(name, table, key, count))


def _given(name: str, table: sa.Table, names: Sequence[str], count: int) -> sa.Select[Any]:
    """Select rows that are parameters.

    A few rows are a list of values, which is cheaper to send; more are an array of each column's
    values, which is the same SQL for any number of rows.
    """
    columns = [
        sa.column(column_name, _plain_type(table.c[column_name].type)) for column_name in names
    ]
    if count <= FEW:
        rows = [
            tuple(
                sa.cast(sa.bindparam(f"{name}_{n}_{c.name}", type_=c.type), c.type) for c in columns
            )
            for n in range(count)
        ]
        return sa.select(*sa.values(*columns, name=f"given_{name}").data(rows).c)
    arrays = [sa.bindparam(f"{name}_{c.name}", type_=postgresql.ARRAY(c.type)) for c in columns]
    return sa.select(*sa.func.unnest(*arrays).table_valued(*columns).render_derived().c)


def _params(name: str, columns: tuple[str, ...], rows: Rows) -> dict[str, Any]:
    """The values of the parameters of `_given`."""
    if len(rows) <= FEW:
        return row_params(name, columns, rows)
    return {f"{name}_{column}": [row[column] for row in rows] for column in columns}


def _plain_type(type_: Any) -> Any:
    """A column's type without length and collation, which a cast would not take."""
    if isinstance(type_, sa.LargeBinary):
        return postgresql.BYTEA()
    if isinstance(type_, Json):
        return type_
    if isinstance(type_, TypeDecorator):
        return postgresql.TIMESTAMP(timezone=True)
    return sa.Text() if isinstance(type_, sa.String) else type_
