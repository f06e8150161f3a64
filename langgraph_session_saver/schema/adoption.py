"""Recognise existing tables, and refuse those that cannot become ours.

All checks come before the first change: not every database rolls back changes of tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    BINARY,
    JSON,
    VARBINARY,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Float,
    Inspector,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Table,
    and_,
    case,
    exists,
    func,
    inspect,
    not_,
    select,
    type_coerce,
)
from sqlalchemy.dialects.mysql import LONGBLOB

from langgraph_session_saver.errors import SchemaError
from langgraph_session_saver.schema.column_types import stored_type
from langgraph_session_saver.schema.migrations.original_tables import OriginalTables
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.dialects import dialect_for

_ORIGINAL = OriginalTables(None, "")

ORIGINAL_COLUMNS = {
    table.name: set(table.c.keys())
    for table in (
        _ORIGINAL.sessions(), _ORIGINAL.messages(), _ORIGINAL.versions(), _ORIGINAL.token_usage()
    )
}  # fmt: skip
"""The columns that even the oldest application's tables have."""

FILLED = {
    "title", "created_at", "updated_at", "timestamp", "current_version", "build_status",
    "round_sequence", "made_by_saver", "pinned",
}  # fmt: skip
"""Columns that the upgrade fills where a row has NULL."""

_COMPATIBLE: tuple[tuple[type[Any], tuple[type[Any], ...], str], ...] = (
    (JSON, (JSON, String), "JSON"),
    (Boolean, (Boolean, Integer), "true or false"),
    (DateTime, (DateTime,), "a date and time"),
    (Integer, (Integer,), "a whole number"),
    (Numeric, (Numeric, Float, Integer), "a number"),
    (Float, (Numeric, Float, Integer), "a number"),
    (LargeBinary, (LargeBinary, BINARY, VARBINARY, LONGBLOB), "bytes"),
    (String, (String,), "text"),
)
"""A declared type, the types an existing column may have instead, and a name for messages."""


def is_ours(conn: Connection, tables: Tables) -> bool:
    """Whether all existing tables are as declared: those of an interrupted setup."""
    existing = _ExistingTables(conn, tables)
    return tables.sessions in existing.tables and all(
        set(table.c.keys()) <= existing.columns(table).keys() for table in existing.tables
    )


