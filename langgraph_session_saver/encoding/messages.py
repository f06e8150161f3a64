"""Lists of messages, serialised for what is new in them, and read back by their shapes.

LangGraph's serialiser writes the whole list at every step: 400 turns of a chat take it 3 ms, twice
a turn, and to read them back 7 ms. Here the messages that were written before are known again by
what they hold, and those that are read are made as one was that differs in its texts alone. What
comes out is what the serialiser makes: LangGraph's own, of others nothing is known. It writes
MessagePack, and a message as an extension: its class, its fields, and a method's name.
"""

from __future__ import annotations

import marshal
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import ormsgpack
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import EXT_PYDANTIC_V2, JsonPlusSerializer

from langgraph_session_saver.encoding.caches import SizedCache
from langgraph_session_saver.encoding.delta import (
    appended,
    array_header,
    items_in_front,
    starts_with_extension,
)
from langgraph_session_saver.encoding.keys import Typed

Channel = tuple[bytes, bytes, str]
"""A thread's key, a namespace's key, and a channel's name."""

REMEMBERED = 32 << 20
"""Bytes, roughly, of what is remembered of messages that were written, and of shapes."""

FEW = 4
"""Messages that are written as ever: to look at them takes as long."""

_OURS = "langchain_core.messages."
"""Where the classes are defined whose fields are all that is written of them."""

ENTRY_BYTES = 2_048
"""What a list that was written is remembered with beside what it holds, roughly."""


def _is_plain(cls: type) -> bool:
    """Whether all that is written of an instance is what it holds."""
    return cls.__module__.startswith(_OURS) and issubclass(cls, BaseMessage)


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


class MessageListEncoder:
    """Serialises lists for what was appended to them, and remembers what they held.

    Args:
        limit: Bytes, roughly, for what is remembered.
    """

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._written: SizedCache[Channel, _Look] = SizedCache(limit, _Look.weight)

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
        return "msgpack", appended(earlier[1][1], len(value), data)

    def _remember(self, channel: Channel, found: _Look, since: _Look | None) -> None:
        """Remember a list, unless a message was changed between the look and the writing."""
        if since is not None and found.ends_like(since):
            self._written.put(channel, found)
        else:
            self._written.forget(channel)

    def forget_thread(self, thread_key: bytes) -> None:
        """Drop what was written to a thread: its rows are gone."""
        self._written.forget_where(lambda channel: channel[0] == thread_key)


def _writes_messagepack(serde: SerializerProtocol) -> bool:
    return type(serde).dumps_typed is JsonPlusSerializer.dumps_typed


# -- reading ------------------------------------------------------------------------------------

_TEXTS = ("content", "id", "tool_call_id")
"""Fields that a message takes as they are, and its other fields with them, if they are texts."""

_TAKEN_OUT = ormsgpack.Ext(0, b"")
"""Stands for a text in a shape."""

_AS_THE_SERDE = ormsgpack.OPT_NON_STR_KEYS
"""How JsonPlusSerializer packs and unpacks."""

_OURS_PACKED, _CLASS_WITHIN = _OURS.encode(), 40
"""What a message's first bytes hold, and how many."""


class _Shape(NamedTuple):
    """What messages have in common that differ in their texts alone.

    One is made of its fields in 3.5 µs, where its class takes 8 to 14 to check and to copy them.
    """

    cls: type[BaseMessage]
    fields_set: frozenset[str]
    size: int

    def message(self, fields: dict[str, Any]) -> BaseMessage:
        """The message that holds these fields, as if it were unpickled."""
        made = self.cls.__new__(self.cls)
        made.__setstate__(
            {
                "__dict__": fields,
                "__pydantic_fields_set__": set(self.fields_set),
                "__pydantic_extra__": {},
                "__pydantic_private__": None,
            }
        )
        return made

    def weight(self) -> int:
        """Bytes, roughly, that it takes the memory of, with what it is found by."""
        return 512 + self.size


_Shapes = SizedCache[bytes, _Shape]


class MessageListDecoder:
    """Deserialises lists of messages, and remembers their shapes for each serialiser.

    Args:
        limit: Bytes, roughly, for the shapes of each.
    """

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._shapes: WeakKeyDictionary[SerializerProtocol, _Shapes] = WeakKeyDictionary()

    def loads(self, serde: SerializerProtocol, typed: Typed) -> Any:
        """Deserialise a value: the messages of a list by their shapes."""
        if not is_of_messages(typed) or not _reads_messagepack(serde):
            return serde.loads_typed(typed)
        shapes = self._shapes.get(serde)
        if shapes is None:
            shapes = self._shapes[serde] = SizedCache(self._limit, _Shape.weight)
        try:
            hook = partial(_read, serde, shapes)
            return ormsgpack.unpackb(typed[1], ext_hook=hook, option=_AS_THE_SERDE)
        except ValueError:  # not MessagePack: the serialiser says so
            return serde.loads_typed(typed)


def is_of_messages(typed: Typed) -> bool:
    """Whether this may be a list of messages."""
    typ, data = typed
    return typ == "msgpack" and starts_with_extension(data)


def _reads_messagepack(serde: SerializerProtocol) -> bool:
    return type(serde).loads_typed is JsonPlusSerializer.loads_typed


def _read(serde: SerializerProtocol, shapes: _Shapes, code: int, data: bytes) -> Any:
    """Read an extension: a message by its shape, anything else as the serialiser does."""
    fields, key = _fields_and_shape(code, data)
    shape = shapes.get(key) if key else None
    if shape is not None:
        return shape.message(fields)
    value = serde.loads_typed(("msgpack", ormsgpack.packb(ormsgpack.Ext(code, data))))
    if key and _holds(value, fields):
        fields_set = frozenset(value.__pydantic_fields_set__)
        shapes.put(key, _Shape(type(value), fields_set, len(key)))
    return value


def _fields_and_shape(code: int, data: bytes) -> tuple[dict[str, Any], bytes]:
    """A message's fields, and the message packed without its texts; nothing of other things."""
    if code != EXT_PYDANTIC_V2 or _OURS_PACKED not in data[:_CLASS_WITHIN]:
        return {}, b""
    try:
        message = ormsgpack.unpackb(data, option=_AS_THE_SERDE)
        fields = message[2]
        message[2] = others = fields.copy()
        for name in _TEXTS:
            text = others.get(name)
            if text and type(text) is str:
                others[name] = _TAKEN_OUT
        return fields, ormsgpack.packb(message, None, _AS_THE_SERDE)
    except (ValueError, TypeError, LookupError, AttributeError):
        return {}, b""  # none of ours, or it holds an extension


def _holds(value: Any, fields: dict[str, Any]) -> bool:
    """Whether a message was made that holds its fields as they are, and nothing else."""
    if not _is_plain(type(value)) or value.__pydantic_extra__ != {} or value.__pydantic_private__:
        return False
    try:
        # Version 2 has no references: bytes are the same where values and their types are.
        return marshal.dumps(value.__dict__, 2) == marshal.dumps(fields, 2)
    except ValueError:
        return False
