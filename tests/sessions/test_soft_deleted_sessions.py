"""A soft-deleted session takes no further steps until it is restored."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig

from langgraph_session_saver import SessionDeletedError, SessionSaver
from langgraph_session_saver.encoding.pieces import PIECE_BYTES
from tests.retention.test_overlapping_runs import node_that_once_awaits
from tests.support.backends import EACH_ONCE, Sql
from tests.support.graphs import ScriptRunner, engine_of, line_of, says, thread
from tests.support.rows import checkpoint_id, config, counts, fails, listed, put
from tests.support.savers import SaverFactory
from tests.support.statements import hook

BACKENDS_AND_FACES = EACH_ONCE
IN_S = config(session_id="s")
DELETE_BY_SQL = "UPDATE sessions SET status = 'deleted' WHERE id = 's'"

Step = Callable[[SessionSaver, RunnableConfig], Awaitable[object]]


def a_put(saver: SessionSaver, at: RunnableConfig) -> Awaitable[object]:
    return put(saver, 2, {"note": 2, "messages": []}, at)


def writes_of(*writes: tuple[str, Any]) -> Step:
    return lambda saver, at: saver.aput_writes(at, list(writes), "task")


STEPS = {
    "a checkpoint": a_put,
    "a task's writes": writes_of(("note", 2), ("items", [2])),
    "an answer": writes_of(("note", 2), ("__resume__", "yes")),
    "an error": writes_of(("__error__", ValueError("late"))),
}

EVERY_STEP = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)


@EVERY_STEP
@pytest.mark.parametrize("options", [{}, {"keep_last": 2}], ids=["", "keep_last"])
@pytest.mark.parametrize("is_known", [True, False], ids=["warm", "cold"])
async def test_a_late_step_is_refused_and_stores_nothing(
    make_saver: SaverFactory, sql: Sql, step: Step, options: dict[str, Any], is_known: bool
) -> None:
    """Also by a saver that knows the thread, and so reads nothing before it writes."""
    saver, other = make_saver(**options), make_saver()
    at = await put(saver, 1, {"note": 1, "messages": []}, IN_S)
    await other.sessions.adelete("s", soft=True)
    before = counts(sql)

    error = await fails(
        step(saver if is_known else make_saver(**options), at), SessionDeletedError, "'s'", "'t'"
    )

    assert "sessions.update(session_id, status=None)" in str(error)
    assert isinstance(error, LookupError)
    assert counts(sql) == before


async def test_a_late_step_with_a_value_in_pieces_is_refused(saver: SessionSaver, sql: Sql) -> None:
    at = await put(saver, 1, {"note": 1}, IN_S)
    await saver.sessions.adelete("s", soft=True)
    before, large = counts(sql), os.urandom(PIECE_BYTES + 1)

    await fails(put(saver, 2, {"note": large}, at), SessionDeletedError)
    await fails(saver.aput_writes(at, [("note", large)], "task"), SessionDeletedError)

    assert counts(sql) == before


@EVERY_STEP
async def test_a_session_that_is_soft_deleted_by_plain_sql_is_no_other(
    saver: SessionSaver, sql: Sql, step: Step
) -> None:
    at = await put(saver, 1, {"note": 1}, IN_S)
    sql(DELETE_BY_SQL)

    await fails(step(saver, at), SessionDeletedError)


async def test_an_owners_late_step_is_refused(saver: SessionSaver) -> None:
    adas = saver.for_owner("ada")
    at = await put(adas, 1, {"note": 1}, IN_S)
    await adas.sessions.adelete("s", soft=True)

    for step in STEPS.values():
        await fails(step(adas, at), SessionDeletedError)


@EVERY_STEP
async def test_a_restored_session_takes_steps(make_saver: SaverFactory, step: Step) -> None:
    saver, other = make_saver(), make_saver()
    at = await put(saver, 1, {"note": 1, "messages": []}, IN_S)
    await other.sessions.adelete("s", soft=True)
    await fails(step(saver, at), SessionDeletedError)
    await other.sessions.aupdate("s", status=None)

    await step(saver, at)
    await put(saver, 3, {"note": 3}, at)

    assert (await listed(other, config()))[0] == checkpoint_id(3)


async def test_a_run_stops_at_its_next_step_and_goes_on_once_restored(
    make_saver: SaverFactory,
) -> None:
    saver, other = make_saver(), make_saver()

    async def delete() -> None:
        await other.sessions.adelete("t", soft=True)

    hiding = node_that_once_awaits(make_saver.face, delete, {"log": ["hiding"]})
    builder = line_of(("first", says("first")), ("hiding", hiding), ("last", says("last")))
    driver = ScriptRunner(builder, saver)
    running = driver.invoke({"log": ["in"]}, thread("t"), durability="sync")
    await fails(running, SessionDeletedError)
    assert (await driver.state(thread("t"))).values["log"] == ["in", "first"]

    await other.sessions.aupdate("t", status=None)
    ended = await driver.invoke(None, thread("t"))

    assert ended["log"] == ["in", "first", "hiding", "last"]


async def test_no_new_thread_joins_the_session(saver: SessionSaver, sql: Sql) -> None:
    """By its id, nor by a thread of that id."""
    await saver.sessions.acreate("s", status="deleted")
    before = counts(sql)

    await fails(put(saver, 1, {}, config("new", session_id="s")), SessionDeletedError)
    await fails(put(saver, 1, {}, config("s")), SessionDeletedError)

    assert counts(sql) == before


async def test_nothing_is_copied_into_the_session(saver: SessionSaver, sql: Sql) -> None:
    await put(saver, 1, {"note": 1})
    await saver.sessions.acreate("s", status="deleted")
    before = counts(sql)

    await fails(saver.threads.acopy("t", session_id="s"), SessionDeletedError)

    assert counts(sql) == before


async def test_its_threads_are_read_pruned_copied_and_deleted_as_before(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver, other = make_saver(), make_saver()
    at = await put(saver, 1, {"note": 1, "messages": []}, IN_S, run_id="one")
    await put(saver, 2, {"note": 2, "messages": []}, at, run_id="two")
    await other.sessions.adelete("s", soft=True)

    await saver.adelete_for_runs(["two"])
    assert await listed(saver, config()) == [checkpoint_id(1)]
    await saver.acopy_thread("t", "copy")
    assert await listed(saver, config("copy")) == [checkpoint_id(1)]
    await saver.adelete_thread("t")
    assert await listed(saver, config()) == []


async def test_a_session_with_another_status_takes_steps(saver: SessionSaver) -> None:
    at = await put(saver, 1, {"note": 1}, IN_S)
    await saver.sessions.aupdate("s", status="archived")

    for step in STEPS.values():
        await step(saver, at)


@pytest.mark.parametrize("backend_name", ["postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize(
    ("step", "sent"),
    [
        (a_put, "INSERT INTO session_checkpoints"),
        (STEPS["a task's writes"], "INSERT INTO session_writes"),
    ],
)
@pytest.mark.parametrize("is_known", [True, False], ids=["warm", "cold"])
async def test_a_step_is_refused_if_the_session_is_deleted_before_its_rows_are_sent(
    make_saver: SaverFactory, sql: Sql, step: Step, sent: str, is_known: bool
) -> None:
    """Also if the saver has locked the thread's row by then, as one does that does not know it."""
    warm, cold = make_saver(), make_saver()
    at = await put(warm, 1, {"note": 1}, IN_S)
    saver = warm if is_known else cold
    before = counts(sql)

    with hook(engine_of(saver), sent, lambda _: sql(DELETE_BY_SQL)):
        await fails(step(saver, at), SessionDeletedError)

    assert counts(sql) == before
