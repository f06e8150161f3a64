"""How deeply and of how many parts stored MessagePack is, found before it is decoded.

The decoder recurses on the C stack, at most 1,024 levels. But an extension's content is decoded by
a call of its own, which counts anew, while the bytes of all extensions around it are held: a dozen
extensions with a thousand lists each would end the process. So extensions are looked at before
they are decoded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_session_saver.encoding.keys import Typed

SERDE_OPTIONS = ormsgpack.OPT_NON_STR_KEYS
"""The options that JsonPlusSerializer unpacks with."""

MOST_LEVELS = 4_096
"""Levels that are decoded: about 3 MB of stack."""

MOST_EXTENSIONS = 512
"""Levels of extensions that are decoded: Python's recursion limit lets LangGraph write fewer."""

ALWAYS_HELD = 128 << 20
"""Bytes of extensions around each other that may always be held at once."""

MOST_HELD = 4
"""How often a larger value may be held in extensions around each other."""

ALWAYS_DECODED = 1_024
"""Bytes that are never nested too deeply."""

FEW = 4
"""Levels of extensions that may each be as deep as the decoder allows."""

MOST_PARTS = 4_000_000
"""Parts of a checkpoint's metadata, and of what is shown of one: about 200 MB of memory."""

HIGHEST_CODE = 7
"""LangGraph's extensions have the codes from 0 on; the content of others is not decoded."""

LEVELS_OF_EXTENSION = 3
"""An extension takes as much of the stack as so many lists."""


class TooDeepError(ValueError):
    """A value is nested more deeply than may be decoded."""


class TooManyPartsError(ValueError):
    """A value has more parts than are decoded."""


def read_extension(serde: SerializerProtocol, code: int, data: bytes) -> Any:
    """Deserialise an extension as the serialiser does, unless it is nested too deeply."""
    check_nesting(data)
    return serde.loads_typed(("msgpack", ormsgpack.packb(ormsgpack.Ext(code, data))))


def loads(
    serde: SerializerProtocol,
    typed: Typed,
    read: Callable[[SerializerProtocol, int, bytes], Any] = read_extension,
) -> Any:
    """Deserialise a value as the serialiser does, unless it is nested too deeply.

    Args:
        serde: The serialiser.
        typed: The value.
        read: Deserialises its extensions, if the serialiser is LangGraph's.

    Raises:
        TooDeepError: It is.
    """
    typ, data = typed
    if typ != "msgpack":
        return serde.loads_typed(typed)
    if type(serde).loads_typed is JsonPlusSerializer.loads_typed:
        with suppress(ValueError):  # damaged: the serialiser says how
            return ormsgpack.unpackb(data, ext_hook=partial(read, serde), option=SERDE_OPTIONS)
    check_nesting(data)
    return serde.loads_typed(typed)


def check_metadata(typ: str, data: bytes) -> None:
    """Check that a checkpoint's metadata does not take much more memory than its bytes.

    Raises:
        TooManyPartsError: It does.
    """
    if "+" not in typ and len(data) > MOST_PARTS // max(_WEIGHTS.values()):
        count_parts(data, MOST_PARTS)


def check_nesting(data: bytes) -> None:
    """Check that a serialised value can be decoded without taking all of the stack.

    Raises:
        TooDeepError: It cannot.
    """
    if len(data) > ALWAYS_DECODED and sum(map(data.count, _STARTS)) > FEW:
        count_parts(data)


_STARTS = tuple(bytes((byte,)) for byte in (0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)))
"""The first bytes of extensions."""


# -- part by part -------------------------------------------------------------------------------


_SCALAR, _TEXT, _EXT, _LIST, _MAP = range(5)

_WEIGHTS = {_SCALAR: 1, _TEXT: 2, _EXT: 8, _LIST: 2, _MAP: 6}
"""Roughly the memory of a part, in 40 bytes; and the time that it takes."""

_HEADS: tuple[tuple[int, int, int, int], ...] = (
    *[(_SCALAR, 0, 0, 0)] * 0x80,
    *((_MAP, 0, items, 0) for items in range(16)),
    *((_LIST, 0, items, 0) for items in range(16)),
    *((_TEXT, 0, size, 0) for size in range(32)),
    *[(_SCALAR, 0, 0, 0)] * 4,
    (_TEXT, 1, 0, 0), (_TEXT, 2, 0, 0), (_TEXT, 4, 0, 0),
    (_EXT, 1, 0, 1), (_EXT, 2, 0, 1), (_EXT, 4, 0, 1),
    *((_SCALAR, 0, 0, size) for size in (4, 8, 1, 2, 4, 8, 1, 2, 4, 8)),
    *((_EXT, 0, 1 << n, 1) for n in range(5)),
    (_TEXT, 1, 0, 0), (_TEXT, 2, 0, 0), (_TEXT, 4, 0, 0),
    (_LIST, 2, 0, 0), (_LIST, 4, 0, 0), (_MAP, 2, 0, 0), (_MAP, 4, 0, 0),
    *[(_SCALAR, 0, 0, 0)] * 0x20,
)  # fmt: skip
"""By the first byte of a value: its kind, the bytes after it that hold its size or its number of
items, these if there are none, and the bytes that follow in any case."""


class _Content(NamedTuple):
    """A value in the serialised bytes, and what is around it."""

    at: int
    end: int
    levels: int = 0
    extensions: int = 0
    held: int = 0
    """Bytes of these extensions."""


def count_parts(data: bytes, most: int = sys.maxsize) -> int:
    """Count the parts of a serialised value, by weight, those of its extensions included.

    Damaged bytes count as what a decoder may make of them before it notices.

    Args:
        data: The value.
        most: Where counting ends.

    Raises:
        TooDeepError: It is nested too deeply.
        TooManyPartsError: It has more parts.
    """
    most_held = max(ALWAYS_HELD, MOST_HELD * len(data))
    parts, waiting = 0, [_Content(0, len(data))]
    while waiting:
        content = waiting.pop()
        if content.extensions > MOST_EXTENSIONS or content.held > most_held:
            raise TooDeepError(
                f"it has {content.extensions:,} extensions around each other, of "
                f"{content.held:,} bytes in all"
            )
        parts += _count(data, content, most - parts, waiting)
    return parts


def _count(data: bytes, content: _Content, most: int, inner: list[_Content]) -> int:
    """Count the parts of a value, and add the contents of its extensions to a list."""
    at, end, parts = content.at, content.end, 0
    left = [1]  # items, of each list and map around this place
    while left and at < end:
        if not left[-1]:
            left.pop()
            continue
        left[-1] -= 1
        kind, length, size, more = _HEADS[data[at]]
        parts += _WEIGHTS[kind]
        if parts > most:
            raise TooManyPartsError("it has more parts than are decoded")
        at += 1 + more
        if kind == _SCALAR:
            continue
        if length:
            size = int.from_bytes(data[at - more : at - more + length], "big")
            at += length
        if kind in _ITEMS:
            left.append(size * _ITEMS[kind])
            if content.levels + len(left) > MOST_LEVELS:
                raise TooDeepError(f"it is nested more than {MOST_LEVELS:,} levels deep")
            continue
        at += size
        if kind == _EXT and at <= end and data[at - size - 1] <= HIGHEST_CODE:
            levels = content.levels + len(left) + LEVELS_OF_EXTENSION
            inner.append(
                _Content(at - size, at, levels, content.extensions + 1, content.held + size)
            )
    return parts


_ITEMS = {_LIST: 1, _MAP: 2}
"""Values of an item."""
