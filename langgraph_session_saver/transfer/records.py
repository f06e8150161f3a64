"""Rows as plain values that mean the same in every database.

An instant is its microseconds since 1970 in UTC, JSON is its text, and the rest is what
MessagePack has: text, bytes, integers, floats, booleans and NULL.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import Any

import ormsgpack
from sqlalchemy import Connection, Select, Table, and_, bindparam, func, or_, select
from sqlalchemy.types import TypeEngine

from langgraph_session_saver.schema.column_types import Json, JsonText, UTCDateTime
from langgraph_session_saver.schema.tables import Tables

Values = list[Any]
"""A row, in the order of its table's columns."""

PAGE_ROWS = 1_000
PAGE_BYTES = 1 << 20
"""A page of rows ends with the row that reaches either limit."""

FETCHED = 100
"""Rows that a server's cursor sends at a time."""

LOOKUP_KEYS = 128
"""Keys of one lookup; each has up to five columns."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Records:
    """One table's rows: how they are read, written and told apart."""

    name: str
    """The table's name without an installation's prefix."""
    table: Table
    key: tuple[str, ...]
    """The columns that identify a row in every database."""
    order: tuple[str, ...]
    """The columns to sort by, so that a row comes after those that it refers to."""
    label: tuple[str, ...]
    """The columns that name a row in an error."""
    has_row_id: bool = False
    """Whether `id` is a number that the database gave, and that nothing refers to."""

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in their order."""
        return tuple(column.name for column in self.table.c)

    @cached_property
    def _instants(self) -> list[int]:
        return self._positions(UTCDateTime)

    @cached_property
    def _json(self) -> list[int]:
        return self._positions(Json)

    def _positions(self, kind: type[TypeEngine[Any]]) -> list[int]:
        return [at for at, column in enumerate(self.table.c) if isinstance(column.type, kind)]

    def get(self, values: Values, column: str) -> Any:
        """One column's value."""
        return values[self.columns.index(column)]

    def key_of(self, values: Values, key: Sequence[str] | None = None) -> tuple[Any, ...]:
        """The row's values of some columns; default those that identify it."""
        return tuple(self.get(values, name) for name in key or self.key)

    def describe(self, values: Values) -> str:
        """The row, for an error."""
        named = ", ".join(f"{name} {self.get(values, name)!r}" for name in self.label)
        return f"{self.table.name} has a row ({named})"

    def pack(self, row: Sequence[Any]) -> Values:
        """A row that was read, as plain values."""
        values = list(row)
        for at in self._instants:
            if values[at] is not None:
                values[at] = (values[at] - _EPOCH) // _MICROSECOND
        for at in self._json:
            if values[at] is not None:
                values[at] = json.dumps(values[at])
        return values

    def unpack(self, values: Values) -> dict[str, Any]:
        """The parameters of an INSERT."""
        row = list(values)
        for at in self._instants:
            if row[at] is not None:
                row[at] = _EPOCH + row[at] * _MICROSECOND
        for at in self._json:
            if row[at] is not None:
                row[at] = JsonText(row[at])
        return dict(zip(self.columns, row, strict=True))

    def fingerprint(self, values: Values) -> bytes:
        """A hash of the row's content, without its row id: the same in every database."""
        content = list(values)
        for at in self._json:
            if content[at] is not None:
                content[at] = json.dumps(_same_number(json.loads(content[at])), sort_keys=True)
        if self.has_row_id:
            content[self.columns.index("id")] = None
        return blake2b(ormsgpack.packb(content), digest_size=16).digest()

    def select(self) -> Select[Any]:
        """Select all rows, each after those that it refers to."""
        return select(*self.table.c).order_by(*(self.table.c[name] for name in self.order))

    def find(self, conn: Connection, rows: Sequence[Values], key: tuple[str, ...]) -> list[Values]:
        """The database's rows that have the same values in the key's columns as one of these."""
        found: list[Values] = []
        for first in range(0, len(rows), LOOKUP_KEYS):
            keys = [self.key_of(values, key) for values in rows[first : first + LOOKUP_KEYS]]
            keys += keys[-1:] * (LOOKUP_KEYS - len(keys))  # one statement, compiled once
            params = {f"k{n}_{at}": v for n, row in enumerate(keys) for at, v in enumerate(row)}
            found += map(self.pack, conn.execute(_lookup(self.table, key), params))
        return found


@lru_cache
def _lookup(table: Table, key: tuple[str, ...]) -> Select[Any]:
    """Select the rows with one of the keys whose columns are `k0_0`, `k0_1` …, `k1_0` …

    Each key is a condition of its own: SQLite scans the table for (a, b) IN (VALUES …).
    """
    columns = [table.c[name] for name in key]
    keys = (
        and_(*(c == bindparam(f"k{n}_{at}", type_=c.type) for at, c in enumerate(columns)))
        for n in range(LOOKUP_KEYS)
    )
    return select(*table.c).where(or_(*keys))


def all_records(tables: Tables) -> tuple[Records, ...]:
    """All tables but the schema version's, each after those that it refers to."""
    t = tables
    checkpoint = ("thread_key", "ns_key", "checkpoint_id")
    write = (*checkpoint, "task_id", "idx")
    projected = ("thread_key", "row_key")
    in_session = ("session_id", "id")
    return (
        Records("sessions", t.sessions, ("id",), ("id",), ("id",)),
        Records("session_threads", t.threads, ("thread_key",), ("thread_key",), ("thread_id",)),
        Records(
            "session_checkpoints", t.checkpoints, checkpoint, checkpoint,
            ("checkpoint_id", "checkpoint_ns"),
        ),
        # By depth: a blob's base has a smaller one, and InnoDB checks references row by row.
        Records(
            "session_blobs", t.blobs, ("thread_key", "blob_key"),
            ("thread_key", "depth", "blob_key"), ("channel",),
        ),
        Records("session_writes", t.writes, write, write, ("checkpoint_id", "task_id", "idx")),
        *(
            Records(name, table, projected, in_session, in_session, has_row_id=True)
            for name, table in (
                ("messages", t.messages), ("versions", t.versions),
                ("token_usage", t.token_usage), ("session_errors", t.errors),
            )
        ),
    )  # fmt: skip


def count(conn: Connection, every: Iterable[Records]) -> int:
    """The number of rows of all tables."""
    tables = [records.table for records in every]
    return sum(conn.scalar(select(func.count()).select_from(table)) or 0 for table in tables)


def stream(conn: Connection, records: Records) -> Iterator[list[Values]]:
    """A table's rows in pages of a bounded size, one of which is in memory at a time."""
    page: list[Values] = []
    size = 0
    options = {"stream_results": True, "yield_per": FETCHED}
    with conn.execute(records.select(), execution_options=options) as rows:
        for values in map(records.pack, rows):
            page.append(values)
            size += sum(len(value) for value in values if isinstance(value, str | bytes))
            if len(page) >= PAGE_ROWS or size >= PAGE_BYTES:
                yield page
                page, size = [], 0
    if page:
        yield page


def _same_number(value: Any) -> Any:
    """JSON as PostgreSQL returns it: 1e2 becomes the integer 100."""
    if isinstance(value, dict):
        return {key: _same_number(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_same_number(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
