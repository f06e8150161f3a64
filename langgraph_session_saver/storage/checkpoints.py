"""Statements on checkpoints, their blobs and their writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import sqlalchemy as sa

from langgraph_session_saver.encoding.keys import CheckpointKey
from langgraph_session_saver.encoding.pieces import PIECE_BYTES, is_in_pieces, is_intact, join
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.compiled import Statement, batches
from langgraph_session_saver.sql.runner import BrokenReferenceError
from langgraph_session_saver.storage.batch import Batch, RevisionCheck, Upsert, WritesCheck
from langgraph_session_saver.storage.in_turn import InTurn
from langgraph_session_saver.storage.parameters import Rows, list_binds, list_params, padded
from langgraph_session_saver.storage.pieces import (
    AT_ONCE,
    HIGHEST_IDX,
    LOWEST_IDX,
    PieceRows,
    blob_piece_keys,
    cut_blob,
    cut_write,
    fetched,
    write_piece_numbers,
)
from langgraph_session_saver.storage.threads import is_of_owner, is_owned

_CHECKPOINT_KEY = ("thread_key", "ns_key", "checkpoint_id")

_OF_TASK: Sequence[str] = (*_CHECKPOINT_KEY, "task_id")
_OF_BLOB: Sequence[str] = ("thread_key",)
"""What the pieces of a write, and of a blob, have in common with it."""

BlobKey = tuple[bytes, bytes]
"""Thread key and blob key."""


class ParentGoneError(Exception):
    """A step's parent checkpoint was deleted while the step ran."""


@dataclass(slots=True)
class CheckpointRows:
    """The rows that one `put` stores."""

    checkpoint: dict[str, Any]
    most_bytes: int = PIECE_BYTES
    """The bytes that a row may take."""
    blobs: list[dict[str, Any]] = field(default_factory=list)
    pieces: list[PieceRows] = field(default_factory=list)
    """Of the blobs that are larger."""
    needs_parent: bool = True
    """Whether these are only the channels that changed."""

    def add_blob(self, row: dict[str, Any]) -> None:
        """Add a blob, in pieces if it is large."""
        if len(row["data"]) > self.most_bytes:
            row, pieces = cut_blob(row, self.most_bytes)
            self.pieces.append(pieces)
        self.blobs.append(row)

    def bases(self) -> dict[bytes, tuple[bytes | None, int]]:
        """The blobs and their pieces, as `retention.policy.Bases`."""
        blobs = {row["blob_key"]: (row["base_key"], row["depth"]) for row in self.blobs}
        pieces = {
            key: (rows.row["base_key"], rows.row["depth"])
            for rows in self.pieces
            for key in rows.values
        }
        return blobs | pieces


