"""Values as plain JSON: what C code writes is what the conversion in Python gives."""

from __future__ import annotations

import json
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph_session_saver.projection.plain_json import (
    DEPTH,
    OverBudgetError,
    quick_json,
    to_json,
)


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


texts = st.text(st.characters(exclude_categories=()), max_size=6)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), texts,
    st.sampled_from([Colour.RED, Level.LOW]), st.binary(max_size=3),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.frozensets(st.integers(), max_size=2),
        st.dictionaries(texts | st.just(Colour.RED), inner, max_size=4),
        st.dictionaries(st.integers() | st.none() | st.booleans(), inner, max_size=1),
    ),
)


@given(values, st.integers(0, 200))
def test_the_quick_text_of_a_value_is_that_of_its_conversion(value: Any, budget: int) -> None:
    text = quick_json(value, budget)

    if text is not None:
        assert text == json.dumps(to_json(value, budget))


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True, "é"]}, [], "text", 3])
def test_plain_values_have_a_quick_text(value: Any) -> None:
    assert quick_json(value, 100) == json.dumps(value)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize("value", ["nul \0", "\ud800", float("nan"), nested(DEPTH + 1)])
def test_a_value_that_the_conversion_changes_or_refuses_has_no_quick_text(value: Any) -> None:
    assert quick_json(value, 1_000) is None


def test_a_value_over_the_budget_has_no_quick_text_and_no_conversion() -> None:
    assert quick_json("x" * 99, 100) is None
    with pytest.raises(OverBudgetError):
        to_json("x" * 99, 100)
