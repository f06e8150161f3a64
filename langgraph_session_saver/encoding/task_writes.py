"""A task's write as it is stored: as it is, or as a change of what its channel held.

Most nodes give back what they were given with a little changed: of 1 MB, a change of 100 bytes
stands for 0.6 MB. The value that it is a change of belongs to the checkpoint that the write
follows, and stays as long as that one does.

A frame as `codec` makes it, or the byte `CHANGED`, the key of that value, and the frame of the
packed change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from langgraph_session_saver.encoding.chains import Value, change_of
from langgraph_session_saver.encoding.delta import pack, rebuild, unpack
from langgraph_session_saver.encoding.framing import frame, unframe
from langgraph_session_saver.encoding.keys import KEY_BYTES, Typed
from langgraph_session_saver.errors import CorruptBlobError, HistoryLostError

CHANGED = 3
"""Kind of a frame, beside those that `codec` knows."""

LARGE = 1_024
"""Serialised bytes from which a write is compared with what its channel held."""

_CHANGED = bytes((CHANGED,))

_START = 1 + KEY_BYTES


def _is_like(held: Value, typed: Typed) -> bool:
    """Whether a look for what differs may pay: what is added to a list is not all of it."""
    return held.typed[0] == typed[0] and held.size <= 2 * len(typed[1])


def frame_write(typed: Typed, held: Value | None) -> bytes:
    """Wrap what a task wrote for storage.

    Args:
        typed: What the serde made of it.
        held: What the channel held in the write's checkpoint, if that is known to be stored.
    """
    if held is not None and _is_like(held, typed):
        change = frame(pack(change_of(held.typed[1], typed[1])))
        if 2 * len(change) < len(typed[1]):
            return b"".join((_CHANGED, held.key, change))
    return frame(typed[1])


def held_by(framed: bytes) -> bytes | None:
    """The key of the value that a write is stored as a change of; None if it is stored as it is."""
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
