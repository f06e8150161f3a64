"""Frames: stored bytes with their compression.

A frame is one byte for its kind (`RAW`, `ZLIB` or `ZSTD`), the uncompressed length as a varint if
it is compressed, and the bytes.
"""

from __future__ import annotations

import threading
import zlib

import zstandard

from langgraph_session_saver.encoding.delta import read_number, write_number
from langgraph_session_saver.errors import CorruptBlobError

RAW, ZLIB, ZSTD = 0, 1, 2
"""Kinds of frames. ZLIB is only read: earlier versions wrote it."""

COMPRESS_FROM = 1_024
"""Bytes from which compression is tried."""

COMPRESS_WITH = 1
"""The level of zstd: higher ones take longer and save hardly more."""

MAX_UNPACKED = 1 << 31
"""The most bytes that a frame may unpack to: a greater length is taken for damage."""


def frame(data: bytes) -> bytes:
    """Wrap bytes for storage, compressed if that saves an eighth or more."""
    if len(data) >= COMPRESS_FROM:
        packed = _zstd.packer.compress(data)
        if len(packed) < len(data) - len(data) // 8:
            return _ZSTD + write_number(len(data)) + packed
    return _RAW + data


def unframe(framed: bytes) -> bytes:
    """Unwrap what `frame` wrote.

    Raises:
        CorruptBlobError: The bytes are not a frame.
    """
    kind = framed[0] if framed else None
    if kind == RAW:
        return framed[1:]
    if kind not in {ZLIB, ZSTD}:
        raise CorruptBlobError(
            f"stored bytes start with {kind!r}: expected {RAW}, {ZLIB} or {ZSTD}. A newer version "
            "of langgraph-session-saver may have written them"
        )
    try:
        length, start = read_number(framed, 1)
        if length > MAX_UNPACKED:
            raise CorruptBlobError(f"stored bytes claim to unpack to {length:,} bytes")
        if kind == ZSTD:  # which takes a limit of 0 for none
            data = _zstd.unpacker.decompress(framed[start:], max_output_size=length or 1)
        else:
            data = zlib.decompressobj().decompress(framed[start:], length + 1)
    except (zlib.error, zstandard.ZstdError, ValueError) as exc:
        raise CorruptBlobError(f"stored bytes do not unpack: {exc}") from exc
    if len(data) != length:
        raise CorruptBlobError(f"stored bytes unpack to {len(data):,} bytes, not to {length:,}")
    return data


class _Zstd(threading.local):
    """A thread's own compressor and decompressor: zstandard's are not thread-safe."""

    def __init__(self) -> None:
        self.packer = zstandard.ZstdCompressor(level=COMPRESS_WITH, write_content_size=False)
        self.unpacker = zstandard.ZstdDecompressor()


_zstd = _Zstd()

_RAW, _ZSTD = bytes((RAW,)), bytes((ZSTD,))
