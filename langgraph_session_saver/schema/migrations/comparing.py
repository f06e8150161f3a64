"""Compare a database's tables with the declared ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Float, inspect

from langgraph_session_saver.schema.column_types import Id
from langgraph_session_saver.schema.tables import Tables


def differences(conn: Connection, tables: Tables) -> list[str]:
    """Describe each difference; what the application added to the tables is not one."""
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
            found += _description(*one)
    inspector = inspect(conn)
    existing = inspector.get_table_names(schema=schema)
    for table in tables:
        if table.name in existing:  # Alembic compares no primary keys
            key = inspector.get_pk_constraint(table.name, schema=schema)["constrained_columns"]
            declared = table.primary_key.columns.keys()
            if sorted(key) != sorted(declared):
                keys = f"primary key ({', '.join(key)}), not ({', '.join(declared)})"
                found.append(f"{table.name}: {keys}")
    return found


def _description(kind: str, *about: Any) -> Iterator[str]:
    """Describe one of Alembic's differences."""
    if kind == "add_table":
        yield f"the table {about[0].name} is missing"
    elif kind == "add_column":
        yield f"{about[1]} lacks the column {about[2].name}"
    elif kind in {"add_index", "add_constraint"}:
        yield f"{about[0].table.name} lacks the {kind.removeprefix('add_')} {about[0].name}"
    elif kind == "add_fk":
        key = about[0]
        ends = f"({', '.join(key.column_keys)}) to {key.referred_table.name}"
        rule = f" ON DELETE {key.ondelete}" if key.ondelete else ""
        yield f"{key.parent.name} lacks the foreign key {ends}{rule}"
    elif kind.startswith("modify_"):
        _, table, column, _, old, new = about
        yield f"{table}.{column}: {kind.removeprefix('modify_')} {_value(old)}, not {_value(new)}"


def _value(value: Any) -> str:
    return str(getattr(value, "arg", value))


def _types_differ(context: Any, _column: Any, _declared: Any, found: Any, declared: Any) -> Any:
    """Compare two types; None leaves it to Alembic."""
    if isinstance(declared, Float) and isinstance(found, Float):
        return False  # MySQL calls FLOAT(53) DOUBLE
    if isinstance(declared, Id) and getattr(found, "collation", None) is not None:
        return str(found.collation) not in declared.compile(context.dialect)
    return None


def _defaults_differ(*columns_and_defaults: Any) -> bool | None:
    """Compare two defaults; None leaves it to Alembic."""
    _context, _column, _declared_column, found, _default, declared = columns_and_defaults
    return False if _plain(found) == _plain(declared) else None


def _plain(default: str | None) -> str | None:
    return {"false": "0", "true": "1"}.get(default, default.strip("'")) if default else None
