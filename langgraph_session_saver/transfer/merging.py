"""Adding rows to a database that has some of them: equal rows are kept, different ones refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sqlalchemy import Connection, insert, select

from langgraph_session_saver.errors import TransferConflictError
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.transfer.records import Records, Values


def is_empty(conn: Connection, records: Records) -> bool:
    """Whether a table has no row."""
    return conn.execute(select(*records.table.primary_key).limit(1)).first() is None


def add(
    conn: Connection, dialect: Dialect, records: Records, rows: list[Values], *, was_empty: bool
) -> int:
    """Insert the rows of a page that the database lacks, and return their number.

    If the table was empty before the first page, no rows are compared.

    Raises:
        TransferConflictError: A row with the same key has other content.
    """
    missing, taken = rows, set[int]()
    if not was_empty:
        if records.name == "session_threads":
            _lock_threads(conn, dialect, records, rows)
        missing = find_missing(conn, records, rows)
        if records.has_row_id:
            taken = _taken_ids(conn, records, missing)
    new = [records.unpack(values) for values in missing]
    _insert(conn, records, [row for row in new if row.get("id") not in taken])
    if new and records.has_row_id:
        dialect.continue_ids(conn, records.table)
        # Nothing refers to a row id: a row whose id is taken gets another.
        _insert(conn, records, [row for row in new if row.pop("id") in taken])
    return len(new)


def _lock_threads(conn: Connection, dialect: Dialect, records: Records, rows: list[Values]) -> None:
    """Lock the threads that exist, so that nobody deletes the base of a blob before the commit."""
    key = records.table.c.thread_key
    keys = [records.get(values, "thread_key") for values in rows]
    there = select(key).where(key.in_(keys)).order_by(key)
    conn.execute(dialect.locked(there, records.table)).all()


def _taken_ids(conn: Connection, records: Records, rows: list[Values]) -> set[int]:
    column = records.table.c.id
    ids = [records.get(values, "id") for values in rows]
    return set(conn.execute(select(column).where(column.in_(ids))).scalars())


def _insert(conn: Connection, records: Records, rows: list[dict[str, Any]]) -> None:
    if rows:
        conn.execute(insert(records.table).inline(), rows)


def find_missing(conn: Connection, records: Records, rows: list[Values]) -> list[Values]:
    """The rows that the database lacks.

    Raises:
        TransferConflictError: A row with the same key has other content.
    """
    if not records.has_row_id:
        return _missing_by_key(conn, records, rows)
    projected = [values for values in rows if records.get(values, "row_key") is not None]
    by_hand = [values for values in rows if records.get(values, "row_key") is None]
    missing = _missing_by_key(conn, records, projected) + _missing_by_hand(conn, records, by_hand)
    if records.name == "versions":
        # A session's pages are numbered: another page may have the number.
        for found in records.find(conn, missing, ("session_id", "version")):
            raise _conflict(records, found)
    return missing


def _missing_by_key(conn: Connection, records: Records, rows: list[Values]) -> list[Values]:
    there = {records.key_of(found): found for found in records.find(conn, rows, records.key)}
    for values in rows:
        found = there.get(records.key_of(values), values)
        if records.fingerprint(found) != records.fingerprint(values):
            raise _conflict(records, found)
    return [values for values in rows if records.key_of(values) not in there]


def _missing_by_hand(conn: Connection, records: Records, rows: list[Values]) -> list[Values]:
    """The missing ones of rows that no step projected; a row may exist under another id."""

    def content(values: Values) -> tuple[int, bytes]:
        return records.get(values, "id"), records.fingerprint(values)

    there = {content(found) for found in records.find(conn, rows, ("id",))}
    others = [values for values in rows if content(values) not in there]
    if not others:
        return []
    renumbered = _renumbered(conn, records, others)
    missing = []
    for values in others:
        fingerprint = records.fingerprint(values)
        if renumbered[fingerprint]:
            renumbered[fingerprint] -= 1
        else:
            missing.append(values)
    return missing


def _renumbered(conn: Connection, records: Records, rows: list[Values]) -> Counter[bytes]:
    """Fingerprints of the rows that an earlier call may have stored under other ids."""
    column = records.table.c
    made = column.timestamp if "timestamp" in column else column.created_at
    unpacked = [records.unpack(values) for values in rows]
    query = select(*column).where(
        column.row_key.is_(None),
        column.session_id.in_({row["session_id"] for row in unpacked}),
        made.in_({row[made.name] for row in unpacked}),
        column.id.not_in([row["id"] for row in unpacked]),
    )
    return Counter(records.fingerprint(records.pack(row)) for row in conn.execute(query))


def _conflict(records: Records, found: Values) -> TransferConflictError:
    return TransferConflictError(
        f"{records.describe(found)} with other content than the one to be written. Nothing of it "
        "was changed: delete its thread or session first, or use an empty database"
    )
