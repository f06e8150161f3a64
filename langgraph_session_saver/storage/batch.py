"""What must be true of a thread for something to be stored in it, as conditions of statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    Integer,
    Table,
    Text,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    update,
)

from langgraph_session_saver.encoding.keys import CheckpointKey
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.compiled import Statement
from langgraph_session_saver.sql.dialects.base import Dialect


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What a step changes: nothing of it is stored unless all of this is there.

    Whoever deletes any of it holds the lock on the thread's row and changes its revision.
    """

    parent: tuple[bytes, str] | None = None
    """A checkpoint: its namespace's key and its id."""
    blobs: frozenset[bytes] = frozenset()

    @property
    def shape(self) -> tuple[bool, int]:
        """Whether there is a parent, and the blobs that a statement has parameters for."""
        count = len(self.blobs)
        return self.parent is not None, count and 1 << (count - 1).bit_length()

    def params(self) -> dict[str, Any]:
        """Parameters of the conditions; the last blob is repeated."""
        params: dict[str, Any] = {}
        if self.parent is not None:
            params["basis_ns"], params["basis_parent"] = self.parent
        if self.blobs:
            keys = sorted(self.blobs)
            params["basis_blobs"] = len(keys)
            padded = [*keys, *[keys[-1]] * (self.shape[1] - len(keys))]
            params |= {f"basis_{number}": key for number, key in enumerate(padded)}
        return params


@dataclass(slots=True)
class RevisionCheck:
    """A thread's row on condition that it is as it was known."""

    thread_key: bytes
    known_revision: int
    values: dict[str, Any]
    """What it becomes."""
    dependencies: Dependencies = Dependencies()

    def params(self) -> dict[str, Any]:
        """Parameters of the conditions."""
        known = {"gate_thread": self.thread_key, "gate_revision": self.known_revision}
        return known | self.dependencies.params()


def revision_check_on(tables: Tables, shape: tuple[bool, int]) -> Any:
    """Change a thread's row if its revision is the one that is known, and its basis is there.

    Whoever deletes from a thread changes its revision. The basis is looked for all the same: a
    process may remember a value from before the change that it knows of, and rows may have been
    deleted by hand.
    """
    t = tables.threads.c
    return update(tables.threads).where(
        t.thread_key == bindparam("gate_thread", type_=t.thread_key.type),
        t.revision == bindparam("gate_revision", type_=t.revision.type),
        *dependency_conditions(tables, t.thread_key, shape),
    )


def dependency_conditions(tables: Tables, thread_key: Any, shape: tuple[bool, int]) -> list[Any]:
    """The conditions that a basis of such a shape is stored for a thread."""
    c, b = tables.checkpoints.c, tables.blobs.c
    has_parent, count = shape
    conditions: list[Any] = []
    if has_parent:
        parent = select(c.checkpoint_id).where(
            c.thread_key == thread_key,
            c.ns_key == bindparam("basis_ns", type_=c.ns_key.type),
            c.checkpoint_id == bindparam("basis_parent", type_=Text()),
        )
        conditions.append(parent.exists())
    if count:
        keys = [bindparam(f"basis_{n}", type_=b.blob_key.type) for n in range(count)]
        there = select(func.count()).where(b.thread_key == thread_key, b.blob_key.in_(keys))
        conditions.append(there.scalar_subquery() == bindparam("basis_blobs", type_=Integer()))
    return conditions


def is_not_pruned(tables: Tables) -> Any:
    """Whether a checkpoint is there, or not older than the oldest of its thread's root."""
    c = tables.checkpoints.c
    thread = c.thread_key == bindparam("late_thread", type_=c.thread_key.type)
    checkpoint_id = bindparam("late_checkpoint", type_=Text())
    # Not min(): for that, MariaDB reads all of them.
    roots = select(c.checkpoint_id).where(thread, c.ns_key == b"", c.hidden.is_(False))
    oldest = roots.order_by(c.checkpoint_id).limit(literal_column("1"))
    there: Any = select(c.checkpoint_id).where(
        thread,
        c.ns_key == bindparam("late_ns", type_=c.ns_key.type),
        c.checkpoint_id == checkpoint_id,
    )
    return or_(there.exists(), checkpoint_id >= func.coalesce(oldest.scalar_subquery(), ""))


def pruned_params(unless_pruned: CheckpointKey | None) -> dict[str, Any]:
    """Parameters of `is_not_pruned`, if it is a condition."""
    if unless_pruned is None:
        return {}
    thread_key, ns_key, checkpoint_id = unless_pruned
    return {"late_thread": thread_key, "late_ns": ns_key, "late_checkpoint": checkpoint_id}


FEW = 4
"""Rows up to which a statement has a parameter for each value."""

ROWS_AT_ONCE, BYTES_AT_ONCE = 8, 256 << 10
"""Rows, and bytes of them, that one INSERT takes: more might not fit into a packet of MySQL's."""

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
    revision_check: RevisionCheck | None = None
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
            self.revision_check is None
            and len(self.stores) == 1
            and fit_one_insert(*self.stores[0])
            and not (self.session or self.removals or self.late)
        )
