"""Statements on threads and the sessions that own them.

Every writer locks the thread's row first or checks its revision, so that a delete or a prune never
comes between the statements of a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    Text,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal,
    null,
    or_,
    select,
    union_all,
    update,
)

from langgraph_session_saver.encoding.keys import ThreadRef, random_bits
from langgraph_session_saver.errors import (
    AccessDeniedError,
    SessionConflictError,
    SessionDeletedError,
)
from langgraph_session_saver.projection.content import without_references
from langgraph_session_saver.projection.graph_state import IN_CHECKPOINT
from langgraph_session_saver.projection.plain_json import title_of
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.schema.tables import DELETED, UNTITLED, Tables
from langgraph_session_saver.sql.compiled import Statement, Statements
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.storage.batch import unless_titled
from langgraph_session_saver.storage.parameters import updating


class Head(NamedTuple):
    """The columns of a thread's row that steps need."""

    session_id: str
    session_named: bool
    owner_id: str | None
    is_first: bool
    checkpoint_id: str | None
    status_checkpoint_id: str | None
    revision: int
    status: str | None

    def agrees_with(self, thread: ThreadRef) -> bool:
        """Whether the row has the session and the owner that a call names."""
        is_owners = thread.owner_id in (None, self.owner_id)
        is_sessions = self.session_named and thread.session_id == self.session_id
        return is_owners and (thread.session_id is None or is_sessions)

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


def is_owned(tables: Tables, params: Mapping[str, str] | None = None) -> ColumnElement[bool]:
    """A condition: a call may read a thread.

    Without its parameters, which are `owner_params`, they are those of the statement.
    """

    def given(name: str) -> ColumnElement[str]:
        return bindparam(name, type_=Text()) if params is None else literal(params[name], Text())

    s, t = tables.sessions.c, tables.threads.c
    of_session = select(s.owner_id).where(s.id == t.session_id).correlate(tables.threads)
    owner = func.coalesce(t.owner_id, of_session.scalar_subquery(), given("unowned"))
    return owner == given("owner")


def is_of_owner(tables: Tables, owner_id: str | ColumnElement[str]) -> ColumnElement[bool]:
    """A condition: a call has named this owner of a thread, or none has and its session is his.

    It is what `is_owned` says of a limited call, and indexes find these threads: `is_owned`
    looks at each.
    """
    s, threads = tables.sessions.c, tables.threads.alias()
    t = threads.c
    named = select(t.thread_key).where(t.owner_id == owner_id)
    of_session = (
        select(t.thread_key)
        .join(tables.sessions, s.id == t.session_id)
        .where(s.owner_id == owner_id, t.owner_id.is_(None))
    )
    owned = union_all(named, of_session).subquery()
    return tables.threads.c.thread_key.in_(select(owned.c.thread_key))


def owner_params(owner_id: str | None, *, is_limited: bool) -> dict[str, str]:
    """Parameters of `is_owned`; none without an owner.

    Without a limit a thread that has no owner is everyone's to read.
    """
    if owner_id is None:
        return {}
    return {"owner": owner_id, "unowned": "" if is_limited else owner_id}


def params_of(thread: ThreadRef) -> dict[str, str]:
    """Parameters of `is_owned` for a call that names a thread."""
    return owner_params(thread.owner_id, is_limited=thread.is_limited)


