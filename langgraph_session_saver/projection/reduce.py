"""A `DeltaChannel`'s value after writes, where its reducer is not known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from langchain_core.messages import BaseMessage, RemoveMessage, convert_to_messages

_REMOVE_ALL = "__remove_all__"
"""The id of a `RemoveMessage` that removes all messages."""


def is_overwrite(write: Any) -> bool:
    """Whether this is LangGraph's `Overwrite`, whose value bypasses a channel's reducer."""
    return type(write).__name__ == "Overwrite"


def reduce_writes(value: Any, writes: Sequence[Any]) -> Any:
    """Apply writes, oldest first, to a value; None is that of a channel without one.

    Lists are joined, and a message replaces the one with its id; mappings and sets are united; any
    other value is replaced.
    """
    for n, write in enumerate(writes):
        if is_overwrite(write):
            return reduce_writes(write.value, writes[n + 1 :])
    if not writes:
        return value
    like = writes[0] if value is None else value
    if isinstance(like, list | tuple | BaseMessage):
        return _joined(value or (), writes)
    if isinstance(like, Mapping):
        return {key: item for part in (value or {}, *writes) for key, item in part.items()}
    if isinstance(like, AbstractSet):
        return set().union(value or (), *writes)
    return writes[-1]


def reduce_messages(value: Any, writes: Sequence[Any]) -> Any:
    """As `reduce_writes`, of a channel of messages: ``("user", "Hi")`` is one too, and so on."""
    return reduce_writes(value, [_messages_of(write) for write in writes])


def _messages_of(write: Any) -> Any:
    """The messages that are written; what LangChain makes no message of stays as it is."""
    if is_overwrite(write):
        return write
    is_pair = isinstance(write, tuple) and all(isinstance(item, str) for item in write)
    items = write if isinstance(write, list | tuple) and not is_pair else [write]
    return [_message_of(item) for item in items]


def _message_of(item: Any) -> Any:
    if isinstance(item, BaseMessage):
        return item
    try:
        return convert_to_messages([item])[0]
    except (NotImplementedError, TypeError, ValueError):
        return item


class _Messages(list[Any]):
    """A list with messages, and its items by id; items without an id have a key of their own."""

    def __init__(self, by_id: dict[Any, Any]) -> None:
        super().__init__(by_id.values())
        self.by_id = by_id


def _joined(value: Sequence[Any], writes: Sequence[Any]) -> list[Any]:
    written: list[Any] = []
    for write in writes:
        written += write if isinstance(write, list | tuple) else [write]
    if not any(isinstance(item, BaseMessage) for item in written):
        return [*value, *written]
    by_id = dict(value.by_id) if isinstance(value, _Messages) else _added({}, value)
    return _Messages(_added(by_id, written))


def _added(by_id: dict[Any, Any], items: Iterable[Any]) -> dict[Any, Any]:
    for item in items:
        name = item.id if isinstance(item, BaseMessage) else None
        if not isinstance(item, RemoveMessage):
            by_id[object() if name is None else name] = item
        elif name == _REMOVE_ALL:
            by_id.clear()
        else:
            by_id.pop(name, None)
    return by_id
