"""From values to stored bytes and back: hashed keys, framing and the serde's errors. Pure.

A stored value is its serde type and a frame: one byte that says how the rest is kept (`RAW`,
`ZLIB` or `ZSTD`), for the packed kinds the length that it unpacks to as a varint, then the bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_session_saver.encoding.keys import Typed
from langgraph_session_saver.encoding.messages import MessageListDecoder, is_of_messages
from langgraph_session_saver.errors import SerializationError

INLINE_TEXT = 24
"""Characters of a text that is kept in its checkpoint's row: as many as its channel's version has,
which that row holds anyway. A row of its own would cost 160 bytes.
"""

TOGETHER = 1 << 14
"""Bytes of values that are joined to be read in one go: of larger ones that saves nothing."""

_SMALL = frozenset((type(None), bool, int, float))


def is_small(value: Any) -> bool:
    """Whether a value is kept in its checkpoint's row, and not in a row of its own."""
    kind = type(value)
    return kind in _SMALL or (kind is str and len(value) <= INLINE_TEXT)


def dump(
    serde: SerializerProtocol,
    value: Any,
    what: Callable[[], str],
    dumps: Callable[[SerializerProtocol, Any], Typed] | None = None,
) -> Typed:
    """Serialise a value.

    Args:
        serde: The saver's serialiser, at this moment.
        value: What to write.
        what: Names the value for the error: a channel, a write, a checkpoint.
        dumps: What has the serde write it, where that need not be all of it.

    Raises:
        SerializationError: The serde refuses the value.
    """
    try:
        typ, data = serde.dumps_typed(value) if dumps is None else dumps(serde, value)
    except Exception as exc:
        raise SerializationError(
            f"{what()} holds a {type(value).__qualname__} that {type(serde).__name__} cannot "
            f"serialise ({exc}). Nothing was written: keep such objects out of the state, or pass "
            "serde= one that takes them"
        ) from exc
    return typ, data if type(data) is bytes else bytes(data)


def load(
    serde: SerializerProtocol,
    typed: Typed,
    what: str | Callable[[], str],
    messages: MessageListDecoder | None = None,
) -> Any:
    """Deserialise a value.

    Args:
        serde: The saver's serialiser, at this moment.
        typed: What it wrote.
        what: Names the value in the error.
        messages: Reads messages, where it is the value of a channel.

    Raises:
        SerializationError: The bytes name a type that the serde is not allowed to build, or it
            cannot read them.
    """
    outer, _noticed.blocked = _noticed.blocked, []
    try:
        value = serde.loads_typed(typed) if messages is None else messages.loads(serde, typed)
    except Exception as exc:
        raise SerializationError(
            f"{_said(what)} cannot be read back with {type(serde).__name__}: {exc}. Use the serde "
            "(and the key) that it was written with"
        ) from exc
    finally:
        blocked, _noticed.blocked = _noticed.blocked, outer
    if blocked:
        names = ", ".join(f"({module!r}, {name!r})" for module, name in blocked)
        raise SerializationError(
            f"{_said(what)} holds a type that may not be rebuilt. To allow it, pass "
            f"serde=JsonPlusSerializer(allowed_msgpack_modules=[{names}])"
        )
    return value


def join(parts: Sequence[Typed]) -> bytes | None:
    """Several small values as one array; None for large ones, lists of messages and other formats.

    In MessagePack values one after another, behind an array's header, are an array.
    """
    pieces = [part[1] for part in parts if part[0] == "msgpack" and not is_of_messages(part)]
    if len(pieces) < len(parts) or sum(map(len, pieces)) > TOGETHER:
        return None
    return b"".join((b"\xdc", len(pieces).to_bytes(2, "big"), *pieces))


def load_joined(serde: SerializerProtocol, joined: bytes) -> list[Any] | None:
    """Deserialise what `join` made in one go: 3 µs where four values take 6 one by one.

    Returns:
        The values; None where the serde is not LangGraph's own, or one cannot be read.
    """
    if type(serde).loads_typed is not JsonPlusSerializer.loads_typed:
        return None
    try:
        return load(serde, ("msgpack", joined), "")  # type: ignore[no-any-return]
    except SerializationError:
        return None


def _said(what: str | Callable[[], str]) -> str:
    return what if isinstance(what, str) else what()


class _Noticed(threading.local):
    """The types that a serde refused to build in this thread.

    LangGraph's serialiser returns plain data for them and logs once: a dataclass comes back as a
    dict and nobody notices. It does tell its listeners.
    """

    blocked: list[tuple[str, str]] | None = None


_noticed = _Noticed()


def _notice(event: SerdeEvent) -> None:
    if _noticed.blocked is not None and event["kind"].endswith("_blocked"):
        _noticed.blocked.append((event["module"], event["name"]))


register_serde_event_listener(_notice)
