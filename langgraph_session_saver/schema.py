"""Bringing a database to the tables this code declares, once, however many processes start."""

from __future__ import annotations

from sqlalchemy import Connection, Table, inspect, select

from langgraph_session_saver.dialects import Dialect
from langgraph_session_saver.errors import SchemaError
from langgraph_session_saver.tables import SCHEMA_VERSION, Tables


def version_of(conn: Connection, tables: Tables) -> str | None:
    """The recorded version of a database, or None if there is none."""
    if not inspect(conn).has_table(tables.version.name, schema=tables.version.schema):
        return None
    version: str | None = conn.execute(select(tables.version.c.version_num)).scalar()
    return version


def is_current(conn: Connection, tables: Tables) -> bool:
    """Whether the database has this code's version.

    Raises:
        SchemaError: Its version is newer.
    """
    version = version_of(conn, tables)
    if version is not None and version > SCHEMA_VERSION:
        raise SchemaError(
            f"the database's schema is at version {version}, and this code knows up to "
            f"{SCHEMA_VERSION}: upgrade langgraph-session-saver"
        )
    return version == SCHEMA_VERSION


def verify(conn: Connection, tables: Tables) -> None:
    """Check the version and change nothing.

    Raises:
        SchemaError: The tables are not there, or not this code's.
    """
    if not is_current(conn, tables):
        raise SchemaError(
            f"the database's schema is at version {version_of(conn, tables)}, this code needs "
            f"{SCHEMA_VERSION}, and auto_setup is off: call saver.setup()"
        )


def set_up(conn: Connection, tables: Tables, dialect: Dialect) -> None:
    """Create what is missing and record the version; other processes wait.

    Raises:
        SchemaError: A table of one of our names is there and looks different.
    """
    dialect.lock_for_setup(conn)
    try:
        if is_current(conn, tables):
            return
        half_made = _refuse_foreign_tables(conn, tables)
        tables.metadata.create_all(conn)
        for table in half_made:
            for index in table.indexes:
                index.create(conn, checkfirst=True)
        if version_of(conn, tables) is None:
            conn.execute(tables.version.insert(), {"version_num": SCHEMA_VERSION})
    finally:
        dialect.unlock_after_setup(conn)


def _refuse_foreign_tables(conn: Connection, tables: Tables) -> list[Table]:
    """A half-made set of our own tables may be completed; somebody else's are left alone.

    Returns:
        Our tables that are there, whose indexes may not be.
    """
    ours = []
    inspector = inspect(conn)
    present = set(inspector.get_table_names(schema=tables.metadata.schema))
    for table in tables:
        if table.name not in present:
            continue
        found = {c["name"] for c in inspector.get_columns(table.name, schema=table.schema)}
        missing = sorted({c.name for c in table.c} - found)
        if missing:
            raise SchemaError(
                f"the database has a table {table.name!r} that is not ours: it lacks "
                f"{', '.join(missing)}. Nothing was changed: pass table_prefix= or schema= to "
                "keep the two apart"
            )
        ours.append(table)
    return ours
