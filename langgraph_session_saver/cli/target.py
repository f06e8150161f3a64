"""From the command line's URL to a database, to read or to write; reading leaves no trace."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import parse_qsl, unquote

import platformdirs
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.errors import DatabaseUnavailableError, StoragePermissionError
from langgraph_session_saver.inspection.queries import Overview
from langgraph_session_saver.saver import SessionSaver
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.runner import Runner
from langgraph_session_saver.sql.scripts import Request, Script, ScriptRunner
from langgraph_session_saver.sql.urls import APP_NAME, URL_VARIABLE, make_engine, parse_url
from langgraph_session_saver.storage.checkpoints import operations_on

T = TypeVar("T")

_SYNC_DRIVERS = {
    "aiosqlite": "pysqlite",
    "asyncpg": "psycopg",
    "psycopg_async": "psycopg",
    "asyncmy": "pymysql",
    "aiomysql": "pymysql",
}

_UNWRITABLE = {"SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM"}


class Database:
    """An open database: a saver on it, and what else runs scripts there."""

    def __init__(
        self, engine: Engine, schema: str | None, table_prefix: str, *, auto_setup: bool
    ) -> None:
        self.engine = engine
        operations = operations_on(engine.dialect, schema, table_prefix)
        self.tables: Tables = operations.tables
        self.saver = SessionSaver(
            engine, auto_setup=auto_setup, schema=schema, table_prefix=table_prefix
        )
        runner = Runner(engine)
        self.context = Context(operations, (), policy="record", pricing=None, auto_setup=False)
        self._script_runner = ScriptRunner(runner, self.context)
        self.overview = Overview(self.tables)

    def read(self, operation: Callable[[Connection], T]) -> T:
        """Run one operation that reads."""
        return self.run(_one(operation))

    def verify(self) -> None:
        """See that the schema is this code's.

        Raises:
            SchemaError: It is not.
        """
        self.read(lambda _conn: None)

    def run(self, script: Script[T]) -> T:
        """Run a script, once the schema has been seen to be this code's."""
        return self._script_runner.run(script)


def _one(operation: Callable[[Connection], T]) -> Script[T]:
    return (yield Request.read(operation))  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Place:
    """The database that a command is about."""

    url: str | None
    schema: str | None
    table_prefix: str

    def at(self, url: str) -> Place:
        """The same tables at another URL."""
        return replace(self, url=url)

    @contextmanager
    def reading(self) -> Iterator[Database]:
        """Open it to read: nothing is created, and a file that cannot be written is enough."""
        url = self.parsed()
        engine = _reading_file(url) if url.get_backend_name() == "sqlite" else make_engine(url)
        with self._on(cast("Engine", engine)) as database:
            yield database

    @contextmanager
    def writing(self, *, creates: bool = False) -> Iterator[Database]:
        """Open it to write.

        Args:
            creates: Whether a file, and tables, that are not there are made.
        """
        url = self.parsed(creates=creates)
        if url.get_backend_name() == "sqlite":
            url = _writable_file(url, creates=creates)
        with self._on(cast("Engine", make_engine(url)), auto_setup=creates) as database:
            yield database

    @contextmanager
    def _on(self, engine: Engine, *, auto_setup: bool = False) -> Iterator[Database]:
        try:
            yield Database(engine, self.schema, self.table_prefix, auto_setup=auto_setup)
        finally:
            engine.dispose()

    def parsed(self, *, creates: bool = False) -> URL:
        """The URL with a driver that is not an async one.

        Args:
            creates: Whether the default file is made where no URL is given.
        """
        given = self.url or os.environ.get(URL_VARIABLE) or None
        if given is None and not creates:
            given = str(platformdirs.user_data_path(APP_NAME) / "sessions.db")
        if given is not None and given.startswith("file:"):
            return _file_url(given)
        url = parse_url(given)
        driver = _SYNC_DRIVERS.get(url.get_driver_name())
        return url.set(drivername=f"{url.get_backend_name()}+{driver}") if driver else url

    def shown(self) -> str:
        """The URL without password and options."""
        return self.parsed().set(query={}).render_as_string(hide_password=True)


def _file_url(given: str) -> URL:
    """SQLite's own form of a URL, `file:app.db?mode=ro`."""
    path, _, query = given.removeprefix("file:").partition("?")
    options = dict(parse_qsl(query))
    name = "file:" + unquote(path.removeprefix("//") if path.startswith("///") else path)
    return URL.create("sqlite+pysqlite", database=name, query={**options, "uri": "true"})


def _path_of(url: URL) -> Path:
    name = str(url.database or "")
    if name in {"", ":memory:"} or url.query.get("mode") == "memory":
        raise DatabaseUnavailableError(
            "a memory database is empty in every process: name a file with --url"
        )
    return Path(name.removeprefix("file:")).expanduser()


def existing(url: URL) -> Path:
    """A SQLite URL's file.

    Raises:
        DatabaseUnavailableError: There is none.
    """
    path = _path_of(url)
    if not path.exists():
        raise DatabaseUnavailableError(
            f"there is no database file {path}: name it with --url, or set {URL_VARIABLE}"
        )
    return path


def _writable_file(url: URL, *, creates: bool) -> URL:
    path = _path_of(url) if creates else existing(url)
    if url.query.get("mode") == "ro" or "immutable" in url.query:
        raise StoragePermissionError(f"the URL opens {path} to be read only, and this writes to it")
    query = {key: value for key, value in url.query.items() if key not in {"mode", "uri"}}
    return url.set(database=str(path), query=query)


# -- a SQLite file, to be read ----------------------------------------------------------------


def _reading_file(url: URL) -> Engine:
    path = existing(url)
    return create_engine(
        url.set(database=str(path), query={}),
        creator=lambda: _connect_reading(path),
        poolclass=NullPool,
        hide_parameters=True,
    )


def _connect_reading(path: Path) -> sqlite3.Connection:
    """Connect so that nothing can be written.

    Where file and directory can be written, SQLite removes its `-wal` and `-shm` files at the end,
    which `mode=ro` leaves behind. Where they cannot, a file in WAL mode opens only as immutable:
    it is what it seems if no log lies beside it.
    """
    uri = path.absolute().as_uri()
    if os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK):
        return _connect(f"{uri}?mode=rw")
    try:
        return _connect(f"{uri}?mode=ro")
    except sqlite3.OperationalError as exc:
        if not any(exc.sqlite_errorname.startswith(name) for name in _UNWRITABLE):
            raise
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise StoragePermissionError(
                f"{path} cannot be read where it is: its log {log.name} holds what was written "
                "last, and reading that needs a directory that can be written. Copy both files to "
                "one"
            ) from exc
    return _connect(f"{uri}?immutable=1")


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=10)
    try:
        connection.execute("PRAGMA query_only=ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection
