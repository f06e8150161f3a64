"""Changes between byte strings: finding, combining and packing them.

A change describes a target as a sequence of segments: a copy of a range of the base, or literal
bytes. The ranges are in the order of the base and do not overlap, so that a target is never larger
than its base and the literal bytes together. A chain of changes is combined newest first, so that
only the bytes that survive to the newest value are copied. Several changes can be merged into one
without knowing the values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from langgraph_session_saver.encoding.keys import Typed

Segment = tuple[int, int] | bytes
"""A range of the base, as where it starts and how long it is; or literal bytes."""

Change = tuple[Segment, ...]

ANCHOR = 32
"""Equal bytes at which base and target count as in step again."""

WINDOW = 1 << 16
"""Bytes of the base that are searched for the end of a changed region."""

MAX_REGIONS = 64
"""Changed regions that are searched for; the rest of the target counts as one more."""

BLOCK = 64
"""Bytes in which the first difference is found by arithmetic."""

SMALL = 256
"""Bytes of a changed region that is not searched for equal parts."""

MOST_SEGMENTS = 1 << 20
"""Segments of a change; one of more is not stored."""

LONGEST_NUMBER = 11
"""Bytes of the longest number that is read."""


def diff(base: bytes, target: bytes) -> Change:
    """Describe a target as a change of a base.

    Equal bytes at both ends are copied. If more than `SMALL` bytes are left, they are compared in
    step: after each difference, the nearest place where both are equal again is searched for. The
    time is linear in the sizes, and appended, edited or removed bytes are all that a change holds.
    """
    i = j = _common_prefix(base, target, 0, 0)
    segments: list[Segment] = [(0, i)]
    equal = _common_suffix(base, target, i, j)
    for _ in range(MAX_REGIONS):
        if max(len(base) - i, len(target) - j) - equal <= SMALL:
            break
        skip = _resynchronise(base, target, i, j)
        if skip is None:
            break
        segments.append(target[j : j + skip[1]])
        i, j = i + skip[0], j + skip[1]
        again = _common_prefix(base, target, i, j)
        segments.append((i, again))
        i, j = i + again, j + again
        equal = _common_suffix(base, target, i, j)
    segments.append(target[j : len(target) - equal])
    segments.append((len(base) - equal, equal))
    return _joined(segments)


def appending(base: bytes, target: bytes) -> Change:
    """Describe a MessagePack array that starts with all items of the base, without searching."""
    (_, start), (_, body) = array_header(base), array_header(target)
    kept = len(base) - start
    return _joined((target[:body], (start, kept), target[body + kept :]))


def rebuild(newest_first: Sequence[Change], base: bytes) -> bytes:
    """Apply a chain of changes to the base of the oldest one.

    The ranges that the newest change copies are traced through the others to the base. No value in
    between is built.

    Raises:
        ValueError: A change copies from outside its base.
    """
    pieces: Sequence[Segment] = newest_first[0]
    for change in newest_first[1:]:
        pieces = _traced(pieces, change)
    target = b"".join(
        piece if isinstance(piece, bytes) else base[piece[0] : piece[0] + piece[1]]
        for piece in pieces
    )
    if len(target) != target_length(newest_first[0]):
        raise ValueError("a change copies from outside its base")
    return target


def combine(later: Change, earlier: Change) -> Change:
    """Make one change of two: `rebuild([combine(b, a)], x) == rebuild([b, a], x)`.

    Raises:
        ValueError: The later change copies from outside its base.
    """
    return _joined(_traced(later, earlier))


def _traced(later: Sequence[Segment], earlier: Change) -> list[Segment]:
    """Replace the ranges that a later change copies by the earlier change's segments."""
    traced: list[Segment] = []
    at = start = 0  # a segment of the earlier change: its index, and where it starts
    for piece in later:
        if isinstance(piece, bytes):
            traced.append(piece)
            continue
        wanted, count = piece
        if wanted < start:
            at = start = 0
        while count:
            if at == len(earlier):
                raise ValueError("a change copies from outside its base")
            segment = earlier[at]
            length, skipped = _length(segment), wanted - start
            if skipped >= length:
                at, start = at + 1, start + length
                continue
            taken = min(count, length - skipped)
            if isinstance(segment, bytes):
                traced.append(segment[skipped : skipped + taken])
            else:
                traced.append((segment[0] + skipped, taken))
            wanted, count = wanted + taken, count - taken
    return traced


