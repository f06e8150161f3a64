"""From values to stored bytes and back: hashed keys, framing and the serde's errors. Pure.

A stored value is its serde type and a frame: one byte that says how the rest is kept (`RAW`,
`ZLIB` or `ZSTD`), for the packed kinds the length that it unpacks to as a varint, then the bytes.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import zstandard
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_session_saver.delta import read_number, write_number
from langgraph_session_saver.errors import CorruptBlobError, SerializationError
from langgraph_session_saver.messagepack import items_in_front
from langgraph_session_saver.messages import MessageReader, is_of_messages
from langgraph_session_saver.types import KEY_BYTES, Typed

RAW, ZLIB, ZSTD = 0, 1, 2
"""Kinds of frames; zlib's are read only, for they were written before zstd's."""

COMPRESS_FROM = 1_024
"""Bytes from which compression is tried: on 300 of a chat, 7 µs would save 50."""

COMPRESS_WITH = 1
"""zstd level. On 1 KB of a chat levels 1 and 3 reach 0.70 and 0.69 in 6 and 7 µs (zlib 0.69 in 20),
on 1 MB both 0.58 in 1.7 and 7.8 ms (zlib 0.65 in 18).
"""

MAX_UNPACKED = 1 << 31
"""Bytes that a compressed frame may unpack to: a stored length over it is damage."""

INLINE_TEXT = 24
"""Characters of a text that is kept in its checkpoint's row: as many as its channel's version has,
which that row holds anyway. A row of its own would cost 160 bytes.
"""

TOGETHER = 1 << 14
"""Bytes of values that are joined to be read in one go: of larger ones that saves nothing."""

_SMALL = frozenset((type(None), bool, int, float))


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


def is_unique(version: Any) -> bool:
    """Whether a version can name one value only: plain numbers repeat across forks."""
    return isinstance(version, str) and "." in version


def is_small(value: Any) -> bool:
    """Whether a value is kept in its checkpoint's row, and not in a row of its own."""
    kind = type(value)
    return kind in _SMALL or (kind is str and len(value) <= INLINE_TEXT)


def kept_items(earlier: Typed, later: Typed) -> int:
    """How many items a serialised list has in front that are all of an earlier one's; 0 if not all.

    MessagePack writes a list as its length and its items one after another.
    """
    return items_in_front(earlier[1], later[1]) if earlier[0] == later[0] else 0


def frame(data: bytes) -> bytes:
    """Wrap bytes for storage, compressed where that saves an eighth or more."""
    if len(data) >= COMPRESS_FROM:
        packed = _own.packer.compress(data)
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
    unpack = _UNPACK.get(kind)
    if unpack is None:
        raise CorruptBlobError(
            f"stored bytes start with {kind!r}: expected {RAW}, {ZLIB} or {ZSTD}. A newer version "
            "of langgraph-session-saver may have written them"
        )
    try:
        length, start = read_number(framed, 1)
        if length > MAX_UNPACKED:
            raise CorruptBlobError(f"stored bytes claim to unpack to {length:,} bytes")
        data = unpack(framed[start:], length)
    except (zlib.error, zstandard.ZstdError, ValueError) as exc:
        raise CorruptBlobError(f"stored bytes do not unpack: {exc}") from exc
    if len(data) != length:
        raise CorruptBlobError(f"stored bytes unpack to {len(data):,} bytes, not to {length:,}")
    return data


class _Own(threading.local):
    """What packs and unpacks in this thread: zstandard's objects serve one at a time."""

    def __init__(self) -> None:
        self.packer = zstandard.ZstdCompressor(level=COMPRESS_WITH, write_content_size=False)
        self.unpacker = zstandard.ZstdDecompressor()


_own = _Own()
_RAW, _ZSTD = bytes((RAW,)), bytes((ZSTD,))


def _unpack_zlib(packed: bytes, length: int) -> bytes:
    return zlib.decompressobj().decompress(packed, length + 1)


def _unpack_zstd(packed: bytes, length: int) -> bytes:
    # A limit of 0 would be none.
    return _own.unpacker.decompress(packed, max_output_size=length or 1)


_UNPACK: Mapping[int | None, Callable[[bytes, int], bytes]] = {
    ZLIB: _unpack_zlib, ZSTD: _unpack_zstd,
}  # fmt: skip


def dump(
    serde: SerializerProtocol,
    value: Any,
    what: Callable[[], str],
    dumps: Callable[[SerializerProtocol, Any], Typed] | None = None,
) -> Typed:
    """Serialise a value.

    Args:
        serde: The saver's serialiser, at this moment.
        value: What to write.
        what: Names the value for the error: a channel, a write, a checkpoint.
        dumps: What has the serde write it, where that need not be all of it.

    Raises:
        SerializationError: The serde refuses the value.
    """
    try:
        typ, data = serde.dumps_typed(value) if dumps is None else dumps(serde, value)
    except Exception as exc:
        raise SerializationError(
            f"{what()} holds a {type(value).__qualname__} that {type(serde).__name__} cannot "
            f"serialise ({exc}). Nothing was written: keep such objects out of the state, or pass "
            "serde= one that takes them"
        ) from exc
    return typ, data if type(data) is bytes else bytes(data)


def load(
    serde: SerializerProtocol,
    typed: Typed,
    what: str | Callable[[], str],
    messages: MessageReader | None = None,
) -> Any:
    """Deserialise a value.

    Args:
        serde: The saver's serialiser, at this moment.
        typed: What it wrote.
        what: Names the value in the error.
        messages: Reads messages, where it is the value of a channel.

    Raises:
        SerializationError: The bytes name a type that the serde is not allowed to build, or it
            cannot read them.
    """
    outer, _noticed.blocked = _noticed.blocked, []
    try:
        value = serde.loads_typed(typed) if messages is None else messages.loads(serde, typed)
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


def join(parts: Sequence[Typed]) -> bytes | None:
    """Several small values as one array; None for large ones, lists of messages and other formats.

    In MessagePack values one after another, behind an array's header, are an array.
    """
    pieces = [part[1] for part in parts if part[0] == "msgpack" and not is_of_messages(part)]
    if len(pieces) < len(parts) or sum(map(len, pieces)) > TOGETHER:
        return None
    return b"".join((b"\xdc", len(pieces).to_bytes(2, "big"), *pieces))


def load_joined(serde: SerializerProtocol, joined: bytes) -> list[Any] | None:
    """Deserialise what `join` made in one go: 3 µs where four values take 6 one by one.

    Returns:
        The values; None where the serde is not LangGraph's own, or one cannot be read.
    """
    if type(serde).loads_typed is not JsonPlusSerializer.loads_typed:
        return None
    try:
        return load(serde, ("msgpack", joined), "")  # type: ignore[no-any-return]
    except SerializationError:
        return None


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
