"""Database URLs and file paths, and the engines made from them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from langgraph_session_saver.errors import (
    DriverNotInstalledError,
    InvalidConfigError,
    StoragePermissionError,
)
from langgraph_session_saver.sql.dialects.sqlite import ENFORCES_REFERENCES

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


URL_VARIABLE = "LANGGRAPH_SESSION_SAVER_URL"

APP_NAME = "langgraph-session-saver"

POOL_SIZE = 16
"""Most connections of an engine made here; each is opened when it is first needed."""

# Without overflow: such a connection would be closed when it is returned, and opened anew.
_POOL = {"pool_size": POOL_SIZE, "max_overflow": 0}

_POSTGRESQL = {"psycopg": "postgres", "psycopg_async": "postgres", "asyncpg": "asyncpg"}
_MYSQL = {"pymysql": "mysql", "asyncmy": "mysql"}
_DRIVERS = {
    "postgresql": _POSTGRESQL,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "sqlite": {"pysqlite": "", "aiosqlite": "sqlite-async"},
}
"""The drivers of each scheme and the extras that install them; the first one is the default."""

_MISTYPED_URL = re.compile(
    r"""
    (?!/[^/] | \.{1,2}[/\\] | ~)              # these always start a path
    (?: \w*(sql|gres|maria)\w*(\+\w*)?([:;]|//)   # postgresql//host/db, sqlite:app.db
      | file:                                 # a URI of SQLite's own
      | [\w+.-]{2,}[:;][/\\]                  # any:/host/db, but not C:/app.db
      | [\w+-]{2,}//([^/]+/)*[^./]*$          # any//host/db, but not data//app.db
      | [\w.-]{2,}:\d{4,5}(/|$)               # host:5432/db
      | .*\w\w:.*@                            # user:password@host/db
      | .*\b(host|dbname|password)\s*=.*\s\w+\s*=   # host=localhost dbname=db
    )""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)

_STRAY_AT = re.compile(r"[\w+]+://([^:/]*:[^@]*@.*@|[^:/]*/[^?]*:.*@)", re.DOTALL)
"""A URL whose user or password has a `@` or `/` that ends it too early: the rest of the password
would be read as host, port or database, and shown as such in errors."""

_UNREADABLE = (
    "the database URL cannot be read: write postgresql://user:password@host:port/database (or "
    "mysql://…, mariadb://…) with '@', ':' and '/' in user and password percent-encoded, "
    "sqlite:///file.db, ':memory:', or a file path (./ before a name that looks like a URL)"
)


def parse_url(url: str | URL | os.PathLike[str] | None) -> URL:
    """Parse a SQLAlchemy URL, a plain one, `:memory:` or a file path; None is the default.

    Raises:
        InvalidConfigError: The URL cannot be read, or names an unknown scheme or driver.
    """
    parsed = _parse(url or os.environ.get(URL_VARIABLE) or _default_file())
    scheme, _, driver = parsed.drivername.partition("+")
    backend = "postgresql" if scheme == "postgres" else scheme
    if backend not in _DRIVERS:
        raise InvalidConfigError(
            f"unknown URL scheme {parsed.drivername!r}: use sqlite://, postgresql://, mysql:// or "
            "mariadb://, ':memory:' or a file path"
        )
    known = _DRIVERS[backend]
    parsed = parsed.set(drivername=f"{backend}+{driver or next(iter(known))}")
    try:
        parsed.get_dialect()
    except NoSuchModuleError as exc:
        schemes = " or ".join(f"{backend}+{name}://" for name in known)
        raise InvalidConfigError(f"{backend} has no driver {driver!r}: use {schemes}") from exc
    return parsed


def sync_url(url: URL) -> URL:
    """A parsed URL with the default driver in place of an async one."""
    if url.get_dialect().is_async:
        return parse_url(url.set(drivername=url.get_backend_name()))
    return url


def _parse(given: str | URL | os.PathLike[str]) -> URL:
    """Parse without repeating any part in an error: it could be part of a password."""
    if isinstance(given, os.PathLike):
        return _file(os.fspath(given))
    if isinstance(given, str) and "://" not in given and given != ":memory:":
        if _MISTYPED_URL.match(given):
            raise InvalidConfigError(_UNREADABLE)
        return _file(given)
    with suppress(ArgumentError, ValueError):  # which quote the URL
        parsed = make_url("sqlite://" if given == ":memory:" else given)
        is_file_url = parsed.get_backend_name() == "sqlite"
        if is_file_url or isinstance(given, URL) or not _STRAY_AT.match(given):
            return parsed
    raise InvalidConfigError(_UNREADABLE)


def _file(path: str) -> URL:
    # Not through text: `?` and `%` mean something in a URL.
    return URL.create("sqlite", database=str(Path(path).expanduser()))


def _default_file() -> Path:
    file = platformdirs.user_data_path(APP_NAME) / "sessions.db"
    _make_directory(file.parent)
    with _creating(file):
        file.touch(mode=0o600)
    return file


