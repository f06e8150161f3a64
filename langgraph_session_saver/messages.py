"""Lists of messages, serialised and read back for what is new in them.

LangGraph's serialiser writes the whole list at every step: 400 turns of a chat take it 3 ms, twice
a turn, and to read them back 7 ms. Here the messages that were written before are known again by
what they hold, and those that were read before are copied. What comes out is what the serialiser
makes: LangGraph's own, of others nothing is known. It writes MessagePack, in which a list is its
length and then its items one after another, and a message an extension.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import ormsgpack
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_session_saver.recent import Recent, Weighed
from langgraph_session_saver.types import Typed

Channel = tuple[bytes, bytes, str]
"""A thread's key, a namespace's key, and a channel's name."""

REMEMBERED = 32 << 20
"""Bytes, roughly, of messages that are remembered to be copied: 10,000 of a chat."""

FEW = 4
"""Messages that are written as ever: to look at them takes as long."""

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


def items_in_front(earlier: bytes, later: bytes) -> int:
    """How many items an array has in front that are all of an earlier one's; 0 if not all."""
    was, start = array_header(earlier)
    now, body = array_header(later)
    is_kept = was <= now and later.startswith(memoryview(earlier)[start:], body)
    return was if is_kept else 0


def _array(count: int) -> bytes:
    """The header of an array."""
    if count < 1 << 4:
        return bytes((0x90 | count,))
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


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

_PLAIN = (
    ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
"""Packs plain values, and refuses others: those only the serialiser knows how to write."""


def may_be_kept(value: Any) -> bool:
    """Whether a value is a list of messages, long enough for a look at it to pay."""
    return type(value) is list and len(value) > FEW and _is_plain(type(value[0]))


class _Look(NamedTuple):
    """All that decides how a list of messages is written: each may be changed in place."""

    key: bytes
    """The blob that holds the list."""
    classes: list[type]
    held: bytes
    """What they hold, packed: bytes tell apart what is equal in Python, like 1 and True."""

    def weight(self) -> int:
        """Bytes, roughly, that it takes the memory of."""
        return ENTRY_BYTES + len(self.held)

    def goes_on_from(self, earlier: _Look) -> bool:
        """Whether it has all messages of an earlier list in front, as they were."""
        count = items_in_front(earlier.held, self.held)
        return count > 0 and self.classes[:count] == earlier.classes

    def ends_like(self, later: _Look) -> bool:
        """Whether its last messages are those of another list, as they are there."""
        _, body = array_header(later.held)
        return self.held.endswith(memoryview(later.held)[body:])


def _look_at(value: list[Any], key: bytes) -> _Look | None:
    """Look at a list that is about to be written; None if it holds more than plain messages."""
    classes = list(map(type, value))
    if not all(map(_is_plain, set(classes))):
        return None
    held = [(message.__dict__, message.__pydantic_extra__) for message in value]
    try:
        return _Look(key, classes, ormsgpack.packb(held, None, _PLAIN))
    except TypeError:  # ormsgpack.MsgpackEncodeError is one
        return None


def _appended(earlier: bytes, count: int, rest: bytes) -> bytes:
    """A list of so many items that has those of an earlier one, and then the others."""
    (_, start), (_, body) = array_header(earlier), array_header(rest)
    return b"".join((_array(count), memoryview(earlier)[start:], memoryview(rest)[body:]))


def _is_plain(cls: type) -> bool:
    """Whether all that is written of an instance is what it holds."""
    return cls.__module__.startswith(_OURS) and issubclass(cls, BaseMessage)


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
    if not _is_plain(type(message)) or message.__pydantic_extra__:
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
    """What was written and read of messages.

    Those that were read are remembered by their bytes, for each serialiser, once the first of a
    list is met again: who reads a thread once pays nothing.

    Args:
        limit: Bytes, roughly, for those that were written and, each, for those that were read.
    """

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._written: Weighed[Channel, _Look] = Weighed(limit, _Look.weight)
        self._of: WeakKeyDictionary[SerializerProtocol, Weighed[bytes, _Original]]
        self._of = WeakKeyDictionary()
        # By a hash: of large messages, and a wrong guess costs no more than a copy.
        self._met: Recent[int, bool] = Recent(1_024)

    def dumps(
        self,
        serde: SerializerProtocol,
        value: list[Any],
        channel: Channel,
        key: bytes,
        earlier: tuple[bytes, Typed] | None,
    ) -> Typed:
        """Serialise a list: of messages, those that were appended to it.

        Args:
            serde: The saver's serialiser, at this moment.
            value: What to write, of which `may_be_kept` is true.
            channel: Where it belongs.
            key: The blob that it becomes.
            earlier: The blob that the channel held before, and what the serde wrote of that.
        """
        found = _look_at(value, key) if _writes_messagepack(serde) else None
        if found is None:
            return serde.dumps_typed(value)
        before, count = self._written.get(channel), 0
        if before is not None and earlier is not None and before.key == earlier[0]:
            count = len(before.classes) if found.goes_on_from(before) else 0
        new = value[count:]
        typ, data = serde.dumps_typed(new)
        self._remember(channel, found, _look_at(new, key))
        if not count or earlier is None:
            return typ, data
        return "msgpack", _appended(earlier[1][1], len(value), data)

    def _remember(self, channel: Channel, found: _Look, since: _Look | None) -> None:
        """Remember a list, unless a message was changed between the look and the writing."""
        if since is not None and found.ends_like(since):
            self._written.put(channel, found)
        else:
            self._written.forget(channel)

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

    def forget_thread(self, thread_key: bytes) -> None:
        """Drop what was written to a thread: its rows are gone."""
        self._written.forget_where(lambda channel: channel[0] == thread_key)

    def _is_met_again(self, first: bytes) -> bool:
        met = hash(first)
        if self._met.get(met):
            self._met.forget(met)
            return True
        self._met.put(met, True)  # noqa: FBT003
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


def _writes_messagepack(serde: SerializerProtocol) -> bool:
    return type(serde).dumps_typed is JsonPlusSerializer.dumps_typed


def _reads_messagepack(serde: SerializerProtocol) -> bool:
    return type(serde).loads_typed is JsonPlusSerializer.loads_typed


def is_of_messages(typed: Typed) -> bool:
    """Whether this may be a list of messages: an array that starts with an extension."""
    typ, data = typed
    if typ != "msgpack":
        return False
    count, start = array_header(data)
    return count > 0 and start < len(data) and data[start] in _SIZES
