"""What differs between databases: one small class each, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any, Literal, TypeVar

import sqlalchemy
from sqlalchemy import (
    ColumnElement,
    Connection,
    Date,
    Insert,
    LargeBinary,
    Select,
    Table,
    cast,
    func,
    select,
    text,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from langgraph_session_saver.bulk import (
    BulkDeleting,
    MySQLBulkDeleting,
    PostgreSQLBulkDeleting,
    SQLiteBulkDeleting,
)
from langgraph_session_saver.described import (
    Described,
    MySQLDescribed,
    PostgreSQLDescribed,
    SQLiteDescribed,
)
from langgraph_session_saver.errors import DatabaseUnavailableError, InvalidConfigError
from langgraph_session_saver.statements import driver_of, execute

T = TypeVar("T")

_ON_OFF = {True: "ON", False: "OFF"}

ENFORCES_REFERENCES = "session_saver_enforces_references"
"""Marks, in a pool's record of it, a SQLite connection with foreign keys switched on for good."""


class Dialect(Described, BulkDeleting):
    """What every database does, in the words of the SQL standard; each subclass says the rest."""

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
        return isinstance(exc, ConnectionError | TimeoutError)

    def cannot_open(self, exc: BaseException) -> bool:
        """Whether the database is a file that cannot be opened."""
        del exc
        return False

    def lock_for_setup(self, conn: Connection) -> None:
        """Make other processes that set up this database wait until this transaction ends."""
        raise NotImplementedError

    def unlock_after_setup(self, conn: Connection) -> None:
        """Let them go on, where ending the transaction does not."""


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


class SQLite(SQLiteDescribed, SQLiteBulkDeleting, _OnConflict):
    """SQLite has one writer: a transaction takes its place at once, with BEGIN IMMEDIATE."""

    insert = staticmethod(sqlite.insert)
    single_writer = True
    keeps_types = False

    def in_transaction(self, conn: Connection, operation: Callable[[Connection], T]) -> T:
        """BEGIN IMMEDIATE with foreign keys on; what was set is put back."""
        if ENFORCES_REFERENCES in conn.info:
            return _immediately(conn, operation)
        return self._with_references(conn, operation, enforced=True)

    def alone(self, conn: Connection, operation: Callable[[Connection], T]) -> T:
        """On a connection of our own, with foreign keys on and no BEGIN of the driver's."""
        if ENFORCES_REFERENCES in conn.info:
            return operation(conn)
        return self.in_transaction(conn, operation)

    def in_schema_transaction(self, conn: Connection, operation: Callable[[Connection], T]) -> T:
        """Foreign keys are off: dropping a table would cascade."""
        return self._with_references(conn, operation, enforced=False)

    def _with_references(
        self, conn: Connection, operation: Callable[[Connection], T], *, enforced: bool
    ) -> T:
        driver: Any = conn.connection.dbapi_connection
        was_enforced = bool(execute(conn, "PRAGMA foreign_keys")[0][0][0])
        if _is_in_transaction(conn):
            execute(conn, "COMMIT")  # an application's "begin" listener opened one
        # SQLAlchemy's isolation levels would put back its own default, not the application's.
        level = driver.isolation_level
        if level is not None:
            driver.isolation_level = None
        try:
            if was_enforced != enforced:
                execute(conn, f"PRAGMA foreign_keys={_ON_OFF[enforced]}")
            return _immediately(conn, operation)
        finally:
            if was_enforced != enforced:
                execute(conn, f"PRAGMA foreign_keys={_ON_OFF[was_enforced]}")
            if level is not None:
                driver.isolation_level = level

    @contextmanager
    def snapshot(self, conn: Connection) -> Iterator[None]:
        """BEGIN: what the first SELECT sees, all the others do."""
        driver: Any = conn.connection.dbapi_connection
        file: Any = conn.connection.driver_connection
        if file.in_transaction:
            execute(conn, "COMMIT")
        level = driver.isolation_level
        if level is not None:
            driver.isolation_level = None
        try:
            execute(conn, "BEGIN")
            try:
                yield
            finally:
                if file.in_transaction:
                    execute(conn, "ROLLBACK")
        finally:
            if level is not None:
                driver.isolation_level = level

    def join_transaction(self, conn: Connection) -> None:
        """The driver begins one at the first INSERT or UPDATE only."""
        if not _is_in_transaction(conn):
            conn.exec_driver_sql("BEGIN IMMEDIATE")

    def can_rebuild(self, conn: Connection) -> bool:
        """Only where foreign keys are off."""
        return not conn.exec_driver_sql("PRAGMA foreign_keys").scalar()

    def script(self, statements: str) -> str:
        """One transaction, without foreign keys."""
        return (
            f"PRAGMA foreign_keys=OFF;\n\nBEGIN IMMEDIATE;\n\n{statements}COMMIT;\n\n"
            "PRAGMA foreign_keys=ON;\n"
        )

    def locked(self, select: Select[Any], table: Table) -> Select[Any]:
        """BEGIN IMMEDIATE has locked everything already."""
        del table
        return select

    def is_transient(self, exc: BaseException) -> bool:
        """Busy and locked are: another process writes, or a reader holds a checkpoint back."""
        return _sqlite_code(exc) in {5, 6}  # SQLITE_BUSY, SQLITE_LOCKED

    def cannot_open(self, exc: BaseException) -> bool:
        """SQLITE_CANTOPEN, and SQLITE_READONLY or SQLITE_PERM while opening."""
        return _sqlite_code(exc) in {3, 8, 14}

    def lock_for_setup(self, conn: Connection) -> None:
        """BEGIN IMMEDIATE has done it."""


