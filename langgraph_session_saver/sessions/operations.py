"""Operations on the rows of `sessions` that several methods share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Connection, select, update

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.errors import SessionNotFoundError
from langgraph_session_saver.projection.rules import FROM_STATE
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.sessions.records import SessionRecord, record_columns

T = TypeVar("T")


class SessionOperations:
    """Reads and changes single rows of `sessions`, on a connection."""

    def __init__(self, context: Context) -> None:
        self._sessions = context.tables.sessions
        self._threads = context.storage.threads

    def find(self, conn: Connection, session_id: str) -> SessionRecord | None:
        """Read a session."""
        columns = record_columns(self._sessions, SessionRecord)
        query = select(*columns).where(self._sessions.c.id == session_id)
        row = conn.execute(query).mappings().one_or_none()
        return None if row is None else SessionRecord(**row)

    def change(self, conn: Connection, session_id: str, columns: Mapping[str, Any]) -> bool:
        """Set columns by hand; False if the session does not exist.

        The session's threads are marked as changed where processes cache what changes here. Their
        rows are locked before the session's, in the order of a graph step.
        """
        values = {"updated_at": utc_now(), **columns}
        if "owner_id" in columns:
            self._threads.change_owner(conn, session_id, columns["owner_id"])
        if columns.keys() & FROM_STATE:
            self._threads.outdate_columns(conn, session_id)
            values["checkpoint_id"] = None
        s = self._sessions
        return conn.execute(update(s).where(s.c.id == session_id).values(values)).rowcount > 0

    def touch(self, conn: Connection, session_id: str, **columns: Any) -> None:
        """Lock a session's row, and set `updated_at` and other columns.

        Raises:
            SessionNotFoundError: The session does not exist.
        """
        if not self.change(conn, session_id, columns):
            raise session_not_found(session_id)


def session_not_found(session_id: str) -> SessionNotFoundError:
    """The error for a session that does not exist."""
    return SessionNotFoundError(f"there is no session {session_id!r}: create it first")


def insert_once(
    insert_row: Callable[[Connection], T], find_row: Callable[[Connection], T | None]
) -> Callable[[Connection], T]:
    """Make an operation that inserts one row, however often it is retried.

    A retry first looks for the row: the commit may have succeeded before the connection was lost.
    """
    is_retry = False

    def operation(conn: Connection) -> T:
        nonlocal is_retry
        found = find_row(conn) if is_retry else None
        is_retry = True
        return insert_row(conn) if found is None else found

    return operation
