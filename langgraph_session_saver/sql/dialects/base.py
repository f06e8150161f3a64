"""What every database does; each subclass overrides what its database does differently."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import date
from functools import reduce
from typing import Any, Literal, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Date,
    Executable,
    Insert,
    LargeBinary,
    Select,
    Table,
    bindparam,
    cast,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from langgraph_session_saver.errors import DatabaseUnavailableError, SessionSaverError

T = TypeVar("T")

SETUP_WAIT = 60.0
"""Seconds to wait for another process that sets up the same database."""


class Dialect:
    """The behaviour of the SQL standard."""

    batches_as: Literal["turns", "statement", "block"] = "turns"
    """How a batch of changes to several tables is run."""
    transient_states: frozenset[str] = frozenset()
    transient_codes: frozenset[int] = frozenset()
    single_writer = False
    keeps_types = True
    """Whether a column holds only what its type says."""
    alters_referenced = True
    """Whether a column to which other tables refer can be altered."""
    tells_inserts = False
    """Whether it says if `insert_ignore` inserted: MySQL counts a row that stays as it is, too."""
    first_piece = 1
    """Times as much as elsewhere that the first transaction deletes of a thread."""
    leaves_it_to_references = False
    """Whether a thread's foreign keys delete what it stores; a caller's SQLite may ignore them."""

    def in_transaction(self, conn: Connection, operation: Callable[[Connection], T]) -> T:
        """Run an operation in a real transaction, whatever the engine's isolation level."""
        with conn.begin():
            return operation(conn)

    @contextmanager
    def snapshot(self, conn: Connection) -> Iterator[None]:
        """A transaction on a fresh checkout that reads the database as it is at one moment."""
        conn.execution_options(isolation_level="REPEATABLE READ")
        with conn.begin():
            yield

    def continue_ids(self, conn: Connection, table: Table) -> None:
        """Let a table's generated ids go on after the greatest that was inserted."""

    def in_schema_transaction(self, conn: Connection, operation: Callable[[Connection], T]) -> T:
        """As `in_transaction`, in one in which tables may be rebuilt."""
        return self.in_transaction(conn, operation)

    def alone(self, conn: Connection, operation: Callable[[Connection], T]) -> T:
        """Run an operation that is one statement, in no transaction but that one's own."""
        return self.in_transaction(conn, operation)

    def takes_batches(self, conn: Connection) -> bool:
        """Whether a batch is one statement here, and its own transaction."""
        del conn
        return self.batches_as == "statement"

    def join_transaction(self, conn: Connection) -> None:
        """Make the transaction that the caller began one that the database knows of."""

    def can_rebuild(self, conn: Connection) -> bool:
        """Whether a table can be replaced without losing the rows that refer to it."""
        del conn
        return True

    def script(self, statements: str) -> str:
        """A script of changes to tables, from its statements."""
        return statements

    def leave_transactions(self, conn: Connection) -> None:
        """Make single statements transactions of their own, where that costs no round trip."""

    def insert_ignore(self, table: Table, key: Sequence[str]) -> Insert:
        """Insert rows; one whose key is there already stays as it is."""
        raise NotImplementedError

    def upsert(self, table: Table, key: Sequence[str], columns: Sequence[str]) -> Insert:
        """Insert rows; one whose key is there already gets these columns' new values."""
        raise NotImplementedError

    def given(self, parameter: ColumnElement[Any]) -> ColumnElement[Any]:
        """A parameter as a column of a SELECT from which an INSERT takes its rows."""
        return parameter

    def locked(self, select: Select[Any], table: Table) -> Select[Any]:
        """Select and lock a table's rows, so that other writers of them wait."""
        return select.with_for_update(of=table, key_share=True)

    def day(self, moment: Any) -> ColumnElement[date]:
        """The day, in UTC, of a column of moments."""
        return func.date(moment, type_=Date())

    def is_transient(self, exc: BaseException) -> bool:
        """Whether the same transaction may well succeed on a fresh connection."""
        if isinstance(exc, DBAPIError):
            state, code = _sqlstate(exc.orig), _code(exc.orig)
            return (
                exc.connection_invalidated
                or state in self.transient_states
                or (state or "").startswith("08")
                or code in self.transient_codes
            )
        if isinstance(exc, SessionSaverError):  # such as a setup that has waited long enough
            return False
        return isinstance(exc, ConnectionError | TimeoutError)

    def cannot_open(self, exc: BaseException) -> bool:
        """Whether the database is a file that cannot be opened."""
        del exc
        return False

    def setup_lock(self, conn: Connection) -> AbstractContextManager[None]:
        """Hold the lock that lets one process at a time change this database's tables.

        Raises:
            DatabaseUnavailableError: Another process held it for `SETUP_WAIT` seconds.
        """
        raise NotImplementedError

    def value_limit(self, conn: Connection) -> int:
        """Bytes that one value may have."""
        raise NotImplementedError

    def server_version(self, conn: Connection) -> str:
        """What the database says that it is."""
        return str(conn.execute(text("SELECT version()")).scalar_one())

    def journal_mode(self, conn: Connection) -> str | None:
        """How SQLite keeps a transaction that is not over; None for servers."""
        del conn
        return None

    def faults(self, conn: Connection) -> str | None:
        """What the database says is damaged; servers look after that themselves."""
        del conn
        return None

    def bytes_of(self, conn: Connection, tables: Sequence[Table]) -> tuple[str, dict[str, int]]:
        """What tables take with their indexes, by name, and how that was found."""
        raise NotImplementedError

    def delete_newest_blobs(self, blobs: Table, *, but_some: bool) -> Executable:
        """Delete blobs of a thread, each before what it is a change of.

        As many as are asked for if some stay, else at most as many.
        """
        raise NotImplementedError

    def in_bulk(self, conn: Connection) -> AbstractContextManager[None]:
        """Within a transaction: make ready to delete many rows."""
        del conn
        return nullcontext()


