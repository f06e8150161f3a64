"""The statements over all threads: which there are, what takes the space, what is damaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, LargeBinary, Select, and_, func, select

from langgraph_session_saver.inspection.lookups import BEYOND
from langgraph_session_saver.tables import Tables
from langgraph_session_saver.types import KEY_BYTES
from langgraph_session_saver.written import CHANGED

_CHECKPOINT = ("thread_key", "ns_key", "checkpoint_id")
"""What names a checkpoint."""


class Overview:
    """Reads rows of many threads."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    # -- by the start of an id ------------------------------------------------------------------

    def threads_starting_with(self, conn: Connection, prefix: str, limit: int) -> list[str]:
        """Ids of threads that start so, in order: a whole id comes first."""
        return _starting_with(conn, self._tables.threads.c.thread_id, prefix, limit)

    def sessions_starting_with(self, conn: Connection, prefix: str, limit: int) -> list[str]:
        """Ids of sessions that start so, in order: a whole id comes first."""
        return _starting_with(conn, self._tables.sessions.c.id, prefix, limit)

    # -- lists ----------------------------------------------------------------------------------

    def threads(
        self,
        conn: Connection,
        *,
        session_id: str | None = None,
        owner_id: str | None = None,
        status: str | None = None,
        limit: int,
    ) -> tuple[int, Sequence[Any]]:
        """How many threads there are, and the last that something was written to."""
        t, c = self._tables.threads.c, self._tables.checkpoints.c
        wanted = _equal({t.session_id: session_id, t.owner_id: owner_id, t.status: status})
        checkpoints = (
            select(func.count())
            .where(c.thread_key == t.thread_key, c.hidden.is_(False))
            .scalar_subquery()
        )
        query = select(
            t.thread_id, t.session_id, t.owner_id, t.status, t.status_node, t.status_step,
            t.created_at, t.updated_at, checkpoints.label("checkpoints"),
        )  # fmt: skip
        newest = query.where(*wanted).order_by(t.updated_at.desc(), t.thread_id).limit(limit)
        return _count(conn, select(t.thread_key).where(*wanted)), conn.execute(newest).all()

    # -- space ----------------------------------------------------------------------------------

    def channels_by_bytes(self, conn: Connection, limit: int) -> Sequence[Any]:
        """Channels by the bytes of their stored values: whole ones, and changes."""
        b = self._tables.blobs.c
        stored = func.sum(func.length(b.data))
        query = (
            select(
                b.channel,
                func.count().label("versions"),
                func.count(b.base_key).label("changes"),
                stored.label("bytes"),
            )
            .group_by(b.channel)
            .order_by(stored.desc(), b.channel)
        )
        return conn.execute(query.limit(limit)).all()

    def threads_by_bytes(self, conn: Connection, limit: int) -> Sequence[Any]:
        """Threads by the bytes of their stored values."""
        t, b = self._tables.threads.c, self._tables.blobs.c
        stored = func.sum(func.length(b.data))
        sizes = (
            select(b.thread_key, func.count().label("versions"), stored.label("bytes"))
            .group_by(b.thread_key)
            .order_by(stored.desc())
            .limit(limit)
            .subquery()
        )
        query = (
            select(t.thread_id, sizes.c.versions, sizes.c.bytes)
            .join(sizes, sizes.c.thread_key == t.thread_key)
            .order_by(sizes.c.bytes.desc(), t.thread_id)
        )
        return conn.execute(query).all()

    # -- damage ---------------------------------------------------------------------------------

    def faults(self, conn: Connection) -> list[tuple[str, int, str]]:
        """What was looked for, how much of it there is, and in words."""
        t, b = self._tables, self._tables.blobs
        base = b.alias("base")
        orphans = (
            select(b.c.blob_key)
            .outerjoin(
                base,
                and_(base.c.thread_key == b.c.thread_key, base.c.blob_key == b.c.base_key),
            )
            .where(b.c.base_key.is_not(None), base.c.blob_key.is_(None))
        )
        w, c = t.writes.c, t.checkpoints.c
        kind = func.substr(w.data, 1, 1, type_=LargeBinary)
        held = func.substr(w.data, 2, KEY_BYTES, type_=LargeBinary)
        # Of checkpoints that are there: nobody reads the others' writes.
        of_checkpoint = [getattr(c, name) == getattr(w, name) for name in _CHECKPOINT]
        unreadable = (
            select(w.task_id)
            .join(t.checkpoints, and_(*of_checkpoint))
            .outerjoin(base, and_(base.c.thread_key == w.thread_key, base.c.blob_key == held))
            .where(kind == bytes((CHANGED,)), base.c.blob_key.is_(None))
        )
        threadless = (
            select(t.checkpoints.c.checkpoint_id)
            .outerjoin(t.threads, t.threads.c.thread_key == t.checkpoints.c.thread_key)
            .where(t.threads.c.thread_key.is_(None))
        )
        sessionless = (
            select(t.threads.c.thread_key)
            .outerjoin(t.sessions, t.sessions.c.id == t.threads.c.session_id)
            .where(t.sessions.c.id.is_(None))
        )
        return [
            ("stored values", _count(conn, orphans), "changes of a value that is gone"),
            ("writes", _count(conn, unreadable), "changes of a value that is gone"),
            ("checkpoints", _count(conn, threadless), "checkpoints without their thread"),
            ("threads", _count(conn, sessionless), "threads without their session"),
        ]


def _starting_with(conn: Connection, column: Column[Any], prefix: str, limit: int) -> list[str]:
    query = select(column).where(column >= prefix, column < prefix + BEYOND)
    query = query.order_by(column).limit(None if limit < 0 else limit)
    return list(conn.execute(query).scalars())


def _equal(wanted: dict[Column[Any], Any]) -> list[Any]:
    return [column == value for column, value in wanted.items() if value is not None]


def _count(conn: Connection, query: Select[Any]) -> int:
    return int(conn.execute(select(func.count()).select_from(query.subquery())).scalar_one())
