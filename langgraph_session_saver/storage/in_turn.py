"""Storing a step in as few statements as its database allows.

A process that saved a thread's last checkpoint knows all that a step needs of the thread's row.
Instead of locking and reading the row, it changes it on condition that nobody else has: the
revision is still the one it knows. Where it is not, nothing is written, and the step is stored
as one of a thread of which nothing is known (`Operations.put`).

PostgreSQL takes all of it as one statement, of a part for each table: one round trip, and no
transaction to open and end. MariaDB takes a block (`blocks`); the others run the parts in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    Connection,
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
    Dependencies,
    Part,
    Removal,
    RevisionCheck,
    Rows,
    Store,
    dependency_conditions,
    fit_one_insert,
    is_not_pruned,
    pruned_params,
    revision_check_on,
)

_REMOVED_AT_ONCE = (1, 4, 20, 64)
"""Keys of one DELETE: it is compiled for each of these numbers, and the last key is repeated."""


class InTurn:
    """Runs a batch's parts one after another, in the caller's transaction."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._tables = tables
        self._dialect = dialect
        self._inserts: dict[tuple[Store, int, bool], Statement] = {}
        self._removals: dict[tuple[Removal, int], Statement] = {}
        s = tables.sessions
        self._sessions = Statements(update(s).where(s.c.id == bindparam("session")))
        self._gates: dict[Any, Statements] = {}
        self._built_on: dict[tuple[Store, Any], Statement] = {}
        self._late = Statement(_delete_late(tables))

    def run(self, conn: Connection, batch: Batch) -> bool:
        """Store a batch; False, and nothing is written, if its thread is not as it was known."""
        if batch.revision_check is not None:
            statement, params = self._gate(batch.revision_check)
            if not statement.run(conn, params):
                return False
        for statement, rows in self._parts(batch):
            statement.run_each(conn, rows)
        return True

    def _gate(self, revision_check: RevisionCheck) -> tuple[Statement, Mapping[str, Any]]:
        shape = revision_check.dependencies.shape
        statements = self._gates.get(shape)
        if statements is None:
            statements = self._gates[shape] = Statements(revision_check_on(self._tables, shape))
        return statements.of(revision_check.values), {
            **revision_check.params(),
            **revision_check.values,
        }

    def _parts(self, batch: Batch) -> Iterator[Part]:
        """What follows the gate."""
        for store, rows in batch.stores:
            yield self._insert_of(store, rows, batch.unless_pruned)
        if batch.session is not None:
            yield self._session_change(*batch.session)
        for removal, rows in batch.removals:
            if not self._are_late(batch, removal, rows):
                yield from self._removals_of(removal, rows)
        if batch.late is not None:
            yield self._late, [{"late_thread": batch.late[0], "late_before": batch.late[1]}]

    def _are_late(self, batch: Batch, removal: Removal, rows: Rows) -> bool:
        """Whether these are writes that go as late ones, once their checkpoints are gone."""
        if batch.late is None or removal.table is not self._tables.writes:
            return False
        before = batch.late[1]
        return all(row["checkpoint_id"] < before for row in rows)

    def change_session(self, conn: Connection, session_id: str, values: Mapping[str, Any]) -> None:
        """Change columns of a session's row."""
        statement, rows = self._session_change(session_id, values)
        statement.run_each(conn, rows)

    def _session_change(self, session_id: str, values: Mapping[str, Any]) -> Part:
        return self._sessions.of(values), [{"session": session_id, **values}]

    def delete_late_writes(self, conn: Connection, thread_key: bytes, before: str) -> None:
        """Delete writes of a thread that came for a checkpoint after it was pruned."""
        self._late.run(conn, {"late_thread": thread_key, "late_before": before})

    def put(self, conn: Connection, store: Store, rows: Rows) -> None:
        """Store rows of one table."""
        statement, params = self._insert_of(store, rows)
        statement.run_each(conn, params)

    def put_on(
        self, conn: Connection, store: Store, row: Mapping[str, Any], dependencies: Dependencies
    ) -> bool:
        """Store a row of a thread whose row is locked; False if what it changes is not there."""
        statement = self._built_on.get((store, dependencies.shape))
        if statement is None:
            c = store.table.c
            binds = {name: bindparam(f"p_0_{name}", type_=c[name].type) for name in store.columns}
            conditions = dependency_conditions(
                self._tables, binds["thread_key"], dependencies.shape
            )
            given = select(*binds.values()).where(*conditions)
            insert = store.statement(self._dialect)
            made = insert.from_select(list(store.columns), given, include_defaults=False)
            statement = self._built_on[store, dependencies.shape] = Statement(made)
        return (
            statement.run(conn, _params_each("p", store.columns, [row]) | dependencies.params()) > 0
        )

    def _insert_of(
        self, store: Store, rows: Rows, unless_pruned: CheckpointKey | None = None
    ) -> Part:
        """A few rows in one statement, unless their checkpoint was pruned."""
        count = len(rows) if fit_one_insert(store, rows) else 1
        shape = (store, count, unless_pruned is not None)
        statement = self._inserts.get(shape)
        if statement is None:
            statement = self._inserts[shape] = self._inserting(*shape)
        if count == 1 and unless_pruned is None:
            return statement, rows
        pruned = pruned_params(unless_pruned)
        together = batches(rows, count)
        return statement, [_params_each("p", store.columns, some) | pruned for some in together]

    def _inserting(self, store: Store, count: int, conditional: bool) -> Statement:  # noqa: FBT001
        insert, c = store.statement(self._dialect), store.table.c
        if count == 1 and not conditional:
            return Statement(insert, store.columns)  # a row is its parameters, as it is
        rows = [
            {name: bindparam(f"p_{row}_{name}", type_=c[name].type) for name in store.columns}
            for row in range(count)
        ]
        if not conditional:
            return Statement(insert.values(rows))
        # Of all rows together: to ask for each took MariaDB 45 µs more for a second one.
        given = union_all(
            *(
                select(*(self._dialect.given(value).label(name) for name, value in row.items()))
                for row in rows
            )
        ).subquery("given")
        unless = select(*given.c).where(is_not_pruned(self._tables))
        return Statement(insert.from_select(list(store.columns), unless, include_defaults=False))

    def _removals_of(self, removal: Removal, rows: Rows) -> Iterator[Part]:
        for some in batches(rows, _REMOVED_AT_ONCE[-1]):
            size = next(size for size in _REMOVED_AT_ONCE if size >= len(some))
            padded = [*some, *[some[-1]] * (size - len(some))]
            yield self._removing(removal, size), [_params_each("r", removal.key, padded)]

    def _removing(self, removal: Removal, count: int) -> Statement:
        statement = self._removals.get((removal, count))
        if statement is None:
            made = delete(removal.table).where(_among("r", removal, count))
            statement = self._removals[removal, count] = Statement(made)
        return statement


