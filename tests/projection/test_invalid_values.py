"""Values that do not validate: recorded or raised."""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Mapping
from typing import Annotated, Any, TypedDict

import pytest

from langgraph_session_saver import ProjectionError, SessionSaver
from tests.projection.samples import MARKS
from tests.support.backends import EACH_ONCE, Sql
from tests.support.rows import State, chain, config, counts, fails, from_json, one, put, run
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


class Scored(TypedDict, total=False):
    phase: Any
    score: Any


BAD = {
    "build_status": "exploded",
    "aesthetic_scores": {"overall": 700, "dimensions": MARKS},
    "build_artifacts": 7,
    "routing": {"product_type": "x" * 51},
    "model_usage": {"writer": "x" * 2_049},
    "title": "x" * 513,
    "product_type": 3,
    "complexity": "x" * 21,
    "html": 5,
}


@pytest.mark.parametrize("channel", BAD)
async def test_a_bad_value_is_recorded_and_the_checkpoint_saved(
    make_saver: SaverFactory, sql: Sql, caplog: pytest.LogCaptureFixture, channel: str
) -> None:
    graph = chain(make_saver(), {"skill_id": "s-1"}, {channel: BAD[channel], "doc_tier": "d"})

    with caplog.at_level(logging.WARNING, "langgraph_session_saver"):
        await run(graph, {}, config(session_id="s"))

    state = await graph.aget_state(config())
    assert state.values[channel] == BAD[channel]
    row = one(sql, "session_errors")
    assert (row["session_id"], row["thread_id"], row["kind"]) == ("s", "t", "projection")
    assert (row["step"], row["channel"]) == (2, channel)
    assert f"channel {channel!r} holds {repr(BAD[channel])[:100]}" in row["message"]
    assert "which is not " in row["message"]
    assert row["checkpoint_id"] == state.config["configurable"]["checkpoint_id"]
    (record,) = caplog.records
    assert (record.levelname, channel in record.getMessage()) == ("WARNING", True)
    session = one(sql, "sessions")
    assert (session["skill_id"], session["doc_tier"]) == ("s-1", "d")
    assert session["build_status"] == "pending"


@pytest.mark.parametrize("overall", [-1, 100.5, math.nan, math.inf])
async def test_an_overall_score_out_of_range_is_recorded(
    saver: SessionSaver, sql: Sql, overall: float
) -> None:
    scores = ({"overall": 100}, {"overall": overall, "why": "x"})
    await run(chain(saver, *({"aesthetic_scores": value} for value in scores)), {})

    assert from_json(one(sql, "sessions")["aesthetic_scores"]) == {"overall": 100}
    message = one(sql, "session_errors")["message"]
    assert f"overall is {overall}: it is a number from 0 to 100" in message


@pytest.mark.parametrize("column", ["aesthetic_scores", "build_artifacts"])
@pytest.mark.parametrize("value", [7, "good", [1], b"x"], ids=str)
async def test_scores_and_artifacts_that_are_no_object_are_recorded(
    saver: SessionSaver, sql: Sql, column: str, value: Any
) -> None:
    await run(chain(saver, {column: {"a": 1}}, {column: value}), {})

    assert from_json(one(sql, "sessions")[column]) == {"a": 1}
    assert "neither a mapping nor a model" in one(sql, "session_errors")["message"]


async def test_a_bad_value_leaves_the_column_as_it_was(saver: SessionSaver, sql: Sql) -> None:
    await run(chain(saver, {"build_status": "building"}, {"build_status": "exploded"}), {})

    assert one(sql, "sessions")["build_status"] == "building"
    assert "pending, building, success, failed" in one(sql, "session_errors")["message"]


@pytest.mark.parametrize("channel", BAD)
async def test_under_raise_a_bad_write_is_never_stored(
    make_saver: SaverFactory, sql: Sql, channel: str
) -> None:
    graph = chain(make_saver(on_projection_error="raise"), {"note": 1}, {channel: BAD[channel]})

    await fails(run(graph, {}), ProjectionError, f"channel {channel!r}", "which is not ")

    writes = sql("SELECT count(*) AS n FROM session_writes WHERE channel = :c", c=channel)
    assert writes == [{"n": 0}]
    state = await graph.aget_state(config())
    assert (state.values["note"], state.next, channel in state.values) == (1, ("step2",), False)


async def test_under_raise_the_corrected_node_runs_again(
    make_saver: SaverFactory, sql: Sql
) -> None:
    answers = iter(["exploded", "success"])
    calls: list[int] = []

    def decide(_state: State) -> dict[str, Any]:
        calls.append(1)
        return {"build_status": next(answers)}

    graph = chain(make_saver(on_projection_error="raise"), {"note": 1}, decide)
    await fails(run(graph, {}), ProjectionError, "'exploded'", "run the thread again")

    await run(graph, None)

    assert len(calls) == 2
    assert one(sql, "sessions")["build_status"] == "success"


async def test_under_raise_a_bad_value_that_a_reducer_made_is_recorded(
    make_saver: SaverFactory, sql: Sql
) -> None:
    class Sums(TypedDict, total=False):
        product_type: Annotated[str, operator.add]

    graph = chain(
        make_saver(on_projection_error="raise"),
        {"product_type": "a" * 30},
        {"product_type": "b" * 30},
        state=Sums,
    )

    await run(graph, {})

    assert one(sql, "sessions")["product_type"] == "a" * 30
    assert one(sql, "session_errors")["channel"] == "product_type"
    assert (await graph.aget_state(config())).values == {"product_type": "a" * 30 + "b" * 30}


async def test_under_raise_a_bad_input_is_refused(make_saver: SaverFactory, sql: Sql) -> None:
    graph = chain(make_saver(on_projection_error="raise"), {"note": 1})

    await fails(run(graph, {"build_status": "exploded"}), ProjectionError, "'exploded'")

    assert one(sql, "sessions")["build_status"] == "pending"
    await run(graph, {"build_status": "building"})
    assert one(sql, "sessions")["build_status"] == "building"


async def test_under_raise_the_values_of_a_checkpoint_are_checked_too(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver(on_projection_error="raise")
    await saver.asetup()

    await fails(put(saver, 1, {"build_status": "exploded"}), ProjectionError, "was not saved")

    assert not any(counts(sql).values())


@pytest.mark.parametrize("policy", ["record", "raise"])
async def test_an_error_of_a_projection_function_counts_as_an_invalid_value(
    make_saver: SaverFactory, sql: Sql, policy: str
) -> None:
    def read(score: Any) -> Mapping[str, Any]:
        raise KeyError(f"no such score: {score}\x00\ud800")

    saver = make_saver(projections={"score": read}, on_projection_error=policy)
    graph = chain(saver, {"score": 5, "phase": "x"}, state=Scored)

    if policy == "raise":
        await fails(run(graph, {}), ProjectionError, "KeyError", "no such score: 5")
    else:
        await run(graph, {})
        assert "no such score: 5" in one(sql, "session_errors")["message"]
