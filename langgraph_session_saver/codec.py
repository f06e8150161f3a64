"""From values to stored bytes and back: hashed keys, framing and the serde's errors. Pure.

A stored value is its serde type and a frame: one byte that says how the rest is kept (`RAW` or
`ZLIB`), for ZLIB the length of what it unpacks to as a varint, then the bytes.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener

from langgraph_session_saver.delta import read_number, write_number
from langgraph_session_saver.errors import CorruptBlobError, SerializationError
from langgraph_session_saver.types import KEY_BYTES

RAW, ZLIB = 0, 1

COMPRESS_FROM = 1_024
"""Bytes from which compression is tried: for a checkpoint's row of 400, 25 µs would save 100."""

COMPRESS_WITH = 1
"""zlib level: on the 0.7 KB writes of a chat of random words, levels 1, 3 and 6 all reach 0.715."""

MAX_UNPACKED = 1 << 31
"""Bytes that a compressed frame may unpack to: a stored length over it is damage."""

Typed = tuple[str, bytes]
"""What a serde writes: the type it will read the bytes back as, and the bytes."""


def hash_key(*parts: str) -> bytes:
    """A fixed-size key for texts of any length (BLAKE2b-128 of their lengths and themselves)."""
    lengths = ",".join([str(len(part)) for part in parts])
    text = f"{lengths};{''.join(parts)}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


@lru_cache(maxsize=4_096)
def namespace_key(checkpoint_ns: str) -> bytes:
    """The key of a namespace: empty for the root, which most rows belong to."""
    return hash_key(checkpoint_ns) if checkpoint_ns else b""


@lru_cache(maxsize=8_192, typed=True)
def blob_key(checkpoint_ns: str, channel: str, version: Any) -> bytes:
    """The key of one channel's value at one version."""
    return hash_key(checkpoint_ns, channel, str(version))


def kept_items(earlier: Typed, later: Typed) -> int:
    """How many items a serialised list has in front that are all of an earlier one's; 0 if not all.

    MessagePack writes a list as its length and its items one after another.
    """
    if earlier[0] != later[0]:
        return 0
    was, start = _array_header(earlier[1])
    now, body = _array_header(later[1])
    return was if was <= now and later[1].startswith(earlier[1][start:], body) else 0


def _array_header(data: bytes) -> tuple[int, int]:
    """Items of a MessagePack array, and where the first one starts."""
    first = data[0] if data else 0
    if first & 0xF0 == 0x90:
        return first & 0x0F, 1
    size = {0xDC: 2, 0xDD: 4}.get(first, 0)
    return int.from_bytes(data[1 : 1 + size], "big"), 1 + size


def frame(data: bytes) -> bytes:
    """Wrap bytes for storage, compressed where that saves an eighth or more."""
    if len(data) >= COMPRESS_FROM:
        packed = zlib.compress(data, COMPRESS_WITH)
        if len(packed) < len(data) - len(data) // 8:
            return bytes((ZLIB,)) + write_number(len(data)) + packed
    return bytes((RAW,)) + data


def unframe(framed: bytes) -> bytes:
    """Unwrap what `frame` wrote.

    Raises:
        CorruptBlobError: The bytes are not a frame.
    """
    kind = framed[0] if framed else None
    if kind == RAW:
        return framed[1:]
    if kind != ZLIB:
        raise CorruptBlobError(f"stored bytes start with {kind!r}: expected {RAW} or {ZLIB}")
    try:
        length, start = read_number(framed, 1)
        if length > MAX_UNPACKED:
            raise CorruptBlobError(f"stored bytes claim to unpack to {length:,} bytes")
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(framed[start:], length + 1)
    except (zlib.error, ValueError) as exc:
        raise CorruptBlobError(f"stored bytes do not unpack: {exc}") from exc
    if len(data) != length:
        raise CorruptBlobError(f"stored bytes unpack to {len(data):,} bytes, not to {length:,}")
    return data


def dump(serde: SerializerProtocol, value: Any, what: str) -> Typed:
    """Serialise a value.

    Args:
        serde: The saver's serialiser, at this moment.
        value: What to write.
        what: Names the value in the error: a channel, a write, a checkpoint.

    Raises:
        SerializationError: The serde refuses the value.
    """
    try:
        typ, data = serde.dumps_typed(value)
    except Exception as exc:
        raise SerializationError(
            f"{what} holds a {type(value).__qualname__} that {type(serde).__name__} cannot "
            f"serialise ({exc}). Nothing was written: keep such objects out of the state, or pass "
            "serde= one that takes them"
        ) from exc
    return typ, bytes(data)


def load(serde: SerializerProtocol, typed: Typed, what: str | Callable[[], str]) -> Any:
    """Deserialise a value.

    Args:
        serde: The saver's serialiser, at this moment.
        typed: What it wrote.
        what: Names the value in the error.

    Raises:
        SerializationError: The bytes name a type that the serde is not allowed to build, or it
            cannot read them.
    """
    outer, _noticed.blocked = _noticed.blocked, []
    try:
        value = serde.loads_typed(typed)
    except Exception as exc:
        raise SerializationError(
            f"{_said(what)} cannot be read back with {type(serde).__name__}: {exc}. Use the serde "
            "(and the key) that it was written with"
        ) from exc
    finally:
        blocked, _noticed.blocked = _noticed.blocked, outer
    if blocked:
        names = ", ".join(f"({module!r}, {name!r})" for module, name in blocked)
        raise SerializationError(
            f"{_said(what)} holds a type that may not be rebuilt. To allow it, pass "
            f"serde=JsonPlusSerializer(allowed_msgpack_modules=[{names}])"
        )
    return value


def _said(what: str | Callable[[], str]) -> str:
    return what if isinstance(what, str) else what()


class _Noticed(threading.local):
    """The types that a serde refused to build in this thread.

    LangGraph's serialiser returns plain data for them and logs once: a dataclass comes back as a
    dict and nobody notices. It does tell its listeners.
    """

    blocked: list[tuple[str, str]] | None = None


_noticed = _Noticed()


def _notice(event: SerdeEvent) -> None:
    if _noticed.blocked is not None and event["kind"].endswith("_blocked"):
        _noticed.blocked.append((event["module"], event["name"]))


register_serde_event_listener(_notice)
