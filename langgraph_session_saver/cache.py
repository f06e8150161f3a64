"""A bounded memory of serialised values, and of which one each channel holds now.

Blobs never change once written, so what is found here is right. The bytes are kept, not the
objects: a graph may change an object that it was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_session_saver.chains import Value
from langgraph_session_saver.recent import Recent, Weighed

CACHE_BYTES = 64 << 20
ENTRY_BYTES = 512
"""What an entry costs beside its value's bytes, roughly."""


class Whole(NamedTuple):
    """A small checkpoint as it was read, ready to be made again."""

    serde: SerializerProtocol
    """What read it, and found nothing in it that it may not build."""
    data: bytes
    metadata: bytes
    """As they are stored: another `put` may have replaced its row."""
    keys: Mapping[str, bytes]
    """What its references say of its channels' blobs."""
    channels: Sequence[str]
    """Those of them that have one."""
    joined: bytes
    """All of it as one array: the checkpoint, its metadata, and the values of those blobs."""

    def weight(self) -> int:
        """Bytes, roughly, that it takes the memory of."""
        return ENTRY_BYTES + len(self.data) + len(self.metadata) + len(self.joined)


class BlobCache:
    """Values by thread and blob key, up to a number of bytes; the newest key of each channel."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.values: Weighed[tuple[bytes, bytes], Value] = Weighed(
            limit, lambda value: value.size + ENTRY_BYTES
        )
        self._tips: Recent[tuple[bytes, bytes], Mapping[str, bytes]] = Recent(4_096)
        self._empty: Recent[tuple[bytes, bytes], bool] = Recent(limit=65_536)

    def get(self, thread_key: bytes, key: bytes) -> Value | None:
        """A value, if it is remembered."""
        return self.values.get((thread_key, key))

    def put(self, thread_key: bytes, value: Value) -> None:
        """Remember a value."""
        self.values.put((thread_key, value.key), value)

    def tip(self, thread_key: bytes, ns_key: bytes, channel: str) -> Value | None:
        """The value that a channel had when it was last read or written here."""
        key = (self._tips.get((thread_key, ns_key)) or {}).get(channel)
        return None if key is None else self.get(thread_key, key)

    def set_tips(self, thread_key: bytes, ns_key: bytes, keys: Mapping[str, bytes]) -> None:
        """Note which value each channel of a namespace has now."""
        if self._tips.get((thread_key, ns_key)) != keys:
            self._tips.put((thread_key, ns_key), keys)

    def set_empty(self, thread_key: bytes, key: bytes) -> None:
        """Note that a channel has no value at a version, and so no blob."""
        self._empty.put((thread_key, key), True)  # noqa: FBT003

    def is_empty(self, thread_key: bytes, key: bytes) -> bool:
        """Whether a key is known to have no blob."""
        return self._empty.get((thread_key, key)) is not None

    def forget_thread(self, thread_key: bytes) -> None:
        """Drop a thread's values: its rows are gone."""
        self.values.forget_where(lambda key: key[0] == thread_key)
