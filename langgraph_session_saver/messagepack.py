"""Arrays of MessagePack, taken apart and put together: a length, then the items one by one."""

from __future__ import annotations


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
