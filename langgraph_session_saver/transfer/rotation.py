"""Encrypting stored values with the newest key, a batch of rows at a time, while graphs run.

A value is replaced only where it is still the one that was read, in a transaction for each batch.
A value says by its key whether it is done, so that a call that was killed is repeated.

Values in clear may be stored as changes of others, and ciphertext never is. So a change is
encrypted before the value that it is a change of: writes before blobs, and blobs with long chains
before those with short ones. A saver that still writes in clear finds no base in a ciphertext (see
`storage.batch.revision_check`), and stores the value whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Table,
    and_,
    delete,
    insert,
    or_,
    select,
    update,
)

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.encoding.chains import held_by, of_thread, resolve, unframe_write
from langgraph_session_saver.encoding.framing import frame, unframe
from langgraph_session_saver.encoding.key_ring import KeyRing
from langgraph_session_saver.encoding.pieces import is_in_pieces
from langgraph_session_saver.errors import (
    HistoryLostError,
    InvalidConfigError,
    SerializationError,
)
from langgraph_session_saver.schema.tables import PIECE_DEPTH, Tables
from langgraph_session_saver.sql.compiled import batches
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.storage.pieces import (
    AT_ONCE,
    LOWEST_IDX,
    STRIDE,
    cut_blob,
    cut_write,
)
from langgraph_session_saver.storage.storage import Storage
from langgraph_session_saver.transfer.progress import Meter, OnProgress

BATCH = 50
"""Rows of one transaction."""

Row = Mapping[str, Any]


@dataclass(slots=True)
class Reencrypted:
    """What a call did."""

    changed: int = 0
    """Values that had another key."""
    encrypted: int = 0
    """Values that were in clear."""
    kept: int = 0
    """Values that had the newest key before."""


def reencrypt(
    context: Context, serde: SerializerProtocol, progress: OnProgress | None
) -> Script[Reencrypted]:
    """Give all stored values the newest key of the serde."""
    cipher = getattr(serde, "cipher", None)
    if cipher is None:
        raise InvalidConfigError(
            f"the saver's {type(serde).__name__} does not encrypt: pass "
            "serde=EncryptedSerializer.from_pycryptodome_aes(key=…) to encrypt what is in clear, "
            "or EncryptedSerializer(KeyRing(new, old)) with the ciphers of two keys to change it"
        )
    ring = cipher if isinstance(cipher, KeyRing) else KeyRing(cipher)
    return (yield from _Encryption(context, ring).run(progress))


class _Change(NamedTuple):
    row: Row
    """A row as it was read."""
    new: dict[str, Any]
    """Columns of the row, with their new values."""
    pieces: Sequence[Row] = ()
    """Rows that take the place of the row's pieces."""


@dataclass
class _Encryption:
    context: Context
    ring: KeyRing
    done: Reencrypted = field(default_factory=Reencrypted)

    def run(self, progress: OnProgress | None) -> Script[Reencrypted]:
        tables = self.context.tables
        threads = yield Request.read(_keys, tables.threads, (), ())
        meter = Meter(progress, len(threads))
        for (thread_key,) in threads:
            # Changes before the values that they are changes of.
            for table in (tables.writes, tables.blobs, tables.checkpoints):
                where = (table.c.thread_key == thread_key, *_is_no_piece(tables, table))
                order = (table.c.depth.desc(),) if table is tables.blobs else ()
                keys = yield Request.read(_keys, table, where, order)
                for some in batches(keys, BATCH):
                    yield from self._encrypt(table, (yield Request.read(_rows, table, some)))
            meter.advance(1, "rotate")
        return self.done

    def _encrypt(self, table: Table, rows: Sequence[Row]) -> Script[None]:
        """Encrypt the values of rows: in one transaction, and large ones in one each."""
        changes: list[_Change] = []
        for row in rows:
            change = yield from self._change_of(table, row)
            if change is None:
                continue
            if change.pieces or _is_change(row):
                yield from self._replace(table, [change])
            else:
                changes.append(change)
        if changes:
            yield from self._replace(table, changes)

    def _replace(self, table: Table, changes: list[_Change]) -> Script[None]:
        for row, new, _ in (yield Request.write(_replace, self.context.storage, table, changes)):
            for typ, _ in _values(table):
                if typ.name in new and "+" in row[typ.name]:
                    self.done.changed += 1
                elif typ.name in new:
                    self.done.encrypted += 1

    def _change_of(self, table: Table, row: Row) -> Script[_Change | None]:
        """What a row becomes; None if its values have the newest key."""
        new: dict[str, Any] = {}
        for typ, data in _values(table):
            kind, _, cipher = row[typ.name].partition("+")
            with _naming(table, row):
                value = yield from self._serialised(row, data)
                if cipher:
                    changed = self.ring.reencrypted(cipher, value)
                else:
                    changed = self.ring.encrypt(value)
            if changed is None:
                self.done.kept += 1
            else:
                new |= {typ.name: f"{kind}+{changed[0]}", data.name: frame(changed[1])}
        if not new:
            return None
        tables, size = self.context.tables, self.context.piece_bytes
        if table is tables.blobs:
            new |= {"base_key": None, "depth": 0, "level": 0}
        if table is tables.checkpoints or len(new["data"]) <= size:
            return _Change(row, new)
        cut = cut_blob if table is tables.blobs else cut_write
        own, pieces = cut({**row, **new}, size)
        return _Change(row, {name: own[name] for name in new}, pieces)

    def _serialised(self, row: Row, column: Column[Any]) -> Script[bytes]:
        """A value as the serde made it: joined, and rebuilt if it is stored as a change."""
        checkpoints, stored = self.context.storage.checkpoints, row[column.name]
        is_blob = row.get("base_key") is not None
        if not is_blob and is_in_pieces(stored):
            stored = yield Request.read(checkpoints.joined, row)
        key = row["blob_key"] if is_blob else held_by(stored)
        if key is None:
            return unframe(stored)
        rows = yield Request.read(checkpoints.get_chains, [(row["thread_key"], key)])
        value = resolve(key, of_thread(rows, row["thread_key"]))
        return value.typed[1] if is_blob else unframe_write(stored, lambda _key: value)


