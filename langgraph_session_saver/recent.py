"""Bounded memories: mappings that forget what was not used for long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
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


class Weighed(Recent[K, V]):
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
