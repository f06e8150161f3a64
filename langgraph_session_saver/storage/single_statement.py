"""Storing a step in as few statements as its database allows.

A process that saved a thread's last checkpoint knows all that a step needs of the thread's row.
Instead of locking and reading the row, it changes it on condition that nobody else has: the
revision is still the one it knows. Where it is not, nothing is written, and the step is stored
as one of a thread of which nothing is known (`Operations.put`).

PostgreSQL takes all of it as one statement, of a part for each table: one round trip, and no
transaction to open and end. MariaDB takes a block (`blocks`); the others run the parts in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    LargeBinary,
    String,
    Table,
    Text,
    bindparam,
    cast,
    column,
    delete,
    func,
    select,
    true,
    tuple_,
    update,
    values,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator

from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.compiled import Statement
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.storage.batch import (
    FEW,
    Batch,
    Removal,
    Rows,
    Store,
    is_not_pruned,
    pruned_params,
    revision_check_on,
)
from langgraph_session_saver.storage.in_turn import InTurn, _among, _delete_late, _params_each


class SingleStatement(InTurn):
    """Runs a batch as one statement: an INSERT, with the other parts as CTEs before it.

    All parts see the database as it is when the statement starts. Where the gate then has to wait
    for the thread's row, its conditions are looked at again with that row as it has become: its
    revision is another, and nothing is stored. So whoever passes has seen what there is.
    """

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        super().__init__(tables, dialect)
        self._shapes: dict[Any, Statement] = {}

    def run(self, conn: Connection, batch: Batch) -> bool:
        """As `InTurn.run`."""
        shape = _shape(batch)
        statement = self._shapes.get(shape)
        if statement is None:
            statement = self._shapes[shape] = Statement(self._build(batch))
        params = pruned_params(batch.unless_pruned)
        if batch.late is not None:
            params |= {"late_thread": batch.late[0], "late_before": batch.late[1]}
        if batch.revision_check is not None:
            params |= batch.revision_check.params()
            params |= {
                f"thread_{name}": value for name, value in batch.revision_check.values.items()
            }
        if batch.session is not None:
            session_id, values = batch.session
            params |= {"in_session": session_id}
            params |= {f"session_{name}": value for name, value in values.items()}
        for number, (store, rows) in enumerate(batch.stores):
            params |= _params(f"p{number}", store.columns, rows)
        for number, (removal, rows) in enumerate(batch.removals):
            params |= _params(f"r{number}", removal.key, rows)
        # Counts the rows of the last store, of which there is always at least one.
        return statement.run(conn, params) > 0 or batch.revision_check is None

    def put(self, conn: Connection, store: Store, rows: Rows) -> None:
        """Store rows of one table, in one round trip however many."""
        self.run(conn, Batch([(store, rows)]))

    def _build(self, batch: Batch) -> Any:
        head = None
        if batch.revision_check is not None:
            c = self._tables.threads.c
            revision_check = revision_check_on(
                self._tables, batch.revision_check.dependencies.shape
            )
            values = {
                name: bindparam(f"thread_{name}", type_=c[name].type)
                for name in batch.revision_check.values
            }
            head = revision_check.values(values).returning(c.thread_key).cte("head")
        ctes = []
        if batch.session is not None:
            ctes.append(self._session_part(batch.session[1], head))
        also: list[Any] = []
        for number, (removal, rows) in enumerate(batch.removals):
            if batch.late is not None and removal.table is self._tables.writes:
                also.append(_matches(f"r{number}", removal, len(rows)))
            else:
                ctes.append(_removal_part(f"r{number}", removal, head, len(rows)))
        if batch.late is not None:
            # One look at the thread's writes for both: the checkpoints still seem to be there.
            ctes.append(_delete_late(self._tables, *also).where(_passed(head)).cte("late"))
        *others, last = [
            self._store_part(f"p{number}", store, head, batch, len(rows))
            for number, (store, rows) in enumerate(batch.stores)
        ]
        ctes += [part.cte(f"stored_{number}") for number, part in enumerate(others)]
        return last.add_cte(*ctes)

    def _session_part(self, names: Iterable[str], head: Any) -> Any:
        s = self._tables.sessions
        values = {name: bindparam(f"session_{name}", type_=s.c[name].type) for name in names}
        its_row = s.c.id == bindparam("in_session", type_=Text())
        return update(s).where(its_row, _passed(head)).values(values).cte("in_session")

    def _store_part(self, prefix: str, store: Store, head: Any, batch: Batch, count: int) -> Any:
        rows = _given(prefix, store.table, store.columns, count)
        if batch.unless_pruned is not None:
            rows = rows.where(is_not_pruned(self._tables))
        if head is not None:
            rows = rows.where(_passed(head))
        insert = store.statement(self._dialect)
        return insert.from_select(list(store.columns), rows, include_defaults=False)


def _shape(batch: Batch) -> Any:
    """What two batches that are the same statement have in common."""
    revision_check = batch.revision_check
    return (
        None
        if revision_check is None
        else (tuple(revision_check.values), revision_check.dependencies.shape),
        tuple((store, min(len(rows), FEW + 1)) for store, rows in batch.stores),
        None if batch.session is None else tuple(batch.session[1]),
        tuple((removal, min(len(rows), FEW + 1)) for removal, rows in batch.removals),
        batch.unless_pruned is not None,
        batch.late is not None,
    )


def _removal_part(prefix: str, removal: Removal, head: Any, count: int) -> Any:
    doomed = delete(removal.table).where(_matches(prefix, removal, count), _passed(head))
    return doomed.cte(f"removed_{prefix}")


def _matches(prefix: str, removal: Removal, count: int) -> Any:
    """Whether a row has one of some keys, however many: as `_given` has them."""
    if count <= FEW:
        return _among(prefix, removal, count)
    table = removal.table
    given = _given(prefix, table, removal.key, count)
    return tuple_(*(table.c[name] for name in removal.key)).in_(given)


def _passed(head: Any) -> Any:
    return true() if head is None else select(head.c.thread_key).exists()


def _given(prefix: str, table: Table, names: Sequence[str], count: int) -> Any:
    """Rows that are parameters: a few value by value, more as an array for each column.

    Arrays make it one text for any number of rows; single values are cheaper to send.
    """
    types = [_plain_type(table.c[name].type) for name in names]
    columns = [column(name, type_) for name, type_ in zip(names, types, strict=True)]
    if count <= FEW:
        rows = [
            tuple(
                cast(bindparam(f"{prefix}_{row}_{c.name}", type_=c.type), c.type) for c in columns
            )
            for row in range(count)
        ]
        return select(*values(*columns, name=f"given_{prefix}").data(rows).c)
    arrays = [bindparam(f"{prefix}_{c.name}", type_=postgresql.ARRAY(c.type)) for c in columns]
    return select(*func.unnest(*arrays).table_valued(*columns).render_derived().c)


def _params(prefix: str, names: tuple[str, ...], rows: Rows) -> dict[str, Any]:
    if len(rows) <= FEW:
        return _params_each(prefix, names, rows)
    return {f"{prefix}_{name}": [row[name] for row in rows] for name in names}


def _plain_type(type_: Any) -> Any:
    """A column's type without length and collation, which a cast would not take."""
    if isinstance(type_, LargeBinary):
        return postgresql.BYTEA()
    if isinstance(type_, TypeDecorator):
        return postgresql.TIMESTAMP(timezone=True)
    return Text() if isinstance(type_, String) else type_
