"""One database per test, with the engines that reach it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import pymysql
from sqlalchemy import Engine, NullPool, create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.support.databases import Databases, Engines, SqliteFile
from tests.support.servers import Server

BackendName: TypeAlias = Literal["sqlite", "postgresql", "mariadb"]
BACKEND_NAMES: tuple[BackendName, ...] = get_args(BackendName)

EACH_ONCE = (
    ("sqlite", "sync"),
    ("sqlite", "async"),
    ("postgresql", "async"),
    ("mariadb", "async-engine"),
)
"""Pairs of backend and face that take in each of both, for what does not hang on the pair."""

Sql: TypeAlias = Callable[..., list[dict[str, Any]]]


def _forget(_engine: Engine | AsyncEngine) -> None: ...


class EngineLog:
    """The engines that a test made: at its end none may have a connection checked out."""

    def __init__(self) -> None:
        self._engines: list[tuple[Engine, Callable[[Engine], None]]] = []
        self._async_engines: list[tuple[AsyncEngine, Callable[[AsyncEngine], None]]] = []

    def add(self, engine: Engine, then: Callable[[Engine], None] = _forget) -> Engine:
        """Note an engine, and what to do with it when it is disposed of."""
        self._engines.append((engine, then))
        return engine

    def add_async(
        self, engine: AsyncEngine, then: Callable[[AsyncEngine], None] = _forget
    ) -> AsyncEngine:
        """As `add`."""
        self._async_engines.append((engine, then))
        return engine

    def leaks(self) -> list[str]:
        """A line for each engine with connections that were not given back."""
        every = [engine for engine, _ in self._engines]
        every += [engine.sync_engine for engine, _ in self._async_engines]
        counted = [(engine, checked_out(engine)) for engine in every]
        return [
            f"{count} connection(s) of {engine.url.render_as_string()} still checked out: "
            f"{engine.pool.status()}"
            for engine, count in counted
            if count
        ]

    def dispose(self) -> None:
        """Dispose the plain engines."""
        while self._engines:
            engine, then = self._engines.pop()
            engine.dispose()
            then(engine)

    def forget_async(self) -> None:
        """Forget the async engines, which the test has disposed of on loops of its own."""
        self._async_engines.clear()

    async def dispose_async(self) -> None:
        """Dispose the async engines: on the loop that used them."""
        while self._async_engines:
            engine, then = self._async_engines.pop()
            await engine.dispose()
            then(engine)

    @property
    def has_async(self) -> bool:
        return bool(self._async_engines)


def checked_out(engine: Engine | AsyncEngine) -> int:
    """How many of the engine's connections are out; pools that do not count say 0."""
    pool = engine.sync_engine.pool if isinstance(engine, AsyncEngine) else engine.pool
    count: Callable[[], int] | None = getattr(pool, "checkedout", None)
    return 0 if count is None else count()


@dataclass(frozen=True)
class Backend:
    """A fresh database of one kind.

    Attributes:
        name: ``sqlite``, ``postgresql`` or ``mariadb``.
        engines: The database's, handed on with it.
        outside: A plain engine that no saver uses, to look at what they wrote.
        server: The server behind it; ``None`` for SQLite.
        path: The database file; ``None`` for a server.
    """

    name: BackendName
    engines: Engines
    outside: Engine
    server: Server | None = None
    path: Path | None = None
    log: EngineLog = field(default_factory=EngineLog, repr=False)

    def engine(self, **options: Any) -> Engine:
        """A new plain engine, disposed at the end of the test."""
        return self.log.add(create_engine(self.url, **options))

    def async_engine(self, **options: Any) -> AsyncEngine:
        """A new async engine, disposed at the end of the test (which must be a coroutine)."""
        return self.log.add_async(create_async_engine(self.async_url, **options))

    def warm_engine(self) -> Engine:
        """A plain engine with a pool of its own, for which statements may be compiled already."""
        return self.log.add(self.engines.take(), self.engines.give_back)

    def warm_async_engine(self) -> AsyncEngine:
        """An async engine, as `warm_engine`."""
        return self.log.add_async(self.engines.take_async(), self.engines.give_back_async)

    @property
    def url(self) -> str:
        """For a plain engine (pysqlite, psycopg, PyMySQL), password included."""
        return self.engines.url

    @property
    def async_url(self) -> str:
        """For an async engine (aiosqlite, asyncpg, asyncmy), password included."""
        return self.engines.async_url

    @property
    def host(self) -> str:
        return self._named_server.host

    @property
    def port(self) -> int:
        return self._named_server.port

    @property
    def _named_server(self) -> Server:
        if self.server is None:
            raise LookupError(f"{self.name} has no server")
        return self.server


@contextmanager
def fresh_backend(
    name: BackendName, databases: Databases, directory: Path, *, is_set_up: bool
) -> Iterator[Backend]:
    """A backend with a database of its own: with our tables and no rows, or without tables.

    Raises:
        BackendMissingError: This machine cannot offer it.
    """
    if name == "sqlite":
        with (
            databases.one_file()
            if is_set_up
            else nullcontext(SqliteFile(directory / "backend.db")) as file
        ):
            yield Backend(name, file.engines, file.outside, path=file.path)
        return
    with databases.one(name, is_set_up=is_set_up) as database:
        yield Backend(name, database.engines, database.outside, server=database.server)


def run_sql(backend: Backend, statement: str, /, **parameters: Any) -> list[dict[str, Any]]:
    """Run SQL text on a connection that no saver uses, commit, and return the rows as dicts."""
    with backend.outside.begin() as connection:
        result = connection.execute(text(statement), parameters)
        return [dict(row._mapping) for row in result] if result.returns_rows else []


OTHERS = {
    "postgresql": "SELECT pid AS id FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid <> pg_backend_pid()",
    "mariadb": "SELECT id FROM information_schema.processlist WHERE db = database() "
    "AND id <> connection_id()",
}
"""The connections to the same database."""


def end_connections(backend: Backend) -> int:
    """End every connection to a server's database, from outside; how many there were."""
    others = [row["id"] for row in run_sql(backend, OTHERS[backend.name])]
    for number in others:
        if backend.name == "postgresql":
            run_sql(backend, "SELECT pg_terminate_backend(:id)", id=number)
        else:
            run_sql(backend, f"KILL {number}")
    return len(others)


def run_script(backend: Backend, script: str) -> None:
    """Run a script of SQL statements as the database's own client would: all of it at once."""
    if backend.name == "mariadb":
        url = make_url(backend.url).update_query_dict(
            {"client_flag": str(pymysql.constants.CLIENT.MULTI_STATEMENTS)}
        )
        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    else:
        engine = create_engine(backend.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        if backend.name == "sqlite":
            driver.executescript(script)
            return
        cursor = driver.cursor()
        cursor.execute(script)
        while cursor.nextset():
            pass
        cursor.close()
