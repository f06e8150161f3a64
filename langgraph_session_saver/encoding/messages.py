"""Serialises only the messages that were appended to a list.

LangGraph's serialiser writes the whole list at every step. Here a list that begins with the
messages of the list stored before, unchanged, is written as those bytes and the serialised rest.
The result is byte for byte what the serialiser writes. This holds for LangGraph's own serialiser,
which writes MessagePack, and for LangChain's own message classes; everything else is written by the
serialiser alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import ormsgpack
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_session_saver.encoding.caches import LRUCache
from langgraph_session_saver.encoding.delta import appended, array_header, items_in_front
from langgraph_session_saver.encoding.keys import Typed

Channel = tuple[bytes, bytes, str]
"""Thread key, namespace key and channel name."""

CACHE_BYTES = 32 << 20
"""Approximate byte limit of what is remembered of written lists."""

FEW = 4
"""Messages up to which a list is always written whole."""

ENTRY_BYTES = 2_048
"""Approximate memory of a cache entry besides its packed fields."""

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

    def starts_with(self, earlier: _Contents) -> bool:
        """Whether an earlier list's messages are the first ones, unchanged."""
        count = items_in_front(earlier.fields, self.fields)
        return count > 0 and self.classes[:count] == earlier.classes

    def ends_with(self, messages: _Contents) -> bool:
        """Whether some messages are the last ones, unchanged."""
        _, body = array_header(messages.fields)
        return self.fields.endswith(memoryview(messages.fields)[body:])


def _contents(value: list[Any], key: bytes) -> _Contents | None:
    """Pack what a list holds; None if it holds anything but plain messages."""
    classes = list(map(type, value))
    if not all(map(is_langchain_message, set(classes))):
        return None
    fields = [(message.__dict__, message.model_extra) for message in value]
    try:
        return _Contents(key, classes, ormsgpack.packb(fields, None, _PLAIN))
    except TypeError:  # ormsgpack.MsgpackEncodeError is one
        return None


class MessageListEncoder:
    """Serialises lists of messages, and remembers the contents of the last one of each channel.

    Args:
        limit: Approximate byte limit of what is remembered.
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
        contents = _contents(value, key) if _writes_messagepack(serde) else None
        if contents is None:
            return serde.dumps_typed(value)
        before, count = self._written.get(channel), 0
        if before is not None and earlier is not None and before.key == earlier[0]:
            count = len(before.classes) if contents.starts_with(before) else 0
        new = value[count:]
        typ, data = serde.dumps_typed(new)
        # Another thread may change a message while it is serialised.
        new_contents = _contents(new, key)
        if new_contents is not None and contents.ends_with(new_contents):
            self._written.put(channel, contents)
        else:
            self._written.forget(channel)
        if not count or earlier is None:
            return typ, data
        return "msgpack", appended(earlier[1][1], len(value), data)

    def forget_thread(self, thread_key: bytes) -> None:
        """Drop what is remembered of a deleted thread."""
        self._written.forget_where(lambda channel: channel[0] == thread_key)


def _writes_messagepack(serde: SerializerProtocol) -> bool:
    return type(serde).dumps_typed is JsonPlusSerializer.dumps_typed
