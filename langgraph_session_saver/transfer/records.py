"""Rows as plain values that mean the same in every database. Pure, but for `stream` and `count`.

An instant is its microseconds since 1970 in UTC, JSON is its text, and the rest is what
MessagePack has: text, bytes, whole numbers, floats, booleans and NULL.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import blake2b
from typing import Any

import ormsgpack
from sqlalchemy import Connection, Select, Table, and_, bindparam, func, or_, select

from langgraph_session_saver.schema.column_types import Json, JsonText, UTCDateTime
from langgraph_session_saver.schema.tables import Tables

Values = list[Any]
"""A row, in the order of its table's columns."""

PAGE_ROWS = 1_000
PAGE_BYTES = 1 << 20
"""A page of rows ends with the row that reaches either."""

FETCHED = 100
"""Rows that a cursor on a server sends at a time."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WRAP = 1 << 128


@dataclass(frozen=True)
class Records:
    """One table's rows, and how they are told apart."""

    name: str
    """The table's name without an installation's prefix."""
    table: Table
    key: tuple[str, ...]
    """What tells rows apart in every database."""
    order: tuple[str, ...]
    """Rows in this order come after those that they refer to."""
    label: tuple[str, ...]
    """The columns that name a row to a person."""
    has_row_id: bool = False
    """Whether `id` is a number that the database gave, to which nothing refers."""
    _places: dict[str, int] = field(init=False, repr=False, default_factory=dict)
    _lookups: dict[tuple[tuple[str, ...], int], Select[Any]] = field(
        init=False, repr=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        self._places.update({name: at for at, name in enumerate(self.columns)})

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in their order."""
        return tuple(column.name for column in self.table.c)

    @cached_property
    def _instants(self) -> list[int]:
        return [at for at, c in enumerate(self.table.c) if isinstance(c.type, UTCDateTime)]

    @cached_property
    def _json(self) -> list[int]:
        return [at for at, c in enumerate(self.table.c) if isinstance(c.type, Json)]

    def get(self, values: Values, column: str) -> Any:
        """One column's value."""
        return values[self._places[column]]

    def key_of(self, values: Values) -> tuple[Any, ...]:
        """What tells the row from others."""
        return tuple(values[self._places[name]] for name in self.key)

    def describe(self, values: Values) -> str:
        """The row, for an error."""
        named = ", ".join(f"{name} {self.get(values, name)!r}" for name in self.label)
        return f"{self.table.name} has a row ({named})"

    def pack(self, row: Sequence[Any]) -> Values:
        """A row as it is read, as plain values."""
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
        row = dict(zip(self.columns, values, strict=True))
        for at in self._instants:
            if values[at] is not None:
                row[self.columns[at]] = _EPOCH + values[at] * _MICROSECOND
        for at in self._json:
            if values[at] is not None:
                row[self.columns[at]] = JsonText(values[at])
        return row

    def fingerprint(self, values: Values) -> bytes:
        """A hash of the row's content: the same in every database."""
        content = list(values)
        for at in self._json:
            if content[at] is not None:
                content[at] = json.dumps(_same_number(json.loads(content[at])), sort_keys=True)
        if self.has_row_id:
            content[self._places["id"]] = None
        return blake2b(ormsgpack.packb(content), digest_size=16).digest()

    def select(self) -> Select[Any]:
        """All rows, each after those that it refers to."""
        return select(*self.table.c).order_by(*(self.table.c[name] for name in self.order))

    def lookup(self, key: tuple[str, ...], count: int) -> Select[Any]:
        """The rows that have one of so many keys: `k0_0`, `k0_1` … are the first one's columns.

        Each key is a condition of its own. SQLite reads the whole table for (a, b) IN (VALUES …).
        """
        if (key, count) not in self._lookups:
            columns = [self.table.c[name] for name in key]
            matches = (
                and_(*(c == bindparam(f"k{n}_{at}", type_=c.type) for at, c in enumerate(columns)))
                for n in range(count)
            )
            self._lookups[key, count] = select(*self.table.c).where(or_(*matches))
        return self._lookups[key, count]


def all_records(tables: Tables) -> tuple[Records, ...]:
    """Every table but the version's, those first that others refer to."""
    t = tables
    at = ("thread_key", "ns_key", "checkpoint_id")
    row, by_session, named = ("thread_key", "row_key"), ("session_id", "id"), ("session_id", "id")
    return (
        Records("sessions", t.sessions, ("id",), ("id",), ("id",)),
        Records("session_threads", t.threads, ("thread_key",), ("thread_key",), ("thread_id",)),
        Records("session_checkpoints", t.checkpoints, at, at, ("checkpoint_id", "checkpoint_ns")),
        # InnoDB looks for a row's base as the row comes: bases are shallower.
        Records(
            "session_blobs", t.blobs, ("thread_key", "blob_key"),
            ("thread_key", "depth", "blob_key"), ("channel",),
        ),
        Records(
            "session_writes", t.writes, (*at, "task_id", "idx"), (*at, "task_id", "idx"),
            ("checkpoint_id", "task_id", "idx"),
        ),
        Records("messages", t.messages, row, by_session, named, has_row_id=True),
        Records("versions", t.versions, row, by_session, named, has_row_id=True),
        Records("token_usage", t.token_usage, row, by_session, named, has_row_id=True),
        Records("session_errors", t.errors, row, by_session, named, has_row_id=True),
    )  # fmt: skip


class Digest:
    """The number and content of a table's rows, whatever their order and the database."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    def add(self, fingerprint: bytes) -> None:
        """Count a row."""
        self.rows += 1
        self._sum = (self._sum + int.from_bytes(fingerprint, "big")) % _WRAP

    def __str__(self) -> str:
        return f"{self._sum:032x}"


def count(conn: Connection, records: Records) -> int:
    """How many rows a table has."""
    return int(conn.scalar(select(func.count()).select_from(records.table)) or 0)


def stream(conn: Connection, records: Records) -> Iterator[list[Values]]:
    """Pages of a table's rows, of which only one is in memory."""
    options = {"stream_results": True, "yield_per": FETCHED}
    with conn.execute(records.select(), execution_options=options) as rows:
        yield from pages(records.pack(row) for row in rows)


def pages(rows: Iterable[Values]) -> Iterator[list[Values]]:
    """Rows in pages of a bounded size."""
    page: list[Values] = []
    size = 0
    for values in rows:
        page.append(values)
        size += sum(len(value) for value in values if isinstance(value, str | bytes))
        if len(page) >= PAGE_ROWS or size >= PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page


def _same_number(value: Any) -> Any:
    """JSON as PostgreSQL gives it back: 1e2 is 100 there, a whole number."""
    if isinstance(value, dict):
        return {key: _same_number(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_same_number(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