class PostgreSQL(PostgreSQLDescribed, PostgreSQLBulkDeleting, _OnConflict):
    """PostgreSQL, and what speaks its protocol."""

    insert = staticmethod(postgresql.insert)
    batches_as = "statement"
    transient_states = frozenset({"40001", "40P01", "57P01", "57P02", "57P03", "25006"})
    _setup_lock = 0x6C67_7373  # "lgss"

    def in_transaction(self, conn: Connection, operation: Callable[[Connection], T]) -> T:
        """READ COMMITTED: its drivers send it with BEGIN, so it costs no round trip."""
        conn.execution_options(isolation_level="READ COMMITTED")
        return super().in_transaction(conn, operation)

    def alone(self, conn: Connection, operation: Callable[[Connection], T]) -> T:
        """Under autocommit."""
        self.leave_transactions(conn)
        return operation(conn)

    def leave_transactions(self, conn: Connection) -> None:
        """Autocommit is a setting of the drivers, of which the server hears nothing."""
        driver: Any = conn.connection.dbapi_connection
        if not driver.autocommit:
            conn.execution_options(isolation_level="AUTOCOMMIT")

    def continue_ids(self, conn: Connection, table: Table) -> None:
        """Explicit ids leave a sequence where it was: move it, but never back."""
        greatest = select(func.max(table.c.id)).scalar_subquery()
        name = conn.dialect.identifier_preparer.format_table(table)
        sequence = conn.scalar(select(func.pg_get_serial_sequence(name, "id")))
        if sequence is None or (last := conn.scalar(select(greatest))) is None:
            return
        at = conn.scalar(text(f"SELECT last_value FROM {sequence}"))  # noqa: S608 - quoted by it
        if last > int(at or 0):
            conn.execute(select(func.setval(sequence, last)))

    def lock_for_setup(self, conn: Connection) -> None:
        """An advisory lock that ends with the transaction."""
        conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": self._setup_lock})

    def day(self, moment: Any) -> ColumnElement[date]:
        """The session's time zone may be any."""
        return cast(func.timezone("UTC", moment), Date)


