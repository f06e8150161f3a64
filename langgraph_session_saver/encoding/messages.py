"""Lists of messages, of which a long chat writes and reads the same ones at every step.

LangGraph's serialiser writes the whole list at every step. Here a list that begins with the
messages of the list stored before, unchanged, is written as those bytes and the serialised rest.
The result is byte for byte what the serialiser writes. This holds for LangGraph's own serialiser,
which writes MessagePack, and for LangChain's own message classes; everything else is written by the
serialiser alone.

LangChain's message classes validate and copy their fields, which is most of the cost of reading a
long chat. The first time that some bytes are read, the serialiser builds the message. If the
message then holds exactly the packed fields, the digest of the bytes is remembered, and the next
time the fields are set without validation. What some bytes become is therefore always what the
serialiser has made of the very same bytes.

This is the only module that sets the private state of a Pydantic model.
"""

from __future__ import annotations

import marshal
from hashlib import blake2b
from typing import Any, NamedTuple

import ormsgpack
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import EXT_PYDANTIC_V2, JsonPlusSerializer

from langgraph_session_saver.encoding import delta, nesting
from langgraph_session_saver.encoding.caches import CACHE_BYTES, LRUCache
from langgraph_session_saver.encoding.keys import Typed

Channel = tuple[bytes, bytes, str]
"""Thread key, namespace key and channel name."""

FEW = 4
"""Messages up to which a list is always written whole."""

ENTRY_BYTES = 2_048
"""Approximate memory of a cache entry besides its packed fields."""

MESSAGES = 65_536
"""Messages that were read and are remembered; each takes about 300 bytes."""

_PLAIN = (
    ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
"""Packs plain values and refuses all others."""


def is_langchain_message(cls: type) -> bool:
    """Whether a class is one of LangChain's own, which serialise their fields and nothing else."""
    return cls.__module__.startswith("langchain_core.messages.") and issubclass(cls, BaseMessage)


def is_long_message_list(value: Any) -> bool:
    """Whether a value is worth giving to `MessageListEncoder`."""
    return type(value) is list and len(value) > FEW and is_langchain_message(type(value[0]))


class _Contents(NamedTuple):
    """What a list of messages held when it was written: a node may change messages in place."""

    key: bytes
    """The key of the blob that holds the list."""
    classes: list[type]
    fields: bytes
    """The fields of all messages, packed: bytes tell 1 from True, which are equal in Python."""

    def size(self) -> int:
        """Approximate bytes of memory."""
        return ENTRY_BYTES + len(self.fields)


def _contents(value: list[Any], key: bytes) -> _Contents | None:
    """Pack what a list holds; None if it holds anything but plain messages."""
    classes = list(map(type, value))
    if not all(map(is_langchain_message, set(classes))):
        return None
    fields = [(message.__dict__, message.__pydantic_extra__) for message in value]
    try:
        return _Contents(key, classes, ormsgpack.packb(fields, None, _PLAIN))
    except TypeError:  # ormsgpack.MsgpackEncodeError is one
        return None


class MessageListEncoder:
    """Serialises lists of messages, and remembers the contents of the last one of each channel.

    Args:
        limit: The most bytes that these contents may take, roughly.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._written: LRUCache[Channel, _Contents] = LRUCache(limit, _Contents.size)

    def dumps(
        self,
        serde: SerializerProtocol,
        value: list[Any],
        channel: Channel,
        key: bytes,
        earlier: tuple[bytes, Typed] | None,
    ) -> Typed:
        """Serialise a list as the serialiser does.

        Args:
            serde: The saver's current serialiser.
            value: A list for which `is_long_message_list` is true.
            channel: The channel that holds the list.
            key: The key of the blob that will hold it.
            earlier: The key of the channel's previous blob, and its serialised value.
        """
        writes_messagepack = type(serde).dumps_typed is JsonPlusSerializer.dumps_typed
        contents = _contents(value, key) if writes_messagepack else None
        if contents is None:
            return serde.dumps_typed(value)
        before, count = self._written.get(channel), 0
        if before is not None and earlier is not None and before.key == earlier[0]:
            count = delta.items_in_front(before.fields, contents.fields)
            if contents.classes[:count] != before.classes:
                count = 0
        new = value[count:]
        typ, data = serde.dumps_typed(new)
        # Another thread may change a message while it is serialised.
        again = _contents(new, key)
        if again is not None and contents.fields.endswith(delta.items_of(again.fields)):
            self._written.put(channel, contents)
        else:
            self._written.forget(channel)
        if not count or earlier is None:
            return typ, data
        return "msgpack", delta.appended(earlier[1][1], len(value), data)

    def forget_thread(self, thread_key: bytes) -> None:
        """Drop what is remembered of a deleted thread."""
        self._written.forget_where(lambda channel: channel[0] == thread_key)


class MessageListDecoder:
    """Deserialises channel values, and recognises up to `limit` messages that were read before."""

    def __init__(self, limit: int = MESSAGES) -> None:
        # The serialiser that built a message, which may refuse what another one builds; its class.
        self._known = LRUCache[bytes, tuple[SerializerProtocol, type[BaseMessage]]](limit)

    def loads(self, serde: SerializerProtocol, typed: Typed) -> Any:
        """Deserialise a value as the serialiser does."""
        may_hold_messages = delta.starts_with_extension(typed[1])
        hook = self._read_extension if may_hold_messages else nesting.read_extension
        return nesting.loads(serde, typed, hook)

    def _read_extension(self, serde: SerializerProtocol, code: int, data: bytes) -> Any:
        is_model = code == EXT_PYDANTIC_V2
        digest = blake2b(data, digest_size=16).digest() if is_model else b""
        known = self._known.get(digest)
        if known is not None and known[0] is serde:
            message = known[1].__new__(known[1])
            message.__setstate__(_state(_fields(data)))  # as unpickling does
            return message
        value = nesting.read_extension(serde, code, data)
        cls = type(value)
        if is_model and is_langchain_message(cls) and _holds_as_packed(value, data):
            self._known.put(digest, (serde, cls))
        return value


def _fields(data: bytes) -> dict[str, Any]:
    """Unpack the fields of a model, which follow the names of its module and its class."""
    fields: dict[str, Any] = ormsgpack.unpackb(data, option=nesting.SERDE_OPTIONS)[2]
    return fields


def _holds_as_packed(message: BaseMessage, data: bytes) -> bool:
    """Whether a message holds exactly the packed fields, with nothing changed or added."""
    try:
        fields = _fields(data)
        # marshal tells apart what is equal in Python, like 1 and True, and refuses other objects.
        # Its version 2 writes equal values as equal bytes.
        is_same = marshal.dumps(message.__dict__, 2) == marshal.dumps(fields, 2)
    except ValueError:
        return False
    return is_same and message.__getstate__() == _state(fields)


def _state(fields: dict[str, Any]) -> dict[Any, Any]:
    """The pickled state of a message that was given all of its fields and no others."""
    return {
        "__dict__": fields,
        "__pydantic_fields_set__": set(fields),
        "__pydantic_extra__": {},
        "__pydantic_private__": None,
    }
