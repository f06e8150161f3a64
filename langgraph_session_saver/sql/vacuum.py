"""Giving back the space that deleted rows took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError

from langgraph_session_saver.errors import DatabaseUnavailableError
from langgraph_session_saver.sql.dialects.base import Dialect, Space, VacuumKind
from langgraph_session_saver.sql.urls import said_by


@dataclass(frozen=True)
class Vacuumed:
    """What tables took before and after; `note` is what else there is to say."""

    before: Space
    after: Space
    note: str | None


def vacuum(
    conn: Connection,
    dialect: Dialect,
    tables: Sequence[Table],
    *,
    how: VacuumKind,
    wait: float,
) -> Vacuumed:
    """Give back what the tables do not need, on a connection outside a transaction.

    Args:
        conn: The connection.
        dialect: Of its database.
        tables: All in one schema.
        how: How space is given back.
        wait: Seconds to wait for a lock.

    Raises:
        DatabaseUnavailableError: Another connection held a lock for longer than it was waited for.
    """
    dialect.limit_lock_wait(conn, wait)
    try:
        before = dialect.space(conn, tables)
        note = dialect.vacuum(conn, tables, how)
    except DBAPIError as exc:
        if not dialect.is_locked(exc):
            raise
        raise DatabaseUnavailableError(
            f"another connection held a lock that this needs for {wait:g} seconds "
            f"({said_by(exc)}): try again when it has ended its transaction, or wait longer"
        ) from exc
    return Vacuumed(before, dialect.space(conn, tables), note)
