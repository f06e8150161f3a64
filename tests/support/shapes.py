"""Everything a database says of a set of tables, so that two sets can be compared."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, Inspector, inspect, text

Shape = dict[str, dict[str, Any]]


def shape_of(engine: Engine, schema: str | None = None, prefix: str = "") -> Shape:
    """Columns, keys, indexes, checks and row numbers of every table of a place, by its name.

    Args:
        engine: The database.
        schema: Its schema.
        prefix: Only tables of this prefix, and their names without it.
    """
    with engine.connect() as conn:
        inspector = inspect(conn)
        return {
            name.removeprefix(prefix): _table(conn, inspector, name, schema, prefix)
            for name in sorted(inspector.get_table_names(schema))
            if name.startswith(prefix)
        }


def _table(
    conn: Connection, inspector: Inspector, name: str, schema: str | None, prefix: str
) -> dict[str, Any]:
    def said(items: Any) -> list[str]:
        return sorted(_plain(item, schema, prefix) for item in items)

    return {
        "columns": [
            _plain(
                {**column, "collation": getattr(column["type"], "collation", None)}, schema, prefix
            )
            for column in inspector.get_columns(name, schema)
        ],
        "primary key": said([inspector.get_pk_constraint(name, schema)]),
        "foreign keys": said(inspector.get_foreign_keys(name, schema)),
        "unique": said(inspector.get_unique_constraints(name, schema)),
        "indexes": said(inspector.get_indexes(name, schema)),
        "checks": said(inspector.get_check_constraints(name, schema)),
        "options": _plain(_options(inspector, name, schema), schema, prefix),
        "row numbers": _row_numbers(conn, name, schema),
    }


def _options(inspector: Inspector, name: str, schema: str | None) -> dict[str, Any]:
    try:
        return dict(inspector.get_table_options(name, schema))
    except NotImplementedError:  # before SQLAlchemy 2.1, where a database has none
        return {}


def _plain(item: Any, schema: str | None, prefix: str) -> str:
    def value(found: Any) -> Any:
        if isinstance(found, dict):
            return {key: value(inner) for key, inner in sorted(found.items())}
        if isinstance(found, list | tuple):
            return [value(inner) for inner in found]
        said = str(found)
        if schema:
            said = said.replace(f"{schema}.", "").replace(schema, "None")
        return said.replace(prefix, "") if prefix else said

    # How many rows there were, the next of which gets this number, is not its shape.
    return str(value({k: v for k, v in item.items() if not str(k).endswith("_auto_increment")}))


def _row_numbers(conn: Connection, name: str, schema: str | None) -> Any:
    if conn.dialect.name == "postgresql":
        query = (
            "SELECT data_type FROM pg_sequences WHERE sequencename = :name "
            "AND schemaname = coalesce(:schema, current_schema())"
        )
        found = conn.execute(text(query), {"name": f"{name}_id_seq", "schema": schema}).all()
        return [str(row[0]) for row in found]
    if conn.dialect.name == "sqlite":
        query = "SELECT sql LIKE '%AUTOINCREMENT%' FROM sqlite_master WHERE name = :name"
        return conn.execute(text(query), {"name": name}).scalar()
    return None  # MariaDB says it with the column
