"""Find stored rows that do not decode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_session_saver.encoding import chains, references
from langgraph_session_saver.encoding.framing import unframe
from langgraph_session_saver.encoding.pieces import is_in_pieces, is_piece
from langgraph_session_saver.errors import CorruptBlobError, HistoryLostError
from langgraph_session_saver.inspection.decode import Decoder, Undecodable
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.storage.storage import Storage

FETCHED = 100
"""Rows that a server's cursor sends at a time."""

NAMED = 3
"""Damaged rows that are named; the others are counted."""

DECODED = {"msgpack", "json", "null"}
"""Types of values that are read here; ciphertext and other formats are only unpacked."""


@dataclass(slots=True)
class Damage:
    """The rows of a table that do not decode.

    Attributes:
        table: The table's name without prefix.
        read: Rows that were read.
        is_all: Whether those are all rows.
        count: Rows that do not decode.
        named: The names of some of them, with what is wrong.
    """

    table: str
    read: int = 0
    is_all: bool = True
    count: int = 0
    named: list[str] = field(default_factory=list)

    def check(self, row: Any, check: Callable[[Any], None]) -> None:
        """Check a row, and note it if it does not decode."""
        try:
            check(row)
        except (ValueError, HistoryLostError) as exc:
            self.count += 1
            if self.count <= NAMED:
                self.named.append(f"{_name_of(row)}: {exc}")


def find_undecodable(conn: sa.Connection, storage: Storage, most: int | None) -> list[Damage]:
    """Decode rows of the storage, one at a time: at most so many of each table, or all."""
    tables = storage.tables
    checks: list[tuple[sa.Table, Callable[[Any], None]]] = [
        (tables.checkpoints, _check_checkpoint),
        (tables.blobs, _check_blob),
        (tables.writes, _check_write),
    ]
    with storage.dialect.snapshot(conn):
        return [_look(conn, storage, table, check, most) for table, check in checks]


def _look(
    conn: sa.Connection,
    storage: Storage,
    table: sa.Table,
    check: Callable[[Any], None],
    most: int | None,
) -> Damage:
    found = Damage(table.name.removeprefix(storage.tables.prefix))
    in_pieces: list[sa.ColumnElement[bool]] = []
    for row in _rows(conn, storage.tables, table, most):
        if found.read == most:
            found.is_all = False
            break
        found.read += 1
        if is_in_pieces(row.data):
            in_pieces.append(sa.and_(*(c == getattr(row, c.name) for c in table.primary_key)))
        elif not is_piece(row.data):
            found.check(row, check)
    for is_it in in_pieces:  # only now: a cursor that streams takes no other query
        for own in conn.execute(_select(storage.tables, table).where(is_it)).mappings():
            data = storage.checkpoints.joined(conn, dict(own))
            found.check(SimpleNamespace(**{**own, "data": data}), check)
    return found


def _select(tables: Tables, table: sa.Table) -> sa.Select[Any]:
    threads = tables.threads
    is_its = threads.c.thread_key == table.c.thread_key
    return sa.select(threads.c.thread_id, *table.c).join_from(table, threads, is_its)


def _rows(
    conn: sa.Connection, tables: Tables, table: sa.Table, most: int | None
) -> Iterator[sa.Row[Any]]:
    query = _select(tables, table)
    if most is not None:
        query = query.limit(sa.literal_column(str(most + 1)))  # a cursor takes no parameter here
    options = {"stream_results": True, "yield_per": FETCHED}
    with conn.execute(query, execution_options=options) as rows:
        yield from rows


def _name_of(row: Any) -> str:
    named = {
        name: getattr(row, name)
        for name in ("thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "channel")
        if getattr(row, name, None)
    }
    return ", ".join(f"{name.removesuffix('_id')} {value!r}" for name, value in named.items())


def _check_checkpoint(row: Any) -> None:
    references.unpack(row.refs)
    _check_value(row.type, unframe(row.data))
    _check_value(row.metadata_type, unframe(row.metadata_data))


def _check_blob(row: Any) -> None:
    content = chains.part_of(row).content
    if isinstance(content, chains.Value):
        _check_value(*content.typed)


def _check_write(row: Any) -> None:
    if chains.held_by(row.data) is None:
        _check_value(row.type, unframe(row.data))
    else:
        chains.change_of(row.data)


_serde = JsonPlusSerializer()


def _check_value(typ: str, data: bytes) -> None:
    """Decode a value, unless it has so many parts that this would take too much memory."""
    decoder = Decoder(_serde)
    found = decoder.loads_typed((typ, data)) if typ in DECODED else None
    if isinstance(found, Undecodable) and not decoder.has_refused:
        raise CorruptBlobError(str(found))
