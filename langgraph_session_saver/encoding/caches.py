"""Bounded caches, and the cache of channel values."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from langgraph_session_saver.encoding.chains import Value

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LRUCache(Generic[K, V]):
    """A thread-safe mapping that drops its least recently used entries over a limit.

    Args:
        limit: The total size of all entries; a larger entry is not stored.
        size_of: The size of a value. Without it each entry counts as one.
    """

    def __init__(self, limit: int, size_of: Callable[[V], int] | None = None) -> None:
        self.limit = limit
        self._size_of = size_of
        self.reset()
        _all_caches.add(self)

    def reset(self) -> None:
        """Start anew, whoever holds the lock: after a fork that may be a thread of the parent."""
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """Look up a value, which becomes the most recently used."""
        try:  # without the lock, because each of the two calls is atomic
            self._entries.move_to_end(key)
            return self._entries[key][0]
        except KeyError:
            return None

    def put(self, key: K, value: V) -> None:
        """Store a value, and drop others that no longer fit."""
        size = 1 if self._size_of is None else self._size_of(value)
        with self._lock:
            _, before = self._entries.pop(key, (None, 0))
            if size > self.limit:
                size = 0
            else:
                self._entries[key] = (value, size)
            self._size += size - before
            while self._size > self.limit:  # not by an iterator: `get` changes the order meanwhile
                _, (_, size) = self._entries.popitem(last=False)
                self._size -= size

    def setdefault(self, key: K, value: V) -> V:
        """Look up a value, and store this one if there is none."""
        with self._lock:
            return self._entries.setdefault(key, (value, 0))[0]

    def forget(self, key: K) -> None:
        """Drop an entry, if there is one."""
        if key in self._entries:
            with self._lock:
                self._remove(key)

    def forget_where(self, matches: Callable[[K], bool]) -> None:
        """Drop the entries whose keys match."""
        with self._lock:
            for key in list(self._entries):
                if matches(key):
                    self._remove(key)

    def _remove(self, key: K) -> None:
        _, size = self._entries.pop(key, (None, 0))
        self._size -= size


_all_caches: WeakSet[LRUCache[Any, Any]] = WeakSet()


def _reset_in_child() -> None:
    for cache in list(_all_caches):
        cache.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_in_child)


CACHE_BYTES = 128 << 20
"""The default byte limit of all caches of values."""

ENTRY_BYTES = 512
"""Approximate memory of a cache entry besides its value."""


class BlobCache:
    """Serialised values by thread and blob key, and the current key of each channel.

    Args:
        limit: The most bytes that values may take.
    """

    def __init__(self, limit: int) -> None:
        self.values: LRUCache[tuple[bytes, bytes], Value] = LRUCache(
            limit, lambda value: value.size + ENTRY_BYTES
        )
        self._tips: LRUCache[tuple[bytes, bytes], Mapping[str, bytes]] = LRUCache(4_096)
        self._empty: LRUCache[tuple[bytes, bytes], bool] = LRUCache(65_536)

    def get(self, thread_key: bytes, key: bytes) -> Value | None:
        """Look up a value."""
        return self.values.get((thread_key, key))

    def put(self, thread_key: bytes, value: Value) -> None:
        """Store a value."""
        self.values.put((thread_key, value.key), value)

    def tips(self, thread_key: bytes, ns_key: bytes) -> Mapping[str, bytes]:
        """Look up the keys of the values that this process last read or wrote, by channel."""
        return self._tips.get((thread_key, ns_key)) or {}

    def set_tips(self, thread_key: bytes, ns_key: bytes, keys: Mapping[str, bytes]) -> None:
        """Set the current key of each channel of a namespace."""
        self._tips.put((thread_key, ns_key), keys)

    def set_empty(self, thread_key: bytes, key: bytes) -> None:
        """Note that there is no blob under a key, because the channel has no value."""
        self._empty.put((thread_key, key), True)  # noqa: FBT003

    def is_empty(self, thread_key: bytes, key: bytes) -> bool:
        """Whether it is known that there is no blob under a key."""
        return self._empty.get((thread_key, key)) is not None

    def forget_thread(self, thread_key: bytes) -> None:
        """Drop the values of a deleted thread."""
        self.values.forget_where(lambda key: key[0] == thread_key)
