"""Positions: any change of a list keeps as many of them as can be kept."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from langgraph_session_saver.projection.positions import GAP, place

KNOWN = st.lists(st.none() | st.integers(-5, 5).map(lambda n: n * GAP), max_size=8)


def is_ascending(numbers: list[int]) -> bool:
    return sorted(set(numbers)) == numbers


@given(KNOWN, st.integers(-GAP, 10 * GAP))
def test_positions_ascend(known: list[int | None], appended: int) -> None:
    found = place(known, appended)

    assert len(found) == len(known)
    assert is_ascending(found)


@given(KNOWN)
def test_as_many_as_possible_are_kept(known: list[int | None]) -> None:
    kept = sum(before == after for before, after in zip(known, place(known, 0), strict=True))

    numbers = [number for number in known if number is not None]
    subsequences = (
        list(chosen) for size in range(len(numbers) + 1) for chosen in combinations(numbers, size)
    )
    assert kept >= max(len(chosen) for chosen in subsequences if is_ascending(chosen))


def test_what_is_appended_comes_last_and_not_before_the_given_position() -> None:
    assert place([GAP, None, None], 0) == [GAP, 2 * GAP, 3 * GAP]
    assert place([GAP, None, None], 9 * GAP) == [GAP, 9 * GAP, 10 * GAP]


def test_what_is_inserted_moves_nothing_else() -> None:
    assert place([None, GAP, None, 2 * GAP], 0) == [0, GAP, GAP + GAP // 2, 2 * GAP]


def test_where_there_is_no_room_all_items_move() -> None:
    assert place([5, None, 6], 7) == [7, 7 + GAP, 7 + 2 * GAP]


def test_sixteen_items_fit_one_after_another_into_the_same_place() -> None:
    items = [0, GAP]
    for _ in range(16):
        items = place([items[0], None, *items[1:]], 0)

    assert items[0] == 0
    assert items[-1] == GAP
