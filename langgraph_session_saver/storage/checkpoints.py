"""Every statement on the storage tables, as plain functions of a connection.

None of them opens, commits or retries; `engine.Runner` does. Statements are built once, for the
first saver on an engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import sqlalchemy
from sqlalchemy import (
    Connection,
    Row,
    and_,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    or_,
    select,
)

from langgraph_session_saver.encoding.keys import CheckpointKey, ThreadRef
from langgraph_session_saver.retention.contents import Thinned
from langgraph_session_saver.schema.tables import Tables, shared_tables
from langgraph_session_saver.sql.compiled import Lists, Statement, batches
from langgraph_session_saver.sql.dialects import dialect_for
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.sql.runner import BrokenReferenceError
from langgraph_session_saver.storage.batch import Batch, Dependencies, Removal, Rows, Store, names
from langgraph_session_saver.storage.block import OneBlock
from langgraph_session_saver.storage.in_turn import InTurn
from langgraph_session_saver.storage.single_statement import SingleStatement
from langgraph_session_saver.storage.thread_data import ThreadRows
from langgraph_session_saver.storage.threads import Threads

_WAYS = {"turns": InTurn, "statement": SingleStatement, "block": OneBlock}
"""How a database stores a batch."""


class ParentGoneError(Exception):
    """A step's parent checkpoint was deleted while the step ran."""


@dataclass(slots=True)
class CheckpointRows:
    """What one `put` stores, encoded."""

    thread: ThreadRef
    checkpoint: dict[str, Any]
    blobs: list[dict[str, Any]] = field(default_factory=list)
    needs_parent: bool = True

    @property
    def dependencies(self) -> Dependencies:
        """What must be there: the checkpoint this one follows, and the bases of its blobs."""
        ns_key, parent_id = self.checkpoint["ns_key"], self.checkpoint["parent_checkpoint_id"]
        has_parent = self.needs_parent and parent_id is not None
        bases = [row["base_key"] for row in self.blobs]
        return Dependencies(
            (ns_key, parent_id) if has_parent else None, frozenset(filter(None, bases))
        )


def operations_on(
    dialect: sqlalchemy.Dialect, schema: str | None = None, prefix: str = ""
) -> Operations:
    """The operations of all savers on engines of one kind: an application may make one a request.

    Args:
        dialect: The engine's, for which statements are compiled at their first use.
        schema: As for `build_tables`.
        prefix: As for `build_tables`.
    """
    kind: Any = type(dialect)
    return _operations_on(kind, schema, prefix)


@lru_cache(maxsize=32)
def _operations_on(
    dialect: type[sqlalchemy.Dialect], schema: str | None, prefix: str
) -> Operations:
    return Operations(shared_tables(schema, prefix), dialect_for(dialect))


