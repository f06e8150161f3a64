"""The statements on threads and the sessions that own them.

A thread's row is what its writers agree on: a step locks it first, so a delete or a prune never
comes between a step's statements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Table, and_, bindparam, delete, func, select, update

from langgraph_session_saver.dialects import Dialect
from langgraph_session_saver.errors import SessionConflictError
from langgraph_session_saver.tables import Tables


@dataclass(frozen=True, slots=True)
class ThreadRef:
    """A thread, and the session and owner that a call names for it, if it does."""

    key: bytes
    thread_id: str
    session_id: str | None = None
    owner_id: str | None = None

    @property
    def is_named(self) -> bool:
        """Whether the call says anything that the stored thread could contradict."""
        return self.session_id is not None or self.owner_id is not None


@dataclass(frozen=True, slots=True)
class Head:
    """A locked thread row, and whether a parent checkpoint is there."""

    session_id: str
    is_first: bool
    checkpoint_id: str | None
    status_checkpoint_id: str | None
    has_parent: bool


class Threads:
    """Finds, makes, locks and moves threads."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self.tables = tables
        t, d = tables, dialect
        parent = t.checkpoints.alias("parent")
        self._lock_thread = d.locked(
            select(t.threads, parent.c.checkpoint_id.label("parent_id"))
            .outerjoin(
                parent,
                and_(
                    parent.c.thread_key == t.threads.c.thread_key,
                    parent.c.ns_key == bindparam("ns"),
                    parent.c.checkpoint_id == bindparam("parent"),
                ),
            )
            .where(t.threads.c.thread_key == bindparam("thread")),
            t.threads,
        )
        self._lock_session = d.locked(
            select(t.sessions.c.id).where(t.sessions.c.id == bindparam("session")), t.sessions
        )
        self._count_threads = (
            select(func.count()).select_from(t.threads)
            .where(t.threads.c.session_id == bindparam("session"))
        )  # fmt: skip
        self._update_thread = update(t.threads).where(t.threads.c.thread_key == bindparam("key"))
        self._insert_session = d.insert_ignore(t.sessions, ["id"])
        self._insert_thread = d.insert_ignore(t.threads, ["thread_key"])

    def lock(
        self, conn: Connection, thread: ThreadRef, ns_key: bytes = b"", parent: str | None = None
    ) -> Head:
        """Lock a thread's row, making it and its session if they are not there.

        Raises:
            SessionConflictError: The call names another session or owner than the thread has.
        """
        wanted = {"thread": thread.key, "ns": ns_key, "parent": parent}
        row = conn.execute(self._lock_thread, wanted).one_or_none()
        if row is None:
            self._make(conn, thread)
            row = conn.execute(self._lock_thread, wanted).one()
        session_id = self._agree(conn, thread, row)
        return Head(
            session_id=session_id,
            is_first=row.is_first,
            checkpoint_id=row.checkpoint_id,
            status_checkpoint_id=row.status_checkpoint_id,
            has_parent=row.parent_id is not None,
        )

    def find(self, conn: Connection, thread_key: bytes) -> Row[Any] | None:
        """Lock a thread's row if there is one."""
        wanted = {"thread": thread_key, "ns": b"", "parent": None}
        return conn.execute(self._lock_thread, wanted).one_or_none()

    def _make(self, conn: Connection, thread: ThreadRef) -> None:
        session_id = thread.session_id or thread.thread_id
        self._make_session(conn, session_id, thread.owner_id)
        conn.execute(self._lock_session, {"session": session_id}).one()
        conn.execute(
            self._insert_thread,
            {
                "thread_key": thread.key,
                "thread_id": thread.thread_id,
                "session_id": session_id,
                "session_named": thread.session_id is not None,
                "owner_id": thread.owner_id,
                "is_first": not self._count_in(conn, session_id),
            },
        )

    def _make_session(self, conn: Connection, session_id: str, owner_id: str | None) -> None:
        conn.execute(
            self._insert_session,
            {"id": session_id, "owner_id": owner_id, "made_by_saver": True},
        )

    def _count_in(self, conn: Connection, session_id: str) -> int:
        count: int = conn.execute(self._count_threads, {"session": session_id}).scalar_one()
        return count

    def _agree(self, conn: Connection, thread: ThreadRef, row: Row[Any]) -> str:
        """Check what a call names against what the thread has; the first to name one sets it."""
        session_id: str = row.session_id
        if thread.owner_id is not None and row.owner_id != thread.owner_id:
            if row.owner_id is not None:
                raise SessionConflictError(
                    f"thread {thread.thread_id!r} belongs to owner {row.owner_id!r}, and this call "
                    f"names {thread.owner_id!r}: use another thread_id, or leave owner_id out"
                )
            self.change(conn, thread.key, {"owner_id": thread.owner_id})
            t = self.tables.sessions
            conn.execute(
                update(t).where(t.c.id == session_id, t.c.owner_id.is_(None)),
                {"owner_id": thread.owner_id},
            )
        if thread.session_id is not None and not (
            row.session_named and session_id == thread.session_id
        ):
            if row.session_named:
                raise SessionConflictError(
                    f"thread {thread.thread_id!r} belongs to session {session_id!r}, and this "
                    f"call names {thread.session_id!r}: use another thread_id, or leave "
                    "session_id out"
                )
            self._move(conn, thread, session_id)
            session_id = thread.session_id
        return session_id

    def _move(self, conn: Connection, thread: ThreadRef, old: str) -> None:
        """Bring a thread, and what it projected, to the session that a call names first."""
        new = str(thread.session_id)
        if new != old:
            self._make_session(conn, new, thread.owner_id)
            conn.execute(self._lock_session, {"session": new}).one()
            is_first = not self._count_in(conn, new)
            self.change(conn, thread.key, {"session_id": new, "is_first": is_first})
            for table in self.child_tables():
                conn.execute(
                    update(table).where(table.c.thread_key == thread.key), {"session_id": new}
                )
            self.drop_empty_session(conn, old)
        self.change(conn, thread.key, {"session_named": True})

    def change(self, conn: Connection, thread_key: bytes, values: Mapping[str, Any]) -> None:
        """Change columns of a thread's row."""
        conn.execute(self._update_thread, {"key": thread_key, **values})

    def child_tables(self) -> tuple[Table, ...]:
        """The tables that steps of a thread project rows into."""
        t = self.tables
        return t.messages, t.versions, t.token_usage, t.errors

    def drop_empty_session(self, conn: Connection, session_id: str) -> None:
        """Delete a session that the saver made and that has no thread left."""
        if not self._count_in(conn, session_id):
            t = self.tables.sessions
            conn.execute(delete(t).where(t.c.id == session_id, t.c.made_by_saver.is_(True)))