class MySQL(MySQLDescribed, MySQLBulkDeleting, Dialect):
    """MySQL and MariaDB, and clusters of them."""

    batches_as = "block"
    alters_referenced = False
    transient_codes = frozenset({1020, 1047, 1180, 1205, 1213, 2003, 2006, 2013, 2014, 2055, 4031})
    _setup_lock = "langgraph_session_saver.setup"

    @contextmanager
    def snapshot(self, conn: Connection) -> Iterator[None]:
        """WITH CONSISTENT SNAPSHOT: else it begins with the first row that is read."""
        execute(conn, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        execute(conn, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
        try:
            yield
        finally:
            if not conn.invalidated:
                execute(conn, "ROLLBACK")

    def in_transaction(self, conn: Connection, operation: Callable[[Connection], T]) -> T:
        """BEGIN, unless the drivers did: setting an isolation level costs round trips."""
        if not _autocommits(conn):
            return super().in_transaction(conn, operation)
        execute(conn, "BEGIN")
        try:
            result = operation(conn)
            execute(conn, "COMMIT")
        except BaseException:
            if not conn.invalidated:
                execute(conn, "ROLLBACK")
            raise
        return result

    def alone(self, conn: Connection, operation: Callable[[Connection], T]) -> T:
        """Under autocommit, if that is on: one round trip and not three."""
        return operation(conn) if _autocommits(conn) else self.in_transaction(conn, operation)

    def takes_batches(self, conn: Connection) -> bool:
        """MariaDB has anonymous blocks, MySQL has none; one in a transaction would commit it."""
        return bool(getattr(conn.dialect, "is_mariadb", False)) and _autocommits(conn)

    def insert_ignore(self, table: Table, key: Sequence[str]) -> Insert:
        """ON DUPLICATE KEY UPDATE to what it is: INSERT IGNORE would hide broken references."""
        insert = mysql.insert(table)
        return insert.on_duplicate_key_update({key[0]: table.c[key[0]]})

    def upsert(self, table: Table, key: Sequence[str], columns: Sequence[str]) -> Insert:
        """INSERT … ON DUPLICATE KEY UPDATE."""
        del key
        insert = mysql.insert(table)
        return insert.on_duplicate_key_update({name: insert.inserted[name] for name in columns})

    def given(self, parameter: ColumnElement[Any]) -> ColumnElement[Any]:
        """Bytes that stay bytes: PyMySQL before 1.2 sends them as if they were text."""
        is_bytes = isinstance(parameter.type, LargeBinary)
        return cast(parameter, LargeBinary) if is_bytes else parameter

    def locked(self, select: Select[Any], table: Table) -> Select[Any]:
        """FOR UPDATE: MariaDB has no FOR NO KEY UPDATE, nor OF."""
        del table
        return select.with_for_update()

    def lock_for_setup(self, conn: Connection) -> None:
        """A named lock: DDL commits, so a transaction's lock would not hold."""
        held = conn.execute(text("SELECT GET_LOCK(:name, 60)"), {"name": self._setup_lock}).scalar()
        if held != 1:
            raise DatabaseUnavailableError(
                "another process has been setting up this database for 60 seconds: end it, or wait"
            )

    def unlock_after_setup(self, conn: Connection) -> None:
        """Release the named lock, after the commit; a connection that is lost holds none."""
        if not conn.invalidated:
            conn.exec_driver_sql("COMMIT")
            conn.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": self._setup_lock})


_DIALECTS: dict[str, type[Dialect]] = {
    "sqlite": SQLite,
    "postgresql": PostgreSQL,
    "mysql": MySQL,
    "mariadb": MySQL,
}


def dialect_for(dialect: sqlalchemy.Dialect | type[sqlalchemy.Dialect]) -> Dialect:
    """What differs in the database of a SQLAlchemy dialect.

    Raises:
        InvalidConfigError: No class knows that database.
    """
    try:
        return _DIALECTS[dialect.name]()
    except KeyError:
        raise InvalidConfigError(
            f"the database {dialect.name!r} is not supported: use one of {', '.join(_DIALECTS)}"
        ) from None


def _immediately(conn: Connection, operation: Callable[[Connection], T]) -> T:
    execute(conn, "BEGIN IMMEDIATE")
    try:
        result = operation(conn)
        execute(conn, "COMMIT")
    except BaseException:
        if _is_in_transaction(conn):  # a full disk has rolled back already
            execute(conn, "ROLLBACK")
        raise
    return result


def _is_in_transaction(conn: Connection) -> bool:
    return bool(driver_of(conn).in_transaction)


def _autocommits(conn: Connection) -> bool:
    return bool(driver_of(conn).get_autocommit())


def _sqlstate(orig: Any) -> str | None:
    return getattr(orig, "sqlstate", None) or getattr(orig, "pgcode", None)


def _code(orig: Any) -> int | None:
    code = orig.args[0] if getattr(orig, "args", None) else None
    return code if isinstance(code, int) else None


def _sqlite_code(exc: BaseException) -> int | None:
    """The primary result code, without what an extended one adds."""
    code = getattr(exc.orig if isinstance(exc, DBAPIError) else exc, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
