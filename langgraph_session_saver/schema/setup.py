"""Bringing a database to the tables this code declares, once, however many processes start."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from sqlalchemy import URL, Connection, inspect, select

from langgraph_session_saver.errors import SchemaError
from langgraph_session_saver.schema.tables import SCHEMA_VERSION, Tables
from langgraph_session_saver.sql.dialects.base import Dialect

Upgrade = Callable[[Connection, Tables], None]

REVISIONS = ("0001", "0002", "0003", "0004", "0005")
"""What `migrate.history` lists: to know them takes no Alembic."""


def version_of(conn: Connection, tables: Tables) -> str | None:
    """The recorded version of a database, or None if there is none."""
    if not inspect(conn).has_table(tables.version.name, schema=tables.version.schema):
        return None
    version: str | None = conn.execute(select(tables.version.c.version_num)).scalar()
    return version


def known_version(conn: Connection, tables: Tables) -> str | None:
    """The recorded version of a database, or None if there is none.

    Raises:
        SchemaError: It is one that this code does not know.
    """
    version = version_of(conn, tables)
    if version is not None and version not in REVISIONS:
        raise SchemaError(
            f"the database's schema is at version {version}, and this code knows up to "
            f"{SCHEMA_VERSION}: upgrade langgraph-session-saver"
        )
    return version


def is_current(conn: Connection, tables: Tables) -> bool:
    """Whether the database has this code's version.

    Raises:
        SchemaError: Its version is one that this code does not know.
    """
    return known_version(conn, tables) == SCHEMA_VERSION


def verify(conn: Connection, tables: Tables) -> None:
    """Check the version and change nothing.

    Raises:
        SchemaError: The tables are not there, or not this code's.
    """
    if not is_current(conn, tables):
        raise SchemaError(
            f"the database's schema is at version {version_of(conn, tables)}, this code needs "
            f"{SCHEMA_VERSION}, and auto_setup is off: call saver.setup(), or run "
            f"{command(conn.engine.url, tables)}"
        )


def command(url: URL, tables: Tables) -> str:
    """The command that upgrades a database; its user knows the password."""
    plain = URL.create(url.get_backend_name(), url.username, None, url.host, url.port, url.database)
    prefix = tables.sessions.name.removesuffix("sessions")
    options = {"schema": tables.metadata.schema, "table-prefix": prefix}
    given = [f"--{name} {shlex.quote(value)}" for name, value in options.items() if value]
    words = ["langgraph-session-saver db upgrade --url", shlex.quote(str(plain)), *given]
    return " ".join(words)


def set_up(conn: Connection, tables: Tables, dialect: Dialect, upgrade: Upgrade) -> None:
    """Bring a database to this code's version; other processes wait.

    An empty database gets the tables as they are declared, without Alembic: tests compare them
    with what the migrations lead to.

    Args:
        conn: A connection in a schema transaction.
        tables: The tables.
        dialect: Takes the lock that other processes wait for.
        upgrade: Runs the migrations on a database that has some of the tables.

    Raises:
        SchemaError: A table of one of our names is there and looks different.
    """
    with dialect.setup_lock(conn):
        if is_current(conn, tables):
            return
        if _is_empty(conn, tables):
            tables.metadata.create_all(conn, checkfirst=False)
            conn.execute(tables.version.insert(), {"version_num": SCHEMA_VERSION})
        else:
            upgrade(conn, tables)


def _is_empty(conn: Connection, tables: Tables) -> bool:
    there = set(inspect(conn).get_table_names(schema=tables.metadata.schema))
    return there.isdisjoint(table.name for table in tables)
