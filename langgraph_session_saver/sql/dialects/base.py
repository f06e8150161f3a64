"""The behaviour that databases share; a subclass for each overrides what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeAlias

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Date,
    Executable,
    Insert,
    Integer,
    Select,
    Table,
    bindparam,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from langgraph_session_saver.errors import DatabaseUnavailableError, SessionSaverError
from langgraph_session_saver.sql.compiled import execute

SETUP_WAIT = 60.0
"""Seconds to wait for another process that sets up the same database."""


POOL_SIZE = 16
"""Most connections of an engine made here; each is opened when it is first needed."""

# Without overflow: such a connection would be closed when it is returned, and opened anew.
POOL = {"pool_size": POOL_SIZE, "max_overflow": 0}


VacuumKind: TypeAlias = Literal["usual", "full", "incremental"]
"""How unused space is given back: `full` differs on PostgreSQL, `incremental` on SQLite."""


@dataclass(frozen=True)
class Space:
    """What tables take on disk, as far as the database tells.

    Attributes:
        bytes: All of it.
        free: The part of it that holds nothing; None if the database does not tell.
        dead_rows: Deleted rows that still take space; None where there are none.
    """

    bytes: int
    free: int | None = None
    dead_rows: int | None = None


Errors = frozenset[str | int]
"""Errors of a database: their SQLSTATEs, or the numbers of MySQL's."""


