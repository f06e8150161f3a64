"""Migrate a database to a revision, forward or back; Alembic runs the steps.

Each migration has a context of its own, never Alembic's global one. So an application's own
migrations may call these functions, and several threads may migrate several databases.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, column, func, inspect, or_, select, table

from langgraph_session_saver.errors import InvalidConfigError, NotConfirmedError, SchemaError
from langgraph_session_saver.schema import adoption, migrations
from langgraph_session_saver.schema.migrations.comparing import differences
from langgraph_session_saver.schema.migrations.steps import steps_for
from langgraph_session_saver.schema.setup import REVISIONS, known_version, version_of
from langgraph_session_saver.schema.tables import SCHEMA_VERSION, Tables, build_tables
from langgraph_session_saver.sql.dialects import dialect_for
from langgraph_session_saver.sql.runner import Kind, Runner, translated
from langgraph_session_saver.sql.urls import parse_url

T = TypeVar("T")

BASE = "base"
"""The name of the state before the first revision."""

BEFORE_CONVERSION = "0003"
"""The last revision before the one that converts existing columns and indexes."""


@dataclass(frozen=True)
class Revision:
    """A revision of the schema, the one before it (None for the first), and what it changes."""

    revision: str
    down_revision: str | None
    summary: str


def head() -> str:
    """The revision that this code works with."""
    return SCHEMA_VERSION


def history() -> list[Revision]:
    """Every revision, from the first to the head."""
    return [
        Revision(script.revision, script.down_revision, script.doc)  # type: ignore[arg-type]
        for script in reversed([*_scripts().walk_revisions()])
    ]


def current(
    bind: Engine | Connection, *, schema: str | None = None, table_prefix: str = ""
) -> str | None:
    """The revision that a database records, or None."""
    tables = build_tables(translated(bind, schema), table_prefix)
    return _run_on(bind, lambda conn: version_of(conn, tables), "read")


def upgrade(
    bind: Engine | Connection,
    revision: str = "head",
    *,
    schema: str | None = None,
    table_prefix: str = "",
) -> None:
    """Upgrade a database to a revision; other processes that migrate it wait.

    Tables that an application made before it used this package are recognised, and keep their
    rows. On MySQL each change of a table commits by itself: the next upgrade finishes one that
    was interrupted.

    Args:
        bind: An engine, or a connection; if it is in a transaction, the upgrade is part of that.
        revision: The revision to upgrade to.
        schema: Schema (PostgreSQL) or database (MySQL) that holds the tables.
        table_prefix: Prefix of every table's name.

    Raises:
        DatabaseUnavailableError: Another process has held the migration lock for too long.
        SchemaError: The revision is unknown, the tables belong to another application, or their
            rows do not fit; nothing was changed.
    """
    tables = build_tables(translated(bind, schema), table_prefix)
    _migrate(bind, lambda conn: upgrade_within(conn, tables, revision))


def downgrade(
    bind: Engine | Connection,
    revision: str,
    *,
    schema: str | None = None,
    table_prefix: str = "",
    yes: bool = False,
) -> None:
    """Downgrade a database to an earlier revision, or to "base", before the first one.

    Args:
        bind: An engine or a connection, as for `upgrade`.
        revision: The revision to downgrade to.
        schema: As for `upgrade`.
        table_prefix: As for `upgrade`.
        yes: Whether data that the earlier revision cannot hold may be lost.

    Raises:
        NotConfirmedError: Data would be lost, and `yes` is not set; nothing was changed.
        SchemaError: The revision is unknown.
    """
    tables = build_tables(translated(bind, schema), table_prefix)
    _migrate(bind, lambda conn: _downgrade_within(conn, tables, revision, yes=yes))


def sql(
    url_or_dialect: str | URL,
    start: str | None = None,
    end: str = "head",
    *,
    schema: str | None = None,
    table_prefix: str = "",
) -> str:
    """Write the SQL script of an upgrade or downgrade, to be run by hand.

    Args:
        url_or_dialect: A database's URL, or "sqlite", "postgresql", "mysql" or "mariadb".
        start: The revision of the database; None for an empty one.
        end: The revision to migrate to; one before `start` makes the script a downgrade.
        schema: As for `upgrade`.
        table_prefix: As for `upgrade`.

    Raises:
        SchemaError: A revision is unknown.
    """
    is_name = isinstance(url_or_dialect, str) and "://" not in url_or_dialect
    url = parse_url(f"{url_or_dialect}://" if is_name else url_or_dialect)
    dialect: Any = url.get_dialect()(paramstyle="named")  # type: ignore[call-arg]
    first, last = _resolved(start or BASE), _resolved(end)
    buffer = io.StringIO()
    options = {
        "as_sql": True,
        "starting_rev": None if first == BASE else first,
        "output_buffer": buffer,
        "literal_binds": True,
    }
    _run_migrations(build_tables(schema, table_prefix), first, last, options, dialect=dialect)
    return dialect_for(dialect).script(buffer.getvalue())


def check(
    bind: Engine | Connection, *, schema: str | None = None, table_prefix: str = ""
) -> list[str]:
    """List the differences between a database and the declared schema.

    Columns and indexes that an application added are not differences.
    """
    named = translated(bind, schema)

    def compare(conn: Connection) -> list[str]:
        is_default = named == conn.dialect.default_schema_name
        tables = build_tables(None if is_default else named, table_prefix)
        at = version_of(conn, tables)
        behind = [] if at == head() else [f"the database is at revision {at}, not {head()}"]
        return behind + differences(conn, tables)

    return _run_on(bind, compare, "read")


# -- in an application's own Alembic environment -------------------------------------------------


class AlembicContext(Protocol):
    """What `alembic.context` and an `EnvironmentContext` have in common."""

    def get_context(self) -> MigrationContext:
        """The context of the migration that runs."""


def include(context: AlembicContext, *, schema: str | None = None, table_prefix: str = "") -> None:
    """Upgrade the package's tables together with an application's; call it in its `env.py`.

    Does nothing for Alembic's other commands. In offline mode (`--sql`) it writes a comment that
    names the command which prints our script.

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


