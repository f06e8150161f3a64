"""Positions of a list's items, so that a change of the list moves few of them.

A position is a number that ascends with the list. Numbers are far apart, so that an item that is
inserted or moved gets one between those of its neighbours, and no other item changes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import groupby

GAP = 1 << 16
"""Between the positions of two items that are appended."""


def place(known: Sequence[int | None], appended: int) -> list[int]:
    """Positions for a list's items, of which as many as possible keep theirs.

    Args:
        known: Each item's position before; None for a new item.
        appended: The least position of an item that is appended.
    """
    kept = longest_ascending(known)
    found: list[int] = []
    for is_kept, indices in groupby(range(len(known)), lambda index: index in kept):
        group = list(indices)
        if is_kept:
            found += [kept[index] for index in group]
            continue
        before, after = found[-1] if found else None, kept.get(group[-1] + 1)
        between = _between(before, after, len(group), appended)
        if between is None:  # no room: all items get new positions
            return _ascending(appended, len(known))
        found += between
    return found


def _between(before: int | None, after: int | None, count: int, appended: int) -> list[int] | None:
    """Positions for items between two others, or at an end; None if there is no room."""
    if after is None:
        return _ascending(appended if before is None else max(before + GAP, appended), count)
    if before is None:
        return _ascending(after - GAP * count, count)
    room = after - before
    if room <= count:
        return None
    return [before + room * number // (count + 1) for number in range(1, count + 1)]


def _ascending(first: int, count: int) -> list[int]:
    return [first + GAP * number for number in range(count)]


def longest_ascending(numbers: Sequence[int | None]) -> dict[int, int]:
    """The longest strictly ascending subsequence, by index; None is never part of it.

    By patience sorting (https://en.wikipedia.org/wiki/Longest_increasing_subsequence), in
    O(n log n).
    """
    ends: list[tuple[int, int]] = []  # for each length, the smallest last number and its index
    before: dict[int, int | None] = {}
    for index, number in enumerate(numbers):
        if number is not None:
            length = bisect_left(ends, (number, -1))
            before[index] = ends[length - 1][1] if length else None
            ends[length : length + 1] = [(number, index)]
    found: dict[int, int] = {}
    at = ends[-1][1] if ends else None
    while at is not None:
        number = numbers[at]
        if number is not None:
            found[at] = number
        at = before[at]
    return found
