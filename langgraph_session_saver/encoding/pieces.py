"""Stored bytes that are too large for one row, cut into pieces of several rows.

The value's own row holds a head and the first bytes, and each of the other rows the byte `PIECE`
and the bytes that follow. The head is the byte `IN_PIECES`, a hash of all bytes, and their number.
Bytes are cut after they were packed, so that the rest of the package knows of no pieces: a row that
was read has all of its value's bytes after the head.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple, overload

from langgraph_session_saver.errors import CorruptBlobError, HistoryLostError

IN_PIECES, PIECE = 4, 5
"""Kinds of stored bytes besides those of `framing` and `chains.CHANGED`."""

PIECE_BYTES = 4 << 20
"""Bytes of a row from which a value is cut: asyncmy loses the connection at packets of 16 MB."""

MOST_PIECES = 2_047
"""Pieces of a value, besides the bytes in its own row."""

_HEAD = struct.Struct(">B16sQ")

HEAD_BYTES = _HEAD.size

START_BYTES = 64
"""Bytes of `start_of`: enough for what says how the others are to be read."""

_IN_PIECES, _PIECE = bytes((IN_PIECES,)), bytes((PIECE,))


class Pieces(Sequence[bytes]):
    """The pieces of a value after its own row, each made when it is asked for.

    Args:
        stored: The bytes of the value.
        at: Where the first piece starts.
        size: The bytes of a row.
    """

    def __init__(self, stored: bytes, at: int, size: int) -> None:
        self._stored = stored
        self._starts = range(at, len(stored), size - 1)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, number: int) -> bytes: ...
    @overload
    def __getitem__(self, number: slice) -> list[bytes]: ...
    def __getitem__(self, number: int | slice) -> bytes | list[bytes]:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        start = self._starts[number]
        return b"".join((_PIECE, memoryview(self._stored)[start : start + self._starts.step]))


class Head(NamedTuple):
    """What the row of a value in pieces says about it."""

    digest: bytes
    length: int
    """The bytes that were cut."""


def most_bytes(size: int) -> int:
    """The bytes of the largest value that can be cut into rows of a size."""
    return size - HEAD_BYTES + MOST_PIECES * (size - 1)


def cut(stored: bytes, size: int) -> tuple[bytes, Pieces]:
    """Cut stored bytes into rows of a size: the value's own row, and its other pieces."""
    digest, at = blake2b(stored, digest_size=16).digest(), size - HEAD_BYTES
    head = _HEAD.pack(IN_PIECES, digest, len(stored))
    return b"".join((head, memoryview(stored)[:at])), Pieces(stored, at, size)


def is_in_pieces(stored: bytes | memoryview) -> bool:
    """Whether a row holds a head and the first bytes of a value."""
    return stored[:1] == _IN_PIECES and len(stored) >= HEAD_BYTES


def is_piece(stored: bytes) -> bool:
    """Whether a row holds a piece of another row's value."""
    return stored[:1] == _PIECE


def head_of(stored: bytes | memoryview) -> Head:
    """Read the head of a value in pieces."""
    _, digest, length = _HEAD.unpack_from(stored)
    return Head(digest, length)


def length_of(stored: bytes) -> int:
    """The stored bytes of the value that a row holds, or holds the head of."""
    return head_of(stored).length if is_in_pieces(stored) else len(stored)


def start_of(stored: bytes) -> bytes:
    """The first bytes, or all, of the value that a row holds, or holds the head of."""
    return stored[HEAD_BYTES : HEAD_BYTES + START_BYTES] if is_in_pieces(stored) else stored


def missing_from(stored: bytes) -> int:
    """The bytes of its value that a row does not hold."""
    return length_of(stored) + HEAD_BYTES - len(stored) if is_in_pieces(stored) else 0


def join(stored: bytes, pieces: Iterator[bytes | None]) -> bytes:
    """Add the bytes of its pieces to those of a value's own row.

    Args:
        stored: The bytes of the row.
        pieces: The others in order; None for one that is missing. As many are taken as it has.

    Returns:
        The head and all bytes; if a piece is missing, the bytes of the row.
    """
    found: list[bytes | memoryview] = [stored]
    left = missing_from(stored)
    while left > 0:
        piece = next(pieces, None)
        if piece is None or len(piece) <= 1:
            return stored
        found.append(memoryview(piece)[1:])
        left -= len(piece) - 1
    return b"".join(found)


def is_intact(stored: bytes | None) -> bool:
    """Whether stored bytes are in no pieces, or joined with all pieces that were cut from them."""
    try:
        content_of(stored or b"")
    except (CorruptBlobError, HistoryLostError):
        return False
    return True


def content_of(stored: bytes | memoryview) -> bytes | memoryview:
    """The bytes that were cut, after they were joined; other stored bytes as they are.

    Raises:
        HistoryLostError: A piece is missing.
        CorruptBlobError: A piece was changed.
    """
    if not is_in_pieces(stored):
        return stored
    digest, length = head_of(stored)
    content = memoryview(stored)[HEAD_BYTES:]
    if len(content) < length:
        raise HistoryLostError(
            f"it is stored in pieces, and those after the first {len(content):,} of {length:,} "
            "bytes are not all in the database"
        )
    if blake2b(content, digest_size=16).digest() != digest:
        raise CorruptBlobError(
            f"it is stored in pieces, and their {len(content):,} bytes are not the {length:,} that "
            "were cut"
        )
    return content
