"""Keyset pagination: an opaque cursor says after which row a listing goes on. Pure.

A page costs what its rows cost, wherever it is in the listing, and a row that is added or removed
meanwhile neither repeats nor hides another.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Column, Select, and_, or_

from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.schema.column_types import UTCDateTime
from langgraph_session_saver.sessions.records import Page

T = TypeVar("T")

LIMIT = 50
"""Rows of a page, unless the caller says."""

_LARGEST = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Keyset:
    """An order of rows in which each has a place of its own.

    Args:
        name: What cursors of this order are marked with.
        columns: What it orders by; the last is unique, and none is ever NULL.
        descending: Whether the largest come first.
        limit: Rows of a page.
        after: The cursor of the page before.
    """

    name: str
    columns: Sequence[Column[Any]]
    descending: bool
    limit: int
    after: str | None

    @property
    def _mark(self) -> str:
        names = ",".join(column.name for column in self.columns)
        return f"{self.name}:{names}:{'desc' if self.descending else 'asc'}"

    def page_of(self, query: Select[Any]) -> Select[Any]:
        """The query of one page, and one row more, which tells whether there is another."""
        if self.after is not None:
            query = query.where(self._is_after(_decoded(self.after, self._mark, self.columns)))
        order = [c.desc() if self.descending else c.asc() for c in self.columns]
        return query.order_by(*order).limit(self.limit + 1)

    def _is_after(self, values: Sequence[Any]) -> Any:
        """A condition that every database answers with an index on the first column."""
        first, at = self.columns[0], values[0]
        beyond = first < at if self.descending else first > at
        if len(self.columns) == 1:
            return beyond
        last = self.columns[1] < values[1] if self.descending else self.columns[1] > values[1]
        return and_(first <= at if self.descending else first >= at, or_(beyond, last))

    def page(self, rows: Sequence[Any], read: Callable[[Any], T]) -> Page[T]:
        """The page that the query's rows are."""
        shown = rows[: self.limit]
        following = None
        if len(rows) > self.limit:
            last = shown[-1]._mapping  # noqa: SLF001 - a Row's public attribute
            following = _encoded(self._mark, [last[column.name] for column in self.columns])
        return Page(tuple(read(row) for row in shown), following)


def check_limit(limit: Any) -> int:
    """Check how many rows a page is to have.

    Raises:
        InvalidConfigError: It is no whole number from 1 on.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit < _LARGEST:
        raise InvalidConfigError(f"limit is {limit!r}: pass a whole number from 1 on")
    return limit


def reader(record: Callable[..., T]) -> Callable[[Any], T]:
    """What makes a row into a record of the columns that it names."""
    names = [field.name for field in fields(record)]  # type: ignore[arg-type]

    def read(row: Any) -> T:
        found: Mapping[str, Any] = row._mapping  # noqa: SLF001
        return record(**{name: found[name] for name in names})

    return read


def _encoded(mark: str, values: Sequence[Any]) -> str:
    plain = [value.isoformat() if isinstance(value, datetime) else value for value in values]
    data = json.dumps([mark, *plain], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _decoded(cursor: Any, mark: str, columns: Sequence[Column[Any]]) -> list[Any]:
    """The values in a cursor.

    Raises:
        InvalidConfigError: It is none, or another listing's.
    """
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        marked, *values = json.loads(data)
        if marked == mark and len(values) == len(columns):
            return [_value(c, value) for c, value in zip(columns, values, strict=True)]
    except (TypeError, ValueError, binascii.Error) as exc:
        raise InvalidConfigError(
            f"after is {cursor!r:.80}, which is no cursor: pass the `next` of the page before"
        ) from exc
    raise InvalidConfigError(
        f"after is the cursor of another listing ({marked!r:.80}, not {mark!r}): pass the `next` "
        "of the page before, and order as there"
    )


def _value(column: Column[Any], value: Any) -> Any:
    if isinstance(column.type, UTCDateTime):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError("no time zone")
        return moment
    if type(value) is not column.type.python_type:
        raise TypeError(f"a {type(value).__name__}")
    if isinstance(value, str):
        value.encode()  # raises for a lone surrogate
        if "\x00" in value:
            raise ValueError("a NUL")
    elif abs(value) > _LARGEST:
        raise ValueError("too large")
    return value
