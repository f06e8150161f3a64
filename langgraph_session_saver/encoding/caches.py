"""Bounded memories: mappings that forget what was not used for long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_session_saver.encoding.chains import Value

K = TypeVar("K", bound=Hashable)

V = TypeVar("V")


class TwoGenerationCache(Generic[K, V]):
    """A thread-safe mapping that forgets what was not used for long.

    Entries are of two generations. What is put, or found among the old ones, is young; when half
    of the limit is young, the young ones become the old ones, and those are forgotten. Neither a
    hit nor a put takes a lock: a step makes twenty.

    Args:
        limit: Entries that are remembered.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value under a key, which is young again."""
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        """Remember a value."""
        young = self._young
        young[key] = value
        if 2 * len(young) > self.limit:
            with self._lock:
                if self._young is young:
                    self._old, self._young = young, {}

    def forget(self, key: K) -> None:
        """Drop an entry, if there is one."""
        self._old.pop(key, None)
        self._young.pop(key, None)


class SizedCache(TwoGenerationCache[K, V]):
    """As `Recent`, with a limit to what the entries weigh.

    Args:
        limit: What all entries may weigh; a value that weighs more is not remembered.
        weigh: What a value weighs.
    """

    def __init__(self, limit: int, weigh: Callable[[V], int]) -> None:
        super().__init__(limit)
        self._weigh = weigh
        self._young_weight = self._old_weight = 0

    def put(self, key: K, value: V) -> None:
        """Remember a value."""
        weight = self._weigh(value)
        with self._lock:
            self._drop(key)
            if weight > self.limit:
                return
            if self._young and 2 * (self._young_weight + weight) > self.limit:
                self._old, self._old_weight = self._young, self._young_weight
                self._young, self._young_weight = {}, 0
            self._young[key] = value
            self._young_weight += weight
            if self._young_weight + self._old_weight > self.limit:
                self._old, self._old_weight = {}, 0

    def forget(self, key: K) -> None:
        """Drop an entry, if there is one."""
        with self._lock:
            self._drop(key)

    def forget_where(self, doomed: Callable[[K], bool]) -> None:
        """Drop the entries whose keys say so."""
        with self._lock:
            for key in [key for key in (*self._young, *self._old) if doomed(key)]:
                self._drop(key)

    def _drop(self, key: K) -> None:
        value = self._young.pop(key, None)
        if value is not None:
            self._young_weight -= self._weigh(value)
            return
        value = self._old.pop(key, None)
        if value is not None:
            self._old_weight -= self._weigh(value)


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
        self.values: SizedCache[tuple[bytes, bytes], Value] = SizedCache(
            limit, lambda value: value.size + ENTRY_BYTES
        )
        self._tips: TwoGenerationCache[tuple[bytes, bytes], Mapping[str, bytes]] = (
            TwoGenerationCache(4_096)
        )
        self._empty: TwoGenerationCache[tuple[bytes, bytes], bool] = TwoGenerationCache(
            limit=65_536
        )

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
