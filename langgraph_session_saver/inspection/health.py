"""`health`: whether the database is there, is this code's, and how much it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, Engine, func, inspect, select
from sqlalchemy.pool import QueuePool

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.errors import DatabaseUnavailableError, SessionSaverError
from langgraph_session_saver.schema.setup import version_of
from langgraph_session_saver.schema.tables import SCHEMA_VERSION
from langgraph_session_saver.sql.scripts import Request, Script


@dataclass(frozen=True, slots=True)
class TableSize:
    """One table.

    Attributes:
        name: Its name, prefix included.
        rows: How many it has.
        bytes: What it takes with its indexes; None where the database does not say.
    """

    name: str
    rows: int
    bytes: int | None


@dataclass(frozen=True, slots=True)
class PoolUse:
    """The engine's connections.

    Attributes:
        kind: The pool's class.
        size: Connections that it keeps at most; None for a pool without a size.
        in_use: Connections that are checked out, the one that asks not counted.
        idle: Connections that wait to be used.
    """

    kind: str
    size: int | None
    in_use: int | None
    idle: int | None


@dataclass(frozen=True, slots=True)
class Health:
    """What was found of a database.

    Attributes:
        url: Where it is, without password and options.
        reachable: Whether it answers.
        reason: Why it does not.
        dialect: "sqlite", "postgresql", "mysql" or "mariadb".
        driver: The driver's name.
        server_version: What the database says that it is.
        revision: The schema's recorded revision; None where there is none.
        head: The revision that this code needs.
        latency_ms: What a statement took that asks for nothing.
        journal_mode: SQLite's: "wal", "delete" …; None for servers.
        isolation_level: The level at which statements outside our transactions run.
        pool: The engine's connections.
        tables: Rows and bytes of the tables that are there.
        measured: How the bytes were found.
    """

    url: str
    reachable: bool
    reason: str | None
    dialect: str
    driver: str
    server_version: str | None
    revision: str | None
    head: str
    latency_ms: float | None
    journal_mode: str | None
    isolation_level: str | None
    pool: PoolUse
    tables: tuple[TableSize, ...]
    measured: str | None

    @property
    def is_current(self) -> bool:
        """Whether the database answers and has the schema that this code needs."""
        return self.reachable and self.revision == self.head

    @property
    def bytes(self) -> int | None:
        """What all tables take; None where one of them is not known."""
        sizes = [table.bytes for table in self.tables]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def to_dict(self) -> dict[str, Any]:
        """Everything as dicts, lists, text and numbers."""
        return asdict(self) | {"is_current": self.is_current, "bytes": self.bytes}


class HealthCheck:
    """The script of `health`."""

    def __init__(self, context: Context, engine: Engine) -> None:
        self._context = context
        self._engine = engine

    def health(self, *, sizes: bool) -> Script[Health]:
        """Look at a database; one that cannot be reached is a result too."""
        pool = _pool_use(self._engine)
        nothing = _unseen(self._engine, pool)
        look = Request.probe(partial(self._look, nothing, sizes=sizes))
        try:
            try:
                found: Health = yield look
            except DatabaseUnavailableError:
                # A pooled connection outlives its server: a second one is a new one.
                found = yield look
        except SessionSaverError as exc:
            return replace(nothing, reason=str(exc))
        return found

    def _look(self, nothing: Health, conn: Connection, *, sizes: bool) -> Health:
        tables, dialect = self._context.tables, self._context.dialect
        latency = min(_seconds(lambda: conn.execute(select(1)).scalar()) for _ in range(2))
        there = set(inspect(conn).get_table_names(schema=tables.metadata.schema))
        measured, ours = self._sizes(conn, there) if sizes else (None, ())
        return replace(
            nothing,
            reachable=True,
            server_version=dialect.server_version(conn),
            revision=version_of(conn, tables) if tables.version.name in there else None,
            latency_ms=round(latency * 1000, 3),
            journal_mode=dialect.journal_mode(conn),
            isolation_level=conn.get_isolation_level(),
            tables=ours,
            measured=measured,
        )

    def _sizes(self, conn: Connection, there: set[str]) -> tuple[str | None, tuple[TableSize, ...]]:
        present = [table for table in self._context.tables if table.name in there]
        measured, taken = self._context.dialect.bytes_of(conn, present)
        return measured, tuple(
            TableSize(
                table.name,
                conn.execute(select(func.count()).select_from(table)).scalar_one(),
                taken.get(table.name),
            )
            for table in present
        )


def _unseen(engine: Engine, pool: PoolUse) -> Health:
    """What is known of a database that was not asked."""
    url = engine.url
    return Health(
        url=url.set(query={}).render_as_string(hide_password=True),
        reachable=False,
        reason=None,
        dialect=url.get_backend_name(),
        driver=engine.dialect.driver,
        server_version=None,
        revision=None,
        head=SCHEMA_VERSION,
        latency_ms=None,
        journal_mode=None,
        isolation_level=None,
        pool=pool,
        tables=(),
        measured=None,
    )


def _pool_use(engine: Engine) -> PoolUse:
    pool: Any = engine.pool
    if not isinstance(pool, QueuePool):
        return PoolUse(type(pool).__name__, None, None, None)
    return PoolUse(type(pool).__name__, pool.size(), pool.checkedout(), pool.checkedin())


def _seconds(call: Callable[[], Any]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start
