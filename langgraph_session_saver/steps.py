"""Storing a step in as few statements as its database allows.

A process that saved a thread's last checkpoint knows all that a step needs of the thread's row.
Instead of locking and reading the row, it changes it on condition that nobody else has: the
revision is still the one it knows. Where it is not, nothing is written, and the step is stored
as one of a thread of which nothing is known (`Operations.put`).

PostgreSQL takes all of it as one statement, of a part for each table: one round trip, and no
transaction to open and end. MariaDB takes a block (`blocks`); the others run the parts in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    Connection,
    LargeBinary,
    String,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    column,
    delete,
    func,
    or_,
    select,
    true,
    tuple_,
    union_all,
    update,
    values,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator

from langgraph_session_saver.dialects import Dialect
from langgraph_session_saver.gates import (
    Basis,
    CheckpointKey,
    Gate,
    basis_conditions,
    gate_on,
    is_not_pruned,
    pruned_params,
)
from langgraph_session_saver.statements import Statement, Statements, batches
from langgraph_session_saver.tables import Tables

FEW = 4
"""Rows up to which a statement has a parameter for each value."""

ROWS_AT_ONCE, BYTES_AT_ONCE = 8, 256 << 10
"""Rows, and bytes of them, that one INSERT takes: more might not fit into a packet of MySQL's."""

_REMOVED_AT_ONCE = (1, 4, 20, 64)
"""Keys of one DELETE: it is compiled for each of these numbers, and the last key is repeated."""

Rows = Sequence[Mapping[str, Any]]

Part = tuple[Statement, Sequence[Mapping[str, Any]]]
"""A statement, and the parameters that it is run with, once or more."""


def names(table: Table) -> tuple[str, ...]:
    """A table's columns."""
    return tuple(column.name for column in table.c)


@dataclass(frozen=True, eq=False)
class Store:
    """Rows of a table that are put by a key: a known one stays, or gets new values."""

    table: Table
    key: tuple[str, ...]
    columns: tuple[str, ...]
    """All that a row gives."""
    replaced: tuple[str, ...] = ()
    """What a row of a known key changes; nothing leaves it as it is."""
    bulky: str | None = None
    """A column of values that may be large."""

    def statement(self, dialect: Dialect) -> Any:
        """Its INSERT."""
        if self.replaced:
            return dialect.upsert(self.table, self.key, self.replaced)
        return dialect.insert_ignore(self.table, self.key)


@dataclass(frozen=True, eq=False)
class Removal:
    """Rows of a table that are deleted by a key."""

    table: Table
    key: tuple[str, ...]
    """Its first column has one value for all rows: MariaDB takes 1.3 ms for 17 keys without one."""


def fit_one_insert(store: Store, rows: Rows) -> bool:
    """Whether rows of one table may go as one statement on every database."""
    if len(rows) == 1:
        return True
    if len(rows) > ROWS_AT_ONCE:
        return False
    name = store.bulky
    return name is None or sum([len(row[name]) for row in rows]) <= BYTES_AT_ONCE


@dataclass(slots=True)
class Batch:
    """What is stored together."""

    stores: list[tuple[Store, Rows]]
    gate: Gate | None = None
    session: tuple[str, dict[str, Any]] | None = None
    """A session's id, and new values of its row."""
    removals: list[tuple[Removal, Rows]] = field(default_factory=list)
    late: tuple[bytes, str] | None = None
    """A thread's key and a checkpoint's id: older writes without a checkpoint are deleted."""
    unless_pruned: CheckpointKey | None = None
    """A checkpoint without which nothing is stored, if newer ones of its thread are there."""

    @property
    def is_one_insert(self) -> bool:
        """Whether it is one statement everywhere, and so needs no transaction."""
        return (
            self.gate is None
            and len(self.stores) == 1
            and fit_one_insert(*self.stores[0])
            and not (self.session or self.removals or self.late)
        )


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
        if batch.gate is not None:
            statement, params = self._gate(batch.gate)
            if not statement.run(conn, params):
                return False
        for statement, rows in self._parts(batch):
            statement.run_each(conn, rows)
        return True

    def _gate(self, gate: Gate) -> tuple[Statement, Mapping[str, Any]]:
        shape = gate.basis.shape
        statements = self._gates.get(shape)
        if statements is None:
            statements = self._gates[shape] = Statements(gate_on(self._tables, shape))
        return statements.of(gate.values), {**gate.params(), **gate.values}

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

    def put_on(self, conn: Connection, store: Store, row: Mapping[str, Any], basis: Basis) -> bool:
        """Store a row of a thread whose row is locked; False if what it changes is not there."""
        statement = self._built_on.get((store, basis.shape))
        if statement is None:
            c = store.table.c
            binds = {name: bindparam(f"p_0_{name}", type_=c[name].type) for name in store.columns}
            conditions = basis_conditions(self._tables, binds["thread_key"], basis.shape)
            given = select(*binds.values()).where(*conditions)
            insert = store.statement(self._dialect)
            made = insert.from_select(list(store.columns), given, include_defaults=False)
            statement = self._built_on[store, basis.shape] = Statement(made)
        return statement.run(conn, _params_each("p", store.columns, [row]) | basis.params()) > 0

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


class AtOnce(InTurn):
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
        if batch.gate is not None:
            params |= batch.gate.params()
            params |= {f"thread_{name}": value for name, value in batch.gate.values.items()}
        if batch.session is not None:
            session_id, values = batch.session
            params |= {"in_session": session_id}
            params |= {f"session_{name}": value for name, value in values.items()}
        for number, (store, rows) in enumerate(batch.stores):
            params |= _params(f"p{number}", store.columns, rows)
        for number, (removal, rows) in enumerate(batch.removals):
            params |= _params(f"r{number}", removal.key, rows)
        # Counts the rows of the last store, of which there is always at least one.
        return statement.run(conn, params) > 0 or batch.gate is None

    def put(self, conn: Connection, store: Store, rows: Rows) -> None:
        """Store rows of one table, in one round trip however many."""
        self.run(conn, Batch([(store, rows)]))

    def _build(self, batch: Batch) -> Any:
        head = None
        if batch.gate is not None:
            c = self._tables.threads.c
            gate = gate_on(self._tables, batch.gate.basis.shape)
            values = {
                name: bindparam(f"thread_{name}", type_=c[name].type) for name in batch.gate.values
            }
            head = gate.values(values).returning(c.thread_key).cte("head")
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


def _shape(batch: Batch) -> Any:
    """What two batches that are the same statement have in common."""
    gate = batch.gate
    return (
        None if gate is None else (tuple(gate.values), gate.basis.shape),
        tuple((store, min(len(rows), FEW + 1)) for store, rows in batch.stores),
        None if batch.session is None else tuple(batch.session[1]),
        tuple((removal, min(len(rows), FEW + 1)) for removal, rows in batch.removals),
        batch.unless_pruned is not None,
        batch.late is not None,
    )


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


def _plain_type(type_: Any) -> Any:
    """A column's type without length and collation, which a cast would not take."""
    if isinstance(type_, LargeBinary):
        return postgresql.BYTEA()
    if isinstance(type_, TypeDecorator):
        return postgresql.TIMESTAMP(timezone=True)
    return Text() if isinstance(type_, String) else type_
