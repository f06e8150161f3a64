"""Caches that several threads use."""

from __future__ import annotations

from langgraph_session_saver.encoding.caches import LRUCache


def test_entries_are_forgotten_while_others_are_looked_up() -> None:
    cache = LRUCache[int, str](8)
    for key in range(8):
        cache.put(key, str(key))

    def is_odd(key: int) -> bool:
        assert cache.get(0) == "0"  # as another thread would in the middle: it moves the entry
        return key % 2 == 1

    cache.forget_where(is_odd)

    assert [key for key in range(8) if cache.get(key)] == [0, 2, 4, 6]


def test_the_entries_that_were_used_longest_ago_are_dropped() -> None:
    cache = LRUCache[str, str](10, len)
    for key in ("a", "b", "c"):
        cache.put(key, key * 3)
    cache.get("a")

    cache.put("d", "d" * 4)

    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]