def refuse_what_does_not_fit(conn: Connection, tables: Tables, *, recorded: bool) -> None:
    """Check the tables and rows that an upgrade starts from.

    Args:
        conn: The database.
        tables: The declared tables.
        recorded: Whether the database records a revision, so that the tables are ours.

    Raises:
        SchemaError: Lists the differences of another application's table, or the rows that do not
            fit; or names a foreign key that keeps our columns from being altered.
    """
    existing = _ExistingTables(conn, tables)
    if not recorded:
        for table in existing.tables:
            if differences := list(_differences(existing, table)):
                raise SchemaError(
                    f"the database has a table {table.name!r} that is not ours: "
                    f"{'; '.join(differences)}. Nothing was changed: pass table_prefix= or schema= "
                    "to keep the two apart"
                )
    problems = [
        problem
        for table in existing.tables
        if _original_name(tables, table) in ORIGINAL_COLUMNS
        for problem in _problems(conn, existing, table)
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


def _original_name(tables: Tables, table: Table) -> str:
    return table.name.removeprefix(tables.prefix)


class _ExistingTables:
    """Those of our tables that the database has, and what they look like."""

    def __init__(self, conn: Connection, declared: Tables) -> None:
        self.declared = declared
        self._inspector: Inspector = inspect(conn)
        self._schema = declared.metadata.schema
        names = set(self._inspector.get_table_names(schema=self._schema))
        self.tables = [t for t in declared if t.name in names and t is not declared.version]

    def columns(self, table: Table) -> dict[str, Any]:
        found = self._inspector.get_columns(table.name, schema=self._schema)
        return {column["name"]: column for column in found}

    def primary_key(self, table: Table) -> list[str]:
        key = self._inspector.get_pk_constraint(table.name, schema=self._schema)
        return list(key["constrained_columns"])

    def cascades_from_sessions(self, table: Table) -> bool:
        """Whether the database deletes the table's rows with their session."""
        return any(
            key["constrained_columns"] == ["session_id"]
            and key["referred_table"] == self.declared.sessions.name
            and key["referred_columns"] == ["id"]
            and str(key["options"].get("ondelete", "")).upper() == "CASCADE"
            for key in self._inspector.get_foreign_keys(table.name, schema=self._schema)
        )


def _differences(existing: _ExistingTables, table: Table) -> Iterator[str]:
    """Describe why a table cannot be one of ours."""
    found = existing.columns(table)
    required = ORIGINAL_COLUMNS.get(_original_name(existing.declared, table), set(table.c.keys()))
    missing = sorted(required - found.keys())
    if missing:
        yield f"it lacks {', '.join(missing)}"
    for name, column in found.items():
        if name in table.c:
            compatible, expected = _compatible(table.c[name])
            if not isinstance(column["type"], compatible):
                yield f"{name} is {column['type']}, expected {expected}"
        elif not column["nullable"] and column["default"] is None:
            yield f"{name}, which is not ours, is NOT NULL without a default"
    key, expected_key = existing.primary_key(table), table.primary_key.columns.keys()
    if not missing and sorted(key) != sorted(expected_key):
        yield f"its primary key is ({', '.join(key)}), expected ({', '.join(expected_key)})"
    if "session_id" in found and not existing.cascades_from_sessions(table):
        yield "session_id has no foreign key to sessions.id with ON DELETE CASCADE"


def _compatible(column: Column[Any]) -> tuple[tuple[type[Any], ...], str]:
    type_ = stored_type(column)
    return next(
        (compatible, name) for kind, compatible, name in _COMPATIBLE if isinstance(type_, kind)
    )


def _problems(conn: Connection, existing: _ExistingTables, table: Table) -> Iterator[str]:
    """Describe the rows that the converted table would refuse."""
    found = existing.columns(table)
    checks = list(_checks(conn, existing, table, [c for c in table.c if c.name in found]))
    counts = conn.execute(select(*(func.count(case((check, 1))) for _, check in checks))).one()
    for (problem, _), count in zip(checks, counts, strict=True):
        if count:
            yield f"{table.name}: {count:,} rows {problem}"
    if "version" in table.c:
        pair = table.c.session_id, table.c.version
        repeated = select(*pair).group_by(*pair).having(func.count() > 1).order_by(*pair)
        if rows := conn.execute(repeated).all():
            session, version = rows[0]
            yield (
                f"{table.name}: {len(rows):,} version numbers that a session has twice, the first "
                f"is {version} of {session!r}"
            )


def _checks(
    conn: Connection, existing: _ExistingTables, table: Table, columns: list[Column[Any]]
) -> Iterator[tuple[str, ColumnElement[bool]]]:
    """The problems that rows may have, each with the condition that finds them."""
    keeps_types = dialect_for(conn.dialect).keeps_types
    for column in columns:
        if not column.nullable and column.name not in FILLED:
            yield f"without {column.name}", column.is_(None)
        type_ = stored_type(column)
        if isinstance(type_, String) and type_.length:
            problem = f"with a {column.name} of over {type_.length} characters"
            yield problem, func.char_length(column) > type_.length
        if isinstance(type_, DateTime) and not keeps_types:
            yield (
                f"with a {column.name} that is not a date and time",
                and_(column.is_not(None), not_(type_coerce(column, String).like("____-__-__%"))),
            )
    if "session_id" in table.c:
        sessions = existing.declared.sessions
        yield (
            "whose session does not exist",
            not_(exists().where(sessions.c.id == table.c.session_id).correlate(table)),
        )
