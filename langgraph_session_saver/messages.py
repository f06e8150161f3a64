"""Lists of messages, serialised and read back for what is new in them.

LangGraph's serialiser writes the whole list at every step: 400 turns of a chat take it 3 ms, twice
a turn, and to read them back 7 ms. Here a message that was written before is recognised by its
bytes, and one that was read before is copied. What comes out is what the serialiser makes.

That holds for LangGraph's own serialiser, which writes MessagePack: a list is its length and its
items one after another, and a message is an extension that wraps a map of its fields.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import ormsgpack
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_session_saver.recent import Recent, Weighed
from langgraph_session_saver.types import Typed

REMEMBERED = 32 << 20
"""Bytes, roughly, of messages that are remembered to be copied: 10,000 of a chat."""

_OURS = "langchain_core.messages."
"""Where the classes are defined whose fields are all that is written of them."""

ENTRY_BYTES = 2_048
"""What a remembered message costs beside its text, roughly."""

_SCALARS = frozenset((str, int, float, bool, type(None)))
_CONTAINERS = frozenset((dict, list))


# -- MessagePack --------------------------------------------------------------------------------


def array_header(data: bytes) -> tuple[int, int]:
    """Items of a MessagePack array, and where the first one starts; of anything else none."""
    first = data[0] if data else 0
    if first & 0xF0 == 0x90:
        return first & 0x0F, 1
    size = {0xDC: 2, 0xDD: 4}.get(first, 0)
    return int.from_bytes(data[1 : 1 + size], "big"), 1 + size


def _array(count: int) -> bytes:
    """The header of an array."""
    if count < 1 << 4:
        return bytes((0x90 | count,))
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


@lru_cache(maxsize=4_096)
def _extension(code: int, size: int) -> bytes:
    """The header of an extension of more than 16 bytes."""
    if size < 1 << 8:
        return bytes((0xC7, size, code))
    if size < 1 << 16:
        return bytes((0xC8, size >> 8, size & 0xFF, code))
    return b"\xc9" + size.to_bytes(4, "big") + bytes((code,))


_SIZES = {0xC7: 1, 0xC8: 2, 0xC9: 4}
"""Bytes that hold an extension's size, by its first."""


def _extensions(data: bytes) -> Iterator[bytes]:
    """The items of an array of extensions.

    Raises:
        ValueError: An item is something else.
    """
    count, at = array_header(data)
    for _ in range(count):
        start, size = at, _SIZES.get(data[at])
        if size is None:
            raise ValueError("not an extension")
        at += 2 + size + int.from_bytes(data[at + 1 : at + 1 + size], "big")
        yield data[start:at]


# -- writing ------------------------------------------------------------------------------------


def dumps(serde: SerializerProtocol, value: Any, earlier: Typed | None) -> Typed:
    """Serialise a value: of a list of messages, what an earlier list does not have in front.

    Args:
        serde: The saver's serialiser, at this moment.
        value: What to write.
        earlier: What the serde wrote of the value before.
    """
    same, end = 0, 0
    if earlier is not None and type(value) is list and _writes_messagepack(serde, earlier):
        same, end = _same_in_front(serde, value, earlier[1])
    if not same or earlier is None:
        return serde.dumps_typed(value)
    typ, data = serde.dumps_typed(value[same:])
    if typ != "msgpack":  # it fell back to pickle, which writes a list in another way
        return serde.dumps_typed(value)
    _, start = array_header(earlier[1])
    _, rest = array_header(data)
    kept, new = memoryview(earlier[1])[start:end], memoryview(data)[rest:]
    return typ, b"".join((_array(len(value)), kept, new))


def _writes_messagepack(serde: SerializerProtocol, earlier: Typed) -> bool:
    return earlier[0] == "msgpack" and type(serde).dumps_typed is JsonPlusSerializer.dumps_typed


def _same_in_front(serde: SerializerProtocol, value: list[Any], data: bytes) -> tuple[int, int]:
    """How many messages in front a list was written with, and where in its bytes they end.

    A message may have been changed in place: it is the same if its fields make the same bytes.
    """
    count, at = array_header(data)
    for number, message in enumerate(value[:count]):
        written = _written(serde, message)
        if written is None or not data.startswith(written, at):
            return number, at
        at += len(written)
    return min(count, len(value)), at


class _Wrapping(NamedTuple):
    """What the serialiser writes around the fields of a message of one class."""

    code: int
    before: bytes
    after: bytes
    size: int

    def around(self, fields: bytes) -> bytes:
        """The message that has these fields."""
        header = _extension(self.code, self.size + len(fields))
        return b"".join((header, self.before, fields, self.after))


_wrappings: dict[type, _Wrapping] = {}

