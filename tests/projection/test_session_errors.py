"""`session_errors` rows: errors of nodes, and when the thread recovered."""

from __future__ import annotations

from typing import Any

from langgraph.graph import START, StateGraph
from langgraph.types import Send

from langgraph_session_saver import SessionSaver
from tests.projection.samples import explode
from tests.support.backends import EACH_ONCE, Sql
from tests.support.graphs import ScriptRunner, line_of, says, thread
from tests.support.rows import Graph, State, chain, config, counts, fails, one, run
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


async def test_an_error_of_a_node_becomes_a_row(saver: SessionSaver, sql: Sql) -> None:
    graph = chain(saver, {"note": 1}, explode)

    await fails(run(graph, {}, config(session_id="s")), ValueError, "out of flour")

    row = one(sql, "session_errors")
    assert (row["kind"], row["node"], row["type"]) == ("error", "step2", "ValueError")
    assert (row["message"], row["session_id"], row["thread_id"]) == ("out of flour", "s", "t")
    assert "in explode" in row["stack"]
    assert row["checkpoint_id"] == one(sql, "session_threads")["checkpoint_id"]


async def test_an_error_sets_the_status_of_the_thread(saver: SessionSaver, sql: Sql) -> None:
    await fails(run(chain(saver, {"note": 1}, explode), {}), ValueError)

    row = one(sql, "session_threads")
    assert (row["status"], row["status_node"]) == ("error", "step2")


async def test_an_error_that_passes_through_a_subgraph_is_one_row(
    saver: SessionSaver, sql: Sql
) -> None:
    inner = chain(None, {"note": 1}, explode)
    outer: Any = StateGraph(State)
    outer.add_node("inner", inner)
    outer.add_edge(START, "inner")
    graph: Graph = outer.compile(checkpointer=saver)

    await fails(run(graph, {}), ValueError)

    row = one(sql, "session_errors")
    assert (row["node"], row["message"]) == ("inner/step2", "out of flour")
    assert one(sql, "session_threads")["status"] == "error"


async def test_the_error_of_a_send_task_names_its_node(saver: SessionSaver, sql: Sql) -> None:
    def bake(value: Any) -> dict[str, Any]:
        if value == "bread":
            raise ValueError("out of flour")
        return {"items": [value]}

    builder: Any = StateGraph(State)
    builder.add_node("plan", lambda _state: {})
    builder.add_node("bake", bake)
    builder.add_edge(START, "plan")
    fan = lambda _state: [Send("bake", "cake"), Send("bake", "bread")]  # noqa: E731
    builder.add_conditional_edges("plan", fan, ["bake"])
    graph: Graph = builder.compile(checkpointer=saver)

    await fails(run(graph, {}), ValueError)

    assert one(sql, "session_errors")["node"] == "bake"
    assert one(sql, "session_threads")["status_node"] == "bake"


async def test_an_error_raised_again_on_resume_is_one_row(saver: SessionSaver, sql: Sql) -> None:
    graph = chain(saver, explode)
    await fails(run(graph, {}), ValueError)

    await fails(run(graph, None), ValueError)

    assert counts(sql)["session_errors"] == 1


async def test_the_errors_projection_can_be_switched_off(
    make_saver: SaverFactory, sql: Sql
) -> None:
    await fails(run(chain(make_saver(projections={"errors": None}), explode), {}), ValueError)

    assert counts(sql)["session_errors"] == 0
    assert one(sql, "session_threads")["status"] == "error"


async def test_an_error_names_the_step_and_the_run_that_it_happened_in(
    make_saver: SaverFactory, sql: Sql
) -> None:
    graph = chain(make_saver(), {"note": 1}, explode)

    await fails(run(graph, {}, config(run_id="run 7")), ValueError)

    error, row = one(sql, "session_errors"), one(sql, "session_threads")
    assert (error["step"], error["run_id"], error["recovered_at"]) == (2, "run 7", None)
    assert (row["status"], row["status_node"], row["status_step"]) == ("error", "step2", 2)


async def test_an_error_in_a_subgraph_names_the_step_of_the_root(
    make_saver: SaverFactory, sql: Sql
) -> None:
    builder = line_of(("one", says("one")), ("inner", chain(None, {"note": 1}, explode)))
    driver = ScriptRunner(builder, make_saver())

    await fails(driver.invoke({"log": []}, thread("t")), ValueError)

    assert one(sql, "session_errors")["step"] == 2


async def test_an_error_is_recovered_once_the_thread_continues(
    make_saver: SaverFactory, sql: Sql
) -> None:
    broken = [True]

    def node(_state: Any) -> Any:
        if broken:
            raise ValueError("out of flour")
        assert one(sql, "session_errors")["recovered_at"] is None
        return {"note": 2}

    await fails(run(chain(make_saver(), {"note": 1}, node), {}), ValueError)
    failed = one(sql, "session_errors")
    assert failed["recovered_at"] is None
    broken.clear()

    await run(chain(make_saver(), {"note": 1}, node), None)

    recovered = one(sql, "session_errors")
    assert recovered["recovered_at"] >= failed["created_at"]
    assert one(sql, "session_threads")["status"] == "done"


async def test_a_second_error_is_unrecovered_and_the_first_stays_recovered(
    make_saver: SaverFactory, sql: Sql
) -> None:
    problems = iter(["no flour", None, "no sugar"])

    def node(_state: Any) -> Any:
        problem = next(problems)
        if problem:
            raise ValueError(problem)
        return {"note": 1}

    graph = chain(make_saver(), node, {"other": 1})
    await fails(run(graph, {}), ValueError)
    await run(graph, None)
    await fails(run(graph, {"note": 0}), ValueError)

    rows = sql("SELECT message, recovered_at FROM session_errors ORDER BY id")
    assert [(row["message"], row["recovered_at"] is None) for row in rows] == [
        ("no flour", False), ("no sugar", True),
    ]  # fmt: skip


async def test_an_error_row_outlives_its_checkpoint(make_saver: SaverFactory, sql: Sql) -> None:
    problems = iter(["no flour", None, None])

    def node(_state: Any) -> Any:
        problem = next(problems)
        if problem:
            raise ValueError(problem)
        return {"note": 1}

    graph = chain(make_saver(keep_last=1), node)
    await fails(run(graph, {}), ValueError)
    await run(graph, None)
    await run(graph, {})

    assert one(sql, "session_errors")["message"] == "no flour"
