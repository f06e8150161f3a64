"""The savers, each opened on a database in the way its own documentation shows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from typing import Any, TypeAlias

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.mysql.pymysql import PyMySQLSaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from langgraph_session_saver import SessionSaver
from tests.benchmarks.databases import Database, Kind

Saver: TypeAlias = BaseCheckpointSaver[Any]

POOL = 16
"""Connections of every pool that many threads share."""

PSYCOPG: dict[str, Any] = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
"""How the official savers' own `from_conn_string` connects."""


@dataclass(frozen=True)
class Contender:
    """A saver with a name, for `invoke`."""

    name: str
    open: Callable[[Database], AbstractContextManager[Saver]]


@dataclass(frozen=True)
class AsyncContender:
    """A saver with a name, for `ainvoke`."""

    name: str
    open: Callable[[Database], AbstractAsyncContextManager[Saver]]


def ours(name: str = "SessionSaver", **options: Any) -> Contender:
    """Our saver with options, as `from_conn_string` makes it."""

    @contextmanager
    def open_saver(database: Database) -> Iterator[Saver]:
        with SessionSaver.from_conn_string(database.url, **options) as saver:
            saver.setup()
            yield saver

    return Contender(name, open_saver)


OURS = ours()
PLAIN = ours("SessionSaver, no projections", projections=False)


@contextmanager
def _memory(_database: Database) -> Iterator[Saver]:
    yield InMemorySaver()


@contextmanager
def _sqlite(database: Database) -> Iterator[Saver]:
    with SqliteSaver.from_conn_string(str(database.url.database)) as saver:
        saver.setup()
        yield saver


@contextmanager
def _postgres(database: Database) -> Iterator[Saver]:
    with PostgresSaver.from_conn_string(_plain(database)) as saver:
        saver.setup()
        yield saver


@contextmanager
def _mysql(database: Database) -> Iterator[Saver]:
    with PyMySQLSaver.from_conn_string(_plain(database)) as saver:
        saver.setup()
        yield saver


def _plain(database: Database) -> str:
    return database.with_driver("").render_as_string(hide_password=False)


MEMORY = Contender("InMemorySaver", _memory)
PEERS: dict[Kind, Contender] = {
    "SQLite": Contender("SqliteSaver", _sqlite),
    "PostgreSQL": Contender("PostgresSaver", _postgres),
    "MariaDB": Contender("PyMySQLSaver", _mysql),
}


# -- many threads at once ---------------------------------------------------------------------


@contextmanager
def _our_pool(database: Database) -> Iterator[Saver]:
    if database.kind == "SQLite":
        with OURS.open(database) as saver:
            yield saver
        return
    engine = create_engine(database.url, pool_size=POOL, max_overflow=0)
    saver = SessionSaver(engine)
    saver.setup()
    yield saver
    engine.dispose()


@contextmanager
def _postgres_pool(database: Database) -> Iterator[Saver]:
    with ConnectionPool(
        _plain(database), min_size=POOL, max_size=POOL, kwargs=PSYCOPG, open=True
    ) as pool:
        pool.wait()
        saver = PostgresSaver(pool)  # type: ignore[arg-type]  # of rows that are dicts
        saver.setup()
        yield saver


OUR_POOL = Contender(OURS.name, _our_pool)
POOLED_PEERS: dict[Kind, Contender] = {
    "SQLite": PEERS["SQLite"],
    "PostgreSQL": Contender("PostgresSaver, pool", _postgres_pool),
}


_SYNC_DRIVERS = frozenset(("pysqlite", "psycopg"))


def our_async(driver: str, name: str = "SessionSaver, async", **pool: Any) -> AsyncContender:
    """Our saver over an `AsyncEngine`; over an `Engine` where the URL's driver is no async one.

    Of 64 threads at once on SQLite, aiosqlite made 90 steps/s and an `Engine` 247: it crosses
    between threads for each statement, while the others wait for their turn.
    """

    @asynccontextmanager
    async def open_saver(database: Database) -> AsyncIterator[Saver]:
        url = database.with_driver(driver)
        if driver in _SYNC_DRIVERS:
            async with SessionSaver.from_conn_string(url) as saver:
                await saver.asetup()
                yield saver
            return
        engine = create_async_engine(url, **pool)
        saver = SessionSaver(engine)
        await saver.asetup()
        yield saver
        await engine.dispose()

    return AsyncContender(name, open_saver)


@asynccontextmanager
async def _async_sqlite(database: Database) -> AsyncIterator[Saver]:
    async with AsyncSqliteSaver.from_conn_string(str(database.url.database)) as saver:
        await saver.setup()
        yield saver


@asynccontextmanager
async def _async_postgres(database: Database) -> AsyncIterator[Saver]:
    async with AsyncConnectionPool(
        _plain(database), min_size=POOL, max_size=POOL, kwargs=PSYCOPG, open=False
    ) as pool:
        await pool.wait()
        saver = AsyncPostgresSaver(pool)  # type: ignore[arg-type]
        await saver.setup()
        yield saver


OURS_ASYNC: dict[Kind, tuple[AsyncContender, ...]] = {
    "SQLite": (our_async("pysqlite"),),
    "PostgreSQL": (
        our_async("psycopg"),
        our_async("asyncpg", "SessionSaver, async over asyncpg", pool_size=POOL, max_overflow=0),
    ),
}
"""The first as `from_conn_string` makes it of a plain URL."""
ASYNC_PEERS: dict[Kind, AsyncContender] = {
    "SQLite": AsyncContender("AsyncSqliteSaver", _async_sqlite),
    "PostgreSQL": AsyncContender("AsyncPostgresSaver, pool", _async_postgres),
}
