"""`session_threads.status`: pending, running, interrupted, error and done."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from langgraph_session_saver import SessionSaver
from tests.support.backends import EACH_ONCE, Sql
from tests.support.rows import (
    Graph,
    State,
    chain,
    checkpoint_id,
    config,
    counts,
    one,
    put,
    run,
)
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


def ask(_state: Any) -> dict[str, Any]:
    return {"note": interrupt("which colour?")}


async def test_a_thread_is_pending_while_it_runs_and_done_at_its_end(
    saver: SessionSaver, sql: Sql
) -> None:
    seen: list[tuple[str, str | None]] = []

    def look(_state: State) -> dict[str, Any]:
        row = one(sql, "session_threads")
        seen.append((row["status"], row["status_node"]))
        return {}

    await run(chain(saver, look, look), {})

    assert seen == [("pending", "step1"), ("pending", "step2")]
    row = one(sql, "session_threads")
    assert (row["status"], row["status_node"]) == ("done", None)


async def test_an_interrupt_sets_the_status_until_it_is_answered(
    saver: SessionSaver, sql: Sql
) -> None:
    graph = chain(saver, {"other": 1}, ask)
    await run(graph, {})
    row = one(sql, "session_threads")
    assert (row["status"], row["status_node"]) == ("interrupted", "step2")
    assert counts(sql)["session_errors"] == 0

    await run(graph, Command(resume="red"))

    assert one(sql, "session_threads")["status"] == "done"


async def test_an_interrupt_in_a_subgraph_sets_the_status(saver: SessionSaver, sql: Sql) -> None:
    outer: Any = StateGraph(State)
    outer.add_node("inner", chain(None, ask))
    outer.add_edge(START, "inner")
    graph: Graph = outer.compile(checkpointer=saver)

    await run(graph, {})

    row = one(sql, "session_threads")
    assert row["status"] == "interrupted"
    assert row["status_node"] in {"inner", "inner/step1"}


async def test_a_static_breakpoint_leaves_the_thread_pending(saver: SessionSaver, sql: Sql) -> None:
    graph = chain(saver, {"other": 1}, {"note": 1})

    await run(graph, {}, interrupt_before=["step2"])

    row = one(sql, "session_threads")
    assert (row["status"], row["status_node"]) == ("pending", "step2")


@pytest.mark.parametrize(
    ("channel", "status"), [("__error__", "error"), ("__interrupt__", "interrupted")]
)
async def test_a_late_put_never_clears_what_its_writes_have_set(
    make_saver: SaverFactory, sql: Sql, channel: str, status: str
) -> None:
    saver = make_saver()
    first = await put(saver, 1, {"note": 1})
    named = config(checkpoint_ns="", checkpoint_id=checkpoint_id(2))
    await saver.aput_writes(named, [(channel, ValueError("x"))], "task", "~__pregel_pull, node")

    await put(saver, 2, {"note": 2}, first)

    row = one(sql, "session_threads")
    assert (row["status"], row["status_node"]) == (status, "node")
    assert row["checkpoint_id"] == checkpoint_id(2)
    await put(saver, 3, {"note": 3}, named)
    assert one(sql, "session_threads")["status"] == "done"


async def test_a_put_that_is_repeated_leaves_the_status_as_it_was(
    saver: SessionSaver, sql: Sql
) -> None:
    """As a retry does when the answer to the COMMIT was lost."""
    for _ in range(2):
        await put(saver, 1, {"note": 1})

    row = one(sql, "session_threads")
    assert (row["status"], row["status_step"]) == ("done", 1)


async def test_writes_before_the_first_put_create_the_thread(saver: SessionSaver, sql: Sql) -> None:
    named = config(checkpoint_ns="", checkpoint_id=checkpoint_id(1), session_id="s")

    await saver.aput_writes(named, [("__error__", ValueError("x"))], "task", "~__pregel_pull, n")

    assert one(sql, "session_threads")["status"] == "error"
    assert one(sql, "sessions")["id"] == "s"
    assert one(sql, "session_errors")["node"] == "n"


async def test_an_error_takes_precedence_over_an_interrupt_of_the_same_step(
    saver: SessionSaver, sql: Sql
) -> None:
    await put(saver, 1, {"note": 1})
    named = config(checkpoint_ns="", checkpoint_id=checkpoint_id(1))

    await saver.aput_writes(named, [("__error__", ValueError("x"))], "a", "~__pregel_pull, bad")
    await saver.aput_writes(named, [("__interrupt__", ["?"])], "b", "~__pregel_pull, asks")

    row = one(sql, "session_threads")
    assert (row["status"], row["status_node"]) == ("error", "bad")


async def test_an_error_of_an_older_step_does_not_change_the_status(
    saver: SessionSaver, sql: Sql
) -> None:
    first = await put(saver, 1, {"note": 1})
    await put(saver, 2, {"note": 2}, first)

    await saver.aput_writes(first, [("__error__", ValueError("x"))], "a", "~__pregel_pull, bad")

    assert one(sql, "session_threads")["status"] == "done"
    assert counts(sql)["session_errors"] == 1


def _once_the_answer_is_saved(sql: Sql) -> dict[str, Any]:
    """Wait for the answer to be saved, which LangGraph does in the background; the thread's row."""
    for _ in range(500):
        row = one(sql, "session_threads")
        if row["status"] != "interrupted":
            break
    return row


async def test_an_interrupted_thread_is_running_once_answered_and_done_at_its_end(
    make_saver: SaverFactory, sql: Sql
) -> None:
    seen: list[Any] = []

    def node(_state: Any) -> Any:
        answer = interrupt("which colour?")
        row = _once_the_answer_is_saved(sql)
        seen.append((row["status"], row["status_node"], row["status_step"]))
        return {"note": answer}

    graph = chain(make_saver(), {"other": 1}, node, {"other": 2})
    await run(graph, {})
    waiting = one(sql, "session_threads")
    assert (waiting["status"], waiting["status_node"], waiting["status_step"]) == (
        "interrupted", "step2", 2,
    )  # fmt: skip
    assert waiting["status_since"] is not None

    await run(graph, Command(resume="red"))

    assert seen == [("running", "step2", 2)]
    done = one(sql, "session_threads")
    assert (done["status"], done["status_node"], done["status_step"]) == ("done", None, 3)
    assert done["status_since"] > waiting["status_since"]
