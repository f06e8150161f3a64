"""Changes between byte strings: what differs, how changes combine, how they are packed.

A change describes a target as a sequence of segments: a copy of a range of the base, or literal
bytes. Combining is what keeps reading cheap: a chain of changes is combined newest first, so that
only the bytes that survive to the newest value are ever copied, and several old links can be
merged into one without looking at the values they lead to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from langgraph_session_saver.encoding.keys import Typed

Copy = tuple[int, int]
"""A range of the base: where it starts and how long it is."""

Segment = Copy | bytes

Change = tuple[Segment, ...]

ANCHOR = 32
"""Equal bytes that make two places count as the same one."""

WINDOW = 1 << 16
"""How far ahead in the base a changed region may end."""

MAX_REGIONS = 64
"""Changed regions looked for before the rest counts as one."""

SHORT = 128
"""Bytes whose first difference is found as whole numbers, in 0.5 µs; of more, which half has it."""

SMALL = 256
"""A changed region that is stored as it is, without a look for what is equal inside it."""


def diff(base: bytes, target: bytes) -> Change:
    """Describe a target as a change of a base.

    What is equal at both ends is copied. If what is left is more than `SMALL`, it is walked in
    step: after each difference the nearest place where both agree again is looked for. Linear in
    the sizes; an append, an edit and a removal are each as small as they are.
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


def rebuild(newest_first: Sequence[Change], base: bytes) -> bytes:
    """Apply a chain of changes to the base of the oldest.

    Ranges of the newest are followed down through the others: nothing is built on the way, and
    only the bytes that survive are copied, once.

    Raises:
        ValueError: A change copies what the one before does not lead to.
    """
    pieces: list[Segment] = list(newest_first[0])
    ending: list[bytes] = []
    for change in newest_first[1:]:
        while pieces and isinstance(literal := pieces[-1], bytes):
            ending.append(literal)  # what was appended since needs no further look
            pieces.pop()
        pieces = _traced(pieces, change)
    target = b"".join(
        [
            piece if isinstance(piece, bytes) else base[piece[0] : piece[0] + piece[1]]
            for piece in pieces
        ]
        + ending[::-1]
    )
    if len(target) != target_length(newest_first[0]):
        raise ValueError("a change copies from outside its base")
    return target


def combine(later: Change, earlier: Change) -> Change:
    """Make one change of two: `rebuild([combine(b, a)], x) == rebuild([b, a], x)`.

    Raises:
        ValueError: The later change copies what the earlier one does not lead to.
    """
    return _joined(_traced(later, earlier))