_PLAIN = (
    ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
"""Packs plain values, and refuses others: those only the serialiser knows how to write."""


def _written(serde: SerializerProtocol, message: Any) -> bytes | None:
    """What a message was written as, if it was written before; None if that cannot be known."""
    wrapping = _wrappings.get(type(message))
    if wrapping is None and not _is_message(message):
        return None
    if message.__pydantic_extra__:
        return None
    try:
        fields = ormsgpack.packb(message.__dict__, None, _PLAIN)
    except TypeError:  # ormsgpack.MsgpackEncodeError is one
        return None
    if wrapping is None:
        wrapping = _wrapping_of(serde.dumps_typed(message), fields)
        if wrapping is None:
            return None
        _wrappings[type(message)] = wrapping
    return wrapping.around(fields)


def _wrapping_of(typed: Typed, fields: bytes) -> _Wrapping | None:
    """Find out from a message that the serialiser wrote what is around its fields."""
    item = typed[1]
    size = _SIZES.get(item[0]) if item else None
    if typed[0] != "msgpack" or size is None or fields not in item:
        return None
    body, start = 2 + size, item.index(fields)
    before, after = item[body:start], item[start + len(fields) :]
    found = _Wrapping(item[1 + size], before, after, len(before) + len(after))
    return found if found.around(fields) == item else None


def _is_message(value: Any) -> bool:
    return isinstance(value, BaseMessage) and type(value).__module__.startswith(_OURS)


# -- reading ------------------------------------------------------------------------------------


class _Original(NamedTuple):
    """A message that was read, to be copied: 2.5 µs where reading it takes 8 to 14."""

    message: BaseMessage
    containers: bytes
    """Its dicts and lists, of which every copy has its own."""
    size: int

    def copy(self) -> BaseMessage:
        """A message that is equal to it, and shares nothing that can change."""
        made = self.message.__copy__()
        made.__dict__.update(marshal.loads(self.containers))  # noqa: S302 - made in this process
        return made

    def weight(self) -> int:
        """Bytes, roughly, that it takes the memory of, under its bytes."""
        return ENTRY_BYTES + 2 * self.size


def _original(message: Any, size: int) -> _Original | None:
    """Take a message that was just read; None if it holds what is not plain."""
    if not _is_message(message) or message.__pydantic_extra__:
        return None
    containers = {}
    for name, value in message.__dict__.items():
        if type(value) in _CONTAINERS:
            containers[name] = value
        elif type(value) not in _SCALARS:
            return None
    try:
        # Version 2 has no references: each dict and list of a copy is one of its own.
        return _Original(message, marshal.dumps(containers, 2), size)
    except ValueError:
        return None


class MessageMemory:
    """Messages that were read, by their bytes, for each serialiser.

    A list is remembered when its first message is met again: who reads a thread once pays nothing.
    """

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._of: WeakKeyDictionary[SerializerProtocol, Weighed[bytes, _Original]]
        self._of = WeakKeyDictionary()
        self._met: Recent[bytes, bool] = Recent(1_024)

    def loads(self, serde: SerializerProtocol, typed: Typed) -> Any:
        """Deserialise a value: of a list of messages, those that were not read before."""
        if not is_of_messages(typed) or not _reads_messagepack(serde):
            return serde.loads_typed(typed)
        known = self._of.get(serde)
        if known is None:
            known = self._of[serde] = Weighed(self._limit, _Original.weight)
        try:
            items = _extensions(typed[1])
            first = next(items)
            if known.get(first) is None and not self._is_met_again(first):
                return serde.loads_typed(typed)
            return [self._message(serde, known, item) for item in (first, *items)]
        except (ValueError, IndexError):  # a list of more than messages, or not a whole one
            return serde.loads_typed(typed)

    def _is_met_again(self, first: bytes) -> bool:
        if self._met.get(first):
            self._met.forget(first)
            return True
        self._met.put(first, True)  # noqa: FBT003
        return False

    def _message(
        self, serde: SerializerProtocol, known: Weighed[bytes, _Original], item: bytes
    ) -> Any:
        found = known.get(item)
        if found is not None:
            return found.copy()
        message = serde.loads_typed(("msgpack", item))
        original = _original(message, len(item))
        if original is None:
            return message
        known.put(item, original)
        return original.copy()


def _reads_messagepack(serde: SerializerProtocol) -> bool:
    return type(serde).loads_typed is JsonPlusSerializer.loads_typed


def is_of_messages(typed: Typed) -> bool:
    """Whether this may be a list of messages: an array that starts with an extension."""
    typ, data = typed
    if typ != "msgpack":
        return False
    count, start = array_header(data)
    return count > 0 and start < len(data) and data[start] in _SIZES