def _delete_late(tables: Tables, *also: Any) -> Any:
    """Delete writes of a thread that are older than a checkpoint and have none, and some others."""
    w, c = tables.writes.c, tables.checkpoints.c
    # Looked up for each: PostgreSQL takes EXISTS for a join, and without statistics for a scan.
    its_checkpoint = select(c.checkpoint_id).where(
        c.thread_key == w.thread_key, c.ns_key == w.ns_key, c.checkpoint_id == w.checkpoint_id
    )
    is_late = and_(
        w.checkpoint_id < bindparam("late_before", type_=Text()),
        its_checkpoint.scalar_subquery().is_(None),
    )
    of_thread = w.thread_key == bindparam("late_thread", type_=w.thread_key.type)
    return delete(tables.writes).where(of_thread, or_(is_late, *also))


def _among(prefix: str, removal: Removal, count: int) -> Any:
    """Whether a row has one of so many keys, all of one thread."""
    c, (first, *rest) = removal.table.c, removal.key
    keys = [
        [bindparam(f"{prefix}_{row}_{name}", type_=c[name].type) for name in rest]
        for row in range(count)
    ]
    among: Any = or_(*(and_(*(c[n] == k for n, k in zip(rest, key, strict=True))) for key in keys))
    if len(rest) == 1:
        among = c[rest[0]].in_([key for [key] in keys])
    return and_(c[first] == bindparam(f"{prefix}_0_{first}", type_=c[first].type), among)


def _params_each(prefix: str, names: tuple[str, ...], rows: Rows) -> dict[str, Any]:
    numbered, pick = _numbered(prefix, names, len(rows))
    return dict(zip(numbered, chain.from_iterable(map(pick, rows)), strict=True))


@lru_cache(maxsize=256)
def _numbered(
    prefix: str, names: tuple[str, ...], count: int
) -> tuple[list[str], Callable[[Mapping[str, Any]], tuple[Any, ...]]]:
    """Names for the values of so many rows, and what takes them out of a row."""
    pick: Any = itemgetter(*names)
    return [f"{prefix}_{row}_{name}" for row in range(count) for name in names], pick
