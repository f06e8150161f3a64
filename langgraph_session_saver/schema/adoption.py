"""Recognising tables that were there before us, and refusing what cannot become ours.

Everything is looked at before anything is changed: not every database rolls such changes back.
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
from sqlalchemy.types import TypeDecorator

from langgraph_session_saver.errors import SchemaError
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.dialects import dialect_for

SEED_COLUMNS = {
    "sessions": {"id", "title", "created_at", "updated_at", "current_version"},
    "messages": {"id", "session_id", "role", "content", "timestamp"},
    "versions": {"id", "session_id", "version", "html", "description", "created_at"},
    "token_usage": {
        "id", "session_id", "timestamp", "agent_type", "model",
        "input_tokens", "output_tokens", "total_tokens", "cost_usd",
    },
}  # fmt: skip
"""What the oldest application's tables have; later ones have more."""

FILLED = {
    "title", "created_at", "updated_at", "timestamp", "current_version", "build_status",
    "round_sequence", "made_by_saver", "pinned",
}  # fmt: skip
"""Columns that get a value where an old row has none."""

_KINDS: tuple[tuple[type[Any], tuple[type[Any], ...], str], ...] = (
    (JSON, (JSON, String), "JSON"),
    (Boolean, (Boolean, Integer), "true or false"),
    (DateTime, (DateTime,), "a date and time"),
    (Integer, (Integer,), "a whole number"),
    (Numeric, (Numeric, Float, Integer), "a number"),
    (Float, (Numeric, Float, Integer), "a number"),
    (LargeBinary, (LargeBinary, BINARY, VARBINARY, LONGBLOB), "bytes"),
    (String, (String,), "text"),
)
"""A declared type, the types that may stand in for it, and its name in a message."""


def is_ours(conn: Connection, tables: Tables) -> bool:
    """Whether the tables are those of this code, all of them or some: a setup was broken off."""
    there = _Present(conn, tables)
    return tables.sessions in there.tables and all(
        set(table.c.keys()) <= there.columns(table).keys() for table in there.tables
    )


def refuse_what_does_not_fit(conn: Connection, tables: Tables, *, recorded: bool) -> None:
    """Look at the tables and rows that an upgrade starts from.

    Args:
        conn: The database.
        tables: What they are to become.
        recorded: Whether the database records a revision, so that the tables are known to be ours.

    Raises:
        SchemaError: Lists the differences of a table that is somebody else's, or the rows that do
            not fit; or another table refers to ours, where that keeps columns from being changed.
    """
    there = _Present(conn, tables)
    if not recorded:
        for table in there.tables:
            different = list(_differences(there, table))
            if different:
                raise SchemaError(
                    f"the database has a table {table.name!r} that is not ours: "
                    f"{'; '.join(different)}. Nothing was changed: pass table_prefix= or schema= "
                    "to keep the two apart"
                )
    problems = [
        problem
        for table in there.tables
        if _seed_name(tables, table)
        for problem in _misfits(conn, there, table)
    ]
    if not dialect_for(conn.dialect).alters_referenced:
        refuse_references(conn, tables)
    if problems:
        raise SchemaError(
            f"the database holds rows that its new tables would not take: {'; '.join(problems)}. "
            "Nothing was changed: mend or delete these rows, then upgrade again"
        )


