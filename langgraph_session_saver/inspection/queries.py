"""The statements behind `history` and `diff`: facts about rows, and sizes without the values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Column, Connection, LargeBinary, Row, Select, and_, case, func, select

from langgraph_session_saver.encoding.delta import read_number, target_length, unpack
from langgraph_session_saver.encoding.framing import RAW, unframe
from langgraph_session_saver.encoding.keys import KEY_BYTES
from langgraph_session_saver.encoding.task_writes import CHANGED
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.compiled import batches

HEAD = 11
"""Bytes at a frame's start that say how long its content is."""

BEYOND = "\U0010ffff"
"""Sorts after whatever an id goes on with."""


class Lookups:
    """Reads what is said of a thread; values are measured where they are."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def page(
        self, conn: Connection, thread_key: bytes, ns_key: bytes, before: str | None, limit: int
    ) -> Sequence[Row[Any]]:
        """Checkpoints of a namespace, newest first."""
        c = self.tables.checkpoints
        query = select(c).where(
            c.c.thread_key == thread_key, c.c.ns_key == ns_key, c.c.hidden.is_(False)
        )
        if before is not None:
            query = query.where(c.c.checkpoint_id < before)
        return conn.execute(query.order_by(c.c.checkpoint_id.desc()).limit(limit)).all()

    def named(
        self, conn: Connection, thread_key: bytes, ns_key: bytes, ids: Iterable[str]
    ) -> list[Row[Any]]:
        """Checkpoints of a namespace by id, hidden ones too."""
        c = self.tables.checkpoints
        found: list[Row[Any]] = []
        for batch in batches(sorted(ids)):
            query = select(c).where(
                c.c.thread_key == thread_key, c.c.ns_key == ns_key, c.c.checkpoint_id.in_(batch)
            )
            found += conn.execute(query)
        return found

    def starting_with(
        self, conn: Connection, thread_key: bytes, ns_key: bytes, prefix: str, limit: int
    ) -> Sequence[Row[Any]]:
        """Listed checkpoints of a namespace whose ids start so, the shortest id first."""
        c = self.tables.checkpoints
        query = select(c).where(
            c.c.thread_key == thread_key,
            c.c.ns_key == ns_key,
            c.c.hidden.is_(False),
            c.c.checkpoint_id >= prefix,
            c.c.checkpoint_id < prefix + BEYOND,
        )
        return conn.execute(query.order_by(c.c.checkpoint_id).limit(limit)).all()

    def write_facts(
        self, conn: Connection, thread_key: bytes, ns_key: bytes, ids: Sequence[str]
    ) -> dict[str, list[Row[Any]]]:
        """By checkpoint, its writes without what was written: only how many bytes that takes."""
        w = self.tables.writes.c
        stored = func.length(w.data).label("stored")
        facts: list[Any] = [w.checkpoint_id, w.task_id, w.idx, w.task_path, w.channel, stored]
        found: dict[str, list[Row[Any]]] = {}
        for batch in batches(ids):
            query = select(*facts).where(
                w.thread_key == thread_key, w.ns_key == ns_key, w.checkpoint_id.in_(batch)
            )
            for row in conn.execute(query):
                found.setdefault(row.checkpoint_id, []).append(row)
        return found

    def writes_to(
        self,
        conn: Connection,
        thread_key: bytes,
        ns_key: bytes,
        ids: Sequence[str],
        channels: Sequence[str],
    ) -> list[Row[Any]]:
        """The writes of checkpoints to some channels."""
        w = self.tables.writes
        found: list[Row[Any]] = []
        for batch in batches(ids):
            query = select(w).where(
                w.c.thread_key == thread_key,
                w.c.ns_key == ns_key,
                w.c.checkpoint_id.in_(batch),
                w.c.channel.in_(channels),
            )
            found += conn.execute(query)
        return found

    def writes_of(
        self, conn: Connection, thread_key: bytes, ns_key: bytes, checkpoint_id: str
    ) -> Sequence[Row[Any]]:
        """All writes of a checkpoint."""
        w = self.tables.writes
        query = select(w).where(
            w.c.thread_key == thread_key,
            w.c.ns_key == ns_key,
            w.c.checkpoint_id == checkpoint_id,
        )
        return conn.execute(query).all()

    def sizes(
        self, conn: Connection, thread_key: bytes, keys: Iterable[bytes]
    ) -> dict[bytes, tuple[int | None, int]]:
        """By blob, the bytes of the value that it stands for, and those that it takes.

        Of a whole value only the first bytes are fetched; of a change all, for it says in its
        parts how long what it leads to is.
        """
        b = self.tables.blobs.c
        head = func.substr(b.data, 1, HEAD, type_=LargeBinary)
        told = case((b.base_key.is_(None), head), else_=b.data).label("told")
        found: dict[bytes, tuple[int | None, int]] = {}
        for batch in batches(sorted(keys)):
            query = select(
                b.blob_key, b.base_key, func.length(b.data).label("stored"), told
            ).where(b.thread_key == thread_key, b.blob_key.in_(batch))  # fmt: skip
            for row in conn.execute(query):
                found[row.blob_key] = (_size(row), row.stored)
        return found

    def has_thread(self, conn: Connection, thread_key: bytes) -> bool:
        """Whether there is such a thread."""
        t = self.tables.threads.c
        query = select(t.thread_id).where(t.thread_key == thread_key)
        return conn.execute(query).first() is not None

    def namespaces(self, conn: Connection, thread_key: bytes, limit: int) -> list[str]:
        """Namespaces of a thread that hold checkpoints."""
        c = self.tables.checkpoints.c
        query = (
            select(c.ns_key, func.max(c.checkpoint_id).label("newest"))
            .where(c.thread_key == thread_key, c.hidden.is_(False))
            .group_by(c.ns_key)
            .order_by(func.max(c.checkpoint_id).desc())
            .limit(limit)
            .subquery()
        )
        named = select(c.checkpoint_ns).join(
            query, (c.ns_key == query.c.ns_key) & (c.checkpoint_id == query.c.newest)
        )
        return list(conn.execute(named.where(c.thread_key == thread_key)).scalars())

    def elsewhere(self, conn: Connection, checkpoint_id: str) -> Any:
        """Any checkpoint with this id, in whatever thread and namespace: looks through all."""
        c = self.tables.checkpoints.c
        query = select(c.thread_key, c.checkpoint_ns).where(c.checkpoint_id == checkpoint_id)
        return conn.execute(query.limit(1)).first()


def _size(row: Any) -> int | None:
    """Bytes of the value that a blob stands for; None where its bytes do not say."""
    told = bytes(row.told)
    try:
        if row.base_key is not None:
            return target_length(unpack(unframe(told)))
        if told[:1] == bytes((RAW,)):
            return int(row.stored) - 1
        return read_number(told, 1)[0]
    except ValueError:
        return None


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
