"""Keyset pagination: a cursor names the last row of a page, and the next page starts after it.

So each page costs the same, and rows that are added or removed meanwhile neither repeat nor hide
others.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from operator import ge, gt, le, lt
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, or_

from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.schema.column_types import UTCDateTime
from langgraph_session_saver.sessions.records import Page, View, field_names, select_records
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.validation import check_moment, check_number, check_text

T = TypeVar("T")

PAGE_SIZE = 50
"""The default number of rows in a page."""

_LARGEST, _LONGEST = (1 << 63) - 1, 512

_LONGEST_CURSOR = 16 * _LONGEST
"""Characters of a cursor with the longest text, each of its characters escaped, and its mark."""

_MOST_ROWS = 1_000
"""Rows that a query for matching ones reads, unless the page is larger."""


def ordered(by: ColumnElement[Any], key: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    """The columns of a total order: equal values are ordered by a unique key."""
    return [key] if by is key else [by, key]


class Pagination(NamedTuple):
    """A total order of a table's rows, and the page of it to read."""

    columns: Sequence[ColumnElement[Any]]
    """One or two columns to order by, never NULL; the last one is a table's, and unique."""
    descending: bool
    limit: int
    after: str | None
    """The cursor of the page before."""

    def read(self, view: View, record: type[T], *where: ColumnElement[bool]) -> Script[Page[T]]:
        """Read one page of the rows that meet the conditions, as records, in one query.

        Raises:
            InvalidConfigError: The limit is not a whole number from 1 on, or the cursor is invalid
                or belongs to another listing.
        """
        query = select_records(view, record, *where)
        return self.read_matching(query, record, lambda _row: True)

    def read_matching(
        self, query: Select[Any], record: type[T], matches: Callable[[Row[Any]], bool]
    ) -> Script[Page[T]]:
        """Read one page of a query's rows that match, in as many queries as it takes."""
        check_number("limit", self.limit, _LARGEST - 1, smallest=1)
        names = field_names(record)
        query = query.add_columns(*(c for c in self.columns if c.name not in names))
        query = query.order_by(*(c.desc() if self.descending else c for c in self.columns))
        after = None if self.after is None else self._decode(self.after)
        # One row more than the page has, to see whether there is another page.
        found: list[Row[Any]] = []
        size = self.limit + 1
        while True:
            next_rows = query if after is None else query.where(self._is_after(after))
            rows = yield Request.read(_all, next_rows.limit(size))
            found += filter(matches, rows)
            if len(found) > self.limit or len(rows) < size:
                break
            after = self._values(rows[-1])
            size = max(size, min(2 * size, _MOST_ROWS))
        shown = found[: self.limit]
        following = self._encode(shown[-1]) if len(found) > self.limit else None
        items = (record(**{name: getattr(row, name) for name in names}) for row in shown)
        return Page(tuple(items), following)

    def _is_after(self, values: Sequence[Any]) -> Any:
        """The condition for the rows after a cursor; an index on the first column serves it."""
        beyond, from_here = (lt, le) if self.descending else (gt, ge)
        *others, last = zip(self.columns, values, strict=True)
        is_after = beyond(*last)
        for pair in others:
            is_after = and_(from_here(*pair), or_(beyond(*pair), is_after))
        return is_after

    # -- cursors ----------------------------------------------------------------------------

    @property
    def _table(self) -> Any:
        return self.columns[-1].table

    @property
    def _mark(self) -> str:
        """What a cursor is valid for: the table, the columns and the direction."""
        names = ",".join(column.name for column in self.columns)
        return f"{self._table}:{names}:{'desc' if self.descending else 'asc'}"

    def _values(self, row: Row[Any]) -> list[Any]:
        return [getattr(row, column.name) for column in self.columns]

    def _encode(self, row: Row[Any]) -> str:
        data = json.dumps([self._mark, *self._values(row)], separators=(",", ":"), default=str)
        return base64.urlsafe_b64encode(data.encode()).decode("ascii").rstrip("=")

    def _decode(self, cursor: Any) -> list[Any]:
        """The values of the columns in a cursor."""
        try:
            if len(cursor) > _LONGEST_CURSOR:
                raise ValueError("it is too long")  # noqa: TRY301
            padded = cursor + "=" * (-len(cursor) % 4)
            mark, *values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            if mark == self._mark and len(values) == len(self.columns):
                return [_checked(*pair) for pair in zip(self.columns, values, strict=True)]
        except (TypeError, ValueError, RecursionError) as exc:
            raise InvalidConfigError(
                f"after is {cursor!r:.80}, which is no cursor: pass the `next` of the page before"
            ) from exc
        raise InvalidConfigError(
            f"after is the cursor of another listing ({mark!r:.80}, not {self._mark!r}): pass the "
            "`next` of the page before, with the same order"
        )


def _all(conn: Connection, query: Select[Any]) -> Sequence[Row[Any]]:
    return conn.execute(query).all()


def _checked(column: ColumnElement[Any], value: Any) -> Any:
    """A cursor's value as the column's type; a `ValueError` or `TypeError` if it cannot be one."""
    if isinstance(column.type, UTCDateTime):
        return check_moment("after", datetime.fromisoformat(value))
    if column.type.python_type is int:
        return check_number("after", value, _LARGEST, -_LARGEST)
    return check_text("after", value, _LONGEST)
