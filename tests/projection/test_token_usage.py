"""`token_usage` rows and their cost."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest

from langgraph_session_saver import SessionSaver
from tests.projection.samples import spent
from tests.support.backends import EACH_ONCE, Sql
from tests.support.rows import chain, config, one, run, transcript
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


async def test_usage_metadata_becomes_token_usage(saver: SessionSaver, sql: Sql) -> None:
    said = [spent("writer", 100, 20, id="a"), spent(None, 1, 2, id="b")]

    await run(chain(saver, {"messages": said}), {})

    rows = sql("SELECT * FROM token_usage ORDER BY id")
    named = ("agent_type", "model", "input_tokens", "output_tokens", "total_tokens", "cost_usd")
    assert [tuple(row[name] for name in named) for row in rows] == [
        ("writer", "m-1", 100, 20, 120, 0.0),
        ("unknown", "m-1", 1, 2, 3, 0.0),
    ]


async def test_pricing_sets_the_cost(make_saver: SaverFactory, sql: Sql) -> None:
    def price(model: str, tokens_in: int, tokens_out: int) -> float:
        assert model == "m-1"
        return tokens_in * 0.001 + tokens_out * 0.01

    await run(chain(make_saver(pricing=price), {"messages": [spent("w", 100, 20, id="a")]}), {})

    assert one(sql, "token_usage")["cost_usd"] == pytest.approx(0.3)


async def test_pricing_that_fails_costs_nothing_and_is_recorded(
    make_saver: SaverFactory, sql: Sql
) -> None:
    def price(model: str, tokens_in: int, tokens_out: int) -> float:
        raise ValueError(f"no price for {model}")

    await run(chain(make_saver(pricing=price), {"messages": [spent("w", 1, 2, id="a")]}), {})

    assert one(sql, "token_usage")["cost_usd"] == 0.0
    assert "no price for m-1" in one(sql, "session_errors")["message"]


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), -1.0])
async def test_a_price_that_is_no_amount_costs_nothing_and_is_recorded(
    make_saver: SaverFactory, sql: Sql, cost: float
) -> None:
    saver = make_saver(pricing=lambda *_call: cost)

    await run(chain(saver, {"messages": [spent("w", 1, 2, id="a")]}), {})

    assert one(sql, "token_usage")["cost_usd"] == 0.0
    assert f"its cost is {cost}" in one(sql, "session_errors")["message"]


async def test_details_of_usage_have_columns_and_prices(make_saver: SaverFactory, sql: Sql) -> None:
    rates = {"input": 2.0, "output": 10.0, "cache_read": 1.0, "cache_creation": 4.0}
    said = spent("w", 100, 50, id="a")
    assert said.usage_metadata is not None
    said.usage_metadata["input_token_details"] = {"cache_read": 60, "cache_creation": 10}
    said.usage_metadata["output_token_details"] = {"reasoning": 20}

    await run(chain(make_saver(pricing={"m": rates}), {"messages": [said]}), {})

    row = one(sql, "token_usage")
    assert details(row) == (60, 10, 20)
    assert row["cost_usd"] == pytest.approx((30 * 2 + 60 * 1 + 10 * 4 + 50 * 10) / 1e6)


async def test_a_detail_that_the_message_does_not_have_is_null(
    saver: SessionSaver, sql: Sql
) -> None:
    said = spent("w", 100, 50, id="a")
    assert said.usage_metadata is not None
    said.usage_metadata["input_token_details"] = {"cache_read": 0}

    await run(chain(saver, {"messages": [said]}), {})

    assert details(one(sql, "token_usage")) == (0, None, None)


async def test_details_under_the_names_of_providers_are_added_up(
    saver: SessionSaver, sql: Sql
) -> None:
    anthropic: Any = {
        "cache_read": 5,
        "cache_creation": 0,
        "ephemeral_5m_input_tokens": 30,
        "ephemeral_1h_input_tokens": 4,
    }
    openai: Any = {"flex": 10, "flex_cache_read": 7}
    said = [spent("a", 100, 50, id="a"), spent("o", 100, 50, id="o")]
    for message, found in zip(said, (anthropic, openai), strict=True):
        assert message.usage_metadata is not None
        message.usage_metadata["input_token_details"] = found

    await run(chain(saver, {"messages": said}), {})

    rows = sql("SELECT * FROM token_usage ORDER BY id")
    assert [details(row) for row in rows] == [(5, 34, None), (7, None, None)]


@pytest.mark.parametrize("bad", [-1, 1.5, "many", [1], 2**63], ids=str)
async def test_a_detail_that_cannot_be_read_is_null_and_recorded(
    make_saver: SaverFactory, sql: Sql, bad: Any
) -> None:
    usage = {
        "input_tokens": 9,
        "output_tokens": 8,
        "input_token_details": {"cache_read": bad, "cache_creation": 3},
        "output_token_details": {"reasoning": 2},
    }
    saver = make_saver(pricing={"unknown": {"input": 1.0, "output": 1.0}})

    await run(chain(saver, {"messages": [odd(usage)]}, state=Plain), {})

    row = one(sql, "token_usage")
    assert (row["input_tokens"], row["output_tokens"], details(row)) == (9, 8, (None, 3, 2))
    assert row["cost_usd"] == pytest.approx(17e-6)
    assert "as cache_read in input_token_details" in one(sql, "session_errors")["message"]


async def test_details_that_are_no_mapping_are_null_and_recorded(
    saver: SessionSaver, sql: Sql
) -> None:
    usage = {"input_tokens": 9, "output_tokens": 8, "output_token_details": "all"}

    await run(chain(saver, {"messages": [odd(usage)]}, state=Plain), {})

    assert details(one(sql, "token_usage")) == (None, None, None)
    assert "as reasoning in output_token_details" in one(sql, "session_errors")["message"]


BAD_USAGE = {
    "no counts": {"total_tokens": "three"},
    "a negative count": {"input_tokens": -1, "output_tokens": 2},
    "a count over 2**63": {"input_tokens": 1, "output_tokens": 2**63 + 1},
    "a sum over 2**63": {"input_tokens": 2**62, "output_tokens": 2**62},
    "half a token": {"input_tokens": 0.5, "output_tokens": 2},
    "infinitely many": {"input_tokens": float("inf"), "output_tokens": 2},
    "text": "plenty",
}


@pytest.mark.parametrize("usage", BAD_USAGE.values(), ids=BAD_USAGE)
async def test_usage_that_cannot_be_read_is_recorded_and_the_step_saved(
    saver: SessionSaver, sql: Sql, usage: Any
) -> None:
    graph = chain(saver, {"messages": [odd(usage)]}, state=Plain)

    await run(graph, {})

    assert (await graph.aget_state(config())).values == {"messages": [odd(usage)]}
    assert transcript(sql) == [("assistant", "hi")]
    assert sql("SELECT id FROM token_usage") == []
    assert "usage" in one(sql, "session_errors")["message"]


def unknown(_model: str, _tokens_in: int, _tokens_out: int) -> float:
    raise KeyError("m-1")


@pytest.mark.parametrize("pricing", [{"m-2": {"input": 1.0, "output": 1.0}}, unknown])
async def test_a_model_without_a_price_costs_nothing_and_is_named_once(
    make_saver: SaverFactory, sql: Sql, caplog: pytest.LogCaptureFixture, pricing: Any
) -> None:
    said = [{"messages": [spent("w", 1, 2, id=name)]} for name in "abc"]

    await run(chain(make_saver(pricing=pricing), *said), {})

    assert [row["cost_usd"] for row in sql("SELECT cost_usd FROM token_usage")] == [0.0] * 3
    assert sql("SELECT id FROM session_errors") == []
    warned = [(one.name, one.getMessage()) for one in caplog.records if one.levelname == "WARNING"]
    assert warned == [
        ("langgraph_session_saver", "model 'm-1' has no price: its calls cost 0. Add it to pricing")
    ]


async def test_without_pricing_no_model_is_named(
    saver: SessionSaver, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    await run(chain(saver, {"messages": [spent("w", 1, 2, id="a")]}), {})

    assert one(sql, "token_usage")["cost_usd"] == 0.0
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


class Plain(TypedDict, total=False):
    """A state whose messages are what a node returns, of any form."""

    messages: list[Any]


def odd(usage: Any) -> dict[str, Any]:
    """A message in plain JSON, which nobody has validated."""
    return {"role": "assistant", "content": "hi", "id": "a", "usage_metadata": usage}


def details(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[f"{name}_tokens"] for name in ("cache_read", "cache_creation", "reasoning"))
