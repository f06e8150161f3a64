"""Adding rows to a database that may have some of them: equal ones stay, others are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert, select

from langgraph_session_saver.errors import TransferConflictError
from langgraph_session_saver.sql.compiled import batches
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.transfer.records import Records, Values

BATCH = 128
"""Keys named in one statement; each has up to five columns."""


@dataclass
class Page:
    """What has become of a page of rows."""

    missing: list[Values] = field(default_factory=list)
    kept: list[Values] = field(default_factory=list)
    """As the database has them."""


def is_empty(conn: Connection, records: Records) -> bool:
    """Whether a table has no row."""
    return conn.execute(select(*records.table.primary_key).limit(1)).first() is None


def add(
    conn: Connection, dialect: Dialect, records: Records, rows: list[Values], *, was_empty: bool
) -> tuple[int, int]:
    """Insert the rows that are not there.

    Args:
        conn: A transaction.
        dialect: Of its database.
        records: The table.
        rows: A page of its rows.
        was_empty: Whether it had none before the first page, so that there is nothing to compare.

    Returns:
        How many were written, and how many were there.

    Raises:
        TransferConflictError: A row with the same key has other content.
    """
    if records.name == "session_threads" and not was_empty:
        _hold(conn, dialect, records, rows)
    page = Page(missing=rows) if was_empty else compare(conn, records, rows)
    missing = [records.unpack(values) for values in page.missing]
    if records.has_row_id and not was_empty:
        taken = _taken_ids(conn, records, page.missing)
        renumbered = [row for row in missing if row["id"] in taken]
        missing = [row for row in missing if row["id"] not in taken]
        _insert(conn, records, missing)
        if renumbered:
            # Nothing refers to these numbers: the rows are theirs who came first.
            dialect.continue_ids(conn, records.table)
            for row in renumbered:
                del row["id"]
            _insert(conn, records, renumbered)
    else:
        _insert(conn, records, missing)
    return len(page.missing), len(page.kept)


def _hold(conn: Connection, dialect: Dialect, records: Records, rows: list[Values]) -> None:
    """Lock the threads that are there: till the commit nobody deletes what blobs are changes of."""
    t = records.table
    for batch in batches([records.get(values, "thread_key") for values in rows], BATCH):
        there = select(t.c.thread_key).where(t.c.thread_key.in_(batch)).order_by(t.c.thread_key)
        conn.execute(dialect.locked(there, t)).all()


def _insert(conn: Connection, records: Records, rows: list[dict[str, Any]]) -> None:
    if rows:
        conn.execute(insert(records.table).inline(), rows)


def compare(conn: Connection, records: Records, rows: list[Values]) -> Page:
    """Tell the rows that are there from those that are not.

    Raises:
        TransferConflictError: A row with the same key has other content.
    """
    if not records.has_row_id:
        return _compare(conn, records, records.key, rows)
    projected = [values for values in rows if records.get(values, "row_key") is not None]
    by_hand = [values for values in rows if records.get(values, "row_key") is None]
    page = _compare(conn, records, records.key, projected)
    found = _by_hand(conn, records, by_hand)
    page.kept += found.kept
    page.missing += found.missing
    if records.name == "versions":
        _refuse_same_number(conn, records, page.missing)
    return page


def _compare(conn: Connection, records: Records, key: Sequence[str], rows: list[Values]) -> Page:
    page = Page()
    for batch in batches(rows, BATCH):
        keys = [tuple(records.get(values, name) for name in key) for values in batch]
        there = {records.key_of(values): values for values in _find(conn, records, key, keys)}
        for values in batch:
            found = there.get(records.key_of(values))
            if found is None:
                page.missing.append(values)
            elif records.fingerprint(found) == records.fingerprint(values):
                page.kept.append(found)
            else:
                raise _conflict(records, found)
    return page


def _by_hand(conn: Connection, records: Records, rows: list[Values]) -> Page:
    """Rows that an application made have no key but their number, which may be another's here."""
    page = Page()
    for batch in batches(rows, BATCH):
        ids = [(records.get(values, "id"),) for values in batch]
        there = {_numbered(records, v): v for v in _find(conn, records, ("id",), ids)}
        others = [values for values in batch if _numbered(records, values) not in there]
        page.kept += [there[at] for v in batch if (at := _numbered(records, v)) in there]
        if others:
            _renumbered(conn, records, others, page)
    return page


def _numbered(records: Records, values: Values) -> tuple[int, bytes]:
    return records.get(values, "id"), records.fingerprint(values)


def _renumbered(conn: Connection, records: Records, rows: list[Values], page: Page) -> None:
    """Look for rows that an earlier call gave other numbers."""
    column = records.table.c
    made = column.timestamp if "timestamp" in column else column.created_at
    unpacked = [records.unpack(values) for values in rows]
    query = select(*column).where(
        column.row_key.is_(None),
        column.session_id.in_({row["session_id"] for row in unpacked}),
        made.in_({row[made.name] for row in unpacked}),
        column.id.not_in([row["id"] for row in unpacked]),
    )
    there: dict[bytes, list[Values]] = {}
    for row in conn.execute(query):
        values = records.pack(row)
        there.setdefault(records.fingerprint(values), []).append(values)
    for values in rows:
        equal = there.get(records.fingerprint(values))
        if equal:
            page.kept.append(equal.pop())
        else:
            page.missing.append(values)


def _refuse_same_number(conn: Connection, records: Records, rows: list[Values]) -> None:
    """A session's pages are numbered: another one may have the number."""
    for batch in batches(rows, BATCH):
        key = ("session_id", "version")
        keys = [tuple(records.get(values, name) for name in key) for values in batch]
        for found in _find(conn, records, key, keys):
            raise _conflict(records, found)


def _taken_ids(conn: Connection, records: Records, rows: list[Values]) -> set[int]:
    column = records.table.c.id
    taken: set[int] = set()
    for batch in batches(rows, BATCH):
        ids = [records.get(values, "id") for values in batch]
        taken |= set(conn.execute(select(column).where(column.in_(ids))).scalars())
    return taken


def _find(
    conn: Connection, records: Records, key: Sequence[str], keys: Sequence[tuple[Any, ...]]
) -> list[Values]:
    if not keys:
        return []
    count = 1 << (len(keys) - 1).bit_length()  # few texts, each compiled once
    padded = [*keys, *[keys[-1]] * (count - len(keys))]
    params = {f"k{n}_{at}": v for n, given in enumerate(padded) for at, v in enumerate(given)}
    rows = conn.execute(records.lookup(tuple(key), count), params)
    return [records.pack(row) for row in rows]


def _conflict(records: Records, found: Values) -> TransferConflictError:
    return TransferConflictError(
        f"{records.describe(found)} with other content than the one to be written. Nothing of it "
        "was changed: delete its thread or session first, or use an empty database"
    )
