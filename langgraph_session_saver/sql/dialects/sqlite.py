"""SQLite."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sqlalchemy import (
    URL,
    Connection,
    Executable,
    LargeBinary,
    Table,
    cast,
    delete,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from langgraph_session_saver.sql.compiled import driver_of, execute
from langgraph_session_saver.sql.dialects import base
from langgraph_session_saver.sql.dialects.base import (
    Dialect,
    Space,
    VacuumKind,
    newest_blobs,
    sql_transaction,
)

_BUSY, _LOCKED, _FULL = 5, 6, 13
_FORBIDDEN = frozenset({3, 8, 14})  # SQLITE_PERM, SQLITE_READONLY, SQLITE_CANTOPEN
ENFORCES_REFERENCES = "session_saver_enforces_references"
"""Key in `Connection.info` of connections on which foreign keys are always enforced."""

_INCREMENTAL = 2
"""The value of `PRAGMA auto_vacuum` with which a file has a map of its pages."""

_PAGES_AT_ONCE = 1_000
"""Pages that an incremental vacuum cuts off in one transaction, for which writers wait."""

_KEPT_BY_READERS = (
    "another connection still reads the database as it was: the file becomes smaller at SQLite's "
    "next checkpoint after that has ended"
)

LOG_LIMIT = 64 << 20
"""Bytes to which the write-ahead log is cut when it starts anew, after a reader let it grow."""

BULK_CACHE = 32_000
"""KiB of SQLite's page cache during bulk deletes."""


