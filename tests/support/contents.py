"""All that a database has of a thread and its session, but for what differs in every run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Table, select

from langgraph_session_saver.encoding.keys import thread_key
from langgraph_session_saver.schema.tables import build_tables
from tests.support.backends import Backend

TABLES = build_tables()

Contents: TypeAlias = tuple[str, ...]
"""The rows of all tables as text, in an order of their own."""

DIFFERING = {
    "thread_key", "row_key", "ns_key", "revision", "position",
    # Whether a value is stored whole depends on what a process has cached.
    "base_key", "depth", "level",
}  # fmt: skip
"""Columns whose values say nothing, or differ for equal rows."""

DIFFERING_IN = {TABLES.blobs: {"data"}, TABLES.checkpoints: {"refs", "data", "metadata_data"}}
"""Columns that are compared by reading the checkpoint instead."""


def contents_of(backend: Backend, names: Iterable[str]) -> dict[str, Contents]:
    """What there is of each name, which is a thread's and a session's; itself is left out."""
    keys = {thread_key(name): name for name in names}
    found: dict[str, list[str]] = {name: [] for name in keys.values()}
    with backend.outside.connect() as conn:
        for table in TABLES:
            column = _name_of(table)
            if column is None:
                continue
            is_key = column.name == "thread_key"
            rows = conn.execute(select(table).where(column.in_(keys if is_key else found)))
            for row in rows.mappings():
                name = keys[row[column]] if is_key else row[column]
                found[name].append(_described(table, row, name))
    return {name: tuple(sorted(lines)) for name, lines in found.items()}


def _name_of(table: Table) -> ColumnElement[Any] | None:
    """The column that says which thread or session a row is of."""
    if table is TABLES.sessions:
        return table.c.id
    if table in (TABLES.checkpoints, TABLES.blobs, TABLES.writes):
        return table.c.thread_key
    return table.c.get("session_id")


def _described(table: Table, row: Any, name: str) -> str:
    skipped = DIFFERING | DIFFERING_IN.get(table, set())
    if table is not TABLES.sessions:
        skipped = skipped | {"id"}
    told = {
        column: value
        for column, value in row.items()
        if column not in skipped and not isinstance(value, datetime)
    }
    return f"{table.name}: {told}".replace(name, "…")