def pack(change: Change) -> bytes:
    """Write a change as bytes: for each segment its length and kind, then a start or literal."""
    packed = bytearray()
    for segment in change:
        if isinstance(segment, bytes):
            packed += write_number(len(segment) << 1 | 1)
            packed += segment
        else:
            packed += write_number(segment[1] << 1)
            packed += write_number(segment[0])
    return bytes(packed)


def unpack(packed: bytes) -> Change:
    """Read what `pack` wrote.

    Raises:
        ValueError: The bytes end in the middle of a segment, or `diff` makes no such segments.
    """
    segments: list[Segment] = []
    at = copied = 0  # in the packed bytes, and in the base
    while at < len(packed):
        number, at = read_number(packed, at)
        length = number >> 1
        if not length or (number & 1 and segments and isinstance(segments[-1], bytes)):
            raise ValueError("a packed change has an empty or a divided segment")
        if number & 1:
            segments.append(packed[at : at + length])
            at += length
        else:
            start, at = read_number(packed, at)
            if start < copied:
                raise ValueError("a packed change copies a part of its base twice, or backwards")
            segments.append((start, length))
            copied = start + length
        if len(segments) > MOST_SEGMENTS:
            raise ValueError(f"a packed change has more than {MOST_SEGMENTS:,} segments")
    if at != len(packed):
        raise ValueError(f"a packed change ends {at - len(packed)} bytes early")
    return tuple(segments)


def target_length(change: Change) -> int:
    """The length of a change's target."""
    return sum(map(_length, change))


def _length(segment: Segment) -> int:
    return len(segment) if isinstance(segment, bytes) else segment[1]


def _joined(segments: Iterable[Segment]) -> Change:
    """Drop empty segments and join adjacent ones."""
    joined: list[Segment] = []
    for segment in segments:
        if not _length(segment):
            continue
        last = joined[-1] if joined else None
        if isinstance(segment, bytes):
            if isinstance(last, bytes):
                joined[-1] = last + segment
                continue
        elif isinstance(last, tuple) and last[0] + last[1] == segment[0]:
            joined[-1] = (last[0], last[1] + segment[1])
            continue
        joined.append(segment)
    return tuple(joined)


def _common_prefix(base: bytes, target: bytes, i: int, j: int) -> int:
    """The number of equal bytes from two positions on."""
    limit = min(len(base) - i, len(target) - j)
    view = memoryview(base)[i : i + limit]  # slices of it are not copied
    count, size = 0, 4 * BLOCK
    while count < limit and target.startswith(view[count : count + size], j + count):
        count, size = count + size, size * 4
    while size > BLOCK and count < limit:
        size //= 2
        if target.startswith(view[count : count + size], j + count):
            count += size
    rest = view[count : count + BLOCK]
    differing = _xor(rest, target[j + count : j + count + len(rest)], "big")
    return min(count, limit) + len(rest) - (differing.bit_length() + 7) // 8


def _common_suffix(base: bytes, target: bytes, i: int, j: int) -> int:
    """The number of equal bytes before both ends, at most down to two positions."""
    limit = min(len(base) - i, len(target) - j)
    view, end = memoryview(base)[len(base) - limit :], len(target)
    left, size = limit, 4 * BLOCK  # the bytes in front that may differ
    while left > 0 and target.endswith(view[max(left - size, 0) : left], 0, end - limit + left):
        left, size = left - size, size * 4
    while size > BLOCK and left > 0:
        size //= 2
        if target.endswith(view[max(left - size, 0) : left], 0, end - limit + left):
            left -= size
    left = max(left, 0)
    rest = view[max(left - BLOCK, 0) : left]
    at = end - limit + left
    differing = _xor(rest, target[at - len(rest) : at], "little")
    return limit - left + len(rest) - (differing.bit_length() + 7) // 8


