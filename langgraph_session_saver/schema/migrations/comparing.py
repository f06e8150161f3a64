"""What a database's tables lack of the declared ones, or have otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Connection, Float, ForeignKeyConstraint, Table, inspect
from sqlalchemy.types import TypeEngine

from langgraph_session_saver.schema.column_types import Id
from langgraph_session_saver.schema.tables import Tables


def differences(conn: Connection, tables: Tables) -> list[str]:
    """Every difference, as a sentence; what the application added to the tables is none."""
    schema = tables.metadata.schema
    names = {table.name for table in tables}

    def include_name(name: str | None, kind: str, parents: Any) -> bool:
        if kind == "schema":
            return name == schema
        return kind != "table" or (name in names and parents["schema_name"] == schema)

    context = MigrationContext.configure(
        conn,
        opts={
            "compare_type": _types_differ,
            "compare_server_default": _defaults_differ,
            "include_name": include_name,
            "include_schemas": schema is not None,
        },
    )
    found: list[str] = []
    for difference in compare_metadata(context, tables.metadata):
        for one in difference if isinstance(difference, list) else [difference]:
            found += _said(*one)
    return [*found, *_primary_keys(conn, tables)]


def _said(kind: str, *about: Any) -> Iterator[str]:
    """One of Alembic's differences in words."""
    if kind == "add_table":
        yield f"the table {about[0].name} is missing"
    elif kind == "add_column":
        yield f"{about[1]} lacks the column {about[2].name}"
    elif kind == "add_index":
        yield f"{about[0].table.name} lacks the index {about[0].name}"
    elif kind == "add_constraint":
        yield f"{about[0].table.name} lacks the constraint {about[0].name}"
    elif kind == "add_fk":
        yield f"{about[0].parent.name} lacks the foreign key {_reference(about[0])}"
    elif kind.startswith("modify_"):
        _, table, column, _, old, new = about
        yield f"{table}.{column}: {kind.removeprefix('modify_')} {_value(old)}, not {_value(new)}"


def _reference(key: ForeignKeyConstraint) -> str:
    ends = f"({', '.join(key.column_keys)}) to {key.referred_table.name}"
    return f"{ends} ON DELETE {key.ondelete}" if key.ondelete else ends


def _value(value: Any) -> str:
    return str(getattr(value, "arg", value))


def _primary_keys(conn: Connection, tables: Tables) -> Iterator[str]:
    inspector = inspect(conn)
    present = set(inspector.get_table_names(schema=tables.metadata.schema))
    for table in tables:
        if table.name in present:
            yield from _primary_key(inspector, table)


def _primary_key(inspector: Any, table: Table) -> Iterator[str]:
    key = inspector.get_pk_constraint(table.name, schema=table.schema)["constrained_columns"]
    declared = [column.name for column in table.primary_key]
    if sorted(key) != sorted(declared):
        yield f"{table.name}: primary key ({', '.join(key)}), not ({', '.join(declared)})"


def _types_differ(
    _context: Any,
    _found: Column[Any],
    _declared: Column[Any],
    found: TypeEngine[Any],
    declared: TypeEngine[Any],
) -> bool | None:
    """None leaves it to Alembic."""
    if isinstance(declared, Float) and isinstance(found, Float):
        return False  # MySQL calls FLOAT(53) DOUBLE
    if isinstance(declared, Id) and getattr(found, "collation", None) is not None:
        written = declared.compile(_context.dialect)
        return str(found.collation) not in written  # type: ignore[attr-defined]
    return None


def _defaults_differ(
    _context: Any,
    _found: Column[Any],
    _declared: Column[Any],
    found: str | None,
    _default: Any,
    declared: str | None,
) -> bool | None:
    """None leaves it to Alembic."""
    return False if _plain(found) == _plain(declared) else None


def _plain(default: str | None) -> str | None:
    return {"false": "0", "true": "1"}.get(default, default.strip("'")) if default else None