class Threads:
    """Creates, locks, changes and moves threads."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self.tables = tables
        self._dialect = dialect
        t, d = tables, dialect
        thread = select(t.threads).where(t.threads.c.thread_key == bindparam("thread"))
        self._lock_thread = Statement(d.locked(thread, t.threads))
        s = t.sessions.c
        session = select(s.id, s.owner_id, s.status).where(s.id == bindparam("session"))
        self._lock_session = Statement(d.locked(session, t.sessions))
        self._change_thread = Statements(
            updating(update(t.threads)).where(t.threads.c.thread_key == bindparam("key"))
        )
        self._insert_session = Statements(d.insert_ignore(t.sessions, ["id"]))
        self._insert_thread = Statements(d.insert_ignore(t.threads, ["thread_key"]))

    def lock(self, conn: Connection, thread: ThreadRef, at: datetime) -> Head:
        """Lock a thread's row, and create it and its session, as of a time, if they do not exist.

        Raises:
            SessionConflictError: The call names another session than the thread has.
            AccessDeniedError: The thread or its session belongs to another owner.
            SessionDeletedError: The thread is new in its session, and that is soft-deleted.
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
            self._join(conn, thread, session_id)
            is_first = not self._count_in(conn, session_id)
            self._make(conn, thread, session_id, at, is_first=is_first)
            row = self._lock_thread.first(conn, wanted)
        if self._agree(conn, thread, row, at):
            row = self._lock_thread.first(conn, wanted)
        return Head(*(getattr(row, name) for name in Head._fields))

    def lock_existing(self, conn: Connection, thread: ThreadRef) -> Any:
        """Lock and return a thread's row; None if there is none.

        Raises:
            AccessDeniedError: It belongs to another owner.
        """
        row = self._lock_thread.first(conn, {"thread": thread.key})
        if row is not None:
            self._check_owner(conn, thread, row)
        return row

    def check_takes_steps(self, conn: Connection, thread: ThreadRef, session_id: str) -> None:
        """Check that the session of a thread is not soft-deleted, and lock it.

        For a step of many statements, or one that was not stored: the statement that stores a step
        has this as a condition.

        Raises:
            SessionDeletedError: It is soft-deleted.
        """
        row = self._lock_session.first(conn, {"session": session_id})
        if row is not None:
            _refuse_deleted(thread, row)

    def get(self, conn: Connection, thread: ThreadRef) -> Any:
        """As `lock_existing`, without a lock."""
        t = self.tables.threads
        row = conn.execute(select(t).where(t.c.thread_key == thread.key)).one_or_none()
        if row is not None:
            self._check_owner(conn, thread, row)
        return row

    def exists(self, conn: Connection, thread: ThreadRef) -> bool:
        """Whether there is a thread that the call may read."""
        row = self.get(conn, thread._replace(owner_id=None))
        return row is not None and thread.admits(self.owner_of(conn, row))

    def owner_of(self, conn: Connection, row: Any) -> str | None:
        """The owner of a thread: the one that a call has named for it, else its session's."""
        s = self.tables.sessions.c
        of_session = select(s.owner_id).where(s.id == row.session_id)
        owner: str | None = row.owner_id or conn.execute(of_session).scalar()
        return owner

    def _check_owner(self, conn: Connection, thread: ThreadRef, row: Any) -> None:
        """Check that a call may change a thread."""
        is_own = thread.owner_id in (None, row.owner_id)
        if not is_own and not thread.admits(self.owner_of(conn, row)):
            raise AccessDeniedError(
                f"thread {thread.thread_id!r} is not of the owner that this call names: use "
                "another thread_id"
            )

    def _join(self, conn: Connection, thread: ThreadRef, session_id: str) -> None:
        """Lock the session of a new thread; the first call that names an owner sets it."""
        row = self._lock_session.first(conn, {"session": session_id})
        if row is None:
            return
        if not thread.admits(row.owner_id):
            raise AccessDeniedError(
                f"session {session_id!r} is not of the owner that this call names: use another "
                "session_id, and a thread_id that is no other's session"
            )
        _refuse_deleted(thread, row)
        if thread.owner_id is not None and row.owner_id is None:
            self._own_session(conn, session_id, thread.owner_id)

    def _own_session(self, conn: Connection, session_id: str, owner_id: str) -> None:
        """Set a session's owner, if it has none."""
        s = self.tables.sessions
        unowned = update(s).where(s.c.id == session_id, s.c.owner_id.is_(None))
        conn.execute(unowned.values(owner_id=owner_id))

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
        if not is_made:
            return None
        named = thread.session_id is not None
        return Head(session_id, named, thread.owner_id, is_first, None, None, revision, None)

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
            self._check_owner(conn, thread, row)
            changed["owner_id"] = thread.owner_id
            self._own_session(conn, row.session_id, thread.owner_id)
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
        thread = thread._replace(owner_id=thread.owner_id or row.owner_id)
        self._make_session(conn, new, thread.owner_id, at)
        self._join(conn, thread, new)
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

    def get_page(
        self, conn: Connection, after: bytes, limit: int, owner_id: str | None
    ) -> Sequence[Any]:
        """A page of threads, or of an owner's threads, in the order of their keys."""
        t = self.tables.threads
        query = select(t.c.thread_key, t.c.thread_id, t.c.updated_at).order_by(t.c.thread_key)
        query = query.where(t.c.thread_key > after).limit(limit)
        if owner_id is not None:
            query = query.where(is_of_owner(self.tables, owner_id))
        return conn.execute(query).all()

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

        Title, routing and models stay, because the application may have set those. If it has set
        other columns since, all of them stay, but for a state whose values went with the thread.
        """
        s = self.tables.sessions
        is_shown, text = s.c.checkpoint_id.is_not(None), cast(s.c.graph_state, Text)
        refers = or_(*(text.contains(part, autoescape=True) for part in IN_CHECKPOINT))
        cleared = {"build_artifacts": null(), "aesthetic_scores": null(), "build_status": "pending"}
        conn.execute(
            update(s)
            .where(s.c.id == session_id, or_(is_shown, refers))
            # MySQL evaluates in this order, each with what those before have set.
            .ordered_values(
                *(
                    (s.c[name], case((is_shown, to), else_=s.c[name]))
                    for name, to in cleared.items()
                ),
                (s.c.graph_state, None),
                (s.c.checkpoint_id, None),
            )
        )

    def clear_first_title(self, conn: Connection, thread_key: bytes, session_id: str) -> None:
        """Clear the title of a session if it is one of a thread's first messages."""
        s, m = self.tables.sessions, self.tables.messages
        first = (
            select(func.substr(m.c.content, 1, 8_192))  # a reference may have 2,048 characters
            .where(m.c.thread_key == thread_key)
            .order_by(m.c.position, m.c.id)
            .limit(8)
        )
        contents = conn.execute(first).scalars().all()
        titles = {title_of(text) for c in contents for text in (c, without_references(c))}
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

    def note_change(self, conn: Connection, thread_key: bytes) -> None:
        """Give a thread another revision, where what it stores has another form than before."""
        t = self.tables.threads
        conn.execute(
            update(t)
            .where(t.c.thread_key == thread_key)
            .values(revision=t.c.revision + 1, updated_at=t.c.updated_at)
        )

    def of_session(self, conn: Connection, session_id: str) -> Sequence[str]:
        """The ids of the threads of a session."""
        t = self.tables.threads.c
        return conn.execute(select(t.thread_id).where(t.session_id == session_id)).scalars().all()

    def change(self, conn: Connection, thread_key: bytes, values: Mapping[str, Any]) -> None:
        """Update columns of a thread's row, and its revision, which other processes may know."""
        values = {"revision": new_revision(), "updated_at": utc_now(), **values}
        self._change_thread.of(values).run(conn, {"key": thread_key, **values})

    def lock_of_session(self, conn: Connection, session_id: str) -> Sequence[str]:
        """Lock the threads of a session; returns their ids, in order."""
        t = self.tables.threads
        query = select(t.c.thread_id).where(t.c.session_id == session_id).order_by(t.c.thread_id)
        return conn.execute(self._dialect.locked(query, t)).scalars().all()

    def child_tables(self) -> tuple[Table, ...]:
        """The tables of projected rows."""
        t = self.tables
        return t.messages, t.versions, t.token_usage, t.errors

    def drop_empty_session(self, conn: Connection, session_id: str) -> None:
        """Delete a session that the saver created, if it has no thread left."""
        if not self._count_in(conn, session_id):
            t = self.tables.sessions
            conn.execute(delete(t).where(t.c.id == session_id, t.c.made_by_saver.is_(True)))


def _refuse_deleted(thread: ThreadRef, session: Any) -> None:
    if session.status == DELETED:
        raise SessionDeletedError(
            f"session {session.id!r} of thread {thread.thread_id!r} is soft-deleted and takes no "
            "more steps: restore it with sessions.update(session_id, status=None), or use another "
            "session and thread. Nothing was written"
        )
