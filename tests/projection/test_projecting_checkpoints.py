"""Which checkpoints project: the session's first thread, its root, its newest."""

from __future__ import annotations

import asyncio
import operator
import threading
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from sqlalchemy import Column, Integer, MetaData, String, Table

from langgraph_session_saver import Projection, SessionSaver, Step
from tests.projection.samples import graph_state, pages, spent, talk
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.graphs import engine_of
from tests.support.rows import (
    chain,
    checkpoint,
    checkpoint_id,
    config,
    counts,
    one,
    put,
    run,
    transcript,
)
from tests.support.savers import SaverFactory
from tests.support.statements import hook

BACKENDS_AND_FACES = EACH_ONCE


async def test_only_the_first_thread_of_a_session_projects_columns(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(chain(saver, {"build_status": "building"}), {}, config("one", session_id="s"))

    second = {"build_status": "failed", "title": "Second", "messages": talk("b")}
    await run(chain(saver, second), {}, config("two", session_id="s"))

    row = one(sql, "sessions")
    assert (row["build_status"], row["title"]) == ("building", "Untitled session")
    assert one(sql, "messages")["content"] == "b"


async def test_a_subgraphs_namespace_projects_nothing(saver: SessionSaver, sql: Sql) -> None:
    class Inner(TypedDict, total=False):
        title: Any
        messages: Annotated[list[Any], operator.add]
        html: Any

    class Outer(TypedDict, total=False):
        note: Any

    inner = chain(None, {"title": "Inner", "messages": talk("x"), "html": "<p>"}, state=Inner)

    async def call(_state: Outer) -> dict[str, Any]:
        await inner.ainvoke({"title": "In"})
        return {"note": 1}

    await run(chain(saver, call, state=Outer), {})

    assert sql("SELECT count(*) AS n FROM session_checkpoints WHERE checkpoint_ns <> ''") != [
        {"n": 0}
    ]
    assert one(sql, "sessions")["title"] == "Untitled session"
    assert (counts(sql)["messages"], counts(sql)["versions"]) == (0, 0)


async def test_an_overtaken_checkpoint_adds_its_rows_and_changes_no_column(
    saver: SessionSaver, sql: Sql
) -> None:
    asked = talk("a")
    first = await put(saver, 1, {"title": "One", "messages": asked})
    third = {"title": "Three", "messages": [*asked, spent("w", 3, 3, id="x")], "html": "<p>3"}
    await put(saver, 3, third, first)

    second = {"title": "Two", "messages": [*asked, spent("w", 2, 2, id="y")], "html": "<p>2"}
    await put(saver, 2, second, first)
    await put(saver, 2, second, first)

    session = one(sql, "sessions")
    assert (session["title"], session["current_version"]) == ("Three", 0)
    assert transcript(sql) == [("user", "a"), ("assistant", "hi")]
    assert transcript(sql, removed=True) == [("assistant", "hi")]
    assert pages(sql) == [(0, "<p>3", None), (1, "<p>2", None)]
    usage = sql("SELECT input_tokens FROM token_usage ORDER BY id")
    assert [row["input_tokens"] for row in usage] == [3, 2]
    assert one(sql, "session_threads")["checkpoint_id"] == checkpoint_id(3)


async def test_an_overtaken_checkpoint_adds_custom_rows_and_replaces_none(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    class Notes(Projection):
        channels = ("note",)
        table = Table(
            "notes", MetaData(), Column("name", String(20), primary_key=True), Column("n", Integer)
        )

        def rows(self, step: Step) -> list[dict[str, Any]]:
            return [{"name": name, "n": n} for name, n in step.values["note"].items()]

    engine = backend.engine()
    Notes.table.create(engine)
    saver = make_saver(projections={"note": Notes()})
    first = await put(saver, 1, {})
    await put(saver, 3, {"note": {"same": 3, "third": 3}}, first)

    await put(saver, 2, {"note": {"same": 2, "second": 2}}, first)

    rows = sql("SELECT name, n FROM notes ORDER BY name")
    assert [tuple(row.values()) for row in rows] == [("same", 3), ("second", 2), ("third", 3)]
    Notes.table.drop(engine)


async def test_an_overtaken_run_that_gets_ahead_again_shows_its_messages(
    saver: SessionSaver, sql: Sql
) -> None:
    asked = talk("a")
    first = await put(saver, 1, {"messages": asked})
    await put(saver, 3, {"messages": [*asked, AIMessage("x", id="x")]}, first)
    second = await put(saver, 2, {"messages": [*asked, AIMessage("y", id="y")]}, first)

    await put(saver, 4, {"messages": [*asked, *(AIMessage(c, id=c) for c in "yz")]}, second)

    assert transcript(sql) == [("user", "a"), ("assistant", "y"), ("assistant", "z")]
    assert transcript(sql, removed=True) == [("assistant", "x")]


async def test_rows_show_the_head_of_a_fork(saver: SessionSaver, sql: Sql) -> None:
    graph = chain(
        saver,
        {"title": "One", "messages": talk("a"), "html": "<p>1"},
        {"title": "Two", "messages": talk("a", "b"), "html": "<p>2"},
    )
    await run(graph, {})
    after_step1 = [state async for state in graph.aget_state_history(config())][1]

    await graph.aupdate_state(after_step1.config, {"note": "forked"}, as_node="step1")

    row = one(sql, "sessions")
    assert (row["title"], row["current_version"]) == ("One", 0)
    assert transcript(sql) == [("user", "a")]
    assert transcript(sql, removed=True) == [("assistant", "b")]
    assert [version for version, _, _ in pages(sql)] == [0, 1]
    assert graph_state(sql)["note"] == "forked"


async def test_rows_show_the_newest_branch_after_another_process_wrote_in_between(
    make_saver: SaverFactory, sql: Sql
) -> None:
    here, there = make_saver(), make_saver()
    start = await put(here, 1, {"messages": talk("a"), "title": "One"})
    await put(there, 2, {"messages": talk("a", "b"), "title": "Two", "html": "<p>2"}, start)

    # It follows the same parent, so it is another branch, and this process knows only that one.
    await put(here, 3, {"messages": talk("a", "B"), "note": 3, "title": "One"}, start)

    assert transcript(sql) == [("user", "a"), ("assistant", "B")]
    assert one(sql, "sessions")["title"] == "One"
    assert graph_state(sql) == {"note": 3, "title": "One"}


async def test_rows_show_the_latest_state_when_processes_take_turns(
    make_saver: SaverFactory, sql: Sql
) -> None:
    here, there = make_saver(), make_saver()
    at = await put(here, 1, {"messages": talk("a")})
    at = await put(there, 2, {"messages": talk("a", "b"), "note": 2}, at)
    at = await put(here, 3, {"messages": [*talk("a", "b")[1:], *talk("x", "y", "c")[2:]]}, at)

    await put(there, 4, {"title": "Four", "messages": talk("a", "b", "c")}, at)

    assert sorted(transcript(sql)) == [("assistant", "b"), ("user", "a"), ("user", "c")]
    assert transcript(sql, removed=True) == []
    assert one(sql, "sessions")["title"] == "Four"


async def test_rows_of_a_thread_that_is_left_without_root_checkpoints_show_no_state(
    saver: SessionSaver, sql: Sql
) -> None:
    values = {"build_status": "building", "note": "x" * 3_000, "messages": talk("a")}
    await put(saver, 1, values, run_id="root's")
    await put(saver, 2, {"note": 1}, config(checkpoint_ns="inner"), run_id="another")

    await saver.adelete_for_runs(["root's"])

    session, thread = one(sql, "sessions"), one(sql, "session_threads")
    assert (session["build_status"], session["checkpoint_id"]) == ("pending", None)
    assert (thread["checkpoint_id"], thread["status"]) == (None, None)
    assert (transcript(sql), transcript(sql, removed=True)) == ([], [("user", "a")])
    assert await saver.state.aload_state("t") is None
    await put(saver, 3, {"build_status": "success", "messages": talk("b")})
    assert one(sql, "sessions")["build_status"] == "success"
    assert transcript(sql) == [("user", "b")]


@pytest.mark.parametrize("way", ["thread", "runs"])
@pytest.mark.parametrize(
    ("note", "left"), [("x" * 3_000, None), ("x", {"build_status": "building", "note": "x"})]
)
async def test_a_state_whose_values_go_with_the_thread_is_cleared_and_columns_set_by_hand_stay(
    saver: SessionSaver, sql: Sql, way: str, note: str, left: object
) -> None:
    await saver.sessions.acreate("t")
    await put(saver, 1, {"build_status": "building", "note": note}, run_id="run")
    await saver.state.aupdate_build_status("t", "failed")

    await (saver.adelete_thread("t") if way == "thread" else saver.adelete_for_runs(["run"]))

    assert await saver.state.aload_state("t") == left
    assert one(sql, "sessions")["build_status"] == "failed"


@pytest.mark.parametrize("left", [[], [1]], ids=["none", "one"])
async def test_rows_show_a_step_that_comes_while_others_are_deleted(
    make_saver: SaverFactory, backend: Backend, sql: Sql, left: list[int]
) -> None:
    saver, another = make_saver(), SessionSaver(backend.engine())
    await put(saver, 0, {"note": 1}, config(checkpoint_ns="inner"), run_id="subgraph's")
    for number in [*left, 2]:
        await put(saver, number, {"build_status": "building"}, run_id=f"run {number}")

    def continue_thread() -> None:
        made = checkpoint(3, {"build_status": "success", "messages": talk("a")})
        another.put(config(), made, {}, made["channel_versions"])

    step = threading.Thread(target=continue_thread)
    with hook(engine_of(saver), "SELECT found.", lambda _conn: step.start()) as seen:
        await saver.adelete_for_runs(["run 2"])
    await asyncio.to_thread(step.join)

    assert seen == [1]
    assert one(sql, "sessions")["build_status"] == "success"
    assert one(sql, "session_threads")["checkpoint_id"] == checkpoint_id(3)
    assert transcript(sql) == [("user", "a")]
