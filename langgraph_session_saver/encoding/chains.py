"""The values of a channel as a chain: one whole value, then links, each a change of the last.

`FANOUT` links of one level are merged into one link of the next level, as in a counter. After n
changes, a read follows at most `(FANOUT - 1) · (1 + log_FANOUT n)` links, and every changed byte
is stored at most `1 + log_FANOUT n` times. A value is stored whole again when its chain would be
larger than twice the value. A chain that has more than `LONGEST` links or comes back to one of them
is damaged, and so is one that unpacks to more than `most_unpacked` of its stored bytes, or to more
than `MOST_OF_CHAIN` times the value.

A task's write is stored as the value, or as a change of its channel's value: many nodes return that
with a small change. It belongs to the checkpoint that the write follows, and is kept as long as
that. The bytes are a frame (see `framing`), or the byte `CHANGED`, the key of the channel's value,
and the frame of the packed change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from langgraph_session_saver.encoding.delta import (
    MOST_SEGMENTS,
    Change,
    appending,
    combine,
    diff,
    pack,
    rebuild,
    target_length,
    unpack,
)
from langgraph_session_saver.encoding.framing import (
    ALWAYS_UNPACKED,
    frame,
    most_unpacked,
    unframe,
)
from langgraph_session_saver.encoding.keys import KEY_BYTES, Typed
from langgraph_session_saver.encoding.pieces import content_of, start_of
from langgraph_session_saver.errors import CorruptBlobError, HistoryLostError

T = TypeVar("T")

FANOUT = 64
"""Links of one level that are merged into one of the next."""

LONGEST = (FANOUT - 1) * 11
"""Links of the longest chain: one of 64 to the power of 10 changes."""

MOST_OF_CHAIN = 4
"""How many times the bytes of a value its chain may unpack to: one that is stored is half that."""

WORTH = 128
"""Bytes that a change must save to be stored: about the size of its index entry."""

CHANGED = 3
"""A kind of frame besides those of `framing`."""

LARGE = 1_024
"""Serialised bytes from which a write may be stored as a change."""

_CHANGED = bytes((CHANGED,))

_START = 1 + KEY_BYTES


class Link(NamedTuple):
    """One change in a chain."""

    key: bytes
    level: int
    change: Change
    size: int
    """Bytes of the packed change."""


class Value(NamedTuple):
    """A channel's serialised value, and the chain that it is stored as."""

    key: bytes
    typed: Typed
    root: bytes
    """The key of the whole value that the chain starts with."""
    root_size: int
    links: tuple[Link, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the serialised value."""
        return len(self.typed[1])


class StoredBlob(NamedTuple):
    """A row of `session_blobs`, without its thread."""

    blob_key: bytes
    base_key: bytes | None
    depth: int
    level: int
    type: str
    data: bytes


def whole(key: bytes, typed: Typed) -> tuple[Value, StoredBlob]:
    """Start a chain with a value."""
    value = Value(key, typed, root=key, root_size=len(typed[1]))
    return value, StoredBlob(key, None, 0, 0, typed[0], frame(typed[1]))


def extend(
    previous: Value | None, key: bytes, typed: Typed, kept: int = 0
) -> tuple[Value, StoredBlob]:
    """Store a value as a change of the previous one if that saves enough bytes, else whole.

    Ciphertext, whose type has a "+", is always stored whole.

    `kept` is the number of items of the previous list, if this one is known to start with them.
    """
    size = len(typed[1])
    if previous is None or previous.typed[0] != typed[0] or size <= WORTH or "+" in typed[0]:
        return whole(key, typed)
    change = (appending if kept else diff)(previous.typed[1], typed[1])
    links, level, change = _carry(previous.links, change)
    packed = pack(change)
    cost = previous.root_size + sum(link.size for link in links) + len(packed)
    if len(packed) + WORTH > size or cost > 2 * size or len(change) > MOST_SEGMENTS:
        return whole(key, typed)
    base = links[-1].key if links else previous.root
    links = (*links, Link(key, level, change, len(packed)))
    value = Value(key, typed, previous.root, previous.root_size, links)
    return value, StoredBlob(key, base, len(links), level, typed[0], frame(packed))


def _carry(links: tuple[Link, ...], change: Change) -> tuple[tuple[Link, ...], int, Change]:
    """Merge a new change with the last links of each level that is full.

    Returns:
        The links that stay, and the level of the change and the change.
    """
    level = 0
    while len(links) >= FANOUT - 1 and links[1 - FANOUT].level == level == links[-1].level:
        for link in reversed(links[1 - FANOUT :]):
            change = combine(change, link.change)
        links, level = links[: 1 - FANOUT], level + 1
    return links, level, change


class Part(NamedTuple):
    """A row of `session_blobs`, decoded."""

    channel: str
    type: str
    base: bytes
    stored: int
    """Bytes of the row's frame."""
    content: Value | Link
    """A whole value, or a change of the value with the key `base`."""


def part_of(row: Any) -> Part:
    """Decode a row of `session_blobs`.

    Raises:
        CorruptBlobError: It does not decode.
        HistoryLostError: It is in pieces, and one is missing.
    """
    key = row.blob_key
    content: Value | Link
    try:
        data = unframe(row.data)
        if row.base_key is None:
            content = Value(key, (row.type, data), root=key, root_size=len(data))
        else:
            content = Link(key, row.level, unpack(data), len(data))
    except HistoryLostError as exc:
        raise HistoryLostError(_problem(key, row.channel, exc)) from exc
    except ValueError as exc:
        raise _corrupt(key, row.channel, exc) from exc
    return Part(row.channel, row.type, row.base_key or b"", len(row.data), content)


def of_thread(
    found: Mapping[tuple[bytes, bytes], T], thread_key: bytes
) -> Callable[[bytes], T | None]:
    """A lookup by key in one thread's entries of a mapping."""
    return lambda key: found.get((thread_key, key))


def resolve(
    key: bytes,
    row_of: Callable[[bytes], Any],
    known: Callable[[bytes], Value | None] = lambda _key: None,
) -> Value:
    """Rebuild a value from the rows of its chain, newest first.

    Args:
        key: The key of the value.
        row_of: Looks up rows of `session_blobs`, or what `part_of` made of them: at least those of
            the chain down to a known value.
        known: Looks up values that were resolved before.

    Raises:
        HistoryLostError: A row of the chain is missing.
        CorruptBlobError: A row does not decode.
    """
    links: dict[bytes, Link] = {}
    at, newest = key, None
    stored = unpacked = 0
    most = ALWAYS_UNPACKED
    while (start := known(at)) is None:
        row = row_of(at)
        if row is None:
            raise HistoryLostError(f"blob {at.hex()} is not in the database")
        part = row if isinstance(row, Part) else part_of(row)
        if newest is None:
            newest = part
            most = max(most, MOST_OF_CHAIN * _made_by(part.content))
        stored, unpacked = stored + part.stored, unpacked + part.content.size
        if unpacked > min(most, most_unpacked(stored)):
            raise _corrupt(key, newest.channel, f"its chain unpacks to {unpacked:,} bytes or more")
        if isinstance(part.content, Value):
            start = part.content
            break
        links[at] = part.content
        at = part.base
        if at in links or len(links) > LONGEST:
            raise _corrupt(key, newest.channel, f"its chain does not end in {len(links):,} changes")
    if newest is None or not links:
        return start
    try:
        data = rebuild([link.change for link in links.values()], start.typed[1])
    except ValueError as exc:
        raise _corrupt(key, newest.channel, exc) from exc
    chain = (*start.links, *reversed(links.values()))
    return Value(key, (newest.type, data), start.root, start.root_size, chain)


def _made_by(content: Value | Link) -> int:
    """The bytes of the value that a row makes."""
    return content.size if isinstance(content, Value) else target_length(content.change)


def _corrupt(key: bytes, channel: str, problem: object) -> CorruptBlobError:
    return CorruptBlobError(_problem(key, channel, problem))


def _problem(key: bytes, channel: str, problem: object) -> str:
    return f"blob {key.hex()} of channel {channel!r}: {problem}"


# -- the writes of tasks ------------------------------------------------------------------------


def frame_write(typed: Typed, held: Value | None) -> bytes:
    """Wrap a serialised write for storage.

    Args:
        typed: The serialised write.
        held: The channel's value in the write's checkpoint, if it is known to be stored.
    """
    if held is None or held.typed[0] != typed[0] or "+" in typed[0]:
        return frame(typed[1])
    # A write that is much smaller than the value is an item to append, and not a changed value.
    if held.size <= 2 * len(typed[1]):
        change = frame(pack(diff(held.typed[1], typed[1])))
        if 2 * len(change) < len(typed[1]):
            return b"".join((_CHANGED, held.key, change))
    return frame(typed[1])


def held_by(framed: bytes) -> bytes | None:
    """The key of the value that a stored write is a change of; None if it is no change."""
    start = start_of(framed)
    return start[1:_START] if start[:1] == _CHANGED else None


def change_of(framed: bytes) -> Change:
    """The change that a stored write is, if it is one.

    Raises:
        ValueError: It does not decode.
        HistoryLostError: It is in pieces, and one is missing.
    """
    return unpack(unframe(content_of(framed)[_START:]))


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
        HistoryLostError: There is no such value, or a piece of the bytes is missing.
    """
    key = held_by(framed)
    if key is None:
        return unframe(framed)
    value = held(key)
    if value is None:
        raise HistoryLostError(f"it is a change of blob {key.hex()}, which is not in the database")
    try:
        return rebuild([change_of(framed)], value.typed[1])
    except CorruptBlobError:
        raise
    except ValueError as exc:
        raise CorruptBlobError(f"it is no change of blob {key.hex()}: {exc}") from exc
