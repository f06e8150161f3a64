"""Find stored rows that do not decode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_session_saver.encoding import chains, references
from langgraph_session_saver.encoding.framing import unframe
from langgraph_session_saver.errors import CorruptBlobError
from langgraph_session_saver.inspection.decode import Decoder, Undecodable
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.dialects.base import Dialect

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


def find_undecodable(
    conn: sa.Connection, tables: Tables, dialect: Dialect, most: int | None
) -> list[Damage]:
    """Decode rows of the storage, one at a time: at most so many of each table, or all."""
    checks: list[tuple[sa.Table, Callable[[Any], None]]] = [
        (tables.checkpoints, _check_checkpoint),
        (tables.blobs, _check_blob),
        (tables.writes, _check_write),
    ]
    with dialect.snapshot(conn):
        return [_look(conn, tables, table, check, most) for table, check in checks]


def _look(
    conn: sa.Connection,
    tables: Tables,
    table: sa.Table,
    check: Callable[[Any], None],
    most: int | None,
) -> Damage:
    found = Damage(table.name.removeprefix(tables.prefix))
    for row in _rows(conn, tables, table, most):
        if found.read == most:
            found.is_all = False
            break
        found.read += 1
        try:
            check(row)
        except ValueError as exc:
            found.count += 1
            if found.count <= NAMED:
                found.named.append(f"{_name_of(row)}: {exc}")
    return found


def _rows(
    conn: sa.Connection, tables: Tables, table: sa.Table, most: int | None
) -> Iterator[sa.Row[Any]]:
    threads = tables.threads
    query = sa.select(threads.c.thread_id, *table.c).join_from(
        table, threads, threads.c.thread_key == table.c.thread_key
    )
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


_decoder = Decoder(JsonPlusSerializer())


def _check_value(typ: str, data: bytes) -> None:
    if typ in DECODED and isinstance(found := _decoder.loads_typed((typ, data)), Undecodable):
        raise CorruptBlobError(str(found))
