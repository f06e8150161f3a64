"""What a model call costs by a mapping from models to rates."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from langgraph_session_saver import InvalidConfigError, Rates, SessionSaver
from langgraph_session_saver.projection.usage import UsageRows
from langgraph_session_saver.redaction import SecretKeys
from langgraph_session_saver.schema.column_types import utc_now

ONE = {"input": 1_000_000.0, "output": 0.0}
"""Rates with which a call costs as many dollars as it has input tokens."""


def priced(pricing: Any, model: str, **usage: Any) -> float:
    """What a message of a model costs."""
    counts: Any = {"input_tokens": 1, "output_tokens": 0, "total_tokens": 1, **usage}
    message = AIMessage("hi", usage_metadata=counts, response_metadata={"model_name": model})
    row, problem = UsageRows(pricing, SecretKeys()).row(message, "messages", utc_now())
    assert row is not None
    assert problem is None
    return float(row["cost_usd"])


def test_a_name_prices_every_model_that_starts_with_it() -> None:
    pricing = {"claude-sonnet-4": ONE}

    assert priced(pricing, "claude-sonnet-4-20250514") == 1
    assert priced(pricing, "claude-sonnet-4") == 1
    assert priced(pricing, "claude-sonnet") == 0
    assert priced(pricing, "us.claude-sonnet-4") == 0


def test_the_longest_name_that_a_model_starts_with_wins() -> None:
    pricing = {
        "gpt": {**ONE, "input": 3e6}, "gpt-4o-mini": ONE, "gpt-4o": {**ONE, "input": 2e6}
    }  # fmt: skip

    models = ["gpt-4", "gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"]
    assert [priced(pricing, model) for model in models] == [3, 2, 1]


@pytest.mark.parametrize(
    "rates",
    [
        Rates(input=2.5, output=10, cache_read=1.25),
        {"input": 2.5, "output": 10, "cache_read": 1.25},
        MappingProxyType({"input": 2.5, "output": 10, "cache_read": 1.25}),
    ],
    ids=["Rates", "dict", "mapping"],
)
def test_rates_are_a_model_or_a_mapping(rates: Any) -> None:
    details = {"cache_read": 400_000}

    cost = priced({"m": rates}, "m", input_tokens=1_000_000, input_token_details=details)

    assert cost == pytest.approx(0.6 * 2.5 + 0.4 * 1.25)


def test_details_that_exceed_their_total_never_make_a_call_cheaper() -> None:
    rates = {"input": 5.0, "output": 5.0, "cache_read": 1.0}

    cost = priced({"m": rates}, "m", input_tokens=1, input_token_details={"cache_read": 3})

    assert cost == pytest.approx(3e-6)


@pytest.mark.parametrize(
    ("pricing", "words"),
    [
        (7, "pricing is 7: pass a mapping"),
        ([("m", ONE)], "pass a mapping"),
        ({"": ONE}, "a model's name in pricing is empty"),
        ({7: ONE}, "a model's name in pricing is an int"),
        ({"a\x00": ONE}, "NUL"),
        ({"m": 7}, r"pricing\['m'\].*found 7"),
        ({"m": None}, r"pricing\['m'\].*found None"),
        ({"m": {}}, r"pricing\['m'\]\['input'\]: Field required"),
        ({"m": {"input": 1.0}}, r"pricing\['m'\]\['output'\]: Field required"),
        ({"m": {**ONE, "input": -1}}, r"pricing\['m'\]\['input'\].*found -1"),
        ({"m": {**ONE, "output": "10"}}, r"pricing\['m'\]\['output'\].*found '10'"),
        ({"m": {**ONE, "output": True}}, r"pricing\['m'\]\['output'\].*found True"),
        ({"m": {**ONE, "reasoning": float("nan")}}, r"\['reasoning'\].*found nan"),
        ({"m": {**ONE, "cache_read": float("inf")}}, r"\['cache_read'\].*found inf"),
        ({"a": ONE, "m": {**ONE, "cached": 1}}, r"pricing\['m'\]\['cached'\].*found 1"),
    ],
)
def test_pricing_that_cannot_be_used_is_refused_by_the_constructor(
    pricing: Any, words: str
) -> None:
    with pytest.raises(InvalidConfigError, match=words):
        SessionSaver.from_conn_string(":memory:", pricing=pricing)


def test_changes_of_the_mapping_do_not_change_the_prices() -> None:
    pricing: dict[str, Any] = {"m": dict(ONE)}
    rows = UsageRows(pricing, SecretKeys())
    pricing["m"]["input"] = 0.0
    pricing.clear()
    usage: Any = {"input_tokens": 1, "output_tokens": 0, "total_tokens": 1}
    message = AIMessage("hi", usage_metadata=usage, response_metadata={"model_name": "m"})

    row, _ = rows.row(message, "messages", utc_now())

    assert row is not None
    assert row["cost_usd"] == 1


counts = st.integers(0, 10_000_000)
rates = st.floats(0, 1_000)


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(
    parts=st.fixed_dictionaries(
        {"input": counts, "output": counts},
        optional={"cache_read": counts, "cache_creation": counts, "reasoning": counts},
    ),
    of=st.fixed_dictionaries(
        {"input": rates, "output": rates},
        optional={"cache_read": rates, "cache_creation": rates, "reasoning": rates},
    ),
)
def test_the_cost_of_a_message_is_the_sum_of_its_parts(
    parts: dict[str, int], of: dict[str, float]
) -> None:
    into, out = ("input", "cache_read", "cache_creation"), ("output", "reasoning")

    cost = priced(
        {"m": of},
        "m",
        input_tokens=sum(parts.get(part, 0) for part in into),
        output_tokens=sum(parts.get(part, 0) for part in out),
        input_token_details={part: parts[part] for part in into[1:] if part in parts},
        output_token_details={part: parts[part] for part in out[1:] if part in parts},
    )

    by_hand = 0.0
    for whole in (into, out):
        for part in whole:
            by_hand += parts.get(part, 0) / 1_000_000 * of.get(part, of[whole[0]])
    assert cost == pytest.approx(by_hand)
