"""Statements on threads and the sessions that own them.

Every writer locks the thread's row first or checks its revision, so that a delete or a prune never
comes between the statements of a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, bindparam, case, delete, func, literal, select, update

from langgraph_session_saver.encoding.keys import ThreadRef, random_bits
from langgraph_session_saver.errors import SessionConflictError
from langgraph_session_saver.projection.plain_json import title_of
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.schema.tables import UNTITLED, Tables
from langgraph_session_saver.sql.compiled import Statement, Statements
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.storage.batch import unless_titled
from langgraph_session_saver.storage.parameters import updating


class Head(NamedTuple):
    """The columns of a thread's row that steps need."""

    session_id: str
    is_first: bool
    checkpoint_id: str | None
    status_checkpoint_id: str | None
    revision: int
    status: str | None

    @property
    def is_outdated(self) -> bool:
        """Whether the next step must write all of its session's columns."""
        return self.revision < 0

    def changed(self, values: Mapping[str, Any]) -> Head:
        """The row after an update of some columns."""
        return self._replace(**{name: new for name, new in values.items() if name in self._fields})


_NOT_PROJECTED = frozenset(
    ("id", "created_at", "updated_at", "owner_id", "scope_type", "scope_id", "status",
     "round_sequence", "made_by_saver")
)  # fmt: skip
"""Columns of a session that are not moved with its first thread."""


def new_revision(before: int = 0) -> int:
    """A random revision for a thread's row that is changed.

    Args:
        before: The revision before. A negative one says that the session's columns were set by
            hand and no longer show the thread's state; it stays negative until a step writes all
            of them.
    """
    number = random_bits(62)
    return -1 - number if before < 0 else number


