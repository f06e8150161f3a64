"""Database URLs and file paths, and the engines made from them."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from langgraph_session_saver.errors import (
    DriverNotInstalledError,
    InvalidConfigError,
    StoragePermissionError,
)
from langgraph_session_saver.redaction import without_credentials
from langgraph_session_saver.sql.dialects import dialect_for

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


URL_VARIABLE = "LANGGRAPH_SESSION_SAVER_URL"

APP_NAME = "langgraph-session-saver"

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
      | .*\w\w:.*@ | \w:(?![/\\]).*@    # user:password@host/db
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
    parsed = _parse(url or os.environ.get(URL_VARIABLE) or default_file())
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
        is_file = parsed.get_backend_name() == "sqlite"
        if is_file or isinstance(given, URL) or not _STRAY_AT.match(given):
            return parsed
    raise InvalidConfigError(_UNREADABLE)


def _file(path: str) -> URL:
    # Not through text: `?` and `%` mean something in a URL.
    return URL.create("sqlite", database=str(Path(path).expanduser()))


def default_file() -> Path:
    """The database file in the user's data directory.

    Raises:
        StoragePermissionError: It is a symbolic link, which nobody named.
    """
    file = platformdirs.user_data_path(APP_NAME) / "sessions.db"
    if file.is_symlink():
        raise StoragePermissionError(
            f"{file} is a symbolic link, and the default file must not be one: name the file that "
            f"is meant with a URL or {URL_VARIABLE}"
        )
    return file


def _make_directory(directory: Path) -> None:
    """Create a directory, and those above it that are missing, for this user alone."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        raise StoragePermissionError(
            f"{directory} cannot be created ({exc.strerror}): create it, or name another database "
            f"file with a URL or {URL_VARIABLE}"
        ) from exc


def _make_file(file: Path) -> None:
    """Create a database file for this user alone, unless it exists; its log gets the same mode.

    A file that exists is not opened: closing it would end the locks that SQLite holds on it.
    """
    with suppress(OSError):  # SQLite says why it cannot be opened
        os.close(os.open(file.resolve(), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def make_engine(url: URL) -> Engine | AsyncEngine:
    """Create the engine of a parsed URL: an `AsyncEngine` if its driver is async.

    Raises:
        InvalidConfigError: A part of the URL is one that its driver does not take.
        DriverNotInstalledError: Names the extra to install.
        StoragePermissionError: The directory of a database file cannot be made or written.
    """
    dialect, is_async = dialect_for(url.get_dialect()), url.get_dialect().is_async
    file = dialect.database_file(url)
    if file is not None:
        _make_directory(file.parent)
        if not os.access(file.parent, os.W_OK):
            raise StoragePermissionError(f"the directory {file.parent} cannot be written")
    try:
        options = {
            "hide_parameters": True,
            # Operations end their own transactions; ending one at every return to the pool as well
            # would cost MySQL a round trip.
            "pool_reset_on_return": None,
            **dialect.engine_options(url, is_async=is_async),
        }
        if is_async:
            import_module("greenlet")  # create_async_engine does not say that it is missing
            from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

            engine: Any = create_async_engine(dialect.driver_url(url), **options)
        else:
            engine = create_engine(dialect.driver_url(url), **options)
    except ImportError as exc:
        raise DriverNotInstalledError(_how_to_install(url, exc)) from exc
    except InvalidConfigError:
        raise
    except (ArgumentError, ValueError):
        raise InvalidConfigError(_UNREADABLE) from None
    sync_engine: Engine = getattr(engine, "sync_engine", engine)
    if dialect.has_sessions(url):
        event.listen(sync_engine, "connect", dialect.configure)
    opens_only = url.query.get("mode", "rwc") != "rwc" or "immutable" in url.query
    if file is not None and not opens_only:
        event.listen(sync_engine, "do_connect", lambda *_: _make_file(file))
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


def address_of(url: URL) -> str:
    """The hosts, port and database of a URL, without user, password and other options."""
    hosts = url.query.get("host")
    if hosts and not url.host:
        return f"{hosts if isinstance(hosts, str) else ','.join(hosts)}/{url.database or ''}"
    if not url.host:
        return str(url.database or ":memory:")
    port = f":{url.port}" if url.port else ""
    return f"{url.host}{port}/{url.database or ''}"


def said_by(exc: BaseException) -> str:
    """The first line of the driver's message, without statement, parameters and credentials."""
    said = str(getattr(exc, "orig", None) or exc).strip()
    return without_credentials(said.splitlines()[0]) if said else type(exc).__name__
