"""The scripts on sessions themselves: create, get, list, update, delete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.checkpointer.maintenance import ThreadMaintenance
from langgraph_session_saver.errors import (
    InvalidConfigError,
    SessionConflictError,
    SessionNotFoundError,
)
from langgraph_session_saver.projection.rules import FROM_STATE
from langgraph_session_saver.projection.schemas import BuildStatus
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.sessions.columns import columns_of
from langgraph_session_saver.sessions.paging import Keyset, check_limit, reader
from langgraph_session_saver.sessions.records import DELETED, Page, SessionRecord
from langgraph_session_saver.sql.runner import BrokenReferenceError
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.storage.thread_data import PIECE
from langgraph_session_saver.validation import check_id, check_moment, check_optional_id, check_text

T = TypeVar("T")

ORDERS = ("updated_at", "created_at", "title", "build_status", "current_version", "id")
"""Columns to order by: none of them is ever NULL."""

as_session = reader(SessionRecord)


def no_such(session_id: str) -> SessionNotFoundError:
    """The error for a session that is not there."""
    return SessionNotFoundError(f"there is no session {session_id!r}: create it first")


def once(insert_row: Callable[[Connection], T], find: Callable[[Connection], T | None]) -> Any:
    """An operation that inserts a row, and when it is retried does not insert another.

    The commit may have come through before the connection was lost.
    """
    attempts: list[None] = []

    def operation(conn: Connection) -> T:
        found = find(conn) if attempts else None
        attempts.append(None)
        return insert_row(conn) if found is None else found

    return operation


class SessionScripts:
    """Reads and changes rows of `sessions`."""

    def __init__(self, context: Context, maintenance: ThreadMaintenance) -> None:
        self._context = context
        self._maintenance = maintenance
        self._sessions = context.tables.sessions
        self._columns = [
            column for column in self._sessions.c if column.name in SessionRecord.__annotations__
        ]

    # -- one session ------------------------------------------------------------------------

    def create(self, session_id: Any, columns: Mapping[str, Any]) -> Script[SessionRecord]:
        """Insert a session."""
        session_id = check_id("session_id", str(uuid4()) if session_id is None else session_id)
        now = utc_now()
        row = {"id": session_id, "created_at": now, "updated_at": now, **columns_of(columns)}

        def insert_row(conn: Connection) -> SessionRecord:
            if self._find(conn, session_id) is not None:
                raise _taken(session_id)
            conn.execute(insert(self._sessions), row)
            return as_session(self._find(conn, session_id))

        def find(conn: Connection) -> SessionRecord | None:
            found = self._find(conn, session_id)
            return as_session(found) if found is not None and found.created_at == now else None

        try:
            created: SessionRecord = yield Request.write(once(insert_row, find))
        except BrokenReferenceError as exc:
            raise _taken(session_id) from exc
        return created

    def get(self, session_id: Any) -> Script[SessionRecord | None]:
        """Read a session."""
        session_id = check_id("session_id", session_id)
        row = yield Request.read(lambda conn: self._find(conn, session_id))
        return None if row is None else as_session(row)

    def update(self, session_id: Any, changes: Mapping[str, Any]) -> Script[SessionRecord]:
        """Change columns of a session."""
        session_id, columns = check_id("session_id", session_id), columns_of(changes)

        def operation(conn: Connection) -> SessionRecord:
            if columns and not self.change(conn, session_id, columns):
                raise no_such(session_id)
            row = self._find(conn, session_id)
            if row is None:
                raise no_such(session_id)
            return as_session(row)

        changed: SessionRecord = yield Request.write(operation)
        return changed

    def change(self, conn: Connection, session_id: str, columns: Mapping[str, Any]) -> bool:
        """Set columns by hand; False if there is no such session.

        What a process remembers of the session's threads then does not hold: their rows say so,
        and they are locked before the session's, as a step does.
        """
        values = {"updated_at": utc_now(), **columns}
        threads = self._context.operations.threads
        if "owner_id" in columns:
            threads.change_owner(conn, session_id, columns["owner_id"])
        if columns.keys() & FROM_STATE:
            threads.outdate_columns(conn, session_id)
            values["checkpoint_id"] = None
        s = self._sessions
        return conn.execute(update(s).where(s.c.id == session_id).values(values)).rowcount > 0

    def touch(self, conn: Connection, session_id: str, **columns: Any) -> None:
        """Lock a session's row and note that it was written to.

        Raises:
            SessionNotFoundError: There is none.
        """
        if not self.change(conn, session_id, columns):
            raise no_such(session_id)

    def _find(self, conn: Connection, session_id: str) -> Any:
        found = select(*self._columns).where(self._sessions.c.id == session_id)
        return conn.execute(found).one_or_none()

    # -- listing ----------------------------------------------------------------------------

    def list(
        self,
        *,
        filters: Mapping[str, Any],
        updated_since: datetime | None,
        updated_before: datetime | None,
        deleted: bool,
        order_by: str,
        descending: bool,
        limit: int,
        after: str | None,
    ) -> Script[Page[SessionRecord]]:
        """Read a page of sessions, in one statement."""
        s = self._sessions.c
        where = _conditions(self._sessions, filters)
        if check_moment("updated_since", updated_since) is not None:
            where.append(s.updated_at >= updated_since)
        if check_moment("updated_before", updated_before) is not None:
            where.append(s.updated_at < updated_before)
        if not deleted:
            where.append(func.coalesce(s.status, "") != DELETED)
        if order_by not in ORDERS:
            raise InvalidConfigError(
                f"order_by is {order_by!r:.80}: use one of {', '.join(ORDERS)}"
            )
        columns = [s.id] if order_by == "id" else [s[order_by], s.id]
        keyset = Keyset("sessions", columns, descending, check_limit(limit), after)
        query = keyset.page_of(select(*self._columns).where(*where))
        rows = yield Request.read(lambda conn: conn.execute(query).all())
        return keyset.page(rows, as_session)

    # -- deleting ---------------------------------------------------------------------------

    def delete(self, session_id: Any, *, soft: bool) -> Script[bool]:
        """Hide a session, or delete it with all that it owns, in pieces."""
        session_id = check_id("session_id", session_id)
        if soft:
            status = {"status": DELETED}
            hidden: bool = yield Request.write(lambda conn: self.change(conn, session_id, status))
            return hidden
        if (yield Request.read(lambda conn: self._find(conn, session_id))) is None:
            return False
        for table in self._context.operations.threads.child_tables():
            delete_piece = partial(_delete_piece, table=table, session_id=session_id)
            while (yield Request.write(delete_piece)):
                pass
        while True:
            threads = yield Request.read(
                lambda conn: self._context.operations.threads.of_session(conn, session_id)
            )
            for key in threads:
                yield from self._maintenance.delete(key, lambda row: row.session_id == session_id)
            if (yield Request.write(lambda conn: self._delete_rest(conn, session_id))):
                return True

    def _delete_rest(self, conn: Connection, session_id: str) -> bool:
        """Delete a session that has no thread; False if it was given one meanwhile."""
        s, threads = self._sessions, self._context.operations.threads
        locked = select(s.c.id).where(s.c.id == session_id)
        conn.execute(self._context.dialect.locked(locked, s))
        if threads.of_session(conn, session_id):
            return False
        # Not left to the foreign keys: a caller's SQLite connection may not enforce them.
        for table in threads.child_tables():
            conn.execute(delete(table).where(table.c.session_id == session_id))
        conn.execute(delete(s).where(s.c.id == session_id))
        return True


def _taken(session_id: str) -> SessionConflictError:
    return SessionConflictError(
        f"there is a session {session_id!r} already: update it, or leave the id out for a new one"
    )


def _conditions(sessions: Table, filters: Mapping[str, Any]) -> list[Any]:
    """Equality of columns with what is given."""
    found = []
    for name, value in filters.items():
        if value is None:
            continue
        column = sessions.c[name]
        if name == "owner_id":
            checked = check_optional_id(name, value)
        else:
            checked = check_text(name, value, column.type.length)  # type: ignore[attr-defined]
        if name == "build_status" and checked not in list(BuildStatus):
            raise InvalidConfigError(
                f"build_status is {value!r}: use one of {', '.join(BuildStatus)}"
            )
        found.append(column == checked)
    return found


def _delete_piece(conn: Connection, table: Table, session_id: str) -> bool:
    """Delete some rows of a session; whether there may be more."""
    c = table.c
    some = select(c.id).where(c.session_id == session_id).order_by(c.id).limit(PIECE)
    ids = conn.execute(some).scalars().all()
    if ids:
        conn.execute(delete(table).where(c.session_id == session_id, c.id <= ids[-1]))
    return len(ids) == PIECE
