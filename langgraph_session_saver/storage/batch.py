"""What a step stores, as data, and the conditions on which it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import sqlalchemy as sa

from langgraph_session_saver.encoding.keys import CheckpointKey
from langgraph_session_saver.encoding.pieces import PIECE_BYTES
from langgraph_session_saver.schema.tables import DELETED, UNTITLED, Tables
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.sql.runner import Kind
from langgraph_session_saver.storage.parameters import Rows, list_binds, list_params, padded
from langgraph_session_saver.storage.pieces import PieceRows

ROWS_AT_ONCE, BYTES_AT_ONCE = 8, 256 << 10
"""Rows of one INSERT, and bytes of them: more might not fit into a packet of MySQL's."""


# -- conditions ---------------------------------------------------------------------------------

Shape = tuple[bool, int]
"""What decides the SQL of a `RevisionCheck`: whether there is a parent, and how many bases."""


@dataclass(slots=True)
class RevisionCheck:
    """An update of a thread's row on condition that nobody else has changed it.

    Nor may its session be soft-deleted, by which no revision changes.

    Every delete from a thread changes the revision of its row. The rows that a step refers to are
    checked all the same: they may have been deleted by hand, or before this process read the
    revision.
    """

    thread_key: bytes
    known_revision: int
    values: dict[str, Any]
    """The row's new values."""
    parent: tuple[bytes, str] | None = None
    """Namespace key and id of the checkpoint that must exist."""
    bases: Sequence[bytes] = ()
    """The keys, each once, of the blobs that must exist in clear: the bases of deltas."""

    @property
    def shape(self) -> Shape:
        """The shape of the condition."""
        return self.parent is not None, len(padded(self.bases))

    def params(self) -> dict[str, Any]:
        """Parameters of the conditions of `revision_check`."""
        params = list_params("base", padded(self.bases))
        params["base_count"] = len(self.bases)
        params["known_thread"], params["known_revision"] = self.thread_key, self.known_revision
        if self.parent is not None:
            params["parent_ns"], params["parent_id"] = self.parent
        return params


def revision_check(tables: Tables, shape: Shape) -> sa.Update:
    """An UPDATE of a thread's row, if it has the known revision and a step's parent and bases."""
    t, c, b = tables.threads.c, tables.checkpoints.c, tables.blobs.c
    has_parent, bases = shape
    conditions: list[sa.ColumnElement[bool]] = []
    if has_parent:
        parent = sa.select(c.checkpoint_id).where(
            c.thread_key == t.thread_key,
            c.ns_key == sa.bindparam("parent_ns", type_=c.ns_key.type),
            c.checkpoint_id == sa.bindparam("parent_id", type_=sa.Text()),
        )
        conditions.append(parent.exists())
    if bases:
        keys = list_binds("base", b.blob_key, bases)
        found = sa.select(sa.func.count()).where(
            b.thread_key == t.thread_key, b.blob_key.in_(keys), b.type.not_like("%+%")
        )
        conditions.append(found.scalar_subquery() == sa.bindparam("base_count", type_=sa.Integer()))
    return sa.update(tables.threads).where(
        t.thread_key == sa.bindparam("known_thread", type_=t.thread_key.type),
        t.revision == sa.bindparam("known_revision", type_=t.revision.type),
        takes_steps(tables),
        *conditions,
    )


def takes_steps(tables: Tables) -> sa.ColumnElement[bool]:
    """A condition: a thread's session is not soft-deleted."""
    s, t = tables.sessions.c, tables.threads
    status = sa.select(s.status).where(s.id == t.c.session_id).correlate(t).scalar_subquery()
    not_null = sa.func.coalesce(status, sa.literal_column("''"))
    return not_null != sa.literal_column(f"'{DELETED}'")


def is_not_pruned(tables: Tables) -> sa.ColumnElement[bool]:
    """A condition: a checkpoint exists, or is not older than its thread's oldest root."""
    c = tables.checkpoints.c
    thread = c.thread_key == sa.bindparam("its_thread", type_=c.thread_key.type)
    checkpoint_id = sa.bindparam("its_id", type_=sa.Text())
    # Not min(), for which MariaDB reads all rows of the thread.
    roots = sa.select(c.checkpoint_id).where(thread, c.ns_key == b"")
    oldest = roots.order_by(c.checkpoint_id).limit(sa.literal_column("1"))
    itself = sa.select(c.checkpoint_id).where(
        thread,
        c.ns_key == sa.bindparam("its_ns", type_=c.ns_key.type),
        c.checkpoint_id == checkpoint_id,
    )
    return sa.or_(itself.exists(), checkpoint_id >= sa.func.coalesce(oldest.scalar_subquery(), ""))


def checkpoint_of_write(tables: Tables) -> sa.ScalarSelect[str]:
    """The id of the checkpoint of a row of writes, or NULL.

    A scalar subquery is looked up for each row. PostgreSQL turns IN and EXISTS into joins and,
    without statistics, into nested loops over the whole thread or a scan of all checkpoints.
    """
    w, c = tables.writes.c, tables.checkpoints.c
    same = (c.thread_key == w.thread_key, c.ns_key == w.ns_key, c.checkpoint_id == w.checkpoint_id)
    return sa.select(c.checkpoint_id).where(*same).scalar_subquery()


