"""Changing the key of stored values, a batch of rows at a time, while graphs run.

A value is replaced only where it is still the one that was read, in a transaction for each batch.
A value says by its key whether it is done, so that a rotation that was killed is run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Column, Connection, Table, and_, or_, select, update

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.encoding.chains import held_by
from langgraph_session_saver.encoding.framing import frame, unframe
from langgraph_session_saver.encoding.key_ring import KeyRing
from langgraph_session_saver.errors import InvalidConfigError, SerializationError
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.transfer.progress import Meter, OnProgress

BATCH = 50
"""Rows of one transaction."""


@dataclass(slots=True)
class Reencrypted:
    """What a rotation did."""

    changed: int = 0
    """Values that have the newest key since."""
    kept: int = 0
    """Values that had it before."""
    in_clear: int = 0
    """Values that are not encrypted, which were left as they are."""


def reencrypt(
    context: Context, serde: SerializerProtocol, progress: OnProgress | None
) -> Script[Reencrypted]:
    """Give all stored values the newest key of the serde's `KeyRing`."""
    ring = getattr(serde, "cipher", None)
    if not isinstance(ring, KeyRing):
        raise InvalidConfigError(
            "the saver's serde has one key: pass serde=EncryptedSerializer(KeyRing(new, old)) "
            "with the ciphers of the new and the old key"
        )
    tables, done = context.tables, Reencrypted()
    threads = yield Request.read(_keys, tables.threads, ())
    meter = Meter(progress, len(threads))
    for thread in threads:
        for table in (tables.checkpoints, tables.blobs, tables.writes):
            keys = yield Request.read(_keys, table, (table.c.thread_key == thread[0],))
            for start in range(0, len(keys), BATCH):
                rows = yield Request.read(_rows, table, keys[start : start + BATCH])
                changes = [(row, _changes(ring, table, row, done)) for row in rows]
                found = [(row, new) for row, new in changes if new]
                if found:
                    done.changed += yield Request.write(_replace, table, found)
        meter.advance(1, "rotate")
    return done


def _keys(conn: Connection, table: Table, where: Any) -> list[tuple[Any, ...]]:
    """The primary keys of rows."""
    found = conn.execute(select(*table.primary_key).where(*where)).all()
    return [tuple(row) for row in found]


def _rows(conn: Connection, table: Table, keys: list[tuple[Any, ...]]) -> list[Mapping[str, Any]]:
    """The rows of primary keys that still exist."""
    is_wanted = or_(
        *(_is(table, dict(zip(table.primary_key.c.keys(), key, strict=True))) for key in keys)
    )
    return [dict(row) for row in conn.execute(select(table).where(is_wanted)).mappings()]


def _is(table: Table, row: Mapping[str, Any]) -> Any:
    return and_(*(column == row[column.name] for column in table.primary_key))


def _values(table: Table) -> list[tuple[Column[Any], Column[Any]]]:
    """The columns of each value: its type, and its bytes."""
    c = table.c
    pairs = [(c.type, c.data)]
    return [*pairs, (c.metadata_type, c.metadata_data)] if "metadata_type" in c else pairs


def _changes(
    ring: KeyRing, table: Table, row: Mapping[str, Any], done: Reencrypted
) -> dict[str, Any]:
    """The columns of a row that get another key."""
    new: dict[str, Any] = {}
    for typ, data in _values(table):
        kind, _, name = row[typ.name].partition("+")
        stored = bytes(row[data.name])
        if not name:
            done.in_clear += 1
            continue
        where = f"{table.name} {_named(table, row)}"
        if row.get("base_key") is not None or held_by(stored) is not None:
            raise InvalidConfigError(
                f"{where} is a change of another ciphertext: the cipher encrypts equal values "
                "equally, and such values cannot be re-encrypted one by one"
            )
        try:
            changed = ring.reencrypted(name, unframe(stored))
        except ValueError as exc:
            raise SerializationError(f"{where}: {exc}") from exc
        if changed is None:
            done.kept += 1
        else:
            new |= {typ.name: f"{kind}+{changed[0]}", data.name: frame(changed[1])}
    return new


def _named(table: Table, row: Mapping[str, Any]) -> str:
    """A row's primary key in error messages."""
    keys = ((name, row[name]) for name in table.primary_key.c.keys())  # noqa: SIM118 - no mapping
    return ", ".join(f"{k}={v.hex() if isinstance(v, bytes) else v!r}" for k, v in keys)


def _replace(
    conn: Connection, table: Table, found: list[tuple[Mapping[str, Any], dict[str, Any]]]
) -> int:
    """Replace the values of rows that are as they were read; return the number of values."""
    count = 0
    for row, new in found:
        same = [data == row[data.name] for _, data in _values(table)]
        done = conn.execute(update(table).where(_is(table, row), *same).values(new))
        count += done.rowcount * (len(new) // 2)
    return count
