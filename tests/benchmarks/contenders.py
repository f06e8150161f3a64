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

import pymysql
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.mysql.pymysql import PyMySQLSaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.sql.dialects.base import POOL_SIZE
from tests.benchmarks.databases import Database, Kind

Saver: TypeAlias = BaseCheckpointSaver[Any]

POOL = POOL_SIZE
"""Connections of every pool that many threads share: as many as of ours."""

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


_LONG_TEXTS = f"SET SESSION group_concat_max_len = {1 << 30}"
"""PyMySQLSaver reads a state as one JSON text, which the server cuts off at this length: with
MariaDB's 1 MB a chat of 1,000 turns cannot be read back. But for this, its `from_conn_string`.
"""


@contextmanager
def _mysql(database: Database) -> Iterator[Saver]:
    url = PyMySQLSaver.parse_conn_string(_plain(database))
    with pymysql.connect(**url, autocommit=True, init_command=_LONG_TEXTS) as connection:
        saver = PyMySQLSaver(connection)
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
def _postgres_pool(database: Database) -> Iterator[Saver]:
    with ConnectionPool(
        _plain(database), min_size=POOL, max_size=POOL, kwargs=PSYCOPG, open=True
    ) as pool:
        pool.wait()
        saver = PostgresSaver(pool)  # type: ignore[arg-type]  # of rows that are dicts
        saver.setup()
        yield saver


POOLED_PEERS: dict[Kind, Contender] = {
    "SQLite": PEERS["SQLite"],
    "PostgreSQL": Contender("PostgresSaver, pool", _postgres_pool),
}


def our_async(driver: str) -> AsyncContender:
    """Our saver as `from_conn_string` makes it of a URL with this driver.

    On SQLite the driver is no async one: aiosqlite crosses between threads for each statement,
    while others wait for their turn, and of 64 threads at once made 90 steps/s.
    """

    @asynccontextmanager
    async def open_saver(database: Database) -> AsyncIterator[Saver]:
        async with SessionSaver.from_conn_string(database.with_driver(driver)) as saver:
            await saver.asetup()
            yield saver

    return AsyncContender("SessionSaver, async", open_saver)


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


OURS_ASYNC: dict[Kind, AsyncContender] = {
    "SQLite": our_async("pysqlite"),
    "PostgreSQL": our_async("asyncpg"),
}
ASYNC_PEERS: dict[Kind, AsyncContender] = {
    "SQLite": AsyncContender("AsyncSqliteSaver", _async_sqlite),
    "PostgreSQL": AsyncContender("AsyncPostgresSaver, pool", _async_postgres),
}
