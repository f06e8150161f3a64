"""The stored form of a task's write: the value, or a change of its channel's value.

Many nodes return a channel's value with a small change. The value that a write is a change of
belongs to the checkpoint that the write follows, and is kept as long as that checkpoint.

The bytes are a frame (see `framing`), or the byte `CHANGED`, the key of the channel's value, and
the frame of the packed change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from langgraph_session_saver.encoding.chains import Value
from langgraph_session_saver.encoding.delta import diff, pack, rebuild, unpack
from langgraph_session_saver.encoding.framing import frame, unframe
from langgraph_session_saver.encoding.keys import KEY_BYTES, Typed
from langgraph_session_saver.errors import CorruptBlobError, HistoryLostError

CHANGED = 3
"""A kind of frame besides those of `framing`."""

LARGE = 1_024
"""Serialised bytes from which a write may be stored as a change."""

_CHANGED = bytes((CHANGED,))

_START = 1 + KEY_BYTES


def frame_write(typed: Typed, held: Value | None) -> bytes:
    """Wrap a serialised write for storage.

    Args:
        typed: The serialised write.
        held: The channel's value in the write's checkpoint, if it is known to be stored.
    """
    # A write that is much smaller than the value is an item to append, and not a changed value.
    if held is not None and held.typed[0] == typed[0] and held.size <= 2 * len(typed[1]):
        change = frame(pack(diff(held.typed[1], typed[1])))
        if 2 * len(change) < len(typed[1]):
            return b"".join((_CHANGED, held.key, change))
    return frame(typed[1])


def held_by(framed: bytes) -> bytes | None:
    """The key of the value that a stored write is a change of; None if it is no change."""
    return framed[1:_START] if framed[:1] == _CHANGED else None


def held_keys(writes: Iterable[bytes]) -> set[bytes]:
    """The keys of the values that stored writes are changes of."""
    return {key for framed in writes if (key := held_by(framed))}


def unframe_write(framed: bytes, held: Callable[[bytes], Value | None]) -> bytes:
    """Unwrap what `frame_write` wrote.

    Args:
        framed: The stored bytes.
        held: Looks up the value that a write is a change of.

    Raises:
        CorruptBlobError: The bytes are not a frame, or no change of that value.
        HistoryLostError: There is no such value.
    """
    key = held_by(framed)
    if key is None:
        return unframe(framed)
    value = held(key)
    if value is None:
        raise HistoryLostError(f"it is a change of blob {key.hex()}, which is not in the database")
    try:
        return rebuild([unpack(unframe(framed[_START:]))], value.typed[1])
    except CorruptBlobError:
        raise
    except ValueError as exc:
        raise CorruptBlobError(f"it is no change of blob {key.hex()}: {exc}") from exc
