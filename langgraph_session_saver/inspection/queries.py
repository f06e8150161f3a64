"""SQL queries behind `history`, `diff`, `show` and the command line's lists and reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from langgraph_session_saver.encoding.chains import CHANGED
from langgraph_session_saver.encoding.delta import target_length, unpack
from langgraph_session_saver.encoding.framing import RAW, unframe, unpacked_size
from langgraph_session_saver.encoding.keys import KEY_BYTES, Place, thread_key
from langgraph_session_saver.encoding.pieces import (
    HEAD_BYTES,
    IN_PIECES,
    is_in_pieces,
    length_of,
)
from langgraph_session_saver.schema.tables import PIECE_DEPTH, Tables
from langgraph_session_saver.sql.compiled import batches
from langgraph_session_saver.storage.pieces import LOWEST_IDX, write_of_piece
from langgraph_session_saver.storage.storage import Storage
from langgraph_session_saver.storage.threads import is_owned, params_of


class NamespaceQueries:
    """Queries on one namespace of a thread."""

    def __init__(self, storage: Storage, place: Place) -> None:
        self._tables, self._checkpoints = storage.tables, storage.checkpoints
        self._thread, self._ns_key = place.thread, place.ns_key
        self._thread_key = place.thread.key

    def starting_with(self, conn: sa.Connection, prefix: str, limit: int) -> Sequence[sa.Row[Any]]:
        """Listed checkpoints whose ids start with a prefix, in the order of their ids."""
        c = self._tables.checkpoints
        query = sa.select(c).where(
            *self._here(c), c.c.hidden.is_(False), _starts_with(c.c.checkpoint_id, prefix)
        )
        return conn.execute(query.order_by(c.c.checkpoint_id).limit(limit)).all()

    def checkpoints(self, conn: sa.Connection, ids: Iterable[str]) -> list[sa.Row[Any]]:
        """Checkpoints by id, hidden ones included."""
        c = self._tables.checkpoints
        query = sa.select(c).where(*self._here(c))
        return _in_batches(conn, query, c.c.checkpoint_id, sorted(ids))

    def write_sizes(self, conn: sa.Connection, ids: Sequence[str]) -> dict[str, list[sa.Row[Any]]]:
        """By checkpoint id, the rows of writes with their stored size instead of their data.

        A write in pieces has several rows, which differ in `idx` and size only.
        """
        w = self._tables.writes
        query = sa.select(
            w.c.checkpoint_id, w.c.task_id, w.c.idx, w.c.task_path, w.c.channel,
            sa.func.length(w.c.data).label("stored"),
        ).where(*self._here(w))  # fmt: skip
        found: dict[str, list[sa.Row[Any]]] = {}
        for row in _in_batches(conn, query, w.c.checkpoint_id, ids):
            found.setdefault(row.checkpoint_id, []).append(row)
        return found

    def value_sizes(
        self, conn: sa.Connection, keys: Iterable[bytes]
    ) -> dict[bytes, tuple[int | None, int]]:
        """By key, the bytes of the serialised value, None if unknown, and the bytes stored for it.

        Of a whole value only the frame's head is fetched. A change is fetched whole, because the
        length of the value that it makes is the sum of its parts.
        """
        b = self._tables.blobs.c
        # With the lengths of the content, and of all pieces.
        head = sa.func.substr(b.data, 1, HEAD_BYTES + 11, type_=sa.LargeBinary)
        query = sa.select(
            b.blob_key,
            b.base_key,
            sa.func.length(b.data).label("stored"),
            sa.case((b.base_key.is_(None), head), else_=b.data).label("start"),
        ).where(b.thread_key == self._thread_key)
        sizes: dict[bytes, tuple[int | None, int]] = dict.fromkeys(keys, (None, 0))
        for row in _in_batches(conn, query, b.blob_key, sorted(keys)):
            key, stored = row.blob_key, row.stored
            data = bytes(row.start or b"")  # SQLite: NULL of an empty value
            try:
                if row.base_key is not None:
                    here = {"thread_key": self._thread_key, "blob_key": key, "data": data}
                    data = self._checkpoints.joined(conn, here)
                    sizes[key] = target_length(unpack(unframe(data))), length_of(data)
                elif is_in_pieces(data):
                    sizes[key] = unpacked_size(data), length_of(data)
                elif data[:1] == bytes((RAW,)):
                    sizes[key] = stored - 1, stored
                else:
                    sizes[key] = unpacked_size(data), stored
            except (ValueError, LookupError):
                sizes[key] = None, stored
        return sizes

    def namespaces(self, conn: sa.Connection, limit: int) -> list[str]:
        """Namespaces of the thread that have checkpoints."""
        c = self._tables.checkpoints.c
        query = sa.select(c.checkpoint_ns).where(
            c.thread_key == self._thread_key, c.hidden.is_(False)
        )
        return list(conn.execute(query.distinct().limit(limit)).scalars())

    def anywhere(self, conn: sa.Connection, checkpoint_id: str) -> Any:
        """A checkpoint with this id in any thread and namespace; scans the table."""
        c = self._tables.checkpoints.c
        query = sa.select(c.thread_key, c.checkpoint_ns).where(c.checkpoint_id == checkpoint_id)
        return conn.execute(query.limit(1)).first()

    def _here(self, table: sa.Table) -> list[sa.ColumnElement[bool]]:
        here = [table.c.thread_key == self._thread_key, table.c.ns_key == self._ns_key]
        if self._thread.owner_id is not None:
            t = self._tables.threads.c
            its = sa.select(t.thread_key).where(t.thread_key == self._thread_key)
            here.append(its.where(is_owned(self._tables, params_of(self._thread))).exists())
        return here


def _in_batches(
    conn: sa.Connection, query: sa.Select[Any], column: sa.ColumnElement[Any], values: Sequence[Any]
) -> list[sa.Row[Any]]:
    """Run a query for the rows whose column has one of many values."""
    found: list[sa.Row[Any]] = []
    for batch in batches(values):
        found += conn.execute(query.where(column.in_(batch)))
    return found


class DatabaseQueries:
    """Queries on all threads of a database."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def ids(
        self,
        conn: sa.Connection,
        what: Literal["thread", "session"],
        prefix: str,
        limit: int | None = None,
    ) -> list[str]:
        """Ids of threads or sessions that start with a prefix, in order: an exact match first."""
        t = self._tables
        column = t.threads.c.thread_id if what == "thread" else t.sessions.c.id
        query = sa.select(column).where(_starts_with(column, prefix)).order_by(column).limit(limit)
        return list(conn.execute(query).scalars())

    def count_threads(self, conn: sa.Connection, *conditions: sa.ColumnElement[bool]) -> int:
        """The number of threads that meet the conditions."""
        return _count(conn, self._tables.threads, *conditions)

    def count_checkpoints(self, conn: sa.Connection, thread_ids: Iterable[str]) -> dict[str, int]:
        """The number of listed checkpoints by thread id."""
        t, c = self._tables.threads.c, self._tables.checkpoints.c
        ids = list(thread_ids)
        query = sa.select(t.thread_id, sa.func.count().label("checkpoints")).group_by(t.thread_id)
        query = query.where(c.thread_key == t.thread_key, c.hidden.is_(False))
        found = _in_batches(conn, query, t.thread_key, [thread_key(one) for one in ids])
        return dict.fromkeys(ids, 0) | {row.thread_id: row.checkpoints for row in found}

    def channels_by_bytes(self, conn: sa.Connection, limit: int) -> Sequence[Any]:
        """The channels whose values take the most bytes, with counts of versions and changes."""
        b = self._tables.blobs.c
        is_change = sa.case((b.depth > 0, 1))
        query = sa.select(b.channel, sa.func.count(is_change).label("changes"))
        return self._by_bytes(conn, query, b.channel, limit)

    def threads_by_bytes(self, conn: sa.Connection, limit: int) -> Sequence[Any]:
        """The threads whose values take the most bytes."""
        t, b = self._tables.threads, self._tables.blobs
        query = sa.select(t.c.thread_id).join_from(t, b, b.c.thread_key == t.c.thread_key)
        return self._by_bytes(conn, query, t.c.thread_id, limit)

    def _by_bytes(
        self, conn: sa.Connection, query: sa.Select[Any], group: sa.ColumnElement[str], limit: int
    ) -> Sequence[Any]:
        """Group blobs, and count and measure them; the largest group first."""
        b = self._tables.blobs.c
        is_value = sa.case((b.depth != PIECE_DEPTH, 1))
        stored = sa.func.sum(sa.func.length(b.data))
        query = query.add_columns(sa.func.count(is_value).label("versions"), stored.label("bytes"))
        return conn.execute(query.group_by(group).order_by(stored.desc(), group).limit(limit)).all()

    def costs_by_model(self, conn: sa.Connection) -> Sequence[Any]:
        """The models that were called, with the most tokens and the highest cost of a call."""
        u = self._tables.token_usage.c
        tokens, cost = sa.func.max(u.total_tokens), sa.func.max(u.cost_usd)
        query = sa.select(u.model, tokens.label("tokens"), cost.label("cost"))
        return conn.execute(query.group_by(u.model).order_by(u.model)).all()

    def find_damage(self, conn: sa.Connection) -> list[tuple[str, int, str]]:
        """Count rows whose other half is missing: where, how many, and what they are."""
        t = self._tables
        b, w, c = t.blobs.c, t.writes.c, t.checkpoints.c
        base = t.blobs.alias("base").c
        write_base = sa.func.substr(w.data, 2, KEY_BYTES, type_=sa.LargeBinary)
        is_change = sa.func.substr(w.data, 1, 1, type_=sa.LargeBinary) == bytes((CHANGED,))
        checkpoint = sa.exists().where(  # writes without a checkpoint are never read
            c.thread_key == w.thread_key,
            c.ns_key == w.ns_key,
            c.checkpoint_id == w.checkpoint_id,
        )
        with_base = sa.exists().where(base.thread_key == b.thread_key, base.blob_key == b.base_key)
        with_blob = sa.exists().where(b.thread_key == w.thread_key, b.blob_key == write_base)
        with_thread = sa.exists().where(t.threads.c.thread_key == c.thread_key)
        with_session = sa.exists().where(t.sessions.c.id == t.threads.c.session_id)
        # Of the links of a cycle, one has a base that is not nearer to a whole value.
        is_nearer = base.depth < b.depth
        with_end = sa.exists().where(
            base.thread_key == b.thread_key, base.blob_key == b.base_key, is_nearer
        )
        baseless, is_piece = "changes whose base value is missing", b.depth == PIECE_DEPTH
        faults = (
            ("stored values", t.blobs, b.base_key.is_not(None) & ~with_base & ~is_piece, baseless),
            (
                "chains",
                t.blobs,
                with_base & ~with_end & ~is_piece,
                "changes that lead to no whole value",
            ),
            ("writes", t.writes, is_change & checkpoint & ~with_blob, baseless),
            ("checkpoints", t.checkpoints, ~with_thread, "checkpoints without a thread"),
            ("threads", t.threads, ~with_session, "threads without a session"),
        )
        found = [(what, _count(conn, table, is_one), said) for what, table, is_one, said in faults]
        return [*found, ("pieces", self._count_incomplete(conn), "values without all their pieces")]

    def _count_incomplete(self, conn: sa.Connection) -> int:
        """The number of values in pieces, in blobs and in writes, that lack some of their bytes."""
        missing: Counter[tuple[Any, ...]] = Counter()
        b, w = self._tables.blobs.c, self._tables.writes.c
        write = (w.thread_key, w.ns_key, w.checkpoint_id, w.task_id, w.idx)
        for table, key in ((b, (b.thread_key, b.blob_key)), (w, write)):
            kind = sa.func.substr(table.data, 1, 1, type_=sa.LargeBinary)
            head = sa.func.substr(table.data, 1, HEAD_BYTES, type_=sa.LargeBinary)
            heads = sa.select(*key, head, sa.func.length(table.data))
            for *its, first, stored in conn.execute(heads.where(kind == bytes((IN_PIECES,)))):
                missing[tuple(its)] += length_of(first) + HEAD_BYTES - stored
        of_blobs = sa.select(b.thread_key, b.base_key, sa.func.length(b.data) - 1)
        for *its, size in conn.execute(of_blobs.where(b.depth == PIECE_DEPTH)):
            missing[tuple(its)] -= size
        of_writes = sa.select(*write, sa.func.length(w.data) - 1)
        for *its, idx, size in conn.execute(of_writes.where(w.idx < LOWEST_IDX)):
            missing[*its, write_of_piece(idx)] -= size
        return sum(left > 0 for left in missing.values())


def _starts_with(column: sa.ColumnElement[str], prefix: str) -> sa.ColumnElement[bool]:
    return (column >= prefix) & (column < prefix + "\U0010ffff")  # after every other character


def _count(conn: sa.Connection, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> int:
    query = sa.select(sa.func.count()).select_from(table).where(*conditions)
    return int(conn.execute(query).scalar_one())