def _traced(later: Sequence[Segment], earlier: Change) -> list[Segment]:
    """What a later change copies, as what the earlier one makes it of."""
    traced: list[Segment] = []
    at = start = 0  # a segment of the earlier change, and where it starts in what that leads to
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
            length = len(segment) if isinstance(segment, bytes) else segment[1]
            skipped = wanted - start
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
    """Write a change as bytes: per segment its length and kind, then a start or the literal."""
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
        ValueError: The bytes end in the middle of a segment.
    """
    segments: list[Segment] = []
    at = 0
    while at < len(packed):
        number, at = read_number(packed, at)
        length = number >> 1
        if number & 1:
            segments.append(packed[at : at + length])
            at += length
        else:
            start, at = read_number(packed, at)
            segments.append((start, length))
    if at != len(packed):
        raise ValueError(f"a packed change ends {at - len(packed)} bytes early")
    return tuple(segments)


def target_length(change: Change) -> int:
    """Bytes of the value that a change leads to."""
    return sum(map(_length, change))


def _length(segment: Segment) -> int:
    return len(segment) if isinstance(segment, bytes) else segment[1]


def _joined(segments: Iterable[Segment]) -> Change:
    """Drop empty segments and join neighbours that continue each other."""
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
    """Equal bytes from two positions on: gallop over equal blocks, then halve the other.

    Compared in place: of 280 KB, slices would be copied for twice as long.
    """
    limit = min(len(base) - i, len(target) - j)
    view, ahead = memoryview(base), j - i
    end, step = i + limit, 256
    while i < end:
        step = min(step, end - i)
        if target.startswith(view[i : i + step], i + ahead):
            i += step
            step *= 8
            continue
        while step > SHORT:
            half = step // 2
            if target.startswith(view[i : i + half], i + ahead):
                i, step = i + half, step - half
            else:
                step = half
        i += _equal_in_front(base[i : i + step], target[i + ahead : i + ahead + step])
        break
    return limit - (end - i)


def _common_suffix(base: bytes, target: bytes, i: int, j: int) -> int:
    """Equal bytes before the two ends, down to two positions; as `_common_prefix` finds them."""
    end = len(base)
    limit = min(end - i, len(target) - j)
    view, ahead = memoryview(base), len(target) - end
    first, step = end - limit, 256
    while end > first:
        step = min(step, end - first)
        if target.endswith(view[end - step : end], 0, end + ahead):
            end -= step
            step *= 8
            continue
        while step > SHORT:
            half = step // 2
            if target.endswith(view[end - half : end], 0, end + ahead):
                end, step = end - half, step - half
            else:
                step = half
        end -= _equal_at_end(base[end - step : end], target[end + ahead - step : end + ahead])
        break
    return limit - (end - first)


def _equal_in_front(one: bytes, other: bytes) -> int:
    """Equal bytes in front of two texts of one length that differ."""
    differing = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    return len(one) - (differing.bit_length() + 7) // 8


def _equal_at_end(one: bytes, other: bytes) -> int:
    """Equal bytes at the end of two texts of one length that differ."""
    differing = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    return ((differing & -differing).bit_length() - 1) // 8


def _resynchronise(base: bytes, target: bytes, i: int, j: int) -> tuple[int, int] | None:
    """How far to skip in base and target to where they agree again; None if nowhere near."""
    if i >= len(base) or j >= len(target):
        return None
    for skip in range(1, 9):  # a counter, a length or a header: same place, other digits
        if _anchored(base, target, i + skip, j + skip):
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


def _anchored(base: bytes, target: bytes, i: int, j: int) -> bool:
    return (
        len(base) - i >= ANCHOR <= len(target) - j
        and base[i : i + ANCHOR] == target[j : j + ANCHOR]
    )


@lru_cache(maxsize=4_096)
def write_number(number: int) -> bytes:
    """A non-negative integer as a base-128 varint, least significant group first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_number(data: bytes, at: int) -> tuple[int, int]:
    """Read a varint; returns it and the position after it.

    Raises:
        ValueError: The bytes end in the middle of it.
    """
    number = shift = 0
    try:
        while (byte := data[at]) > 0x7F:
            number |= (byte & 0x7F) << shift
            shift += 7
            at += 1
    except IndexError:
        raise ValueError("bytes end in the middle of a number") from None
    return number | byte << shift, at + 1


def array_header(data: bytes) -> tuple[int, int]:
    """Items of an array, and where the first one starts; of anything else none."""
    first = data[0] if data else 0
    if first & 0xF0 == 0x90:
        return first & 0x0F, 1
    size = {0xDC: 2, 0xDD: 4}.get(first, 0)
    if len(data) <= size:  # other bytes may begin like one
        return 0, 1
    return int.from_bytes(data[1 : 1 + size], "big"), 1 + size


def items_in_front(earlier: bytes, later: bytes) -> int:
    """How many items an array has in front that are all of an earlier one's; 0 if not all."""
    was, start = array_header(earlier)
    now, body = array_header(later)
    is_kept = was <= now and later.startswith(memoryview(earlier)[start:], body)
    return was if is_kept else 0


def appended(earlier: bytes, count: int, rest: bytes) -> bytes:
    """An array of so many items that has those of an earlier one, and then the others."""
    (_, start), (_, body) = array_header(earlier), array_header(rest)
    return b"".join((_header(count), memoryview(earlier)[start:], memoryview(rest)[body:]))


def starts_with_extension(data: bytes) -> bool:
    """Whether this is an array whose first item is an extension of some length."""
    count, start = array_header(data)
    return count > 0 and start < len(data) and data[start] in _EXTENSIONS


_EXTENSIONS = frozenset((0xC7, 0xC8, 0xC9))


def _header(count: int) -> bytes:
    if count < 1 << 4:
        return bytes((0x90 | count,))
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def kept_items(earlier: Typed, later: Typed) -> int:
    """How many items a serialised list has in front that are all of an earlier one's; 0 if not all.

    MessagePack writes a list as its length and its items one after another.
    """
    return items_in_front(earlier[1], later[1]) if earlier[0] == later[0] else 0