class Threads:
    """Creates, locks, changes and moves threads."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self.tables = tables
        self._dialect = dialect
        t, d = tables, dialect
        thread = select(t.threads).where(t.threads.c.thread_key == bindparam("thread"))
        self._lock_thread = Statement(d.locked(thread, t.threads))
        session = select(t.sessions.c.id).where(t.sessions.c.id == bindparam("session"))
        self._lock_session = Statement(d.locked(session, t.sessions))
        self._change_thread = Statements(
            updating(update(t.threads)).where(t.threads.c.thread_key == bindparam("key"))
        )
        self._insert_session = Statements(d.insert_ignore(t.sessions, ["id"]))
        self._insert_thread = Statements(d.insert_ignore(t.threads, ["thread_key"]))

    def lock(self, conn: Connection, thread: ThreadRef, at: datetime) -> Head:
        """Lock a thread's row, and create it and its session, as of a time, if they do not exist.

        Raises:
            SessionConflictError: The call names another session or owner than the thread has.
        """
        wanted = {"thread": thread.key}
        row = self._lock_thread.first(conn, wanted)
        if row is None:
            session_id = thread.session_id or thread.thread_id
            if self._make_session(conn, session_id, thread.owner_id, at):
                made = self._make(conn, thread, session_id, at, is_first=True)
                if made is not None:
                    return made
            # Another transaction that created both has ended. Steps lock the thread before the
            # session, and so must this one.
            row = self._lock_thread.first(conn, wanted)
        if row is None:
            self._lock_session.first(conn, {"session": session_id})
            is_first = not self._count_in(conn, session_id)
            self._make(conn, thread, session_id, at, is_first=is_first)
            row = self._lock_thread.first(conn, wanted)
        if self._agree(conn, thread, row, at):
            row = self._lock_thread.first(conn, wanted)
        return Head(*(getattr(row, name) for name in Head._fields))

    def lock_existing(self, conn: Connection, thread_key: bytes) -> Any:
        """Lock and return a thread's row; None if there is none."""
        return self._lock_thread.first(conn, {"thread": thread_key})

    def get(self, conn: Connection, thread_key: bytes) -> Any:
        """Return a thread's row without a lock; None if there is none."""
        t = self.tables.threads
        return conn.execute(select(t).where(t.c.thread_key == thread_key)).one_or_none()

    def _make(
        self, conn: Connection, thread: ThreadRef, session_id: str, at: datetime, *, is_first: bool
    ) -> Head | None:
        """Create a thread's row; None if it exists, or if the database does not tell."""
        revision = new_revision()
        row = {
            "thread_key": thread.key,
            "thread_id": thread.thread_id,
            "session_id": session_id,
            "session_named": thread.session_id is not None,
            "owner_id": thread.owner_id,
            "is_first": is_first,
            "revision": revision,
            "created_at": at,
            "updated_at": at,
        }
        is_made = self._insert_thread.of(row).run(conn, row) and self._dialect.reports_inserts
        return Head(session_id, is_first, None, None, revision, None) if is_made else None

    def _make_session(
        self, conn: Connection, session_id: str, owner_id: str | None, at: datetime
    ) -> bool:
        """Create a session if there is none; returns whether the database says it was created."""
        row = {
            "id": session_id, "owner_id": owner_id, "made_by_saver": True,
            "created_at": at, "updated_at": at,
        }  # fmt: skip
        return self._insert_session.of(row).run(conn, row) > 0 and self._dialect.reports_inserts

    def _count_in(self, conn: Connection, session_id: str) -> int:
        t = self.tables.threads
        count = select(func.count()).select_from(t).where(t.c.session_id == session_id)
        return conn.execute(count).scalar_one()

    def _agree(self, conn: Connection, thread: ThreadRef, row: Any, at: datetime) -> bool:
        """Check the session and owner that a call names, which the first such call sets.

        Returns:
            Whether the thread's row was changed.
        """
        changed: dict[str, Any] = {}
        if thread.owner_id is not None and row.owner_id != thread.owner_id:
            if row.owner_id is not None:
                raise SessionConflictError(
                    f"thread {thread.thread_id!r} belongs to owner {row.owner_id!r}, and this call "
                    f"names {thread.owner_id!r}: use another thread_id, or leave owner_id out"
                )
            changed["owner_id"] = thread.owner_id
            t = self.tables.sessions
            unowned = update(t).where(t.c.id == row.session_id, t.c.owner_id.is_(None))
            conn.execute(unowned.values(owner_id=thread.owner_id))
        is_other = row.session_id != thread.session_id
        if thread.session_id is not None and (is_other or not row.session_named):
            if row.session_named:
                raise SessionConflictError(
                    f"thread {thread.thread_id!r} belongs to session {row.session_id!r}, and this "
                    f"call names {thread.session_id!r}: use another thread_id, or leave session_id "
                    "out"
                )
            if is_other:
                self._move(conn, thread, row, at)
            changed["session_named"] = True
        if changed:
            changed |= {"revision": new_revision(row.revision), "updated_at": at}
            self.change(conn, thread.key, changed)
        return bool(changed)

    def _move(self, conn: Connection, thread: ThreadRef, row: Any, at: datetime) -> None:
        """Move a thread and its projected rows to the session that a call is the first to name."""
        old, was_first, new = row.session_id, row.is_first, str(thread.session_id)
        self._make_session(conn, new, thread.owner_id, at)
        self._lock_session.first(conn, {"session": new})
        is_first = not self._count_in(conn, new)
        self.change(conn, thread.key, {"session_id": new, "is_first": is_first, "updated_at": at})
        v = self.tables.versions
        newest = conn.execute(select(func.max(v.c.version)).where(v.c.session_id == new)).scalar()
        offset = 0 if newest is None else newest + 1
        for table in self.child_tables():
            moved = update(table).where(table.c.thread_key == thread.key).values(session_id=new)
            conn.execute(moved.values(version=v.c.version + offset) if table is v else moved)
        if is_first and was_first:
            self._move_columns(conn, old, new, offset)
        if was_first:
            self.promote_next(conn, old)
        self.drop_empty_session(conn, old)

    def _move_columns(self, conn: Connection, old: str, new: str, offset: int) -> None:
        """Copy a session's projected columns to another session."""
        s = self.tables.sessions
        row = conn.execute(select(s).where(s.c.id == old)).mappings().one()
        values = {
            column.name: row[column.name]
            for column in s.c
            if column.name not in _NOT_PROJECTED
            and row[column.name] not in (None, getattr(column.default, "arg", None))
        }
        if conn.execute(
            select(func.count()).where(self.tables.versions.c.session_id == new)
        ).scalar():
            values["current_version"] = row["current_version"] + offset
        if "title" in values:
            values["title"] = unless_titled(s, literal(values["title"]))
        if values:
            conn.execute(update(s).where(s.c.id == new).values(**values))

    def get_page(self, conn: Connection, after: bytes, limit: int) -> Sequence[Any]:
        """A page of threads in the order of their keys."""
        t = self.tables.threads
        query = select(t.c.thread_key, t.c.thread_id, t.c.updated_at).order_by(t.c.thread_key)
        return conn.execute(query.where(t.c.thread_key > after).limit(limit)).all()

    def promote_next(self, conn: Connection, session_id: str) -> None:
        """Make the oldest thread of a session its first thread, whose steps set its columns."""
        t = self.tables.threads
        oldest = conn.execute(
            select(t.c.thread_key, t.c.updated_at)
            .where(t.c.session_id == session_id)
            .order_by(t.c.created_at, t.c.thread_id)
            .limit(1)
        ).one_or_none()
        if oldest is not None:
            values = {"is_first": True, "revision": new_revision(-1)}
            self.change(conn, oldest.thread_key, {**values, "updated_at": oldest.updated_at})

    def clear_columns(self, conn: Connection, session_id: str) -> None:
        """Clear the columns of a session that show a graph's state, if a step has set them.

        Title, routing and models stay, because the application may have set those.
        """
        s = self.tables.sessions
        shown = ("graph_state", "build_artifacts", "aesthetic_scores", "checkpoint_id")
        conn.execute(
            update(s)
            .where(s.c.id == session_id, s.c.checkpoint_id.is_not(None))
            .values(**dict.fromkeys(shown), build_status="pending")
        )

    def clear_first_title(self, conn: Connection, thread_key: bytes, session_id: str) -> None:
        """Clear the title of a session if it is one of a thread's first messages."""
        s, m = self.tables.sessions, self.tables.messages
        text = func.substr(m.c.content, 1, 1_000)
        first = (
            select(text).where(m.c.thread_key == thread_key).order_by(m.c.position, m.c.id).limit(8)
        )
        titles = [title_of(text) for text in conn.execute(first).scalars()]
        is_first = (s.c.id == session_id, s.c.title.in_(titles))
        conn.execute(update(s).where(*is_first).values(title=UNTITLED))

    def outdate_columns(self, conn: Connection, session_id: str) -> None:
        """Make the next step of a session's first thread set all of the session's columns."""
        t = self.tables.threads
        outdated = case((t.c.revision < 0, t.c.revision - 1), else_=-1 - t.c.revision)
        conn.execute(
            update(t)
            .where(t.c.session_id == session_id, t.c.is_first.is_(True))
            .values(revision=outdated, updated_at=t.c.updated_at)
        )

    def change_owner(self, conn: Connection, session_id: str, owner_id: str | None) -> None:
        """Give the threads of a session another owner, and new revisions."""
        t = self.tables.threads
        conn.execute(
            update(t)
            .where(t.c.session_id == session_id)
            .values(owner_id=owner_id, revision=t.c.revision + 1, updated_at=t.c.updated_at)
        )

    def of_session(self, conn: Connection, session_id: str) -> Sequence[bytes]:
        """The keys of the threads of a session."""
        t = self.tables.threads.c
        return conn.execute(select(t.thread_key).where(t.session_id == session_id)).scalars().all()

    def change(self, conn: Connection, thread_key: bytes, values: Mapping[str, Any]) -> None:
        """Update columns of a thread's row, and its revision, which other processes may know."""
        values = {"revision": new_revision(), "updated_at": utc_now(), **values}
        self._change_thread.of(values).run(conn, {"key": thread_key, **values})

    def child_tables(self) -> tuple[Table, ...]:
        """The tables of projected rows."""
        t = self.tables
        return t.messages, t.versions, t.token_usage, t.errors

    def drop_empty_session(self, conn: Connection, session_id: str) -> None:
        """Delete a session that the saver created, if it has no thread left."""
        if not self._count_in(conn, session_id):
            t = self.tables.sessions
            conn.execute(delete(t).where(t.c.id == session_id, t.c.made_by_saver.is_(True)))