class Checkpoints:
    """Stores and reads checkpoints, their blobs and their writes."""

    def __init__(self, tables: Tables, batches: InTurn) -> None:
        self._tables = t = tables
        self._batches = batches

        columns = tuple(t.blobs.c.keys())
        self._upsert_blobs = Upsert(t.blobs, ("thread_key", "blob_key"), columns, large="data")
        columns = tuple(t.checkpoints.c.keys())
        replaced = tuple(name for name in columns if name not in _CHECKPOINT_KEY)
        self._upsert_checkpoint = Upsert(
            t.checkpoints, _CHECKPOINT_KEY, columns, replaced, large="data"
        )
        columns = tuple(t.writes.c.keys())
        write_key = (*_CHECKPOINT_KEY, "task_id", "idx")
        self._insert_writes = Upsert(t.writes, write_key, columns, large="data")
        replaced = ("channel", "type", "data", "task_path")
        self._replace_writes = Upsert(t.writes, write_key, columns, replaced, large="data")

        self._select = cache(self._build_select)
        self._select_chains = cache(self._build_chains)
        self._select_blob_keys = cache(self._build_blob_keys)
        self._select_writes = cache(self._build_writes)
        self._select_page = cache(self._build_page)
        self._select_blob_pieces = _select_pieces(t.blobs, _OF_BLOB, "blob_key")
        self._select_write_pieces = _select_pieces(t.writes, _OF_TASK, "idx")

    # -- writing ----------------------------------------------------------------------------

    def put(
        self, conn: sa.Connection, rows: CheckpointRows, revision: int, values: dict[str, Any]
    ) -> None:
        """Store a checkpoint with its blobs, and new values of its thread's row, which is locked.

        Raises:
            ParentGoneError: The parent does not exist and the rows hold only what changed.
            BrokenReferenceError: The base of a delta does not exist.
        """
        batch = self.put_batch(rows, revision, values)
        if not self._batches.run(conn, batch):
            check = batch.revision_check
            if check and check.parent and not self.get(conn, check.thread_key, *check.parent):
                raise ParentGoneError
            raise BrokenReferenceError("a value that a step stores a delta of was deleted")

    def put_batch(self, rows: CheckpointRows, revision: int, values: dict[str, Any]) -> Batch:
        """A batch that stores a checkpoint with its blobs, and new values of its thread's row.

        Args:
            rows: The checkpoint and the blobs.
            revision: The revision that the thread's row must have.
            values: The new values.
        """
        row = rows.checkpoint
        parent_id = row["parent_checkpoint_id"] if rows.needs_parent else None
        parent = None if parent_id is None else (row["ns_key"], parent_id)
        bases = [blob["base_key"] for blob in rows.blobs if blob["base_key"] is not None]
        check = RevisionCheck(row["thread_key"], revision, values, parent, bases)
        blobs = [(self._upsert_blobs, some) for some in (*rows.pieces, rows.blobs) if some]
        upserts = [*blobs, (self._upsert_checkpoint, [row])]
        return Batch(upserts, check, most_bytes=rows.most_bytes)

    def writes_batch(
        self,
        regular: Iterable[dict[str, Any]],
        special: Iterable[dict[str, Any]],
        check: WritesCheck,
        most_bytes: int,
    ) -> Batch:
        """A batch that stores a task's writes.

        Args:
            regular: Writes that stay if they exist.
            special: Writes that are replaced if they exist.
            check: Conditions without which none is stored.
            most_bytes: The bytes that a row may take; larger writes are stored in pieces.
        """
        upserts: list[tuple[Upsert, Rows]] = []
        for upsert, writes in ((self._insert_writes, regular), (self._replace_writes, special)):
            rows = []
            for row in writes:
                if len(row["data"]) > most_bytes and row["idx"] < HIGHEST_IDX:
                    row, pieces = cut_write(row, most_bytes)  # noqa: PLW2901
                    upserts.append((upsert, pieces))
                rows.append(row)
            if rows:
                upserts.append((upsert, rows))
        return Batch(upserts, writes_check=check, most_bytes=most_bytes)

    # -- reading ----------------------------------------------------------------------------

    def get(
        self,
        conn: sa.Connection,
        thread_key: bytes,
        ns_key: bytes,
        checkpoint_id: str | None,
        owner: Mapping[str, str] = {},
    ) -> Sequence[sa.Row[Any]]:
        """Read a checkpoint, or the newest one: a row for each of its writes, or one without.

        `owner` are the `owner_params` of a call that may not read every thread.
        """
        params: dict[str, Any] = {"thread": thread_key, "ns": ns_key, **owner}
        if checkpoint_id is not None:
            params["checkpoint"] = checkpoint_id
        select = self._select(checkpoint_id is None, bool(owner))
        its = {"thread_key": thread_key, "ns_key": ns_key}
        return _again_unless_intact(
            lambda: [self._whole(conn, row, "write_data", its) for row in select.all(conn, params)]
        )

    def _build_select(self, newest: bool, of_owner: bool) -> Statement:  # noqa: FBT001
        """Select a checkpoint and its writes in one round trip."""
        t, w = self._tables.checkpoints, self._tables.writes.c
        one = sa.select(t).where(
            t.c.thread_key == sa.bindparam("thread"), t.c.ns_key == sa.bindparam("ns")
        )
        if of_owner:
            one = one.where(self._is_owned(sa.bindparam("thread")))
        if newest:
            one = one.where(t.c.hidden.is_(False)).order_by(t.c.checkpoint_id.desc())
            one = one.limit(sa.literal_column("1")).offset(sa.literal_column("0"))
        else:
            one = one.where(t.c.checkpoint_id == sa.bindparam("checkpoint"))
        found = one.subquery("found")
        c = found.c
        is_its = sa.and_(
            w.thread_key == c.thread_key,
            w.ns_key == c.ns_key,
            w.checkpoint_id == c.checkpoint_id,
            _is_write(w.idx),
        )
        return Statement(
            sa.select(
                c.checkpoint_id, c.parent_checkpoint_id, c.root_checkpoint_id, c.refs, c.type,
                c.data, c.metadata_type, c.metadata_data, *self._of_write(),
            ).outerjoin_from(found, self._tables.writes, is_its)
        )  # fmt: skip

    def _is_owned(self, thread_key: Any) -> sa.ColumnElement[bool]:
        """A condition: a call may read a thread."""
        t = self._tables.threads.c
        its = sa.select(t.thread_key).where(t.thread_key == thread_key, is_owned(self._tables))
        return its.exists()

    def _of_write(self) -> Sequence[sa.ColumnElement[Any]]:
        """The columns of a write, named unlike those of its checkpoint."""
        w = self._tables.writes.c
        kind, data = w.type.label("write_type"), w.data.label("write_data")
        return w.task_id, w.idx, w.task_path, w.channel, kind, data

    def get_chains(
        self, conn: sa.Connection, keys: Iterable[BlobKey]
    ) -> dict[BlobKey, sa.Row[Any]]:
        """Read blobs, and all blobs that they are deltas of."""
        rows = _select_each(conn, self._select_chains, keys)
        return {(row.thread_key, row.blob_key): self._whole(conn, row, "data") for row in rows}

    def _build_chains(self, threads: int, keys: int) -> Statement:
        b = self._tables.blobs
        links = (
            sa.select(b.c.thread_key, b.c.blob_key, b.c.base_key)
            .where(*_is_each(b.c.thread_key, threads, b.c.blob_key, keys))
            .cte("links", recursive=True)
        )
        base = b.alias("base")
        chain = links.union(
            sa.select(base.c.thread_key, base.c.blob_key, base.c.base_key).join(
                links,
                sa.and_(
                    base.c.thread_key == links.c.thread_key, base.c.blob_key == links.c.base_key
                ),
            )
        )
        in_chain = sa.and_(b.c.thread_key == chain.c.thread_key, b.c.blob_key == chain.c.blob_key)
        return Statement(sa.select(b).join(chain, in_chain))

    def existing_blobs(self, conn: sa.Connection, keys: Iterable[BlobKey]) -> set[BlobKey]:
        """The keys under which there are blobs."""
        return {tuple(row) for row in _select_each(conn, self._select_blob_keys, keys)}

    def _build_blob_keys(self, threads: int, keys: int) -> Statement:
        b = self._tables.blobs.c
        found = sa.select(b.thread_key, b.blob_key)
        return Statement(found.where(*_is_each(b.thread_key, threads, b.blob_key, keys)))

    def get_writes(
        self, conn: sa.Connection, checkpoints: Iterable[sa.Row[Any]]
    ) -> dict[CheckpointKey, list[sa.Row[Any]]]:
        """Read the writes of several checkpoints."""
        keys = {(row.thread_key, row.checkpoint_id) for row in checkpoints}
        rows = _again_unless_intact(
            lambda: [
                self._whole(conn, row, "write_data")
                for row in _select_each(conn, self._select_writes, keys)
            ]
        )
        found: dict[CheckpointKey, list[sa.Row[Any]]] = {}
        for row in rows:
            key = CheckpointKey(row.thread_key, row.ns_key, row.checkpoint_id)
            found.setdefault(key, []).append(row)
        return found

    def _build_writes(self, threads: int, checkpoints: int) -> Statement:
        w = self._tables.writes.c
        is_each = _is_each(w.thread_key, threads, w.checkpoint_id, checkpoints)
        columns = (w.thread_key, w.ns_key, w.checkpoint_id, *self._of_write())
        return Statement(sa.select(*columns).where(*is_each, _is_write(w.idx)))

    def get_ancestors(
        self,
        conn: sa.Connection,
        thread_key: bytes,
        ns_key: bytes,
        start: str | None,
        limit: int,
        owner: Mapping[str, str],
    ) -> list[sa.Row[Any]]:
        """Read a checkpoint (the newest, if none is named) and its ancestors, newest first.

        `owner` is as for `get`.
        """
        c = self._tables.checkpoints
        of_namespace = (c.c.thread_key == thread_key, c.c.ns_key == ns_key)
        newest = sa.select(sa.func.max(c.c.checkpoint_id)).where(
            *of_namespace, c.c.hidden.is_(False)
        )
        path = (
            sa.select(c.c.checkpoint_id, c.c.parent_checkpoint_id, sa.literal(0).label("distance"))
            .where(*of_namespace)
            .where(c.c.checkpoint_id == (newest.scalar_subquery() if start is None else start))
            .where(self._is_owned(thread_key) if owner else sa.true())
            .cte("path", recursive=True)
        )
        parent = c.alias("parent")
        path = path.union_all(
            sa.select(parent.c.checkpoint_id, parent.c.parent_checkpoint_id, path.c.distance + 1)
            .join(path, parent.c.checkpoint_id == path.c.parent_checkpoint_id)
            .where(
                parent.c.thread_key == thread_key,
                parent.c.ns_key == ns_key,
                path.c.distance < limit,
            )
        )
        in_path = c.c.checkpoint_id == path.c.checkpoint_id
        found = sa.select(c, path.c.distance).join(path, in_path).where(*of_namespace)
        rows = conn.execute(found, owner)
        return sorted(rows.all(), key=lambda row: row.distance)

    def get_page(
        self, conn: sa.Connection, wanted: Mapping[str, Any], limit: int
    ) -> Sequence[sa.Row[Any]]:
        """Read a page of checkpoints with their thread ids, newest first.

        Args:
            conn: The connection.
            wanted: Any of `thread`, `ns`, `checkpoint` and `before`; of the last checkpoint of
                the page before this one `after`, `after_thread` and `after_ns`; `owner_params`.
            limit: The most checkpoints of the page.
        """
        return self._select_page(frozenset(wanted)).all(conn, {**wanted, "limit": limit})

    def _build_page(self, wanted: frozenset[str]) -> Statement:
        c, t = self._tables.checkpoints, self._tables.threads
        checkpoint_id = sa.bindparam("after", type_=c.c.checkpoint_id.type)
        thread_key = sa.bindparam("after_thread", type_=c.c.thread_key.type)
        owner = sa.bindparam("owner", type_=t.c.owner_id.type)
        in_thread = sa.and_(
            c.c.thread_key == thread_key,
            c.c.ns_key > sa.bindparam("after_ns", type_=c.c.ns_key.type),
        )
        conditions = {
            "thread": c.c.thread_key == sa.bindparam("thread"),
            "ns": c.c.ns_key == sa.bindparam("ns"),
            "checkpoint": c.c.checkpoint_id == sa.bindparam("checkpoint"),
            "before": c.c.checkpoint_id < sa.bindparam("before"),
            "owner": is_owned(self._tables)
            if "thread" in wanted
            else is_of_owner(self._tables, owner),
            # Every database looks up the first condition in an index, and no other.
            "after": sa.and_(
                c.c.checkpoint_id <= checkpoint_id,
                sa.or_(c.c.checkpoint_id < checkpoint_id, c.c.thread_key > thread_key, in_thread),
            ),
        }
        return Statement(
            sa.select(c, t.c.thread_id)
            .join(t, t.c.thread_key == c.c.thread_key)
            .where(c.c.hidden.is_(False), *(conditions[n] for n in conditions if n in wanted))
            .order_by(c.c.checkpoint_id.desc(), c.c.thread_key, c.c.ns_key)
            .limit(sa.bindparam("limit"))
        )

    def latest_root(self, conn: sa.Connection, thread_key: bytes) -> str | None:
        """The id of the newest checkpoint of a thread's root namespace."""
        c = self._tables.checkpoints.c
        return conn.execute(
            sa.select(sa.func.max(c.checkpoint_id)).where(
                c.thread_key == thread_key, c.ns_key == b"", c.hidden.is_(False)
            )
        ).scalar()

    # -- values in pieces -------------------------------------------------------------------

    def joined(self, conn: sa.Connection, row: Mapping[str, Any]) -> bytes:
        """The data of a row of the storage, with that of its pieces.

        It is the row's own data if it has no pieces, or if one is missing.
        """
        data: bytes = row["data"]
        if not is_in_pieces(data):
            return data
        keys: Iterator[Any]
        if "blob_key" in row:
            keys, key, names = blob_piece_keys(row["blob_key"], data), "blob_key", _OF_BLOB
            select = self._select_blob_pieces
        elif "idx" in row:
            keys, key, names = write_piece_numbers(row["idx"]), "idx", _OF_TASK
            select = self._select_write_pieces
        else:  # a checkpoint is never in pieces: it is damaged
            return data
        its = {name: row[name] for name in names}

        def fetch(some: list[Any]) -> dict[Any, bytes]:
            return dict(select.all(conn, its | list_params(key, some)))

        return join(data, fetched(keys, fetch))

    def _whole(
        self, conn: sa.Connection, row: Any, column: str, key: Mapping[str, Any] = {}
    ) -> Any:
        """A row with all the bytes of its value; `key` are the columns of its key that it lacks."""
        data = getattr(row, column)
        if data is None or not is_in_pieces(data):
            return row
        its = {**row._asdict(), **key, "data": data}
        return row._replace(**{column: self.joined(conn, its)})