class _OnConflict(Dialect):
    """The databases that share INSERT … ON CONFLICT."""

    tells_inserts = True
    insert: Callable[[Table], sqlite.Insert | postgresql.Insert]

    def insert_ignore(self, table: Table, key: Sequence[str]) -> Insert:
        """INSERT … ON CONFLICT (key) DO NOTHING."""
        return self.insert(table).on_conflict_do_nothing(index_elements=list(key))

    def upsert(self, table: Table, key: Sequence[str], columns: Sequence[str]) -> Insert:
        """INSERT … ON CONFLICT (key) DO UPDATE."""
        insert = self.insert(table)
        new = {name: insert.excluded[name] for name in columns}
        return insert.on_conflict_do_update(index_elements=list(key), set_=new)


def setup_locked(advice: str) -> DatabaseUnavailableError:
    """The error for a setup that has waited `SETUP_WAIT` seconds for another one."""
    return DatabaseUnavailableError(
        f"another process has held the lock for setting up this database for {SETUP_WAIT:g} "
        f"seconds: wait for it to finish, or end it, then try again ({advice})"
    )


def _sqlstate(orig: Any) -> str | None:
    return getattr(orig, "sqlstate", None) or getattr(orig, "pgcode", None)


def _code(orig: Any) -> int | None:
    code = orig.args[0] if getattr(orig, "args", None) else None
    return code if isinstance(code, int) else None


def _sum_of_lengths(conn: Connection, table: Table) -> int:
    lengths = (func.coalesce(func.length(cast(c, LargeBinary)), 0) for c in table.c)
    total = conn.execute(select(func.sum(reduce(operator.add, lengths))).select_from(table))
    return int(total.scalar() or 0)


def _doomed(blobs: Any, *, but_some: bool) -> list[ColumnElement[bool]]:
    """Which are a thread's blobs, without those that stay."""
    staying: Any = bindparam("staying", expanding=True)
    of_thread = blobs.c.thread_key == bindparam("thread")
    return [of_thread, blobs.c.blob_key.not_in(staying)] if but_some else [of_thread]
