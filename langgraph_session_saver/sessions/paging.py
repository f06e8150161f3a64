"""Keyset pagination: a cursor names the last row of a page, and the next page starts after it.

So each page costs the same, and rows that are added or removed meanwhile neither repeat nor hide
others.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import datetime
from operator import ge, gt, le, lt
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Column, ColumnElement, and_, or_

from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.schema.column_types import UTCDateTime
from langgraph_session_saver.sessions.records import Page, select_records
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.validation import check_moment, check_number, check_text

T = TypeVar("T")

PAGE_SIZE = 50
"""The default number of rows in a page."""

_LARGEST, _LONGEST = (1 << 63) - 1, 512


class Pagination(NamedTuple):
    """A total order of a table's rows, and the page of it to read."""

    columns: Sequence[Column[Any]]
    """One or two columns to order by, never NULL; the last one is unique."""
    descending: bool
    limit: int
    after: str | None
    """The cursor of the page before."""

    def read(self, record: type[T], *where: ColumnElement[bool]) -> Script[Page[T]]:
        """Read one page of the rows that meet the conditions, as records."""
        check_number("limit", self.limit, _LARGEST - 1, smallest=1)
        query = select_records(self.columns[0].table, record, *where)
        if self.after is not None:
            query = query.where(self._is_after(self._decode(self.after)))
        order = [column.desc() if self.descending else column for column in self.columns]
        # One row more than the page has, to see whether there is another page.
        query = query.order_by(*order).limit(self.limit + 1)
        rows = yield Request.read(lambda conn: conn.execute(query).mappings().all())
        shown = rows[: self.limit]
        following = self._encode(shown[-1]) if len(rows) > self.limit else None
        return Page(tuple(record(**row) for row in shown), following)

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
    def _mark(self) -> str:
        """What a cursor is valid for: the table, the columns and the direction."""
        names = ",".join(column.name for column in self.columns)
        return f"{self.columns[0].table}:{names}:{'desc' if self.descending else 'asc'}"

    def _encode(self, row: Any) -> str:
        values = [row[column.name] for column in self.columns]
        data = json.dumps([self._mark, *values], separators=(",", ":"), default=str)
        return base64.urlsafe_b64encode(data.encode()).decode("ascii").rstrip("=")

    def _decode(self, cursor: Any) -> list[Any]:
        """The values of the columns in a cursor."""
        try:
            padded = cursor + "=" * (-len(cursor) % 4)
            mark, *values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            if mark == self._mark and len(values) == len(self.columns):
                return [_checked(*pair) for pair in zip(self.columns, values, strict=True)]
        except (TypeError, ValueError) as exc:
            raise InvalidConfigError(
                f"after is {cursor!r:.80}, which is no cursor: pass the `next` of the page before"
            ) from exc
        raise InvalidConfigError(
            f"after is the cursor of another listing ({mark!r:.80}, not {self._mark!r}): pass the "
            "`next` of the page before, with the same order"
        )


def _checked(column: Column[Any], value: Any) -> Any:
    """A cursor's value as the column's type; a `ValueError` or `TypeError` if it cannot be one."""
    if isinstance(column.type, UTCDateTime):
        return check_moment("after", datetime.fromisoformat(value))
    if column.type.python_type is int:
        return check_number("after", value, _LARGEST, -_LARGEST)
    return check_text("after", value, _LONGEST)
