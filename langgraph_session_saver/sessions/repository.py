"""`saver.sessions`: the sessions of an application, sync and async."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack
from uuid import uuid4

from sqlalchemy import Connection, Table, delete, func, insert, select

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.checkpointer.maintenance import ThreadMaintenance
from langgraph_session_saver.errors import InvalidConfigError, SessionConflictError
from langgraph_session_saver.projection.schemas import BuildStatus
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.sessions.children import SessionChildren
from langgraph_session_saver.sessions.columns import validated_columns
from langgraph_session_saver.sessions.operations import insert_once, session_not_found
from langgraph_session_saver.sessions.paging import PAGE_SIZE, Pagination
from langgraph_session_saver.sessions.records import (
    DELETED,
    Page,
    SessionChanges,
    SessionRecord,
    record_columns,
)
from langgraph_session_saver.sql.runner import BrokenReferenceError
from langgraph_session_saver.sql.scripts import (
    Request,
    Script,
    ScriptRunner,
    awaited,
    read_script,
    write_script,
)
from langgraph_session_saver.storage.thread_data import PIECE
from langgraph_session_saver.validation import check_id, check_moment, check_optional_id, check_text

if TYPE_CHECKING:
    from langgraph_session_saver.sql.borrowed import AnyConnection

ORDERS = ("updated_at", "created_at", "title", "build_status", "current_version", "id")
"""The columns to order by, none of which is ever NULL."""


class SessionRepository(SessionChildren):
    """The sessions of one database, and the rows that belong to them: `saver.sessions`.

    Every method takes `connection=`: a SQLAlchemy `Connection` or ORM `Session`, or for an async
    method also their async kinds. It then runs in your transaction without commit, rollback or
    retry, and the database's errors are SQLAlchemy's. Objects that an ORM session has loaded show
    the changes after `session.refresh`.
    """

    def __init__(
        self, script_runner: ScriptRunner, context: Context, maintenance: ThreadMaintenance
    ) -> None:
        super().__init__(script_runner, context)
        self._maintenance = maintenance

    def create(
        self,
        session_id: str | None = None,
        *,
        connection: AnyConnection | None = None,
        **columns: Unpack[SessionChanges],
    ) -> SessionRecord:
        """Create a session.

        Args:
            session_id: Its id; default a UUID4.
            connection: Where to run, as part of your transaction.
            **columns: The columns to set; others get their defaults.

        Raises:
            InvalidConfigError: The id or a value is invalid, or a column is unknown.
            SessionConflictError: A session with this id exists.
        """
        return self._run(self._create(session_id, columns), connection)

    acreate = awaited(create)

    def _create(self, session_id: Any, columns: Mapping[str, Any]) -> Script[SessionRecord]:
        session_id = check_id("session_id", str(uuid4()) if session_id is None else session_id)
        now = utc_now()
        row = {"id": session_id, "created_at": now, "updated_at": now} | validated_columns(columns)
        conflict = SessionConflictError(
            f"session {session_id!r} already exists: update it, or omit the id for a new one"
        )

        def insert_row(conn: Connection) -> SessionRecord:
            if self._operations.find(conn, session_id) is not None:
                raise conflict
            conn.execute(insert(self._tables.sessions), row)
            return self._existing(conn, session_id)

        def find_row(conn: Connection) -> SessionRecord | None:
            found = self._operations.find(conn, session_id)
            return found if found is not None and found.created_at == now else None

        try:
            created: SessionRecord = yield Request.write(insert_once(insert_row, find_row))
        except BrokenReferenceError as exc:
            raise conflict from exc
        return created

    def get(
        self, session_id: str, *, connection: AnyConnection | None = None
    ) -> SessionRecord | None:
        """Read a session, soft-deleted or not; None if it does not exist."""
        session_id = check_id("session_id", session_id)
        script = read_script(lambda conn: self._operations.find(conn, session_id))
        return self._run(script, connection)

    aget = awaited(get)

    def list(
        self,
        *,
        owner_id: str | None = None,
        build_status: str | None = None,
        product_type: str | None = None,
        complexity: str | None = None,
        updated_since: datetime | None = None,
        updated_before: datetime | None = None,
        deleted: bool = False,
        order_by: str = "updated_at",
        descending: bool = True,
        limit: int = PAGE_SIZE,
        after: str | None = None,
        connection: AnyConnection | None = None,
    ) -> Page[SessionRecord]:
        """List sessions, a page at a time, last updated first.

        Args:
            owner_id: Only sessions of this owner.
            build_status: Only sessions with this build status.
            product_type: Only sessions of this product type.
            complexity: Only sessions of this complexity.
            updated_since: Only sessions updated at this time or later.
            updated_before: Only sessions updated before this time.
            deleted: Whether to include soft-deleted sessions.
            order_by: `updated_at`, `created_at`, `title`, `build_status`, `current_version` or
                `id`; equal values are ordered by id.
            descending: Whether the largest come first.
            limit: The number of sessions in a page.
            after: The `next` of the page before.
            connection: Where to run, as part of your transaction.

        Raises:
            InvalidConfigError: A filter, the order, the limit or the cursor is invalid.
        """
        s = self._tables.sessions
        filters = {
            "owner_id": owner_id,
            "build_status": build_status,
            "product_type": product_type,
            "complexity": complexity,
        }
        query = select(*record_columns(s, SessionRecord)).where(*_conditions(s, filters))
        if check_moment("updated_since", updated_since) is not None:
            query = query.where(s.c.updated_at >= updated_since)
        if check_moment("updated_before", updated_before) is not None:
            query = query.where(s.c.updated_at < updated_before)
        if not deleted:
            query = query.where(func.coalesce(s.c.status, "") != DELETED)
        if order_by not in ORDERS:
            raise InvalidConfigError(
                f"order_by is {order_by!r:.80}: use one of {', '.join(ORDERS)}"
            )
        order = [s.c.id] if order_by == "id" else [s.c[order_by], s.c.id]
        pagination = Pagination("sessions", order, descending, limit, after)
        return self._run(pagination.read(query, SessionRecord), connection)

    alist = awaited(list)  # noqa: A003 - the method above

    def update(
        self,
        session_id: str,
        *,
        connection: AnyConnection | None = None,
        **changes: Unpack[SessionChanges],
    ) -> SessionRecord:
        """Change the named columns of a session, and no other.

        A change of columns that a graph projects (all but title, owner, scope, status and round)
        clears `checkpoint_id`, until the next step writes those columns again.

        Args:
            session_id: The session.
            connection: Where to run, as part of your transaction.
            **changes: The new values; None resets a column. `owner_id` also changes the owner of
                the session's threads.

        Raises:
            InvalidConfigError: A column is unknown, or a value is invalid.
            SessionNotFoundError: The session does not exist.
        """
        session_id, columns = check_id("session_id", session_id), validated_columns(changes)

        def operation(conn: Connection) -> SessionRecord:
            if columns:
                self._operations.touch(conn, session_id, **columns)
            return self._existing(conn, session_id)

        return self._run(write_script(operation), connection)

    aupdate = awaited(update)

    def delete(
        self, session_id: str, *, soft: bool = False, connection: AnyConnection | None = None
    ) -> bool:
        """Delete a session with its threads, checkpoints, messages, versions and other rows.

        Args:
            session_id: The session.
            soft: Whether to only set the session's `status` to "deleted", which hides it from
                `list`; `update(session_id, status=None)` restores it.
            connection: Where to run, as part of your transaction; without it, many rows are
                deleted in several transactions.

        Returns:
            Whether the session existed.
        """
        session_id = check_id("session_id", session_id)
        if soft:
            hide = partial(
                self._operations.change, session_id=session_id, columns={"status": DELETED}
            )
            return self._run(write_script(hide), connection)
        return self._run(self._delete(session_id), connection)

    adelete = awaited(delete)

    def _delete(self, session_id: str) -> Script[bool]:
        threads = self._context.storage.threads
        if (yield Request.read(lambda conn: self._operations.find(conn, session_id))) is None:
            return False
        for table in threads.child_tables():
            delete_piece = partial(_delete_piece, table=table, session_id=session_id)
            while (yield Request.write(delete_piece)):
                pass
        while True:
            keys = yield Request.read(lambda conn: threads.of_session(conn, session_id))
            for key in keys:
                yield from self._maintenance.delete(key, lambda row: row.session_id == session_id)
            if (yield Request.write(lambda conn: self._delete_row(conn, session_id))):
                return True

    def _delete_row(self, conn: Connection, session_id: str) -> bool:
        """Delete a session without threads; False if it has been given one meanwhile."""
        s, threads = self._tables.sessions, self._context.storage.threads
        query = select(s.c.id).where(s.c.id == session_id)
        conn.execute(self._context.dialect.locked(query, s))
        if threads.of_session(conn, session_id):
            return False
        # Not left to foreign keys, which a caller's SQLite connection may not enforce.
        for table in threads.child_tables():
            conn.execute(delete(table).where(table.c.session_id == session_id))
        conn.execute(delete(s).where(s.c.id == session_id))
        return True

    def _existing(self, conn: Connection, session_id: str) -> SessionRecord:
        found = self._operations.find(conn, session_id)
        if found is None:
            raise session_not_found(session_id)
        return found


def _conditions(sessions: Table, filters: Mapping[str, Any]) -> Any:
    """The conditions of filters for equality; None filters nothing."""
    for name, value in filters.items():
        if value is None:
            continue
        column = sessions.c[name]
        if name == "owner_id":
            checked = check_optional_id(name, value)
        else:
            checked = check_text(name, value, column.type.length)  # type: ignore[attr-defined]
        if name == "build_status" and checked not in tuple(BuildStatus):
            raise InvalidConfigError(
                f"build_status is {value!r}: use one of {', '.join(BuildStatus)}"
            )
        yield column == checked


def _delete_piece(conn: Connection, table: Table, session_id: str) -> bool:
    """Delete up to `PIECE` rows of a session; whether there may be more."""
    c = table.c
    some = select(c.id).where(c.session_id == session_id).order_by(c.id).limit(PIECE)
    ids = conn.execute(some).scalars().all()
    if ids:
        conn.execute(delete(table).where(c.session_id == session_id, c.id <= ids[-1]))
    return len(ids) == PIECE
