"""Frames: stored bytes with their compression.

A frame is one byte for its kind (`RAW`, `ZLIB` or `ZSTD`), the uncompressed length as a varint if
it is compressed, and the bytes. Compressed bytes have a checksum, and plain ones do not.

A few stored bytes could unpack to gigabytes. So a frame never unpacks to more than
`most_unpacked`, which is checked before any memory is taken. What zstd packs smaller than that is
packed with zlib, which cannot.
"""

from __future__ import annotations

import threading
import zlib

import zstandard

from langgraph_session_saver.encoding.delta import read_number, write_number
from langgraph_session_saver.encoding.pieces import content_of, length_of, start_of
from langgraph_session_saver.errors import CorruptBlobError

RAW, ZLIB, ZSTD = 0, 1, 2
"""Kinds of frames."""

COMPRESS_FROM = 1_024
"""Bytes from which compression is tried."""

COMPRESS_WITH = 1
"""The level of zstd: higher ones take longer and save hardly more."""

MOST_PER_BYTE = 1_032
"""Bytes that a byte of a frame may unpack to: as many as zlib can pack into one."""

ALWAYS_UNPACKED = 1 << 20
"""Bytes that every frame may unpack to."""


def most_unpacked(stored: int) -> int:
    """The most bytes that so many stored bytes may unpack to; more is taken for damage."""
    return max(ALWAYS_UNPACKED, MOST_PER_BYTE * stored)


def frame(data: bytes) -> bytes:
    """Wrap bytes for storage, compressed if that saves an eighth or more."""
    packed = _packed(data) if len(data) >= COMPRESS_FROM else None
    return _RAW + data if packed is None else packed


def _packed(data: bytes) -> bytes | None:
    kind, packed = _ZSTD, _zstd.packer.compress(data)
    if len(data) > MOST_PER_BYTE * len(packed):
        kind, packed = _ZLIB, zlib.compress(data, COMPRESS_WITH)
    if len(packed) < len(data) - len(data) // 8:
        return kind + write_number(len(data)) + packed
    return None


def unpacked_size(framed: bytes) -> int:
    """The bytes that a frame claims to unpack to; a few bytes of its start are enough if packed.

    Raises:
        CorruptBlobError: The bytes are not a frame.
    """
    start = start_of(framed)
    return length_of(framed) - 1 if start[:1] == _RAW else _claimed(start)[0]


def _claimed(framed: bytes | memoryview) -> tuple[int, int]:
    """The length that a packed frame claims, and where the packed bytes start."""
    kind = framed[0] if framed else None
    if kind not in {ZLIB, ZSTD}:
        raise CorruptBlobError(
            f"stored bytes start with {kind!r}: expected {RAW}, {ZLIB} or {ZSTD}. A newer version "
            "of langgraph-session-saver may have written them"
        )
    try:
        return read_number(framed, 1)
    except ValueError as exc:
        raise CorruptBlobError(f"stored bytes do not unpack: {exc}") from exc


def unframe(stored: bytes | memoryview) -> bytes:
    """Unwrap what `frame` wrote.

    Raises:
        CorruptBlobError: The bytes are not a frame.
        HistoryLostError: They are in pieces, and one is missing.
    """
    framed = content_of(stored)
    if framed[:1] == _RAW:
        return bytes(framed[1:])
    length, start = _claimed(framed)
    if length > most_unpacked(len(framed)):
        raise CorruptBlobError(
            f"{len(framed):,} stored bytes claim to unpack to {length:,}, and at most "
            f"{most_unpacked(len(framed)):,} are possible"
        )
    packed = framed[start:]
    try:
        if framed[0] == ZLIB:
            data = zlib.decompressobj().decompress(packed, length + 1)
        else:
            # A length in zstd's own header would override the limit, and a limit of 0 is none.
            if (other := zstandard.frame_content_size(packed)) not in {-1, length}:
                raise CorruptBlobError(
                    f"stored bytes claim to unpack to {length:,} bytes, and to {other:,}"
                )
            data = _zstd.unpacker.decompress(packed, max_output_size=length or 1)
    except (zlib.error, zstandard.ZstdError) as exc:
        raise CorruptBlobError(f"stored bytes do not unpack: {exc}") from exc
    if len(data) != length:
        raise CorruptBlobError(f"stored bytes unpack to {len(data):,} bytes, not to {length:,}")
    return data


class _Zstd(threading.local):
    """A thread's own compressor and decompressor: zstandard's are not thread-safe."""

    def __init__(self) -> None:
        self.packer = zstandard.ZstdCompressor(
            level=COMPRESS_WITH, write_content_size=False, write_checksum=True
        )
        self.unpacker = zstandard.ZstdDecompressor()


_zstd = _Zstd()

_RAW, _ZLIB, _ZSTD = (bytes((kind,)) for kind in (RAW, ZLIB, ZSTD))