def _is_change(row: Row) -> bool:
    return row.get("base_key") is not None or held_by(row["data"]) is not None


@contextmanager
def _naming(table: Table, row: Row) -> Iterator[None]:
    """Start the message of an error about a row with its name."""
    where = f"{table.name} {_named(table, row)}"
    try:
        yield
    except HistoryLostError as exc:
        raise HistoryLostError(f"{where}: {exc}") from exc
    except ValueError as exc:
        raise SerializationError(f"{where}: {exc}") from exc


def _is_no_piece(tables: Tables, table: Table) -> list[ColumnElement[bool]]:
    if table is tables.blobs:
        return [table.c.depth != PIECE_DEPTH]
    return [table.c.idx > LOWEST_IDX] if table is tables.writes else []


def _keys(conn: Connection, table: Table, where: Any, order: Any) -> list[tuple[Any, ...]]:
    """The primary keys of rows."""
    found = conn.execute(select(*table.primary_key).where(*where).order_by(*order)).all()
    return [tuple(row) for row in found]


def _rows(conn: Connection, table: Table, keys: Sequence[tuple[Any, ...]]) -> list[Row]:
    """The rows of primary keys that still exist, in the order of the keys."""
    names = table.primary_key.c.keys()
    is_wanted = or_(*(_is(table, dict(zip(names, key, strict=True))) for key in keys))
    found = [dict(row) for row in conn.execute(select(table).where(is_wanted)).mappings()]
    by_key = {tuple(row[name] for name in names): row for row in found}
    return [by_key[key] for key in keys if key in by_key]


def _is(table: Table, row: Row) -> Any:
    return and_(*(column == row[column.name] for column in table.primary_key))


def _values(table: Table) -> list[tuple[Column[Any], Column[Any]]]:
    """The columns of each value: its type, and its bytes."""
    c = table.c
    pairs = [(c.type, c.data)]
    return [*pairs, (c.metadata_type, c.metadata_data)] if "metadata_type" in c else pairs


def _named(table: Table, row: Row) -> str:
    """A row's primary key in error messages."""
    keys = ((name, row[name]) for name in table.primary_key.c.keys())  # noqa: SIM118 - no mapping
    return ", ".join(f"{k}={v.hex() if isinstance(v, bytes) else v!r}" for k, v in keys)


def _replace(
    conn: Connection, storage: Storage, table: Table, changes: list[_Change]
) -> list[_Change]:
    """Replace the values of a thread's rows that are as they were read, and return these."""
    tables = storage.tables
    if table is tables.blobs and not all("+" in row["type"] for row, *_ in changes):
        # Before the blobs, as steps do: the row is locked until the end.
        storage.threads.note_change(conn, changes[0].row["thread_key"])
        bases = _bases(conn, table, [row for row, *_ in changes])
        changes = [change for change in changes if change.row["blob_key"] not in bases]
    done = []
    for change in changes:
        row, new, pieces = change
        same = [data == row[data.name] for _, data in _values(table)]
        if not conn.execute(update(table).where(_is(table, row), *same).values(new)).rowcount:
            continue
        if is_in_pieces(row["data"]):
            conn.execute(delete(table).where(*_is_piece_of(tables, table, row)))
        for some in batches(pieces, AT_ONCE):
            conn.execute(insert(table).inline(), list(some))
        done.append(change)
    return done


def _bases(conn: Connection, blobs: Table, rows: list[Row]) -> set[bytes]:
    """Those of a thread's blobs that changes were stored of, meanwhile and in clear."""
    c = blobs.c
    its = (c.thread_key == rows[0]["thread_key"], c.base_key.in_([r["blob_key"] for r in rows]))
    return set(conn.execute(select(c.base_key).where(*its, c.depth != PIECE_DEPTH)).scalars())


def _is_piece_of(tables: Tables, table: Table, row: Row) -> list[ColumnElement[bool]]:
    c = table.c
    if table is tables.blobs:
        its = [c.thread_key == row["thread_key"], c.base_key == row["blob_key"]]
        return [*its, c.depth == PIECE_DEPTH]
    its = [column == row[column.name] for column in table.primary_key if column is not c.idx]
    return [*its, c.idx < LOWEST_IDX, (row["idx"] - c.idx) % STRIDE == 0]