class Dialect:
    """How a database runs transactions and statements."""

    insert: Callable[[Table], sqlite.Insert | postgresql.Insert]
    batches_as: Literal["turns", "statement", "block"] = "turns"
    """How a batch is stored: statement by statement, as one statement, or as one block."""
    transient_errors: Errors = frozenset()
    conflict_errors: Errors = frozenset()
    """Of transient errors, those of a transaction that was undone for another one."""
    full_errors: Errors = frozenset()
    forbidden_errors: Errors = frozenset()
    locked_errors: Errors = frozenset()
    stale_errors: Errors = frozenset()
    """Further errors that a new connection may not meet, such as that of a node without quorum."""
    single_writer = False
    in_process = False
    """Whether the database runs in this process: a statement ends by itself, whoever waits."""
    keeps_types = True
    """Whether a column holds only values of its declared type."""
    alters_referenced = True
    """Whether a column that a foreign key refers to can be altered."""
    reports_inserts = True
    """Whether the row count of `insert_ignore` tells if it inserted."""
    first_piece_factor = 1
    """How many times the usual number of rows the first transaction of a delete takes."""
    cascades_thread_deletes = False
    """Whether deleting a thread's row deletes its checkpoints, blobs and writes."""
    most_bytes = 0
    """The size limit of one value, where no setting changes it."""
    version_query = "SELECT version()"
    sizes_query = ""
    """The bytes of each table with its indexes, by name, in the schema `:schema`."""
    sizes_are = ""
    """How the database finds the sizes."""

    def database_file(self, url: URL) -> Path | None:
        """The file that a URL names; None for memory databases and servers."""
        del url
        return None

    def raw_errors(self, driver: str) -> tuple[type[Exception], ...]:
        """A driver's own errors, where SQLAlchemy lets them through as they are."""
        del driver
        return ()

    def driver_url(self, url: URL) -> URL:
        """A URL without the options that are the saver's own."""
        return url

    def has_sessions(self, url: URL) -> bool:
        """Whether a connection keeps its settings from one transaction to the next."""
        del url
        return True

    def engine_options(self, url: URL, *, is_async: bool) -> dict[str, Any]:
        """The options of an engine of the saver's own, beside those that all databases share."""
        del url, is_async
        return {"isolation_level": "AUTOCOMMIT", **POOL}

    def configure(self, dbapi_connection: Any, record: Any) -> None:
        """Configure a new connection of an engine of the saver's own."""

    def transaction(self, conn: Connection) -> AbstractContextManager[object]:
        """A transaction, whatever the engine's isolation level."""
        return conn.begin()

    def snapshot(self, conn: Connection) -> AbstractContextManager[object]:
        """Read the database as of one moment, on a connection fresh from the pool."""
        return conn.execution_options(isolation_level="REPEATABLE READ").begin()

    def continue_ids(self, conn: Connection, table: Table) -> None:
        """Continue a table's generated ids after the greatest one that was inserted."""

    def schema_transaction(self, conn: Connection) -> AbstractContextManager[object]:
        """A transaction that may rebuild tables."""
        return self.transaction(conn)

    def one_statement(self, conn: Connection) -> AbstractContextManager[object]:
        """What a single statement runs in, which needs no transaction."""
        return self.transaction(conn)

    def takes_batches(self, conn: Connection) -> bool:
        """Whether a batch is stored in one round trip, without a transaction around it."""
        del conn
        return self.batches_as == "statement"

    def join_transaction(self, conn: Connection) -> None:
        """Begin the caller's transaction in the database, if the driver has not yet."""

    def can_rebuild(self, conn: Connection) -> bool:
        """Whether a table can be rebuilt without losing the rows that refer to it."""
        del conn
        return True

    def script(self, statements: str) -> str:
        """Wrap the statements of a schema script."""
        return statements

    def use_autocommit(self, conn: Connection) -> None:
        """Switch to autocommit, if that costs no round trip."""

    def insert_ignore(self, table: Table, key: Sequence[str]) -> Insert:
        """Insert rows, and leave those that exist unchanged."""
        return self.insert(table).on_conflict_do_nothing(index_elements=list(key))

    def upsert(self, table: Table, key: Sequence[str], columns: Sequence[str]) -> Insert:
        """Insert rows, and update these columns of those that exist."""
        insert = self.insert(table)
        new = {name: insert.excluded[name] for name in columns}
        return insert.on_conflict_do_update(index_elements=list(key), set_=new)

    def select_parameter(self, parameter: ColumnElement[Any]) -> ColumnElement[Any]:
        """A parameter as a column of an INSERT's SELECT."""
        return parameter

    def locked(self, select: Select[Any], table: Table) -> Select[Any]:
        """Lock the selected rows of a table against other writers, as far as the database can.

        SQLAlchemy leaves out what it cannot: on MariaDB OF, on SQLite, which is locked, all of it.
        """
        return select.with_for_update(of=table, key_share=True)

    def day(self, moment: Any) -> ColumnElement[date]:
        """The day, in UTC, of a column of moments."""
        return func.date(moment, type_=Date())

    def is_transient(self, exc: BaseException) -> bool:
        """Whether a retry on a fresh connection may succeed."""
        if isinstance(exc, DBAPIError):
            is_lost = exc.connection_invalidated or (sqlstate(exc.orig) or "").startswith("08")
            return is_lost or _is_one_of(exc, self.transient_errors)
        if isinstance(exc, SessionSaverError):  # such as a setup that has waited long enough
            return False
        return isinstance(exc, ConnectionError | TimeoutError)

    def is_conflict(self, exc: BaseException) -> bool:
        """Whether another transaction was in the way, so that a retry may succeed at once."""
        return _is_one_of(exc, self.conflict_errors)

    def is_full(self, exc: BaseException) -> bool:
        """Whether the database has no space left."""
        return _is_one_of(exc, self.full_errors)

    def is_locked(self, exc: BaseException) -> bool:
        """Whether a lock was waited for as long as `limit_lock_wait` says."""
        return _is_one_of(exc, self.locked_errors)

    def is_forbidden(self, exc: BaseException) -> bool:
        """Whether the database is read-only, or the user lacks a privilege."""
        return _is_one_of(exc, self.forbidden_errors)

    def how_to_permit(self, url: URL) -> str:
        """What to do where the database is read-only, or the user lacks a privilege."""
        del url
        return "let the user read and write the tables, on a server that takes writes"

    def needs_new_connection(self, exc: Exception) -> bool:
        """Whether a retry needs a new connection, though SQLAlchemy keeps the one that failed.

        Servers, their default settings and the modes of files are looked at while connecting.
        """
        if not isinstance(exc, DBAPIError):
            return False
        return self.is_forbidden(exc) or _is_one_of(exc, self.stale_errors)

    def setup_lock(self, conn: Connection) -> AbstractContextManager[None]:
        """Hold the lock that lets one process at a time change this database's tables.

        Raises:
            DatabaseUnavailableError: Another process held it for `SETUP_WAIT` seconds.
        """
        del conn
        return nullcontext()  # SQLite's BEGIN IMMEDIATE has taken it

    def value_limit(self, conn: Connection) -> int:
        """The size limit of one value, in bytes."""
        del conn
        return self.most_bytes

    def server_version(self, conn: Connection) -> str:
        """The name and version of the database server."""
        return str(conn.execute(text(self.version_query)).scalar_one())

    def journal_mode(self, conn: Connection) -> str | None:
        """SQLite's journal mode; None for servers."""
        del conn
        return None

    def find_damage(self, conn: Connection) -> str | None:
        """The damage that SQLite's own check finds; None for servers."""
        del conn
        return None

    def files(self, conn: Connection) -> list[Path]:
        """The files of a SQLite database, existing or not; none of a server's."""
        del conn
        return []

    def table_sizes(self, conn: Connection, tables: Sequence[Table]) -> tuple[str, dict[str, int]]:
        """How the sizes were found, and the bytes of each table with its indexes, by name."""
        schema = tables[0].schema if tables else None
        rows = conn.execute(text(self.sizes_query), {"schema": schema})
        return self.sizes_are, {name: int(size) for name, size in rows}

    def space(self, conn: Connection, tables: Sequence[Table]) -> Space:
        """What the tables take on disk."""
        raise NotImplementedError

    def vacuum(self, conn: Connection, tables: Sequence[Table], how: VacuumKind) -> str | None:
        """Give unused space back, outside a transaction; returns what there is to say about it."""
        raise NotImplementedError

    def limit_lock_wait(self, conn: Connection, seconds: float) -> None:
        """Let the statements of this connection wait for a lock for so long."""
        raise NotImplementedError

    def delete_newest_blobs(self, blobs: Table) -> Executable:
        """Delete up to `most` blobs of a thread but those `staying`, each before its delta base."""
        raise NotImplementedError

    def tuned_for_bulk_deletes(self, conn: Connection) -> AbstractContextManager[None]:
        """Tune the connection for deleting many rows in the current transaction."""
        del conn
        return nullcontext()