def _xor(one: memoryview, other: bytes, order: Literal["big", "little"]) -> int:
    """Two texts of one size as numbers, combined by XOR: equal bytes are 0."""
    return int.from_bytes(one, order) ^ int.from_bytes(other, order)


def _resynchronise(base: bytes, target: bytes, i: int, j: int) -> tuple[int, int] | None:
    """The bytes to skip in base and target to where they are equal again; None if not found."""
    if i >= len(base) or j >= len(target):
        return None
    for skip in range(1, 9):  # a counter, a length or a header of the same size
        anchor = base[i + skip : i + skip + ANCHOR]
        if len(anchor) == ANCHOR and target.startswith(anchor, j + skip):
            return skip, skip
    ahead = 1
    while ahead <= WINDOW and j + ahead + ANCHOR <= len(target):
        anchor = target[j + ahead : j + ahead + ANCHOR]
        found = base.find(anchor, i, i + WINDOW)
        if found >= 0:
            back = _common_suffix(base[i:found], target[j : j + ahead], 0, 0)
            return found - i - back, ahead - back
        ahead *= 2
    return None


def write_number(number: int) -> bytes:
    """A non-negative integer as a base-128 varint, least significant group first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_number(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Read a varint; returns the number and the position after it.

    Raises:
        ValueError: The bytes end in the middle of it, or it is larger than any length.
    """
    number = shift = 0
    try:
        while (byte := data[at]) > 0x7F:
            number |= (byte & 0x7F) << shift
            shift += 7
            at += 1
            if shift >= 7 * LONGEST_NUMBER:
                raise ValueError(f"a number has more than {LONGEST_NUMBER} bytes")
    except IndexError:
        raise ValueError("bytes end in the middle of a number") from None
    return number | byte << shift, at + 1


def array_header(data: bytes) -> tuple[int, int]:
    """The number of items of a MessagePack array, and where the first starts; else no items."""
    first = data[0] if data else 0
    if first & 0xF0 == 0x90:
        return first & 0x0F, 1
    size = {0xDC: 2, 0xDD: 4}.get(first, 0)
    if len(data) <= size:  # not an array, though its first byte looks like one
        return 0, 1
    return int.from_bytes(data[1 : 1 + size], "big"), 1 + size


def items_in_front(earlier: bytes, later: bytes) -> int:
    """The number of items of an earlier array, if a later one starts with all of them; else 0."""
    was, start = array_header(earlier)
    now, body = array_header(later)
    is_kept = was <= now and later.startswith(memoryview(earlier)[start:], body)
    return was if is_kept else 0


def items_of(array: bytes) -> memoryview:
    """An array without its header."""
    return memoryview(array)[array_header(array)[1] :]


def appended(earlier: bytes, count: int, rest: bytes) -> bytes:
    """An array of the items of two others; `count` is the number of all."""
    if count < 1 << 4:
        header = bytes((0x90 | count,))
    elif count < 1 << 16:
        header = b"\xdc" + count.to_bytes(2, "big")
    else:
        header = b"\xdd" + count.to_bytes(4, "big")
    return b"".join((header, items_of(earlier), items_of(rest)))


def starts_with_extension(data: bytes) -> bool:
    """Whether this is a MessagePack array whose first item is an extension."""
    count, start = array_header(data)
    return count > 0 and data[start : start + 1] in (b"\xc7", b"\xc8", b"\xc9")


def kept_items(earlier: Typed, later: Typed) -> int:
    """The number of items of an earlier list, if a later one starts with all of them; else 0."""
    return items_in_front(earlier[1], later[1]) if earlier[0] == later[0] else 0