def _make_directory(directory: Path) -> None:
    with _creating(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def _creating(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise StoragePermissionError(
            f"{path} cannot be created ({exc.strerror}): create it, or name another database file "
            f"with a URL or {URL_VARIABLE}"
        ) from exc


def make_engine(url: URL) -> Engine | AsyncEngine:
    """Create the engine of a parsed URL: an `AsyncEngine` if its driver is async.

    Raises:
        InvalidConfigError: A part of the URL is one that its driver does not take.
        DriverNotInstalledError: Names the extra to install.
        StoragePermissionError: The directory of a database file cannot be made or written.
    """
    backend, is_async = url.get_backend_name(), url.get_dialect().is_async
    # Operations end their own transactions; ending one at every return to the pool as well would
    # cost MySQL a round trip.
    options: dict[str, Any] = {"hide_parameters": True, "pool_reset_on_return": None}
    if backend == "sqlite":
        options |= _sqlite_options(url, is_async=is_async)
    else:
        options["isolation_level"] = "AUTOCOMMIT"
        options |= _POOL
    try:
        if url.get_driver_name() in {"psycopg", "psycopg_async"}:
            options |= _psycopg_options(url, is_async=is_async)
        if is_async:
            import_module("greenlet")  # create_async_engine does not say that it is missing
            from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

            engine: Any = create_async_engine(url, **options)
        else:
            engine = create_engine(url, **options)
    except ImportError as exc:
        raise DriverNotInstalledError(_how_to_install(url, exc)) from exc
    except (ArgumentError, ValueError):
        raise InvalidConfigError(_UNREADABLE) from None
    if backend in _CONFIGURE:
        event.listen(getattr(engine, "sync_engine", engine), "connect", _CONFIGURE[backend])
    return engine  # type: ignore[no-any-return]


def _how_to_install(url: URL, exc: ImportError) -> str:
    backend, driver = url.get_backend_name(), url.get_driver_name()
    extras = _DRIVERS[backend]
    default = next(iter(extras))
    extra = extras.get(driver, extras[default])
    how = f"pip install 'langgraph-session-saver[{extra}]'" if extra else ""
    if driver not in extras:
        how = f"install it, or use {backend}+{default}:// ({how or 'which needs no driver'})"
    return f"the driver {driver!r} cannot be imported ({exc}): {how}"


def _psycopg_options(url: URL, *, is_async: bool) -> dict[str, Any]:
    import psycopg  # noqa: PLC0415 - need not be installed

    # Raw cursors take PostgreSQL's own parameters. The others parse a statement of over 4,096
    # characters or 50 parameters at every use (MAX_CACHED_STATEMENT_LENGTH in _queries.py).
    cursor = psycopg.AsyncRawCursor if is_async else psycopg.RawCursor
    connect: dict[str, Any] = {"cursor_factory": cursor}
    if "prepare_threshold" not in url.query:
        connect["prepare_threshold"] = 0  # prepare at the first use, as other drivers do
    return {"paramstyle": "numeric_dollar", "connect_args": connect}


def _sqlite_options(url: URL, *, is_async: bool) -> dict[str, Any]:
    if not is_file(url.database):
        # A memory database lives as long as its one connection, which all callers share.
        pool = AsyncAdaptedQueuePool if is_async else QueuePool
        connect = {} if is_async else {"check_same_thread": False}
        return {
            "poolclass": pool, "pool_size": 1, "max_overflow": 0, "connect_args": connect,
        }  # fmt: skip
    directory = Path(str(url.database)).absolute().parent
    _make_directory(directory)
    if not os.access(directory, os.W_OK):
        raise StoragePermissionError(f"the directory {directory} cannot be written")
    return _POOL


def is_file(database: str | None) -> bool:
    """Whether a SQLite database is a file, not in memory."""
    return bool(database) and database != ":memory:" and "mode=memory" not in str(database)


def _configure_sqlite(dbapi_connection: Any, record: Any) -> None:
    cursor = dbapi_connection.cursor()
    # As durable as the official saver: WAL, with synchronous left at FULL.
    for pragma in ("busy_timeout=10000", "journal_mode=WAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    # The connection is the saver's alone: its transactions need not check these settings again.
    dbapi_connection.isolation_level = None
    record.info[ENFORCES_REFERENCES] = True


def _configure_postgresql(dbapi_connection: Any, _record: Any) -> None:
    """Plan a prepared statement once instead of at each of its first five uses.

    Rows are found by key, so that no parameters need another plan. The setting is looked up
    because servers that only speak PostgreSQL's protocol may not have it.
    """
    cursor = dbapi_connection.cursor()
    cursor.execute(
        "SELECT set_config(name, 'force_generic_plan', false) FROM pg_settings "
        "WHERE name = 'plan_cache_mode'"
    )
    cursor.close()


_CONFIGURE = {"sqlite": _configure_sqlite, "postgresql": _configure_postgresql}


def address_of(url: URL) -> str:
    """The host, port and database of a URL, without user, password and options."""
    if not url.host:
        return str(url.database or ":memory:")
    port = f":{url.port}" if url.port else ""
    return f"{url.host}{port}/{url.database or ''}"


def said_by(exc: BaseException) -> str:
    """The first line of the driver's message, without statement and parameters."""
    said = str(getattr(exc, "orig", None) or exc).strip()
    return said.splitlines()[0] if said else type(exc).__name__
