"""Reads messages again without validating them again.

LangChain's message classes validate and copy their fields, which is most of the cost of reading a
long chat, and a graph reads the same messages at every turn. The first time that some bytes are
read, the serialiser builds the message. If the message then holds exactly the packed fields, the
digest of the bytes is remembered, and the next time the fields are set without validation. What
some bytes become is therefore always what the serialiser has made of the very same bytes.

This is the only module that sets the private state of a Pydantic model.
"""

from __future__ import annotations

import marshal
from functools import partial
from hashlib import blake2b
from typing import Any

import ormsgpack
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import EXT_PYDANTIC_V2, JsonPlusSerializer

from langgraph_session_saver.encoding.caches import LRUCache
from langgraph_session_saver.encoding.delta import starts_with_extension
from langgraph_session_saver.encoding.keys import Typed
from langgraph_session_saver.encoding.messages import is_langchain_message

MESSAGES = 65_536
"""Messages that are remembered; each takes about 300 bytes."""

_SERDE_OPTIONS = ormsgpack.OPT_NON_STR_KEYS
"""The options that JsonPlusSerializer unpacks with."""

_Known = tuple[SerializerProtocol, type[BaseMessage]]
"""The serialiser that built a message, which may refuse what another one builds; and its class."""


class MessageListDecoder:
    """Deserialises channel values, and recognises messages that were read before.

    Args:
        limit: Messages that are remembered.
    """

    def __init__(self, limit: int = MESSAGES) -> None:
        self._known: LRUCache[bytes, _Known] = LRUCache(limit)

    def loads(self, serde: SerializerProtocol, typed: Typed) -> Any:
        """Deserialise a value as the serialiser does."""
        if not is_message_list(typed) or not _reads_messagepack(serde):
            return serde.loads_typed(typed)
        try:
            hook = partial(self._read_extension, serde)
            return ormsgpack.unpackb(typed[1], ext_hook=hook, option=_SERDE_OPTIONS)
        except ValueError:  # damaged: the serialiser says how
            return serde.loads_typed(typed)

    def _read_extension(self, serde: SerializerProtocol, code: int, data: bytes) -> Any:
        is_model = code == EXT_PYDANTIC_V2
        digest = blake2b(data, digest_size=16).digest() if is_model else b""
        known = self._known.get(digest)
        if known is not None and known[0] is serde:
            return _with_fields(known[1], _fields(data))
        value = serde.loads_typed(("msgpack", ormsgpack.packb(ormsgpack.Ext(code, data))))
        cls = type(value)
        if is_model and is_langchain_message(cls) and _holds_as_packed(value, data):
            self._known.put(digest, (serde, cls))
        return value


def is_message_list(typed: Typed) -> bool:
    """Whether a serialised value may be a list of messages."""
    typ, data = typed
    return typ == "msgpack" and starts_with_extension(data)


def _reads_messagepack(serde: SerializerProtocol) -> bool:
    return type(serde).loads_typed is JsonPlusSerializer.loads_typed


def _fields(data: bytes) -> dict[str, Any]:
    """Unpack the fields of a model, which follow the names of its module and its class."""
    fields: dict[str, Any] = ormsgpack.unpackb(data, option=_SERDE_OPTIONS)[2]
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


def _with_fields(cls: type[BaseMessage], fields: dict[str, Any]) -> BaseMessage:
    """Make a message as unpickling does, without validation."""
    message = cls.__new__(cls)
    message.__setstate__(_state(fields))
    return message


def _state(fields: dict[str, Any]) -> dict[Any, Any]:
    """The pickled state of a message that was given all of its fields and no others."""
    return {
        "__dict__": fields,
        "__pydantic_fields_set__": set(fields),
        "__pydantic_extra__": {},
        "__pydantic_private__": None,
    }