class WritesCheck(NamedTuple):
    """The conditions on which the writes of a task are stored.

    The thread must exist and take steps, and these:
    """

    checkpoint: CheckpointKey
    """The checkpoint that the task ran after."""
    unless_pruned: bool
    """Whether retention may have deleted it."""
    owner_id: str | None
    """The owner that the thread must have, if the call names one."""

    @property
    def shape(self) -> tuple[bool, bool]:
        """What decides the SQL: which conditions there are."""
        return self.unless_pruned, self.owner_id is not None

    def params(self) -> dict[str, Any]:
        """Parameters of the conditions."""
        params: dict[str, Any] = {"its_thread": self.checkpoint.thread_key}
        if self.unless_pruned:
            params["its_ns"], params["its_id"] = self.checkpoint[1:]
        if self.owner_id is not None:
            params["its_owner"] = self.owner_id
        return params

    def condition(self, tables: Tables) -> sa.ColumnElement[bool]:
        """The conditions as one, on the row of the thread, which a SELECT joins."""
        t = tables.threads.c
        is_its = t.thread_key == sa.bindparam("its_thread", type_=t.thread_key.type)
        conditions = [is_its, takes_steps(tables)]
        if self.owner_id is not None:
            conditions.append(t.owner_id == sa.bindparam("its_owner", type_=sa.Text()))
        if self.unless_pruned:
            conditions.append(is_not_pruned(tables))
        return sa.and_(*conditions)


# -- the session's row ----------------------------------------------------------------------------

FIRST_TITLE = "first_title"
"""Among the new values of a session's row: its title, unless one is set."""


def unless_titled(sessions: sa.Table, title: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """A session's title; if that is the default one, another."""
    own = sessions.c.title
    return sa.case((own == sa.literal_column(f"'{UNTITLED}'"), title), else_=own)


# -- rows ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Upsert:
    """An INSERT … ON CONFLICT into one table."""

    table: sa.Table
    key: tuple[str, ...]
    columns: tuple[str, ...]
    """The columns that a row has values for."""
    replaced: tuple[str, ...] = ()
    """The columns that an existing row gets new values of; without any it stays as it is."""
    large: str | None = None
    """The column of large values, if there is one."""

    def statement(self, dialect: Dialect) -> sa.Insert:
        """The INSERT without its values."""
        if self.replaced:
            return dialect.upsert(self.table, self.key, self.replaced)
        return dialect.insert_ignore(self.table, self.key)

    def fits_one_statement(self, rows: Rows) -> bool:
        """Whether every database takes these rows in one statement."""
        if len(rows) == 1:
            return True
        if len(rows) > ROWS_AT_ONCE:
            return False
        return self.bytes_of(rows) <= BYTES_AT_ONCE

    def bytes_of(self, rows: Rows) -> int:
        """The bytes of the rows' large values, at most."""
        size, large = 0, self.large
        if large is not None:
            for row in rows:
                value = row[large]
                is_text = isinstance(value, str) and not value.isascii()
                size += 4 * len(value) if is_text else len(value)
        return size


@dataclass
class Batch:
    """Everything that a step stores, or that a task's writes do."""

    upserts: list[tuple[Upsert, Rows]]
    revision_check: RevisionCheck | None = None
    session: tuple[str, dict[str, Any]] | None = None
    """A session's id, and new values of its row, `FIRST_TITLE` among them."""
    deletes: list[tuple[sa.Table, Rows]] = field(default_factory=list)
    """Keys of rows to delete, of which the thread's is the first column."""
    orphans_before: tuple[bytes, str] | None = None
    """A thread key and a checkpoint id: older writes without a checkpoint are deleted."""
    writes_check: WritesCheck | None = None
    """Conditions without which nothing is stored."""
    most_bytes: int = PIECE_BYTES
    """The bytes that a row and a statement may take."""

    @property
    def kind(self) -> Kind:
        """How it is run: in a transaction, unless it is small or a single INSERT."""
        if self.is_large:
            return "step"
        is_one_insert = (
            self.revision_check is None
            and len(self.upserts) == 1
            and self.upserts[0][0].fits_one_statement(self.upserts[0][1])
            and not (self.session or self.deletes or self.orphans_before)
        )
        return "statement" if is_one_insert else "batch"

    @cached_property
    def is_large(self) -> bool:
        """Whether it may be too large for one statement on any database; asked when it is whole."""
        size = 0
        for upsert, rows in self.upserts:
            if isinstance(rows, PieceRows):
                return True
            size += upsert.bytes_of(rows)
        return size > self.most_bytes


def orphan_params(before: tuple[bytes, str] | None) -> dict[str, Any]:
    """Parameters of the statement that deletes orphaned writes; none without `orphans_before`."""
    names = ("orphans_thread", "orphans_before")
    return {} if before is None else dict(zip(names, before, strict=True))