@contextmanager
def sql_transaction(conn: Connection, begin: str | None) -> Iterator[None]:
    """A transaction on an autocommit connection, which SQL begins, or has begun already."""
    if begin is not None:
        execute(conn, begin)
    try:
        yield
        execute(conn, "COMMIT")
    except BaseException:
        if not conn.invalidated:
            with suppress(DBAPIError):  # a full disk has rolled back already
                execute(conn, "ROLLBACK")
        raise


def setup_locked(advice: str) -> DatabaseUnavailableError:
    """The error for a setup that waited `SETUP_WAIT` seconds for another process."""
    return DatabaseUnavailableError(
        f"another process has held the lock for setting up this database for {SETUP_WAIT:g} "
        f"seconds: wait for it to finish, or end it, then try again ({advice})"
    )


def sqlstate(orig: Any) -> str | None:
    """The SQLSTATE of a driver's error."""
    return getattr(orig, "sqlstate", None) or getattr(orig, "pgcode", None)


def _is_one_of(exc: BaseException, errors: Errors) -> bool:
    """Whether SQLAlchemy's error is of one of the database's."""
    if not isinstance(exc, DBAPIError):
        return False
    first, *_ = getattr(exc.orig, "args", None) or (None,)
    number = first if isinstance(first, int) else None
    return sqlstate(exc.orig) in errors or number in errors


def newest_blobs(blobs: Table, row_id: str, order: str) -> Select[Any]:
    """The row ids of up to `most` blobs of a thread, but those `staying`, in descending order."""
    old = blobs.alias("old")
    return (
        select(literal_column(f"old.{row_id}"))
        .select_from(old)
        .where(
            old.c.thread_key == bindparam("thread"),
            old.c.blob_key.not_in(bindparam("staying", expanding=True)),
        )
        .order_by(literal_column(f"old.{order}").desc())
        .limit(bindparam("most", type_=Integer))
    )
