"""Set up a database, once, however many processes start at the same time."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from sqlalchemy import URL, Connection, inspect, select

from langgraph_session_saver.errors import SchemaError
from langgraph_session_saver.schema.tables import SCHEMA_VERSION, Tables
from langgraph_session_saver.sql.dialects.base import Dialect

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006")
"""The revisions that `migrate.history` lists, known without importing Alembic."""


def version_of(conn: Connection, tables: Tables) -> str | None:
    """The recorded version of a database, or None if there is none."""
    if not inspect(conn).has_table(tables.version.name, schema=tables.version.schema):
        return None
    version: str | None = conn.execute(select(tables.version.c.version_num)).scalar()
    return version


def known_version(conn: Connection, tables: Tables) -> str | None:
    """The recorded version of a database, or None if there is none.

    Raises:
        SchemaError: This code does not know the version.
    """
    version = version_of(conn, tables)
    if version is not None and version not in REVISIONS:
        raise SchemaError(
            f"the database's schema is at version {version}, and this code knows versions up to "
            f"{SCHEMA_VERSION}: upgrade langgraph-session-saver"
        )
    return version


def is_current(conn: Connection, tables: Tables) -> bool:
    """Whether the database is at this code's version; raises as `known_version` does."""
    return known_version(conn, tables) == SCHEMA_VERSION


def verify(conn: Connection, tables: Tables) -> None:
    """Check the version without changing anything.

    Raises:
        SchemaError: The tables are missing, or have another version.
    """
    if not is_current(conn, tables):
        raise SchemaError(
            f"the database's schema is at version {version_of(conn, tables)}, this code needs "
            f"{SCHEMA_VERSION}, and auto_setup is off: call saver.setup(), or run "
            f"{upgrade_command(conn.engine.url, tables)}"
        )


def upgrade_command(url: URL, tables: Tables) -> str:
    """The command line that upgrades a database, without its password."""
    plain = URL.create(url.get_backend_name(), url.username, None, url.host, url.port, url.database)
    options = {"url": str(plain), "schema": tables.metadata.schema, "table-prefix": tables.prefix}
    given = [f"--{name} {shlex.quote(value)}" for name, value in options.items() if value]
    return " ".join(["langgraph-session-saver db upgrade", *given])


def set_up(
    conn: Connection,
    tables: Tables,
    dialect: Dialect,
    upgrade: Callable[[Connection, Tables], None],
) -> None:
    """Bring a database to this code's version, in a schema transaction, while others wait.

    In an empty database the declared tables are created without Alembic; `upgrade` runs the
    migrations on one that has some of the tables.

    Raises:
        DatabaseUnavailableError: Another process has held the lock for too long.
        SchemaError: A table has one of our names and belongs to another application.
    """
    with dialect.setup_lock(conn):
        if is_current(conn, tables):
            return
        existing = inspect(conn).get_table_names(schema=tables.metadata.schema)
        if {table.name for table in tables}.isdisjoint(existing):
            tables.metadata.create_all(conn, checkfirst=False)
            conn.execute(tables.version.insert(), {"version_num": SCHEMA_VERSION})
        else:
            upgrade(conn, tables)
