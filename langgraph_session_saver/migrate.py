"""Bringing a database to a revision, forward and back; Alembic carries the steps out.

Revisions run on a context of their own, never on Alembic's process-wide one: so an application's
migrations may call these functions, and several threads may set up several databases.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    and_,
    column,
    func,
    inspect,
    or_,
    select,
    table,
)

from langgraph_session_saver.errors import InvalidConfigError, NotConfirmedError, SchemaError
from langgraph_session_saver.schema import adoption, migrations
from langgraph_session_saver.schema import setup as schemas
from langgraph_session_saver.schema.migrations.comparing import differences
from langgraph_session_saver.schema.migrations.steps import Steps
from langgraph_session_saver.schema.tables import Tables, build_tables
from langgraph_session_saver.sql.dialects import dialect_for
from langgraph_session_saver.sql.runner import Kind, Runner
from langgraph_session_saver.sql.urls import parse_url

T = TypeVar("T")
IncludeName: TypeAlias = Callable[[str | None, Any, Any], bool]
Way: TypeAlias = Literal["upgrade", "downgrade"]

BEFORE_FORM = "0003"
"""The revision after which columns and indexes get their form, whatever they were."""

CHILDREN = ("messages", "versions", "token_usage", "session_threads", "session_errors")
"""The tables that refer to sessions."""


@dataclass(frozen=True)
class Revision:
    """One step in the history of the schema.

    Attributes:
        revision: Its name.
        down_revision: The one before; None for the first.
        summary: What it brings.
    """

    revision: str
    down_revision: str | None
    summary: str


def head() -> str:
    """The revision that this code works with."""
    return str(_scripts().get_current_head())


def history() -> list[Revision]:
    """Every revision, from the first to the head."""
    return [
        Revision(script.revision, script.down_revision, script.doc)  # type: ignore[arg-type]
        for script in reversed(_newest_first())
    ]


def current(
    bind: Engine | Connection, *, schema: str | None = None, table_prefix: str = ""
) -> str | None:
    """The revision that a database records, or None."""
    tables = build_tables(schema, table_prefix)
    return _get_scripts(bind, lambda conn: schemas.version_of(conn, tables))


def upgrade(
    bind: Engine | Connection,
    revision: str = "head",
    *,
    schema: str | None = None,
    table_prefix: str = "",
) -> None:
    """Bring a database forward to a revision; other processes that do so wait.

    A database that an application made before this package is recognised, and keeps its rows. On
    MySQL every change of a table commits by itself: a broken-off upgrade is finished by the next.

    Args:
        bind: An engine, or a connection. On one that is in a transaction everything happens
            inside it.
        revision: How far.
        schema: Schema (PostgreSQL) or database (MySQL) that holds the tables.
        table_prefix: Put before every table's name.

    Raises:
        SchemaError: The revision is unknown, the tables are somebody else's, or their rows do not
            fit; nothing was changed.
    """
    tables = build_tables(schema, table_prefix)
    _changing(bind, lambda conn: upgrade_within(conn, tables, revision))


def downgrade(
    bind: Engine | Connection,
    revision: str,
    *,
    schema: str | None = None,
    table_prefix: str = "",
    yes: bool = False,
) -> None:
    """Take a database back to an earlier revision, or to "base".

    Args:
        bind: As for `upgrade`.
        revision: How far back; "base" is before the first.
        schema: As for `upgrade`.
        table_prefix: As for `upgrade`.
        yes: Whether rows that the earlier revision has no place for may be lost.

    Raises:
        NotConfirmedError: Rows would be lost, and `yes` is not given; nothing was changed.
        SchemaError: The revision is unknown.
    """
    tables = build_tables(schema, table_prefix)

    _changing(bind, lambda conn: _downgrade_within(conn, tables, revision, yes=yes))


def sql(
    url_or_dialect: str | URL,
    start: str | None = None,
    end: str = "head",
    *,
    schema: str | None = None,
    table_prefix: str = "",
) -> str:
    """The script that does what `upgrade` or `downgrade` does, to be run by hand.

    Args:
        url_or_dialect: A database's URL, or "sqlite", "postgresql", "mysql" or "mariadb".
        start: The revision that the database is at; None for an empty one.
        end: The revision to bring it to; an earlier one than `start` gives the way back.
        schema: As for `upgrade`.
        table_prefix: As for `upgrade`.

    Raises:
        SchemaError: A revision is unknown.
    """
    given = url_or_dialect if isinstance(url_or_dialect, URL) else str(url_or_dialect)
    url = parse_url(f"{given}://" if isinstance(given, str) and "://" not in given else given)
    first, last = _resolved(start or "base"), _resolved(end)
    tables, buffer = build_tables(schema, table_prefix), io.StringIO()
    offline = {
        "as_sql": True,
        "starting_rev": None if first == "base" else first,
        "output_buffer": buffer,
        "literal_binds": True,
    }
    way: Way = "upgrade" if _order(first) <= _order(last) else "downgrade"
    made: Any = url.get_dialect()
    dialect = made(paramstyle="named")
    context = MigrationContext.configure(
        dialect=dialect,
        opts=_options(tables, way, last) | offline,
    )
    with context.begin_transaction():
        context.run_migrations(steps=_steps(context, tables))
    return dialect_for(dialect).script(buffer.getvalue())


def check(
    bind: Engine | Connection, *, schema: str | None = None, table_prefix: str = ""
) -> list[str]:
    """How a database differs from the declared schema; an empty list where it does not.

    What an application added to the tables is no difference.
    """

    def compare(conn: Connection) -> list[str]:
        named = None if schema == conn.dialect.default_schema_name else schema
        tables = build_tables(named, table_prefix)
        at = schemas.version_of(conn, tables)
        behind = [] if at == head() else [f"the database is at revision {at}, not {head()}"]
        return behind + differences(conn, tables)

    return _get_scripts(bind, compare)


# -- in an application's own Alembic environment -------------------------------------------------


def include(
    context: EnvironmentContext, *, schema: str | None = None, table_prefix: str = ""
) -> None:
    """Upgrade our tables along with an application's; to be called in its `env.py`.

    Does nothing for Alembic's other commands, and in a script (`--sql`) says how to get ours.

    Args:
        context: `alembic.context`, configured.
        schema: As for `upgrade`.
        table_prefix: As for `upgrade`.
    """
    running: Any = context.get_context()
    if getattr(running.opts.get("fn"), "__name__", "") != "upgrade":
        return
    if running.as_sql:
        running.impl.static_output("-- langgraph-session-saver db sql prints what its tables need")
    else:
        upgrade(running.connection, schema=schema, table_prefix=table_prefix)


def not_ours(*, schema: str | None = None, table_prefix: str = "") -> IncludeName:
    """An `include_name` for an application's autogenerate, which leaves our tables alone."""
    names = {table.name for table in build_tables(schema, table_prefix)}

    def include_name(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
        return kind != "table" or name not in names or parents.get("schema_name") != schema

    return include_name


# -- within a transaction ----------------------------------------------------------------------


def upgrade_within(conn: Connection, tables: Tables, revision: str = "head") -> None:
    """As `upgrade`, within the connection's transaction."""
    target = _resolved(revision)
    at = schemas.known_version(conn, tables) or "base"
    if _order(at) >= _order(target):
        return
    adoption.refuse_what_does_not_fit(conn, tables, recorded=at != "base")
    _refuse_enforced_references(conn, tables)
    tables.version.create(conn, checkfirst=True)
    if at == "base" and target == head() and adoption.is_ours(conn, tables):
        _complete(conn, tables)
    _run(conn, tables, "upgrade", target)


def _complete(conn: Connection, tables: Tables) -> None:
    """Tables as they are declared, not all of them: later revisions make sure of their form."""
    tables.metadata.create_all(conn)
    conn.execute(tables.version.insert(), {"version_num": BEFORE_FORM})


def _downgrade_within(conn: Connection, tables: Tables, revision: str, *, yes: bool) -> None:
    target = _resolved(revision)
    at = schemas.known_version(conn, tables) or "base"
    undone = [s for s in _newest_first() if _order(target) < _order(s.revision) <= _order(at)]
    if not undone:
        raise SchemaError(
            f"the database is at revision {at}, which is not after {target}: nothing to undo"
        )
    if not yes:
        _refuse_loss(conn, tables, undone, target)
    _refuse_enforced_references(conn, tables)
    _run(conn, tables, "downgrade", target)


def _run(conn: Connection, tables: Tables, way: Way, revision: str) -> None:
    context = MigrationContext.configure(conn, opts=_options(tables, way, revision))
    context.run_migrations(steps=_steps(context, tables))


def _steps(context: MigrationContext, tables: Tables) -> Steps:
    prefix = tables.sessions.name.removesuffix("sessions")
    return Steps(Operations(context), tables.metadata.schema, prefix)


def _options(tables: Tables, way: Way, revision: str) -> dict[str, Any]:
    scripts = _scripts()
    find = scripts._upgrade_revs if way == "upgrade" else scripts._downgrade_revs  # noqa: SLF001
    return {
        "script": scripts,
        "fn": lambda heads, _context: find(revision, heads),
        "version_table": tables.version.name,
        "version_table_schema": tables.version.schema,
    }


def _refuse_enforced_references(conn: Connection, tables: Tables) -> None:
    """A table that is rebuilt is dropped in between, and would take with it what refers to it."""
    if dialect_for(conn.dialect).can_rebuild(conn):
        return
    counts = _counts(conn, tables, {name: {} for name in CHILDREN})
    if any(counts.values()):
        raise SchemaError(
            "inside a transaction that enforces foreign keys SQLite cannot rebuild tables that "
            "hold rows. Nothing was changed: give an engine instead of a connection, or run "
            "PRAGMA foreign_keys=OFF before the transaction begins"
        )


def _refuse_loss(conn: Connection, tables: Tables, lost: list[Script], target: str) -> None:
    counts: dict[str, int] = {}
    for script in lost:
        counts |= _counts(conn, tables, script.module.LOSES)
    said = [f"{count:,} rows of {what}" for what, count in counts.items() if count]
    if said:
        raise NotConfirmedError(
            f"revision {target} has no place for what the database holds, and these would be "
            f"lost: {'; '.join(said)}. Nothing was changed: make a backup, then pass yes=True "
            "(on the command line --yes)"
        )


def _counts(
    conn: Connection, tables: Tables, what: Mapping[str, Mapping[str, Any]]
) -> dict[str, int]:
    """How many rows tables hold, or have a value in columns, beside their default."""
    inspector = inspect(conn)
    schema = tables.metadata.schema
    prefix = tables.sessions.name.removesuffix("sessions")
    counts = {}
    for name, columns in what.items():
        if not inspector.has_table(prefix + name, schema=schema):
            continue
        there = {c["name"] for c in inspector.get_columns(prefix + name, schema=schema)}
        asked = {c: default for c, default in columns.items() if c in there}
        clauses = [
            and_(column(c).is_not(None), column(c) != default) if default is not None
            else column(c).is_not(None)
            for c, default in asked.items()
        ]  # fmt: skip
        if columns and not clauses:
            continue
        query = select(func.count()).select_from(table(prefix + name, schema=schema))
        if clauses:
            query = query.where(or_(*clauses))
        said = f"{prefix}{name} ({', '.join(asked)})" if columns else prefix + name
        counts[said] = conn.execute(query).scalar_one()
    return counts


# -- connections -------------------------------------------------------------------------------


def _get_scripts(bind: Engine | Connection, operation: Callable[[Connection], T]) -> T:
    return _on(bind, operation, "read")


def _changing(bind: Engine | Connection, operation: Callable[[Connection], None]) -> None:
    def locked(conn: Connection) -> None:
        with dialect_for(conn.dialect).setup_lock(conn):
            operation(conn)

    _on(bind, locked, "schema")


def _on(bind: Engine | Connection, operation: Callable[[Connection], T], kind: Kind) -> T:
    if isinstance(bind, Engine):
        return Runner(bind).run(operation, kind)
    if not isinstance(bind, Connection):
        raise InvalidConfigError(
            f"expected an Engine or a Connection, found {type(bind).__name__}: over an "
            "AsyncEngine, await conn.run_sync(upgrade)"
        )
    return Runner(bind.engine).run_within(bind, operation, kind)


# -- revisions ---------------------------------------------------------------------------------


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(migrations.__file__).parent))


def _newest_first() -> list[Script]:
    return list(_scripts().walk_revisions())


def _resolved(revision: str) -> str:
    known = ["base", *(item.revision for item in history())]
    found = head() if revision == "head" else revision
    if found not in known:
        raise SchemaError(f"unknown revision {revision!r}: use one of {', '.join(known)} or head")
    return found


def _order(revision: str) -> int:
    return ["base", *(item.revision for item in history())].index(revision)
