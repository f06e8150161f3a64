"""From a URL to an engine."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from langgraph_session_saver.errors import (
    DriverNotInstalledError,
    InvalidConfigError,
    StoragePermissionError,
)
from langgraph_session_saver.sql.compiled import MOST_SPARES
from langgraph_session_saver.sql.dialects.sqlite import ENFORCES_REFERENCES

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


URL_VARIABLE = "LANGGRAPH_SESSION_SAVER_URL"

APP_NAME = "langgraph-session-saver"

POOL_SIZE = 16
"""Most connections of an engine made here; they are opened when they are first needed."""

_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "sqlite": "sqlite+pysqlite",
}

_PSYCOPG = frozenset(("psycopg", "psycopg_async"))

_EXTRAS = {
    "psycopg": "postgres",
    "psycopg_async": "postgres",
    "asyncpg": "asyncpg",
    "pymysql": "mysql",
    "asyncmy": "mysql",
    "aiosqlite": "sqlite-async",
}


def parse_url(url: str | URL | os.PathLike[str] | None) -> URL:
    """Understand SQLAlchemy URLs, plain ones, `:memory:`, a file path, or the default.

    Raises:
        InvalidConfigError: The scheme is none that this package serves.
    """
    given = os.fspath(url) if isinstance(url, os.PathLike) else url
    given = given or os.environ.get(URL_VARIABLE) or _default_file()
    if isinstance(given, str):
        given = _as_url(given)
    try:
        parsed = make_url(given)
    except ArgumentError:
        # Not from it: SQLAlchemy 2.0 quotes the URL, password included.
        raise InvalidConfigError(
            "the database URL cannot be read: expected scheme://user:password@host:port/database, "
            "':memory:' or a file path"
        ) from None
    except ValueError as exc:
        raise InvalidConfigError(f"the database URL cannot be read: {said_by(exc)}") from exc
    backend = parsed.drivername.partition("+")[0]
    if backend not in _DRIVERS:
        raise InvalidConfigError(
            f"unknown URL scheme {parsed.drivername!r}: use sqlite://, postgresql://, mysql:// or "
            "mariadb://, ':memory:' or a file path"
        )
    if "+" not in parsed.drivername:
        parsed = parsed.set(drivername=_DRIVERS[backend])
    return parsed


def _as_url(given: str) -> str | URL:
    if given == ":memory:":
        return "sqlite://"
    if "://" in given:
        return given
    # Not as text: `?` and `%` mean something in a URL.
    return URL.create("sqlite", database=str(Path(given).expanduser()))


def _default_file() -> str:
    directory = platformdirs.user_data_path(APP_NAME)
    _make_directory(directory)
    file = directory / "sessions.db"
    try:
        file.touch(mode=0o600)
    except OSError as exc:
        raise StoragePermissionError(
            f"{file} cannot be created ({exc.strerror}): pass a URL, or set {URL_VARIABLE}"
        ) from exc
    return str(file)


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise StoragePermissionError(
            f"the directory {directory} cannot be created ({exc.strerror}): make it, or name a "
            "database file in one that can be written"
        ) from exc


def make_engine(url: URL) -> Engine | AsyncEngine:
    """Create the engine of a URL: an `AsyncEngine` where its driver is an async one.

    Raises:
        DriverNotInstalledError: Names the extra to install.
        StoragePermissionError: The directory of a database file cannot be made or written.
    """
    options: dict[str, Any] = {"hide_parameters": True}
    is_async = url.get_dialect().is_async
    # Operations end the transactions that they open: to end one at every return to the pool, as an
    # engine does by itself, is a round trip on MySQL.
    options["pool_reset_on_return"] = None
    backend = url.get_backend_name()
    if backend == "sqlite":
        options |= _sqlite_options(url, is_async=is_async)
    else:
        options["isolation_level"] = "AUTOCOMMIT"
        # Without overflow: such a connection is closed when it is given back, and made anew.
        spares = 0 if is_async else MOST_SPARES
        options |= {"pool_size": POOL_SIZE - spares, "max_overflow": 0}
    try:
        if url.get_driver_name() in _PSYCOPG:
            options |= _psycopg_options(url, is_async=is_async)
        if is_async:
            import_module("greenlet")  # what the next line needs, and does not say
            from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

            engine: Any = create_async_engine(url, **options)
        else:
            engine = create_engine(url, **options)
    except ImportError as exc:
        driver = url.get_driver_name()
        extra = _EXTRAS.get(driver, "asyncio")
        raise DriverNotInstalledError(
            f"the driver {driver!r} is not installed: "
            f"pip install 'langgraph-session-saver[{extra}]'"
        ) from exc
    if backend in _CONFIGURE:
        event.listen(getattr(engine, "sync_engine", engine), "connect", _CONFIGURE[backend])
    return engine  # type: ignore[no-any-return]


def _psycopg_options(url: URL, *, is_async: bool) -> dict[str, Any]:
    import psycopg  # noqa: PLC0415 - need not be installed

    # Statements in PostgreSQL's own style: those of over 4,096 characters or 50 parameters psycopg
    # parses anew at every use, of a chat's step 0.3 ms (_queries.py, MAX_CACHED_STATEMENT_LENGTH).
    cursor = psycopg.AsyncRawCursor if is_async else psycopg.RawCursor
    connect: dict[str, Any] = {"cursor_factory": cursor}
    if "prepare_threshold" not in url.query:
        # At the first use, as the other drivers do and the official saver: not at the sixth.
        connect["prepare_threshold"] = 0
    return {"paramstyle": "numeric_dollar", "connect_args": connect}


def _sqlite_options(url: URL, *, is_async: bool) -> dict[str, Any]:
    if not is_file(url.database):
        # One connection is one memory database; callers take turns with it.
        pool = AsyncAdaptedQueuePool if is_async else QueuePool
        connect = {} if is_async else {"check_same_thread": False}
        return {
            "poolclass": pool, "pool_size": 1, "max_overflow": 0, "connect_args": connect,
        }  # fmt: skip
    directory = Path(str(url.database)).absolute().parent
    _make_directory(directory)
    if not os.access(directory, os.W_OK):
        raise StoragePermissionError(f"the directory {directory} cannot be written")
    return {}


def is_file(database: str | None) -> bool:
    """Whether a SQLite database is a file, and not in memory."""
    return bool(database) and database != ":memory:" and "mode=memory" not in str(database)


def _configure_sqlite(dbapi_connection: Any, record: Any) -> None:
    cursor = dbapi_connection.cursor()
    # As durable as the official saver: WAL, and synchronous left at FULL.
    for pragma in ("busy_timeout=10000", "journal_mode=WAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    # Nobody else has this connection: transactions need not look whether that still holds.
    dbapi_connection.isolation_level = None
    record.info[ENFORCES_REFERENCES] = True


def _configure_postgresql(dbapi_connection: Any, _record: Any) -> None:
    """Plan a prepared statement once, and not for its first five uses.

    A step's statement takes 0.4 ms to plan, and what is looked up by key has but one plan. As a
    query, for a server of another maker need not know the setting.
    """
    cursor = dbapi_connection.cursor()
    cursor.execute(
        "SELECT set_config(name, 'force_generic_plan', false) FROM pg_settings "
        "WHERE name = 'plan_cache_mode'"
    )
    cursor.close()


_CONFIGURE = {"sqlite": _configure_sqlite, "postgresql": _configure_postgresql}


def address_of(url: URL) -> str:
    """Where a database is, without who asks and how."""
    if not url.host:
        return str(url.database or ":memory:")
    port = f":{url.port}" if url.port else ""
    return f"{url.host}{port}/{url.database or ''}"


def said_by(exc: BaseException) -> str:
    """What the driver said, without statement and parameters."""
    said = str(getattr(exc, "orig", None) or exc).strip()
    return said.splitlines()[0] if said else type(exc).__name__