def refuse_references(conn: Connection, tables: Tables) -> None:
    """Look for foreign keys of other tables to ours.

    Raises:
        SchemaError: Names one; nothing was changed.
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


def _seed_name(tables: Tables, table: Table) -> str:
    prefix = tables.sessions.name.removesuffix("sessions")
    name = table.name.removeprefix(prefix)
    return name if name in SEED_COLUMNS else ""


class _Present:
    """Which of our tables are there, and what they look like."""

    def __init__(self, conn: Connection, tables: Tables) -> None:
        self.inspector: Inspector = inspect(conn)
        self.declared = tables
        self._schema = tables.metadata.schema
        names = set(self.inspector.get_table_names(schema=self._schema))
        self.tables = [
            table for table in tables if table.name in names and table is not tables.version
        ]

    def columns(self, table: Table) -> dict[str, Any]:
        found = self.inspector.get_columns(table.name, schema=self._schema)
        return {column["name"]: column for column in found}

    def primary_key(self, table: Table) -> list[str]:
        key = self.inspector.get_pk_constraint(table.name, schema=self._schema)
        return list(key["constrained_columns"])

    def refers_to_sessions(self, table: Table) -> bool:
        """Whether a session's deletion takes the table's rows with it."""
        return any(
            key["constrained_columns"] == ["session_id"]
            and key["referred_table"] == self.declared.sessions.name
            and key["referred_columns"] == ["id"]
            and str(key["options"].get("ondelete", "")).upper() == "CASCADE"
            for key in self.inspector.get_foreign_keys(table.name, schema=self._schema)
        )


# -- tables ------------------------------------------------------------------------------------


def _differences(there: _Present, table: Table) -> Iterator[str]:
    found = there.columns(table)
    seed = _seed_name(there.declared, table)
    required = SEED_COLUMNS[seed] if seed else set(table.c.keys())
    missing = sorted(required - found.keys())
    if missing:
        yield f"it lacks {', '.join(missing)}"
    for name, column in found.items():
        if name in table.c:
            kinds, said = _kinds(table.c[name])
            if not isinstance(column["type"], kinds):
                yield f"{name} is {column['type']}, expected {said}"
        elif not column["nullable"] and column["default"] is None:
            yield f"{name} must be given a value, and is not ours"
    key = there.primary_key(table)
    expected_key = [column.name for column in table.primary_key]
    if not missing and sorted(key) != sorted(expected_key):
        yield f"its primary key is ({', '.join(key)}), expected ({', '.join(expected_key)})"
    if "session_id" in found and not there.refers_to_sessions(table):
        yield "session_id has no foreign key to sessions.id with ON DELETE CASCADE"


def _kinds(column: Column[Any]) -> tuple[tuple[type[Any], ...], str]:
    inner = _inner(column)
    return next(
        (accepted, said) for declared, accepted, said in _KINDS if isinstance(inner, declared)
    )


def _inner(column: Column[Any]) -> Any:
    return column.type.impl if isinstance(column.type, TypeDecorator) else column.type


# -- rows --------------------------------------------------------------------------------------


def _misfits(conn: Connection, there: _Present, table: Table) -> Iterator[str]:
    found = there.columns(table)
    declared = [column for column in table.c if column.name in found]
    checks = list(_checks(conn, there, table, declared))
    counts = conn.execute(select(*(func.count(case((check, 1))) for _, check in checks))).one()
    for (said, _), count in zip(checks, counts, strict=True):
        if count:
            yield f"{table.name}: {count:,} {said}"
    if "version" in table.c:
        yield from _duplicates(conn, table)


def _checks(
    conn: Connection, there: _Present, table: Table, declared: list[Column[Any]]
) -> Iterator[tuple[str, ColumnElement[bool]]]:
    dialect = dialect_for(conn.dialect)
    for column in declared:
        if not column.nullable and column.name not in FILLED:
            yield f"without {column.name}", column.is_(None)
        inner = _inner(column)
        length = getattr(inner, "length", None) if isinstance(inner, String) else None
        if length:
            said = f"with a {column.name} of over {length} characters"
            yield said, func.char_length(column) > length
        if isinstance(inner, DateTime) and not dialect.keeps_types:
            yield (
                f"with a {column.name} that is no date and time",
                and_(column.is_not(None), not_(type_coerce(column, String).like("____-__-__%"))),
            )
    if "session_id" in table.c:
        sessions = there.declared.sessions
        yield (
            "whose session_id no session has",
            not_(exists().where(sessions.c.id == table.c.session_id).correlate(table)),
        )


def _duplicates(conn: Connection, table: Table) -> Iterator[str]:
    pair = table.c.session_id, table.c.version
    rows = conn.execute(
        select(*pair).group_by(*pair).having(func.count() > 1).order_by(*pair)
    ).all()
    if rows:
        session, version = rows[0]
        yield (
            f"{table.name}: {len(rows):,} version numbers that a session has twice, the first is "
            f"{version} of {session!r}"
        )
