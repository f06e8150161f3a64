"""The rows of values that are stored in pieces (see `encoding.pieces`).

A piece of a blob is a row of `session_blobs` of depth `PIECE_DEPTH`, whose base is the blob. Its
key is made from the blob's key, its content and a number, so that a blob that is stored again with
other content has other pieces. Retention keeps a piece as long as its blob.

A piece of a task's write is a row of `session_writes`, under the write's `idx` less a multiple of
`STRIDE`. It is deleted with its checkpoint, as the write is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import count, islice
from typing import Any, overload

from langgraph_session_saver.encoding.keys import KEY_BYTES
from langgraph_session_saver.encoding.pieces import Pieces, cut, head_of
from langgraph_session_saver.schema.tables import PIECE_DEPTH

Row = Mapping[str, Any]

STRIDE = 1 << 20
"""The distance between the `idx` of a write and that of its first piece, and so on."""

LOWEST_IDX = -1_024
"""Writes have a greater `idx`, and their pieces a smaller one."""

HIGHEST_IDX = STRIDE + LOWEST_IDX
"""Writes from this `idx` on cannot be in pieces."""

AT_ONCE = 4
"""Pieces that one statement reads or writes."""


class PieceRows(Sequence[Row]):
    """The rows of a value's pieces, each made when it is asked for: all are as large as the value.

    Args:
        row: The row of the value.
        column: The column by which the pieces differ.
        values: The values of that column.
        pieces: What they hold.
    """

    def __init__(self, row: Row, column: str, values: Sequence[Any], pieces: Pieces) -> None:
        self.row = row
        self._column = column
        self.values = values
        self._pieces = pieces

    def __len__(self) -> int:
        return len(self._pieces)

    @overload
    def __getitem__(self, number: int) -> Row: ...
    @overload
    def __getitem__(self, number: slice) -> list[Row]: ...
    def __getitem__(self, number: int | slice) -> Row | list[Row]:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        return {**self.row, self._column: self.values[number], "data": self._pieces[number]}


def cut_blob(row: dict[str, Any], size: int) -> tuple[dict[str, Any], PieceRows]:
    """Cut a row of `session_blobs`: the blob's own row, and those of its pieces."""
    data, pieces = cut(row["data"], size)
    keys = list(islice(blob_piece_keys(row["blob_key"], data), len(pieces)))
    piece = {**row, "base_key": row["blob_key"], "depth": PIECE_DEPTH, "level": 0}
    return {**row, "data": data}, PieceRows(piece, "blob_key", keys, pieces)


def blob_piece_keys(key: bytes, data: bytes) -> Iterator[bytes]:
    """The keys of a blob's pieces, endless."""
    digest = head_of(data).digest
    for number in count(1):
        yield blake2b(b"%b%b%d" % (key, digest, number), digest_size=KEY_BYTES).digest()


def cut_write(row: dict[str, Any], size: int) -> tuple[dict[str, Any], PieceRows]:
    """Cut a row of `session_writes`: the write's own row, and those of its pieces."""
    data, pieces = cut(row["data"], size)
    numbers = list(islice(write_piece_numbers(row["idx"]), len(pieces)))
    return {**row, "data": data}, PieceRows(row, "idx", numbers, pieces)


def write_piece_numbers(idx: int) -> Iterator[int]:
    """The `idx` of the pieces of a write, endless."""
    return count(idx - STRIDE, -STRIDE)


def write_of_piece(idx: int) -> int:
    """The `idx` of the write that a piece is of."""
    return (idx - LOWEST_IDX) % STRIDE + LOWEST_IDX


def fetched(
    keys: Iterator[Any], fetch: Callable[[list[Any]], Mapping[Any, bytes]]
) -> Iterator[Any]:
    """The bytes of pieces in order, None for each that is missing; a few are fetched at a time."""
    while True:
        some = list(islice(keys, AT_ONCE))
        found = fetch(some)
        yield from map(found.get, some)