def not_ours(
    *, schema: str | None = None, table_prefix: str = ""
) -> Callable[[str | None, Any, Any], bool]:
    """Return an `include_name` that hides our tables from an application's autogenerate."""
    names = {table.name for table in build_tables(schema, table_prefix)}

    def include_name(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
        return kind != "table" or name not in names or parents.get("schema_name") != schema

    return include_name


# -- within a transaction ----------------------------------------------------------------------


def upgrade_within(conn: Connection, tables: Tables, revision: str = "head") -> None:
    """Upgrade within the connection's transaction; raises as `upgrade` does."""
    target = _resolved(revision)
    at = known_version(conn, tables) or BASE
    if _order(at) >= _order(target):
        return
    adoption.refuse_what_does_not_fit(conn, tables, recorded=at != BASE)
    _refuse_enforced_references(conn, tables)
    tables.version.create(conn, checkfirst=True)
    if at == BASE and target == head() and adoption.is_ours(conn, tables):
        # An interrupted setup: create the missing tables; the later revisions do the rest.
        tables.metadata.create_all(conn)
        conn.execute(tables.version.insert(), {"version_num": BEFORE_CONVERSION})
    _run_migrations(tables, at, target, {}, connection=conn)


def _downgrade_within(conn: Connection, tables: Tables, revision: str, *, yes: bool) -> None:
    target = _resolved(revision)
    at = known_version(conn, tables) or BASE
    undone = [
        script
        for script in _scripts().walk_revisions()
        if _order(target) < _order(script.revision) <= _order(at)
    ]
    if not undone:
        raise SchemaError(
            f"the database is at revision {at}, which is not after {target}: there is nothing to "
            "downgrade"
        )
    counts: dict[str, int] = {}
    if not yes:
        for script in undone:
            counts |= _counts(conn, tables, script.module.LOSES)
    if lost := [f"{count:,} rows of {what}" for what, count in counts.items() if count]:
        raise NotConfirmedError(
            f"revision {target} cannot hold all data of the database, and these would be lost: "
            f"{'; '.join(lost)}. Nothing was changed: make a backup, then pass yes=True "
            "(on the command line --yes)"
        )
    _refuse_enforced_references(conn, tables)
    _run_migrations(tables, at, target, {}, connection=conn)


def _run_migrations(
    tables: Tables, first: str, last: str, options: dict[str, Any], **database: Any
) -> None:
    """Migrate a connection's database, or write the script for a dialect."""
    scripts = _scripts()
    is_upgrade = _order(first) <= _order(last)
    find = scripts._upgrade_revs if is_upgrade else scripts._downgrade_revs  # noqa: SLF001
    options |= {
        "script": scripts,
        "fn": lambda heads, _context: find(last, heads),
        "version_table": tables.version.name,
        "version_table_schema": tables.version.schema,
    }
    context = MigrationContext.configure(**database, opts=options)
    with context.begin_transaction():
        context.run_migrations(steps=steps_for(Operations(context), tables))


def _refuse_enforced_references(conn: Connection, tables: Tables) -> None:
    """Refuse to rebuild a table where dropping the old one would delete rows that refer to it."""
    if dialect_for(conn.dialect).can_rebuild(conn):
        return
    children = ("messages", "versions", "token_usage", "session_threads", "session_errors")
    if any(_counts(conn, tables, {name: {} for name in children}).values()):
        raise SchemaError(
            "inside a transaction that enforces foreign keys SQLite cannot rebuild tables that "
            "hold rows. Nothing was changed: pass an engine instead of a connection, or run "
            "PRAGMA foreign_keys=OFF before the transaction begins"
        )


def _counts(
    conn: Connection, tables: Tables, losses: Mapping[str, Mapping[str, Any]]
) -> dict[str, int]:
    """Count the rows of tables, or those with a value other than the default in named columns.

    The counts are by "table" or "table (column, …)"; what does not exist is left out.
    """
    inspector, schema = inspect(conn), tables.metadata.schema
    counts = {}
    for name, defaults in losses.items():
        full_name = tables.prefix + name
        if not inspector.has_table(full_name, schema=schema):
            continue
        query = select(func.count()).select_from(table(full_name, schema=schema))
        if defaults:
            found = {c["name"] for c in inspector.get_columns(full_name, schema=schema)}
            if not (present := [c for c in defaults if c in found]):
                continue
            # Where the default is NULL, SQLAlchemy makes IS NOT NULL of the comparison.
            query = query.where(or_(*(column(c) != defaults[c] for c in present)))
            full_name = f"{full_name} ({', '.join(present)})"
        counts[full_name] = conn.execute(query).scalar_one()
    return counts


# -- connections -------------------------------------------------------------------------------


def _migrate(bind: Engine | Connection, operation: Callable[[Connection], None]) -> None:
    def locked(conn: Connection) -> None:
        with dialect_for(conn.dialect).setup_lock(conn):
            operation(conn)

    _run_on(bind, locked, "schema")


def _run_on(bind: Engine | Connection, operation: Callable[[Connection], T], kind: Kind) -> T:
    if isinstance(bind, Engine):
        return Runner(bind).run(operation, kind)
    if not isinstance(bind, Connection):
        raise InvalidConfigError(
            f"expected an Engine or a Connection, found {type(bind).__name__}: for an "
            "AsyncEngine, await conn.run_sync(upgrade)"
        )
    return Runner(bind.engine).run_within(bind, operation, kind)


# -- revisions ---------------------------------------------------------------------------------


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(migrations.__file__).parent))


def _resolved(revision: str) -> str:
    known = (BASE, *REVISIONS)
    found = SCHEMA_VERSION if revision == "head" else revision
    if found not in known:
        raise SchemaError(f"unknown revision {revision!r}: use one of {', '.join(known)} or head")
    return found


def _order(revision: str) -> int:
    return (BASE, *REVISIONS).index(revision)