class Operations:
    """The statements of one installation, and the operations made of them."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self.tables = tables
        self.dialect = dialect
        self.threads = Threads(tables, dialect)
        self.whole = ThreadRows(tables, dialect, self.threads)
        self.steps = _WAYS[dialect.batches_as](tables, dialect)
        self._build_writing()
        self._build_reading()

    def _build_writing(self) -> None:
        t = self.tables
        checkpoint_key = ("thread_key", "ns_key", "checkpoint_id")
        write_key = (*checkpoint_key, "task_id", "idx")
        self.blobs = Store(t.blobs, ("thread_key", "blob_key"), names(t.blobs), bulky="data")
        self.checkpoints = Store(
            t.checkpoints,
            checkpoint_key,
            names(t.checkpoints),
            tuple(name for name in names(t.checkpoints) if name not in checkpoint_key),
        )
        self.writes = Store(t.writes, write_key, names(t.writes), bulky="data")
        self.special_writes = Store(
            t.writes,
            write_key,
            names(t.writes),
            ("channel", "type", "data", "task_path"),
            bulky="data",
        )
        self.pruned_writes = Removal(t.writes, checkpoint_key)
        self.pruned_checkpoints = Removal(t.checkpoints, checkpoint_key)
        self.unused_blobs = Removal(t.blobs, ("thread_key", "blob_key"))

    def _build_reading(self) -> None:
        t = self.tables
        c, w, b = t.checkpoints, t.writes, t.blobs
        wanted = select(c).where(
            c.c.thread_key == bindparam("thread"), c.c.ns_key == bindparam("ns")
        )
        latest = wanted.where(c.c.hidden.is_(False)).order_by(c.c.checkpoint_id.desc())
        latest = latest.limit(literal_column("1")).offset(literal_column("0"))
        named = wanted.where(c.c.checkpoint_id == bindparam("checkpoint"))
        self._latest_with_writes = Statement(self._with_writes(latest))
        self._latest_without = Statement(self._without_writes(latest))
        self._named_with_writes = Statement(self._with_writes(named))
        self._writes_of = Lists(
            lambda threads, checkpoints: select(w).where(
                w.c.thread_key.in_(threads), w.c.checkpoint_id.in_(checkpoints)
            ),
            threads=w.c.thread_key.type,
            checkpoints=w.c.checkpoint_id.type,
        )
        self._pages_of: dict[frozenset[str], Statement] = {}
        self._chains_of = Lists(self._chains, threads=b.c.thread_key.type, keys=b.c.blob_key.type)

    def _chains(self, threads: list[Any], keys: list[Any]) -> Any:
        """The blobs of these keys, and all that they are changes of."""
        b = self.tables.blobs
        links = (
            select(b.c.thread_key, b.c.blob_key, b.c.base_key)
            .where(b.c.thread_key.in_(threads), b.c.blob_key.in_(keys))
            .cte("links", recursive=True)
        )
        base = b.alias("base")
        chain = links.union(
            select(base.c.thread_key, base.c.blob_key, base.c.base_key).join(
                links,
                and_(base.c.thread_key == links.c.thread_key, base.c.blob_key == links.c.base_key),
            )
        )
        return select(b).join(
            chain, and_(b.c.thread_key == chain.c.thread_key, b.c.blob_key == chain.c.blob_key)
        )

    def _without_writes(self, checkpoint: Any) -> Any:
        """As `_with_writes`, a checkpoint that has none; else only that it has some."""
        c, w = self.tables.checkpoints.c, self.tables.writes.c
        some: Any = select(literal_column("1")).where(
            w.thread_key == c.thread_key,
            w.ns_key == c.ns_key,
            w.checkpoint_id == c.checkpoint_id,
        )
        return checkpoint.with_only_columns(
            c.checkpoint_id, c.parent_checkpoint_id, c.root_checkpoint_id, c.refs, c.type, c.data,
            c.metadata_type, c.metadata_data,
            case((some.exists(), literal_column("1"))).label("task_id"),
        )  # fmt: skip

    def _with_writes(self, checkpoint: Any) -> Any:
        """One statement for a checkpoint and its pending writes: a read is one round trip.

        Without what whoever asks knows: on SQLite a column costs 0.2 µs, of a read's 30.
        """
        w = self.tables.writes.c
        found = checkpoint.subquery("found")
        c = found.c
        return select(
            c.checkpoint_id, c.parent_checkpoint_id, c.root_checkpoint_id, c.refs, c.type, c.data,
            c.metadata_type, c.metadata_data, w.task_id, w.idx, w.task_path, w.channel,
            w.type.label("write_type"), w.data.label("write_data"),
        ).outerjoin(
            self.tables.writes,
            and_(
                w.thread_key == found.c.thread_key,
                w.ns_key == found.c.ns_key,
                w.checkpoint_id == found.c.checkpoint_id,
            ),
        )  # fmt: skip

    # -- writing ----------------------------------------------------------------------------

    def put(self, conn: Connection, rows: CheckpointRows) -> None:
        """Store a checkpoint with its blobs in a thread whose row is locked.

        Raises:
            ParentGoneError: The parent is not there and the rows hold only what changed.
            BrokenReferenceError: A blob is not there that one of the rows is a change of.
        """
        if not self.steps.put_on(conn, self.checkpoints, rows.checkpoint, rows.dependencies):
            parent = rows.dependencies.parent
            if parent is not None and not self.get_checkpoint(conn, rows.thread.key, *parent):
                raise ParentGoneError
            raise BrokenReferenceError("a value was deleted that a step stores changes of")
        if rows.blobs:
            self.steps.put(conn, self.blobs, rows.blobs)

    def writes_batch(
        self,
        regular: Rows,
        special: Rows,
        unless_pruned: CheckpointKey | None,
    ) -> Batch:
        """What stores a task's writes.

        Args:
            regular: Writes of which the first stays.
            special: Writes of which the last stays.
            unless_pruned: Their checkpoint, if others may have deleted it as too old.
        """
        stores = [(self.writes, regular), (self.special_writes, special)]
        return Batch([(store, rows) for store, rows in stores if rows], unless_pruned=unless_pruned)

    def removals(self, thread_key: bytes, thinned: Thinned) -> list[tuple[Removal, Rows]]:
        """What deletes the checkpoints that are to go, their writes, and unused blobs."""
        rows = [
            {"thread_key": thread_key, "ns_key": row.ns_key, "checkpoint_id": row.checkpoint_id}
            for row in thinned.gone
        ]
        blobs = [{"thread_key": thread_key, "blob_key": key} for key in thinned.unused]
        removals: list[tuple[Removal, Rows]] = []
        if rows:
            removals += [(self.pruned_writes, rows), (self.pruned_checkpoints, rows)]
        if blobs:
            removals.append((self.unused_blobs, blobs))
        return removals

    # -- reading ----------------------------------------------------------------------------

    def get_checkpoint(
        self, conn: Connection, thread_key: bytes, ns_key: bytes, checkpoint_id: str | None
    ) -> Sequence[Row[Any]]:
        """A checkpoint, or the newest, once for each of its writes (once if it has none)."""
        wanted = {"thread": thread_key, "ns": ns_key}
        if checkpoint_id is not None:
            return self._named_with_writes.all(conn, wanted | {"checkpoint": checkpoint_id})
        if self.dialect.single_writer:
            # In a file nobody waits for a second statement, and the newest checkpoint has writes
            # only while a graph runs or waits: of 9 µs this takes 8.
            rows = self._latest_without.all(conn, wanted)
            if not rows or rows[0].task_id is None:
                return rows
        return self._latest_with_writes.all(conn, wanted)

    def get_chains(
        self, conn: Connection, keys: Iterable[tuple[bytes, bytes]]
    ) -> dict[tuple[bytes, bytes], Row[Any]]:
        """The rows of these blobs and of all that they are changes of."""
        found: dict[tuple[bytes, bytes], Row[Any]] = {}
        wanted = sorted(set(keys))
        for batch in batches(wanted):
            threads = sorted({thread for thread, _ in batch})
            rows = self._chains_of.all(conn, threads=threads, keys=[key for _, key in batch])
            found |= {(row.thread_key, row.blob_key): row for row in rows}
        return found

    def existing_blobs(
        self, conn: Connection, keys: Iterable[tuple[bytes, bytes]]
    ) -> set[tuple[bytes, bytes]]:
        """Which of these blobs there are."""
        b = self.tables.blobs.c
        found: set[tuple[bytes, bytes]] = set()
        for batch in batches(sorted(keys)):
            rows = conn.execute(
                select(b.thread_key, b.blob_key).where(
                    b.thread_key.in_({thread for thread, _ in batch}),
                    b.blob_key.in_([key for _, key in batch]),
                )
            )
            found |= {(row.thread_key, row.blob_key) for row in rows}
        return found

    def get_ancestors(
        self, conn: Connection, thread_key: bytes, ns_key: bytes, start: str | None, limit: int
    ) -> list[Row[Any]]:
        """A checkpoint (the newest, if none is named) and those it follows, newest first."""
        c = self.tables.checkpoints
        first = select(
            c.c.thread_key, c.c.ns_key, c.c.checkpoint_id, c.c.parent_checkpoint_id,
            literal(0).label("distance"),
        ).where(c.c.thread_key == thread_key, c.c.ns_key == ns_key)  # fmt: skip
        if start is None:
            newest = select(func.max(c.c.checkpoint_id)).where(
                c.c.thread_key == thread_key, c.c.ns_key == ns_key, c.c.hidden.is_(False)
            )
            first = first.where(c.c.checkpoint_id == newest.scalar_subquery())
        else:
            first = first.where(c.c.checkpoint_id == start)
        path = first.cte("path", recursive=True)
        parent = c.alias("parent")
        path = path.union_all(
            select(
                parent.c.thread_key, parent.c.ns_key, parent.c.checkpoint_id,
                parent.c.parent_checkpoint_id, path.c.distance + 1,
            )
            .join(
                path,
                and_(
                    parent.c.thread_key == path.c.thread_key,
                    parent.c.ns_key == path.c.ns_key,
                    parent.c.checkpoint_id == path.c.parent_checkpoint_id,
                ),
            )
            .where(path.c.distance < limit)
        )  # fmt: skip
        rows = conn.execute(
            select(c, path.c.distance).join(
                path,
                and_(
                    c.c.thread_key == path.c.thread_key,
                    c.c.ns_key == path.c.ns_key,
                    c.c.checkpoint_id == path.c.checkpoint_id,
                ),
            )
        ).all()
        return sorted(rows, key=lambda row: row.distance)

    def list_checkpoints(
        self, conn: Connection, wanted: Mapping[str, Any], limit: int
    ) -> Sequence[Row[Any]]:
        """A page of checkpoints with their thread ids, newest first.

        Args:
            conn: The connection.
            wanted: Any of `thread`, `ns`, `checkpoint` and `before`, and of the last checkpoint of
                the page before this one `after`, `after_thread` and `after_ns`.
            limit: At most so many.
        """
        statement = self._pages_of.get(names := frozenset(wanted))
        if statement is None:
            statement = self._pages_of[names] = Statement(self._page(names))
        return statement.all(conn, {**wanted, "limit": limit})

    def _page(self, names: frozenset[str]) -> Any:
        c, t = self.tables.checkpoints, self.tables.threads
        rules = {
            "thread": c.c.thread_key == bindparam("thread"),
            "ns": c.c.ns_key == bindparam("ns"),
            "checkpoint": c.c.checkpoint_id == bindparam("checkpoint"),
            "before": c.c.checkpoint_id < bindparam("before"),
            "after": self._is_after(),
        }
        return (
            select(c, t.c.thread_id)
            .join(t, t.c.thread_key == c.c.thread_key)
            .where(c.c.hidden.is_(False), *(rules[name] for name in rules if name in names))
            .order_by(c.c.checkpoint_id.desc(), c.c.thread_key, c.c.ns_key)
            .limit(bindparam("limit"))
        )

    def _is_after(self) -> Any:
        c = self.tables.checkpoints.c
        checkpoint_id = bindparam("after", type_=c.checkpoint_id.type)
        thread_key = bindparam("after_thread", type_=c.thread_key.type)
        same_thread = and_(
            c.thread_key == thread_key,
            c.ns_key > bindparam("after_ns", type_=c.ns_key.type),
        )
        # The first condition alone is one that every database looks up in an index.
        return and_(
            c.checkpoint_id <= checkpoint_id,
            or_(c.checkpoint_id < checkpoint_id, c.thread_key > thread_key, same_thread),
        )

    def get_writes(
        self, conn: Connection, checkpoints: Iterable[Row[Any]]
    ) -> dict[CheckpointKey, list[Row[Any]]]:
        """The writes of several checkpoints."""
        found: dict[CheckpointKey, list[Row[Any]]] = {}
        for batch in batches(list(checkpoints)):
            threads = sorted({row.thread_key for row in batch})
            names = sorted({row.checkpoint_id for row in batch})
            for row in self._writes_of.all(conn, threads=threads, checkpoints=names):
                key = CheckpointKey(row.thread_key, row.ns_key, row.checkpoint_id)
                found.setdefault(key, []).append(row)
        return found

    def latest_root(self, conn: Connection, thread_key: bytes) -> str | None:
        """The newest checkpoint of a thread's root namespace."""
        c = self.tables.checkpoints.c
        return conn.execute(
            select(func.max(c.checkpoint_id)).where(
                c.thread_key == thread_key, c.ns_key == b"", c.hidden.is_(False)
            )
        ).scalar()