class SQLite(Dialect):
    """SQLite: one writer at a time, so transactions start with BEGIN IMMEDIATE."""

    insert = staticmethod(sqlite.insert)
    single_writer = True
    in_process = True
    keeps_types = False
    most_bytes = 1_000_000_000  # the default of SQLITE_MAX_LENGTH
    version_query = "SELECT 'SQLite ' || sqlite_version()"

    def database_file(self, url: URL) -> Path | None:
        """A path, unless the URL names a memory database."""
        name = url.database or ":memory:"
        is_memory = name == ":memory:" or "mode=memory" in name
        if is_memory or url.query.get("mode") == "memory":
            return None
        if name.startswith("file:") and url.query.get("uri"):  # a URI of SQLite's own
            name = unquote(name.removeprefix("file:").partition("?")[0])
        return Path(name).absolute()

    def engine_options(self, url: URL, *, is_async: bool) -> dict[str, Any]:
        """A memory database lives as long as its one connection, which all callers share."""
        if self.database_file(url) is not None:
            # The connection that was used last has the newest pages in its cache.
            return {**base.POOL, "pool_use_lifo": True}
        return {
            "pool_size": 1,
            "max_overflow": 0,
            "poolclass": AsyncAdaptedQueuePool if is_async else QueuePool,
            "connect_args": {"check_same_thread": False},
        }

    def configure(self, dbapi_connection: Any, record: Any) -> None:
        """As durable as the official saver: WAL, with `synchronous` left at FULL."""
        cursor = dbapi_connection.cursor()
        limit = f"journal_size_limit={LOG_LIMIT}"
        for pragma in ("busy_timeout=10000", "journal_mode=WAL", limit, "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
        # The connection is the saver's alone: its transactions need not check these settings again.
        dbapi_connection.isolation_level = None
        record.info[ENFORCES_REFERENCES] = True

    def transaction(self, conn: Connection) -> AbstractContextManager[None]:
        """BEGIN IMMEDIATE with foreign keys enforced; the connection's settings are restored."""
        if ENFORCES_REFERENCES in conn.info:
            return sql_transaction(conn, "BEGIN IMMEDIATE")
        return self._with_references(conn, enforced=True)

    def one_statement(self, conn: Connection) -> AbstractContextManager[object]:
        """Without BEGIN on a connection of our own, whose driver begins no transaction."""
        return nullcontext() if ENFORCES_REFERENCES in conn.info else self.transaction(conn)

    def schema_transaction(self, conn: Connection) -> AbstractContextManager[object]:
        """Without foreign keys, because dropping a table would cascade."""
        return self._with_references(conn, enforced=False)

    @contextmanager
    def _with_references(self, conn: Connection, *, enforced: bool) -> Iterator[None]:
        was_enforced = bool(execute(conn, "PRAGMA foreign_keys")[0][0][0])
        with _driver_begins_nothing(conn):
            try:
                if was_enforced != enforced:
                    execute(conn, f"PRAGMA foreign_keys={enforced:d}")
                if not enforced:
                    _begin_setup(conn)
                with sql_transaction(conn, "BEGIN IMMEDIATE" if enforced else None):
                    yield
            finally:
                if was_enforced != enforced and not conn.invalidated:
                    execute(conn, f"PRAGMA foreign_keys={was_enforced:d}")

    @contextmanager
    def snapshot(self, conn: Connection) -> Iterator[None]:
        """BEGIN: all statements see what the first SELECT sees."""
        with _driver_begins_nothing(conn), sql_transaction(conn, "BEGIN"):
            yield

    def join_transaction(self, conn: Connection) -> None:
        """The driver would begin it at the first INSERT or UPDATE only."""
        if not driver_of(conn).in_transaction:
            _begin_setup(conn)

    def can_rebuild(self, conn: Connection) -> bool:
        """Only where foreign keys are off."""
        return not conn.exec_driver_sql("PRAGMA foreign_keys").scalar()

    def script(self, statements: str) -> str:
        """One transaction, without foreign keys."""
        return (
            f"PRAGMA foreign_keys=OFF;\n\nBEGIN IMMEDIATE;\n\n{statements}COMMIT;\n\n"
            "PRAGMA foreign_keys=ON;\n"
        )

    def is_transient(self, exc: BaseException) -> bool:
        """SQLITE_BUSY and SQLITE_LOCKED: another process writes."""
        return _sqlite_code(exc) in {_BUSY, _LOCKED}

    def is_locked(self, exc: BaseException) -> bool:
        """As transient errors."""
        return self.is_transient(exc)

    def is_full(self, exc: BaseException) -> bool:
        """SQLITE_FULL: the disk, or the limit of `PRAGMA max_page_count`."""
        return _sqlite_code(exc) == _FULL

    def is_forbidden(self, exc: BaseException) -> bool:
        """The file, its log or its directory cannot be opened or written."""
        return _sqlite_code(exc) in _FORBIDDEN

    def how_to_permit(self, url: URL) -> str:
        """Names what cannot be written; a log has the mode that the file had when it was made."""
        file = self.database_file(url)
        parts = [file.parent, *_with_logs(str(file))] if file else []
        locked = [str(part) for part in parts if part.exists() and not os.access(part, os.W_OK)]
        named = ", ".join(locked) or "the file, its -wal and -shm, and its directory"
        return f"let this process write {named}, or name another file"

    def journal_mode(self, conn: Connection) -> str | None:
        """Usually `wal`, the write-ahead log."""
        return str(conn.execute(text("PRAGMA journal_mode")).scalar_one())

    def find_damage(self, conn: Connection) -> str | None:
        """The first finding of `quick_check`."""
        said = str(conn.execute(text("PRAGMA quick_check(1)")).scalar())
        return None if said == "ok" else said

    def files(self, conn: Connection) -> list[Path]:
        """Those of all attached databases, with their logs and journals."""
        named = [row.file for row in conn.execute(text("PRAGMA database_list")) if row.file]
        return [path for name in named for path in _with_logs(name)]

    def table_sizes(self, conn: Connection, tables: Sequence[Table]) -> tuple[str, dict[str, int]]:
        """Pages counted by `dbstat`, or lengths of values if SQLite was built without it."""
        schema = (tables[0].schema if tables else None) or "main"
        owners = text(
            f"SELECT m.tbl_name, sum(s.pgsize) FROM dbstat('{schema}', 1) s "  # noqa: S608
            f"JOIN {sqlite.dialect().identifier_preparer.quote(schema)}.sqlite_master m "
            "ON m.name = s.name GROUP BY m.tbl_name"
        )
        try:
            return "pages, by dbstat", {row[0]: int(row[1]) for row in conn.execute(owners)}
        except DBAPIError:
            return (
                "lengths of the values: this SQLite has no dbstat",
                {table.name: _sum_of_lengths(conn, table) for table in tables},
            )

    def space(self, conn: Connection, tables: Sequence[Table]) -> Space:
        """Of the whole file: its pages are shared."""
        del tables
        page = _pragma(conn, "page_size")
        return Space(_pragma(conn, "page_count") * page, _pragma(conn, "freelist_count") * page)

    def vacuum(self, conn: Connection, tables: Sequence[Table], how: VacuumKind) -> str | None:
        """Write the file anew without its free pages, or cut these off in short transactions."""
        del tables
        if how == "incremental" and _pragma(conn, "auto_vacuum") == _INCREMENTAL:
            for _ in range(0, _pragma(conn, "freelist_count"), _PAGES_AT_ONCE):
                # It frees a page at each step: `execute` would run the first one only.
                driver_of(conn).executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
        else:
            if how == "incremental":  # makes the map: only a file that is written anew gets one
                execute(conn, f"PRAGMA auto_vacuum={_INCREMENTAL}")
            execute(conn, "VACUUM")
        is_busy = _pragma(conn, "wal_checkpoint(TRUNCATE)")
        return _KEPT_BY_READERS if is_busy else None

    def limit_lock_wait(self, conn: Connection, seconds: float) -> None:
        """PRAGMA busy_timeout."""
        execute(conn, f"PRAGMA busy_timeout={seconds * 1000:.0f}")

    def delete_newest_blobs(self, blobs: Table) -> Executable:
        """In reverse order of insertion: a delta base is older than its deltas.

        Neighbouring rows share pages. In key order each transaction would write most pages.
        """
        ids = newest_blobs(blobs, "rowid", "rowid")
        return delete(blobs).where(literal_column("rowid").in_(ids))

    @contextmanager
    def tuned_for_bulk_deletes(self, conn: Connection) -> Iterator[None]:
        """A larger page cache: with the default one, pages are written several times a commit."""
        before = int(execute(conn, "PRAGMA cache_size")[0][0][0])  # pages, or KiB below zero
        if (-before if before < 0 else 4 * before) >= BULK_CACHE:
            yield
            return
        execute(conn, f"PRAGMA cache_size=-{BULK_CACHE}")
        try:
            yield
        finally:
            if not conn.invalidated:
                execute(conn, f"PRAGMA cache_size={before}")


@contextmanager
def _driver_begins_nothing(conn: Connection) -> Iterator[None]:
    """Leave transactions to SQL, and put the driver's setting back.

    SQLAlchemy's isolation levels would put back its own default, not the application's.
    """
    if driver_of(conn).in_transaction:
        execute(conn, "COMMIT")  # an application's "begin" listener opened one
    driver: Any = conn.connection.dbapi_connection
    level = driver.isolation_level
    if level is not None:
        driver.isolation_level = None
    try:
        yield
    finally:
        if level is not None and not conn.invalidated:
            driver.isolation_level = level


def _begin_setup(conn: Connection) -> None:
    """Take the write lock, which another process holds while it sets up the database.

    Raises:
        DatabaseUnavailableError: Another connection held it for `SETUP_WAIT` seconds.
    """
    deadline = time.monotonic() + base.SETUP_WAIT
    timeout = execute(conn, "PRAGMA busy_timeout")[0][0][0]
    # In waits of at most one second, because Python handles an interrupt only between them.
    execute(conn, f"PRAGMA busy_timeout={min(base.SETUP_WAIT, 1.0) * 1000:.0f}")
    try:
        while True:
            try:
                execute(conn, "BEGIN IMMEDIATE")
            except DBAPIError as exc:
                if _sqlite_code(exc) != _BUSY:
                    raise
                if time.monotonic() >= deadline:
                    raise base.setup_locked(
                        "database is locked: by any transaction that writes"
                    ) from exc
            else:
                return
    finally:
        execute(conn, f"PRAGMA busy_timeout={timeout}")


def _pragma(conn: Connection, name: str) -> int:
    return int(execute(conn, f"PRAGMA {name}")[0][0][0])


def _with_logs(file: str) -> list[Path]:
    """A database file, and what SQLite may have beside it."""
    return [Path(file + end) for end in ("", "-wal", "-shm", "-journal")]


def _sum_of_lengths(conn: Connection, table: Table) -> int:
    """The bytes of all values in a table."""
    lengths = [func.sum(func.length(cast(column, LargeBinary))) for column in table.c]
    return sum(size or 0 for size in conn.execute(select(*lengths)).one())


def _sqlite_code(exc: BaseException) -> int | None:
    """The primary result code of SQLite (https://www.sqlite.org/rescode.html)."""
    code = getattr(exc.orig if isinstance(exc, DBAPIError) else exc, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
