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
        raise LookupError(f"no price for {model}")

    await run(chain(make_saver(pricing=price), {"messages": [spent("w", 1, 2, id="a")]}), {})

    assert one(sql, "token_usage")["cost_usd"] == 0.0
    assert "no price for m-1" in one(sql, "session_errors")["message"]


async def test_usage_without_counts_is_recorded_and_the_step_saved(
    make_saver: SaverFactory, sql: Sql
) -> None:
    class Plain(TypedDict, total=False):
        messages: list[Any]

    odd = {"role": "assistant", "content": "hi", "usage_metadata": {"total_tokens": "three"}}
    graph = chain(make_saver(), {"messages": [odd]}, state=Plain)

    await run(graph, {})

    assert (await graph.aget_state(config())).values == {"messages": [odd]}
    assert transcript(sql) == [("assistant", "hi")]
    assert "usage" in one(sql, "session_errors")["message"]
