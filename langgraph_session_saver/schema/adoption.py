"""Recognise existing tables, and refuse those that cannot become ours.

All checks come before the first change: not every database rolls back changes of tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import Connection, Inspector, Table, func, inspect
from sqlalchemy.dialects.mysql import LONGBLOB

from langgraph_session_saver.errors import SchemaError
from langgraph_session_saver.schema.column_types import stored_type
from langgraph_session_saver.schema.migrations.past_tables import OriginalTables
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.dialects import dialect_for

ORIGINAL_COLUMNS = {
    table.name: set(table.c.keys()) for table in OriginalTables(None, "").applications({})
}
"""The columns that even the oldest application's tables have."""

FILLED = {
    "title", "created_at", "updated_at", "timestamp", "current_version", "build_status",
    "round_sequence", "made_by_saver", "pinned",
}  # fmt: skip
"""Columns that the upgrade fills where a row has NULL."""

_COMPATIBLE: tuple[tuple[type[Any], tuple[type[Any], ...], str], ...] = (
    (sa.JSON, (sa.JSON, sa.String), "JSON"),
    (sa.Boolean, (sa.Boolean, sa.Integer), "true or false"),
    (sa.DateTime, (sa.DateTime,), "a date and time"),
    (sa.Integer, (sa.Integer,), "a whole number"),
    (sa.Float, (sa.Numeric, sa.Float, sa.Integer), "a number"),
    (sa.LargeBinary, (sa.LargeBinary, sa.BINARY, sa.VARBINARY, LONGBLOB), "bytes"),
    (sa.String, (sa.String,), "text"),
)
"""A declared type, the types an existing column may have instead, and a name for messages."""

Columns: TypeAlias = dict[str, Any]
"""A table's columns by name, as an `Inspector` describes them."""


def is_ours(conn: Connection, tables: Tables) -> bool:
    """Whether all existing tables are as declared: those of an interrupted setup."""
    existing = _existing(inspect(conn), tables)
    return tables.sessions in existing and all(
        set(table.c.keys()) <= found.keys() for table, found in existing.items()
    )


def refuse_what_does_not_fit(conn: Connection, tables: Tables, *, recorded: bool) -> None:
    """Check the rows that an upgrade starts from, and, if no revision is recorded, the tables.

    Raises:
        SchemaError: Lists the differences of another application's table, or the rows that do not
            fit; or names a foreign key that keeps our columns from being altered.
    """
    inspector = inspect(conn)
    existing = _existing(inspector, tables)
    if not recorded:
        for table, found in existing.items():
            if differences := list(_differences(inspector, tables, table, found)):
                raise SchemaError(
                    f"the database has a table {table.name!r} that is not ours: "
                    f"{'; '.join(differences)}. Nothing was changed: pass table_prefix= or schema= "
                    "to keep the two apart"
                )
    problems = [
        problem
        for table, found in existing.items()
        if table.name.removeprefix(tables.prefix) in ORIGINAL_COLUMNS
        for problem in _problems(conn, tables.sessions, table, found)
    ]
    if not dialect_for(conn.dialect).alters_referenced:
        refuse_references(conn, tables)
    if problems:
        raise SchemaError(
            f"the database holds rows that do not fit its new tables: {'; '.join(problems)}. "
            "Nothing was changed: correct or delete these rows, then upgrade again"
        )


def refuse_references(conn: Connection, tables: Tables) -> None:
    """Check that no other table has a foreign key to ours.

    Raises:
        SchemaError: Names such a table; nothing was changed.
    """
    schema = tables.metadata.schema
    inspector = inspect(conn)
    ours = {table.name for table in tables}
    for name in sorted(set(inspector.get_table_names(schema=schema)) - ours):
        for key in inspector.get_foreign_keys(name, schema=schema):
            if key["referred_table"] in ours and key["referred_schema"] == schema:
                raise SchemaError(
                    f"a foreign key of the table {name!r}, which is not ours, refers to "
                    f"{key['referred_table']!r}. Nothing was changed: drop that foreign key first"
                )


