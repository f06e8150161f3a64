"""The engine that the application and its saver share, and transactions on it."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from tenacity import (
    AsyncRetrying,
    retry,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
)
from tenacity.wait import wait_random, wait_random_exponential

T = TypeVar("T")

DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+psycopg_async",
    "mysql": "mysql+asyncmy",
    "mariadb": "mariadb+asyncmy",
}
"""The async driver of a URL that names none."""

BUSY_TIMEOUT = 30
"""Seconds that a transaction waits for SQLite's one writer."""

UNDONE = {"40001", "40P01", 1020, 1205, 1213}
"""Codes of a transaction that the database undid, because it was in the way of another one."""


def make_engine(url: str | URL, schemas: Mapping[str, str | None] | None = None) -> AsyncEngine:
    """Make the engine of a database's URL, with the settings that the application relies on.

    Each statement sees what others have committed (READ COMMITTED). On SQLite, readers do not wait
    for the writer (WAL), references are enforced, and a transaction of `transaction` takes the
    write lock as it begins: one that wrote after it has read could not wait for the lock.

    Args:
        url: The database.
        schemas: The schema of this database for each one that tables are declared in.
    """
    url = make_url(url)
    backend = url.get_backend_name()
    if backend not in DRIVERS:
        raise ValueError(f"{backend} is not supported: use one of {', '.join(DRIVERS)}")
    if not url.get_dialect().is_async:
        url = url.set(drivername=DRIVERS[backend])
    options: dict[str, Any] = {
        "hide_parameters": True,
        "execution_options": {"schema_translate_map": schemas} if schemas else {},
    }
    if backend != "sqlite":
        return create_async_engine(url, isolation_level="READ COMMITTED", **options)
    engine = create_async_engine(url, connect_args={"timeout": BUSY_TIMEOUT}, **options)
    event.listen(engine.sync_engine, "connect", _configure_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


@retry(
    retry=retry_if_exception_type(sqlite3.OperationalError),
    stop=stop_after_attempt(20),
    wait=wait_random(0, 0.1),
    reraise=True,
)
def _configure_sqlite(connection: Any, _record: Any) -> None:
    """Of two processes that open a new file at once, one cannot turn WAL on, and is not queued."""
    for pragma in ("journal_mode=WAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get("writes"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def reading(engine: AsyncEngine) -> AsyncSession:
    """Open a session that only reads."""
    return AsyncSession(engine, expire_on_commit=False)


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Open a session that is committed at the end, or rolled back on an error."""
    async with AsyncSession(engine, expire_on_commit=False) as orm, orm.begin():
        await orm.connection(execution_options={"writes": True})
        yield orm


async def in_transaction(engine: AsyncEngine, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Run work in a transaction of its own, again if the database undid it for another one."""
    async for attempt in AsyncRetrying(
        retry=retry_if_exception(_was_undone),
        stop=stop_after_attempt(10),
        wait=wait_random_exponential(multiplier=0.02, max=1),
        reraise=True,
    ):
        with attempt:
            async with transaction(engine) as orm:
                return await work(orm)
    raise AssertionError  # the last attempt returns or raises


def _was_undone(exc: BaseException) -> bool:
    if not isinstance(exc, DBAPIError):
        return False
    codes = (getattr(exc.orig, "sqlstate", None), *getattr(exc.orig, "args", ())[:1])
    return not UNDONE.isdisjoint(codes)
