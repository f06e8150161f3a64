"""`health()`: whether the database is reachable and current, and how much it holds."""

from __future__ import annotations

import timeit
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine, func, inspect, select
from sqlalchemy.pool import QueuePool

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.errors import DatabaseUnavailableError, SessionSaverError
from langgraph_session_saver.inspection.text import record_to_dict
from langgraph_session_saver.schema.setup import version_of
from langgraph_session_saver.schema.tables import SCHEMA_VERSION
from langgraph_session_saver.sql.scripts import Request, Script


@dataclass(frozen=True, slots=True)
class TableSize:
    """The size of one table.

    Attributes:
        name: Its name, prefix included.
        rows: Its number of rows.
        bytes: Its bytes with indexes; None if the database does not report them.
    """

    name: str
    rows: int
    bytes: int | None


@dataclass(frozen=True, slots=True)
class PoolUse:
    """The connections of the engine's pool.

    Attributes:
        kind: The pool's class.
        size: Connections that it keeps at most; None for a pool without a size.
        in_use: Connections that are checked out, without the one that `health` uses.
        idle: Connections that are free.
    """

    kind: str
    size: int | None = None
    in_use: int | None = None
    idle: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The state of a database.

    Attributes:
        url: Its URL, without password and options.
        reachable: Whether it answers.
        reason: The error if it does not.
        dialect: "sqlite", "postgresql", "mysql" or "mariadb".
        driver: The driver's name.
        server_version: The version that the database reports.
        revision: The schema's revision; None if none is recorded.
        head: The revision that this version of the package needs.
        latency_ms: The time that an empty statement takes.
        journal_mode: SQLite's: "wal", "delete" …; None for servers.
        isolation_level: The isolation level outside the saver's transactions.
        pool: The connections of the engine's pool.
        tables: The sizes of the tables that exist.
        measured: How the bytes were measured.
    """

    url: str
    reachable: bool = False
    reason: str | None = None
    dialect: str
    driver: str
    server_version: str | None = None
    revision: str | None = None
    head: str = SCHEMA_VERSION
    latency_ms: float | None = None
    journal_mode: str | None = None
    isolation_level: str | None = None
    pool: PoolUse
    tables: tuple[TableSize, ...] = ()
    measured: str | None = None

    @property
    def is_current(self) -> bool:
        """Whether the database is reachable and has the revision that the package needs."""
        return self.reachable and self.revision == self.head

    @property
    def bytes(self) -> int | None:
        """The bytes of all tables; None if one is unknown."""
        sizes = [table.bytes for table in self.tables]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def to_dict(self) -> dict[str, Any]:
        """The state as dicts, lists, text and numbers."""
        return record_to_dict(self) | {"is_current": self.is_current, "bytes": self.bytes}


def read_health(context: Context, engine: Engine, *, sizes: bool) -> Script[Health]:
    """Look at a database, reachable or not."""
    pool: Any = engine.pool
    use = (pool.size(), pool.checkedout(), pool.checkedin()) if isinstance(pool, QueuePool) else ()
    unreachable = Health(
        url=engine.url.set(query={}).render_as_string(hide_password=True),
        dialect=engine.url.get_backend_name(),
        driver=engine.dialect.driver,
        pool=PoolUse(type(pool).__name__, *use),
    )
    probe = Request(lambda conn: _look(conn, context, unreachable, sizes=sizes), "probe")
    try:
        try:
            found: Health = yield probe
        except DatabaseUnavailableError:
            # The pooled connection may be older than a restart of the server: try a new one.
            found = yield probe
    except SessionSaverError as exc:
        return replace(unreachable, reason=str(exc))
    return found


def _look(conn: Connection, context: Context, unreachable: Health, *, sizes: bool) -> Health:
    tables, dialect = context.tables, context.dialect
    latency = min(timeit.repeat(lambda: conn.scalar(select(1)), number=1, repeat=2))
    names = set(inspect(conn).get_table_names(schema=tables.metadata.schema))
    present = [table for table in tables if table.name in names]
    measured, bytes_by_table = dialect.table_sizes(conn, present) if sizes else (None, {})
    return replace(
        unreachable,
        reachable=True,
        server_version=dialect.server_version(conn),
        revision=version_of(conn, tables) if tables.version.name in names else None,
        latency_ms=round(latency * 1000, 3),
        journal_mode=dialect.journal_mode(conn),
        isolation_level=conn.get_isolation_level(),
        tables=tuple(
            TableSize(
                table.name,
                conn.scalars(select(func.count()).select_from(table)).one(),
                bytes_by_table.get(table.name),
            )
            for table in (present if sizes else ())
        ),
        measured=measured,
    )
