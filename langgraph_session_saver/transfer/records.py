"""Rows as plain values that mean the same in every database: how they are read and added.

An instant is its microseconds since 1970 in UTC, JSON is its text, and the rest is what
MessagePack has: text, bytes, integers, floats, booleans and NULL.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import ormsgpack
from sqlalchemy import Connection, Select, Table, and_, bindparam, func, insert, or_, select
from sqlalchemy.types import TypeEngine

from langgraph_session_saver.errors import TransferConflictError, ValueTooLargeError
from langgraph_session_saver.schema.column_types import Json, JsonText, UTCDateTime
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.dialects.base import Dialect

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


class Records:
    """One table's rows: how they are read, written and told apart.

    Where a database has some of the rows that are added, equal ones are kept, and others refused.
    """

    def __init__(self, table: Table, prefix: str, label: tuple[str, ...]) -> None:
        self.table = table
        self.name = table.name.removeprefix(prefix)
        self.columns = tuple(column.name for column in table.c)
        self._label = label
        """The columns that name a row in an error."""
        self.has_row_id = "row_key" in table.c
        """Whether `id` is a number that the database gave, and that nothing refers to."""
        self.key = tuple(column.name for column in table.primary_key)
        """The columns that identify a row in every database."""
        if self.has_row_id:
            self.key = ("thread_key", "row_key")
        self._instants = self._positions(UTCDateTime)
        self._json = self._positions(Json)

    def _positions(self, kind: type[TypeEngine[Any]]) -> list[int]:
        return [at for at, column in enumerate(self.table.c) if isinstance(column.type, kind)]

    def get(self, values: Values, column: str) -> Any:
        """One column's value."""
        return values[self.columns.index(column)]

    def key_of(self, values: Values, key: Sequence[str] | None = None) -> tuple[Any, ...]:
        """The row's values of some columns; default those that identify it."""
        return tuple(self.get(values, name) for name in key or self.key)

    def name_of(self, values: Values) -> str:
        """What names a row in error messages."""
        return ", ".join(f"{name} {self.get(values, name)!r}" for name in self._label)

    def pack(self, row: Sequence[Any]) -> Values:
        """A row that was read, as plain values."""
        values = list(row)
        _convert(values, self._instants, lambda time: (time - _EPOCH) // _MICROSECOND)
        _convert(values, self._json, json.dumps)
        return values

    def unpack(self, values: Values) -> dict[str, Any]:
        """The parameters of an INSERT."""
        row = list(values)
        _convert(row, self._instants, lambda number: _EPOCH + number * _MICROSECOND)
        _convert(row, self._json, JsonText)
        return dict(zip(self.columns, row, strict=True))

    def fingerprint(self, values: Values) -> bytes:
        """A hash of the row's content, without its row id: the same in every database."""
        content = list(values)
        _convert(content, self._json, _canonical)
        if self.has_row_id:
            content[self.columns.index("id")] = None
        return blake2b(ormsgpack.packb(content), digest_size=16).digest()

    def select(self) -> Select[Any]:
        """Select all rows, each after those that it refers to."""
        c = self.table.c
        order = [c.session_id, c.id] if self.has_row_id else list(self.table.primary_key)
        if self.name == "session_blobs":
            # A blob's base has a smaller depth, and InnoDB checks references row by row.
            order = [c.thread_key, c.depth, c.blob_key]
        return select(*c).order_by(*order)

    def stream(self, conn: Connection) -> Iterator[list[Values]]:
        """The table's rows in pages of a bounded size, one of which is in memory at a time."""
        page: list[Values] = []
        size = 0
        options = {"stream_results": True, "yield_per": FETCHED}
        with conn.execute(self.select(), execution_options=options) as rows:
            for values in map(self.pack, rows):
                page.append(values)
                size += sum(len(value) for value in values if isinstance(value, str | bytes))
                if len(page) >= PAGE_ROWS or size >= PAGE_BYTES:
                    yield page
                    page, size = [], 0
        if page:
            yield page

    def is_empty(self, conn: Connection) -> bool:
        """Whether the table has no row."""
        return conn.execute(select(*self.table.primary_key).limit(1)).first() is None

    def add(
        self, conn: Connection, rows: list[Values], dialect: Dialect, *, was_empty: bool
    ) -> int:
        """Insert the rows of a page that the database lacks, and return their number.

        If the table was empty before the first page, no rows are compared.
        """
        missing = rows
        if not was_empty:
            if self.name == "session_threads":
                # Nobody may delete the base of a blob before the commit.
                key = self.table.c.thread_key
                there = select(key).where(key.in_([self.get(values, key.name) for values in rows]))
                conn.execute(dialect.locked(there.order_by(key), self.table)).all()
            missing = self.find_missing(conn, rows)
        new = [self.unpack(values) for values in missing]
        taken = set[int]()
        if self.has_row_id and not was_empty:
            row_id = self.table.c.id
            there = select(row_id).where(row_id.in_([row["id"] for row in new]))
            taken.update(conn.execute(there).scalars())
        self._insert(conn, [row for row in new if row.get("id") not in taken])
        if new and self.has_row_id:
            dialect.continue_ids(conn, self.table)
            # Nothing refers to a row id: a row whose id is taken gets another.
            self._insert(conn, [row for row in new if row.pop("id") in taken])
        return len(new)

    def _insert(self, conn: Connection, rows: list[dict[str, Any]]) -> None:
        if rows:
            conn.execute(insert(self.table).inline(), rows)

    def find_missing(self, conn: Connection, rows: list[Values]) -> list[Values]:
        """The rows of a page that the database lacks.

        Raises:
            TransferConflictError: A row with the same key has other content.
        """
        if not self.has_row_id:
            return self._missing_by_key(conn, rows)
        projected = [values for values in rows if self.get(values, "row_key") is not None]
        by_hand = [values for values in rows if self.get(values, "row_key") is None]
        missing = self._missing_by_key(conn, projected) + self._missing_by_hand(conn, by_hand)
        if self.name == "versions":
            # A session's pages are numbered: another page may have the number.
            for found in self._find(conn, missing, ("session_id", "version")):
                raise self._conflict(found)
        return missing

    def _missing_by_key(self, conn: Connection, rows: list[Values]) -> list[Values]:
        there = {self.key_of(found): found for found in self._find(conn, rows, self.key)}
        for values in rows:
            found = there.get(self.key_of(values), values)
            if self.fingerprint(found) != self.fingerprint(values):
                raise self._conflict(found)
        return [values for values in rows if self.key_of(values) not in there]

    def _missing_by_hand(self, conn: Connection, rows: list[Values]) -> list[Values]:
        """The missing ones of rows that no step projected; a row may exist under another id."""
        if not rows:
            return []
        c = self.table.c
        # By time where that is indexed: a session may have many messages.
        column = c.timestamp if "timestamp" in c else c.session_id
        wanted = {self.unpack(values)[column.name] for values in rows}
        query = select(*c).where(c.row_key.is_(None), column.in_(wanted))
        there = Counter(self.fingerprint(self.pack(row)) for row in conn.execute(query))
        missing = []
        for values in rows:
            fingerprint = self.fingerprint(values)
            if there[fingerprint]:
                there[fingerprint] -= 1  # twins are counted
            else:
                missing.append(values)
        return missing

    def _find(self, conn: Connection, rows: list[Values], key: tuple[str, ...]) -> list[Values]:
        """The database's rows that have the same values in the key's columns as one of these."""
        found: list[Values] = []
        for first in range(0, len(rows), LOOKUP_KEYS):
            keys = [self.key_of(values, key) for values in rows[first : first + LOOKUP_KEYS]]
            keys += keys[-1:] * (LOOKUP_KEYS - len(keys))  # one statement, compiled once
            params = {f"k{n}_{at}": v for n, row in enumerate(keys) for at, v in enumerate(row)}
            found += map(self.pack, conn.execute(_lookup(self.table, key), params))
        return found

    def _conflict(self, found: Values) -> TransferConflictError:
        return TransferConflictError(
            f"{self.table.name} has a row ({self.name_of(found)}) with other content than the one "
            "to be written. Nothing of it was changed: delete its thread or session first, or use "
            "an empty database"
        )


def largest_of(values: Values) -> int:
    """Bytes of the largest value of a row."""
    return max((len(value) for value in values if isinstance(value, str | bytes)), default=0)


def check_fits(size: int, what: str, limit: int | None) -> None:
    """Check that a database takes a value of this size.

    Raises:
        ValueTooLargeError: It does not.
    """
    if limit is not None and size > limit:
        raise ValueTooLargeError(
            f"{what} has a value of {size:,} bytes, and the target takes at most {limit:,}. "
            "Nothing was written: raise the server's limit (MySQL: max_allowed_packet)"
        )


def _convert(values: Values, positions: list[int], convert: Callable[[Any], Any]) -> None:
    for at in positions:
        if values[at] is not None:
            values[at] = convert(values[at])


def _canonical(text: str) -> str:
    """JSON as PostgreSQL returns it: 1e2 becomes the integer 100."""
    return json.dumps(json.loads(text, parse_float=_parse_number), sort_keys=True)


def _parse_number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number


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
    labels: dict[Table, tuple[str, ...]] = {
        t.sessions: ("id",),
        t.threads: ("thread_id",),
        t.checkpoints: ("checkpoint_id", "checkpoint_ns"),
        t.blobs: ("channel",),
        t.writes: ("checkpoint_id", "task_id", "idx"),
        **dict.fromkeys((t.messages, t.versions, t.token_usage, t.errors), ("session_id", "id")),
    }
    return tuple(Records(table, t.prefix, label) for table, label in labels.items())


def count(conn: Connection, every: Iterable[Records]) -> int:
    """The number of rows of all tables."""
    tables = [records.table for records in every]
    return sum(conn.scalar(select(func.count()).select_from(table)) or 0 for table in tables)
