"""`saver.threads`: the threads of an application, sync and async."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import ColumnElement, Connection, Select

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.checkpointer.listing import matches
from langgraph_session_saver.checkpointer.maintenance import ThreadMaintenance
from langgraph_session_saver.encoding.keys import ThreadRef, namespace_key, thread_key
from langgraph_session_saver.errors import SessionConflictError, ThreadNotFoundError
from langgraph_session_saver.projection.status import STATUSES
from langgraph_session_saver.schema.tables import DELETED, Tables
from langgraph_session_saver.sessions.paging import PAGE_SIZE, Pagination, ordered
from langgraph_session_saver.sessions.records import (
    Page,
    ThreadRecord,
    first,
    select_records,
)
from langgraph_session_saver.sessions.rows import in_period
from langgraph_session_saver.sessions.views import views_of
from langgraph_session_saver.sql.scripts import (
    Request,
    Script,
    ScriptMethods,
    ScriptRunner,
    awaited,
    read_script,
)
from langgraph_session_saver.storage.threads import is_of_owner
from langgraph_session_saver.validation import (
    check_filter,
    check_id,
    check_one_of,
    check_thread_id,
)

if TYPE_CHECKING:
    from langgraph_session_saver.sql.borrowed import AnyConnection

ORDERS = ("updated_at", "created_at", "thread_id")
"""The columns to order by, none of which is ever NULL."""


class ThreadRepository(ScriptMethods):
    """The threads of one database: `saver.threads`.

    Every method takes `connection=`, as those of `saver.sessions` do.
    """

    def __init__(
        self,
        script_runner: ScriptRunner,
        context: Context,
        maintenance: ThreadMaintenance,
        serde: SerializerProtocol,
    ) -> None:
        super().__init__(script_runner)
        self._maintenance, self._serde = maintenance, serde
        self._limit = context.owner_id
        self._tables = context.tables
        self._threads = views_of(context.tables, context.owner_id).threads

    def get(
        self, thread_id: str, *, connection: AnyConnection | None = None
    ) -> ThreadRecord | None:
        """Read a thread; None if it does not exist."""
        key = thread_key(check_thread_id(thread_id))
        return self._run(read_script(self._find, key), connection)

    aget = awaited(get)

    def list(
        self,
        *,
        status: str | None = None,
        session_id: str | None = None,
        owner_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        updated_since: datetime | None = None,
        updated_before: datetime | None = None,
        deleted: bool = False,
        order_by: str = "updated_at",
        descending: bool = True,
        limit: int = PAGE_SIZE,
        after: str | None = None,
        connection: AnyConnection | None = None,
    ) -> Page[ThreadRecord]:
        """List threads, a page at a time, last updated first.

        A page is one query. Soft deletion and `metadata`, which is stored serialised, are looked at
        in Python: if not enough threads are left, the page is several queries, each of twice the
        rows. Combine `metadata` with another filter.

        Args:
            status: Only threads with this status: "pending", "running", "interrupted", "error" or
                "done".
            session_id: Only threads of this session.
            owner_id: Only threads of this owner, or of this owner's sessions if no call has named
                the thread's.
            metadata: Only threads whose newest root checkpoint has equal metadata, by top-level
                key, as `list(filter=…)` compares it.
            updated_since: Only threads updated at this time or later.
            updated_before: Only threads updated before this time.
            deleted: Whether to include threads of soft-deleted sessions.
            order_by: `updated_at`, `created_at` or `thread_id`; equal times are ordered by thread
                id.
            descending: Whether the largest come first.
            limit: The number of threads in a page.
            after: The `next` of the page before.
            connection: Where to run, as part of your transaction.

        Raises:
            InvalidConfigError: A filter, the order, the limit or the cursor is invalid.
            SerializationError: A type in the metadata is not allowed to be rebuilt.
        """
        t = self._tables.threads.c
        where = conditions(self._tables, status=status, session_id=session_id, owner_id=owner_id)
        if self._limit is not None:
            where.append(is_of_owner(self._tables, self._limit))
        where += in_period(t.updated_at, updated_since, updated_before, "updated_")
        order = ordered(t[check_one_of("order_by", order_by, ORDERS)], t.thread_id)
        pagination = Pagination(order, descending, limit, after)
        query = select_records(self._threads, ThreadRecord, *where)
        query = query.add_columns(self._threads.c["session_status"])
        wanted = dict(metadata or {})
        check_filter(wanted)
        if wanted:
            query = _with_metadata(query, self._tables)

        def is_listed(row: Any) -> bool:
            is_shown = deleted or row.session_status != DELETED
            return is_shown and matches(self._serde, row, wanted)

        return self._run(pagination.read_matching(query, ThreadRecord, is_listed), connection)

    alist = awaited(list)  # noqa: A003 - the method above

    def copy(
        self,
        source_thread_id: str,
        target_thread_id: str | None = None,
        *,
        session_id: str | None = None,
        owner_id: str | None = None,
        connection: AnyConnection | None = None,
    ) -> ThreadRecord:
        """Copy a thread, history and pending writes included, in one transaction.

        Args:
            source_thread_id: The thread to copy.
            target_thread_id: The new thread's id; default a UUID4.
            session_id: The session of the copy; default one of its own.
            owner_id: The owner of the copy; default the source's.
            connection: Where to run, as part of your transaction.

        Raises:
            ThreadNotFoundError: The source does not exist.
            SessionConflictError: The target exists.
            AccessDeniedError: The target or its session is another owner's.
        """
        target = ThreadRef.of(
            str(uuid4()) if target_thread_id is None else target_thread_id,
            self._limit,
            session_id=session_id,
            owner_id=owner_id,
        )
        source = ThreadRef.of(source_thread_id, self._limit)
        return self._run(self._copy(source, target), connection)

    acopy = awaited(copy)

    def _copy(self, source: ThreadRef, target: ThreadRef) -> Script[ThreadRecord]:
        missing = ThreadNotFoundError(f"there is no thread {source.thread_id!r} to copy")
        if (yield Request.read(self._find, source.key)) is None:
            raise missing
        if (yield Request.read(self._find, target.key)) is not None:
            raise SessionConflictError(
                f"thread {target.thread_id!r} already exists: delete it, or copy to another id"
            )
        if not (yield from self._maintenance.copy(self._serde, source, target)):
            raise missing  # it was deleted meanwhile
        copied: ThreadRecord = yield Request.read(self._find, target.key)
        return copied

    def delete(self, thread_id: str, *, connection: AnyConnection | None = None) -> bool:
        """Delete a thread, its projected rows, and the session if it was made for the thread.

        Returns:
            Whether the thread existed.
        """
        return self._run(self._delete(ThreadRef.of(thread_id, self._limit)), connection)

    adelete = awaited(delete)

    def _delete(self, thread: ThreadRef) -> Script[bool]:
        existed = (yield Request.read(self._find, thread.key)) is not None
        yield from self._maintenance.delete(thread)
        return existed

    def _find(self, conn: Connection, key: bytes) -> ThreadRecord | None:
        threads = self._threads
        return first(conn, threads, ThreadRecord, threads.c["thread_key"] == key)


def _with_metadata(query: Select[Any], tables: Tables) -> Select[Any]:
    """Join threads to the metadata of their newest root checkpoints."""
    t, c = tables.threads.c, tables.checkpoints.c
    query = query.where(
        c.thread_key == t.thread_key,
        c.ns_key == namespace_key(""),
        c.checkpoint_id == t.checkpoint_id,
    )
    return query.add_columns(c.metadata_type, c.metadata_data)


def conditions(
    tables: Tables,
    *,
    status: str | None = None,
    session_id: str | None = None,
    owner_id: str | None = None,
) -> list[ColumnElement[bool]]:
    """The conditions for the threads with a status, of a session, and of an owner."""
    t = tables.threads.c
    where: list[ColumnElement[bool]] = []
    if status is not None:
        where.append(t.status == check_one_of("status", status, STATUSES))
    if session_id is not None:
        where.append(t.session_id == check_id("session_id", session_id))
    if owner_id is not None:
        where.append(is_of_owner(tables, check_id("owner_id", owner_id)))
    return where