def _select_pieces(table: sa.Table, its: Sequence[str], key: str) -> Statement:
    """Select the data of a few pieces by the columns of what they are of, and their own keys."""
    c = table.c
    is_its = [c[name] == sa.bindparam(name, type_=c[name].type) for name in its]
    is_one = c[key].in_(list_binds(key, c[key], AT_ONCE))
    return Statement(sa.select(c[key], c.data).where(*is_its, is_one))


def _again_unless_intact(read: Callable[[], list[sa.Row[Any]]]) -> list[sa.Row[Any]]:
    """Read writes; again if one was replaced between the queries for its pieces."""
    rows = read()
    return rows if all(is_intact(row.write_data) for row in rows) else read()


def _is_write(idx: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """A condition: a row of `session_writes` is not a piece of another."""
    return idx > sa.literal_column(str(LOWEST_IDX))


def _select_each(
    conn: sa.Connection,
    statement_for: Callable[[int, int], Statement],
    keys: Iterable[tuple[bytes, Any]],
) -> Iterator[Any]:
    """Select rows by the keys of their threads and their keys within the thread."""
    for batch in batches(sorted(set(keys))):
        threads = padded(sorted({thread for thread, _ in batch}))
        others = padded([key for _, key in batch])
        params = list_params("thread", threads) | list_params("key", others)
        yield from statement_for(len(threads), len(others)).all(conn, params)


def _is_each(
    thread_key: sa.ColumnElement[Any], threads: int, key: sa.ColumnElement[Any], keys: int
) -> tuple[sa.ColumnElement[bool], ...]:
    """The conditions of a statement for `_select_each`."""
    return (
        thread_key.in_(list_binds("thread", thread_key, threads)),
        key.in_(list_binds("key", key, keys)),
    )