def _existing(inspector: Inspector, tables: Tables) -> dict[Table, Columns]:
    """Those of our tables that the database has, but for the version's, with their columns."""
    names = set(inspector.get_table_names(schema=tables.metadata.schema))
    return {
        table: {c["name"]: c for c in inspector.get_columns(table.name, schema=table.schema)}
        for table in tables
        if table.name in names and table is not tables.version
    }


def _differences(
    inspector: Inspector, tables: Tables, table: Table, found: Columns
) -> Iterator[str]:
    """Describe why a table cannot be one of ours."""
    original_name = table.name.removeprefix(tables.prefix)
    required = ORIGINAL_COLUMNS.get(original_name, set(table.c.keys()))
    missing = sorted(required - found.keys())
    if missing:
        yield f"it lacks {', '.join(missing)}"
    for name, column in found.items():
        if name in table.c:
            declared = stored_type(table.c[name])
            compatible, expected = next(
                (types, text) for kind, types, text in _COMPATIBLE if isinstance(declared, kind)
            )
            if not isinstance(column["type"], compatible):
                yield f"{name} is {column['type']}, expected {expected}"
        elif not column["nullable"] and column["default"] is None:
            yield f"{name}, which is not ours, is NOT NULL without a default"
    key = inspector.get_pk_constraint(table.name, schema=table.schema)["constrained_columns"]
    expected_key = table.primary_key.columns.keys()
    if not missing and sorted(key) != sorted(expected_key):
        yield f"its primary key is ({', '.join(key)}), expected ({', '.join(expected_key)})"
    if "session_id" in found and not any(
        key["constrained_columns"] == ["session_id"]
        and key["referred_table"] == tables.sessions.name
        and key["referred_columns"] == ["id"]
        and str(key["options"].get("ondelete", "")).upper() == "CASCADE"
        for key in inspector.get_foreign_keys(table.name, schema=table.schema)
    ):
        yield "session_id has no foreign key to sessions.id with ON DELETE CASCADE"


def _problems(conn: Connection, sessions: Table, table: Table, found: Columns) -> Iterator[str]:
    """Describe the rows that the converted table would refuse."""
    keeps_types = dialect_for(conn.dialect).keeps_types
    checks = list(_checks(sessions, table, found, keeps_types=keeps_types))
    counts = conn.execute(sa.select(*(func.count(sa.case((bad, 1))) for _, bad in checks))).one()
    for (problem, _), count in zip(checks, counts, strict=True):
        if count:
            yield f"{table.name}: {count:,} rows {problem}"
    if "version" in table.c:
        pair = table.c.session_id, table.c.version
        repeated = sa.select(*pair).group_by(*pair).having(func.count() > 1).order_by(*pair)
        if rows := conn.execute(repeated).all():
            session, version = rows[0]
            yield (
                f"{table.name}: {len(rows):,} version numbers that a session has twice, the first "
                f"is {version} of {session!r}"
            )


def _checks(
    sessions: Table, table: Table, found: Columns, *, keeps_types: bool
) -> Iterator[tuple[str, sa.ColumnElement[bool]]]:
    """The problems that rows may have, each with the condition that finds them."""
    for column in table.c:
        if column.name not in found:
            continue
        if not column.nullable and column.name not in FILLED:
            yield f"without {column.name}", column.is_(None)
        type_ = stored_type(column)
        if isinstance(type_, sa.String) and type_.length:
            problem = f"with a {column.name} of over {type_.length} characters"
            yield problem, func.char_length(column) > type_.length
        if isinstance(type_, sa.DateTime) and not keeps_types:
            like_a_date = sa.type_coerce(column, sa.String).like("____-__-__%")
            yield f"with a {column.name} that is not a date and time", sa.not_(like_a_date)
    if "session_id" in table.c:
        is_theirs = sa.exists().where(sessions.c.id == table.c.session_id).correlate(table)
        yield "whose session does not exist", sa.not_(is_theirs)
