"""`saver.sessions`: the sessions of an application, sync and async."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Unpack
from uuid import uuid4

from sqlalchemy import Connection, Table, delete, func, insert, select

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.checkpointer.maintenance import ThreadMaintenance
from langgraph_session_saver.errors import InvalidConfigError, SessionConflictError
from langgraph_session_saver.projection.schemas import BuildStatus
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.sessions.children import SessionChildren
from langgraph_session_saver.sessions.paging import PAGE_SIZE, Pagination
from langgraph_session_saver.sessions.records import DELETED, Page, SessionChanges, SessionRecord
from langgraph_session_saver.sessions.rows import (
    insert_once,
    session_not_found,
    validated_columns,
)
from langgraph_session_saver.sql.runner import BrokenReferenceError
from langgraph_session_saver.sql.scripts import Request, Script, ScriptRunner, awaited
from langgraph_session_saver.storage.thread_data import PIECE
from langgraph_session_saver.validation import check_id, check_moment, check_text

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
            if self._find(conn, session_id) is not None:
                raise conflict
            conn.execute(insert(self._tables.sessions), row)
            return self._existing(conn, session_id)

        def find_row(conn: Connection) -> SessionRecord | None:
            found = self._find(conn, session_id)
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
        return self._read(connection, self._find, check_id("session_id", session_id))

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
        s = self._tables.sessions.c
        where = []
        if owner_id is not None:
            where.append(s.owner_id == check_id("owner_id", owner_id))
        if build_status is not None:
            where.append(s.build_status == _one_of("build_status", build_status, [*BuildStatus]))
        if product_type is not None:
            where.append(s.product_type == check_text("product_type", product_type, 50))
        if complexity is not None:
            where.append(s.complexity == check_text("complexity", complexity, 20))
        if check_moment("updated_since", updated_since) is not None:
            where.append(s.updated_at >= updated_since)
        if check_moment("updated_before", updated_before) is not None:
            where.append(s.updated_at < updated_before)
        if not deleted:
            where.append(func.coalesce(s.status, "") != DELETED)
        order = [s[_one_of("order_by", order_by, ORDERS)], s.id]
        pagination = Pagination(order[-1:] if order_by == "id" else order, descending, limit, after)
        return self._run(pagination.read(SessionRecord, *where), connection)

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
                self._touch(conn, session_id, **columns)
            return self._existing(conn, session_id)

        return self._write(connection, operation)

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
            return self._write(connection, self._change, session_id, {"status": DELETED})
        return self._run(self._delete(session_id), connection)

    adelete = awaited(delete)

    def _delete(self, session_id: str) -> Script[bool]:
        threads = self._context.storage.threads
        if (yield Request.read(self._find, session_id)) is None:
            return False
        for table in threads.child_tables():
            while (yield Request.write(_delete_piece, table, session_id)):
                pass
        while True:
            for key in (yield Request.read(threads.of_session, session_id)):
                yield from self._maintenance.delete(key, lambda row: row.session_id == session_id)
            if (yield Request.write(self._delete_row, session_id)):
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
        found = self._find(conn, session_id)
        if found is None:
            raise session_not_found(session_id)
        return found


def _one_of(what: str, value: Any, known: Sequence[str]) -> str:
    if value not in known:
        raise InvalidConfigError(f"{what} is {value!r:.80}: use one of {', '.join(known)}")
    return str(value)


def _delete_piece(conn: Connection, table: Table, session_id: str) -> bool:
    """Delete up to `PIECE` rows of a session; whether there may be more."""
    c = table.c
    some = select(c.id).where(c.session_id == session_id).order_by(c.id).limit(PIECE)
    ids = conn.execute(some).scalars().all()
    if ids:
        conn.execute(delete(table).where(c.session_id == session_id, c.id <= ids[-1]))
    return len(ids) == PIECE
