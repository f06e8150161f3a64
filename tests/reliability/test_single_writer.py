"""Two runs on one thread: both outcomes are kept, or with `single_writer` only one of them."""

from __future__ import annotations

from typing import Any

import pytest

from langgraph_session_saver import SessionSaver, ThreadConflictError
from tests.retention.test_overlapping_runs import node_that_once_awaits
from tests.support.backends import EACH_ONCE
from tests.support.graphs import ScriptRunner, line_of, says, thread
from tests.support.rows import checkpoint_id, fails, listed, put
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


def runs_that_overlap(make_saver: SaverFactory, **options: Any) -> ScriptRunner:
    """A graph in whose first run another process runs the same graph on the same thread."""

    async def run_other() -> None:
        await other.invoke({"log": ["other"]}, thread("t"), durability="sync")

    slow = node_that_once_awaits(make_saver.face, run_other, {"log": ["slow"]})
    builder = line_of(("first", says("first")), ("slow", slow))
    overtaken, other = (ScriptRunner(builder, make_saver(**options)) for _ in range(2))
    return overtaken


async def test_both_outcomes_are_kept_as_forks(make_saver: SaverFactory) -> None:
    driver = runs_that_overlap(make_saver)

    ended = await driver.invoke({"log": ["one"]}, thread("t"), durability="sync")

    logs = [state.values.get("log") for state in await driver.history(thread("t"))]
    assert ended["log"] == logs[0] == ["one", "first", "slow"]
    assert ["one", "first", "other", "first", "slow"] in logs


@pytest.mark.parametrize("keep_last", [None, 1])
async def test_a_run_that_was_overtaken_raises_and_the_other_is_the_threads_state(
    make_saver: SaverFactory, keep_last: int | None
) -> None:
    driver = runs_that_overlap(make_saver, single_writer=True, keep_last=keep_last)

    error = await fails(
        driver.invoke({"log": ["one"]}, thread("t"), durability="sync"), ThreadConflictError
    )

    state = await driver.state(thread("t"))
    assert state.values["log"] == ["one", "first", "other", "first", "slow"]
    assert "thread 't'" in str(error)
    assert repr(state.config["configurable"]["checkpoint_id"]) in str(error)


async def test_nothing_that_follows_a_refused_step_is_saved(make_saver: SaverFactory) -> None:
    here, there = make_saver(single_writer=True), make_saver(single_writer=True)
    start = await put(here, 1, {"note": 1})
    await put(there, 2, {"note": 2}, start)
    await fails(put(here, 3, {"note": 3}, start), ThreadConflictError)

    refused = thread("t", checkpoint_ns="", checkpoint_id=checkpoint_id(3))
    await fails(put(here, 4, {"note": 4}, refused), ThreadConflictError)

    assert await listed(here, thread("t")) == [checkpoint_id(2), checkpoint_id(1)]


async def test_an_update_of_an_older_checkpoint_makes_a_fork(make_saver: SaverFactory) -> None:
    driver = ScriptRunner(line_of(("one", says("one"))), make_saver(single_writer=True))
    await driver.invoke({"log": ["in"]}, thread("t"))
    oldest = (await driver.history(thread("t")))[-1]

    fork = await driver.update(oldest.config, {"log": ["forked"]})
    await driver.invoke(None, fork)

    assert (await driver.state(thread("t"))).values["log"] == ["forked", "one"]


async def test_a_thread_that_is_deleted_while_it_runs_is_stored_from_its_next_step_on(
    make_saver: SaverFactory,
) -> None:
    saver: SessionSaver = make_saver(single_writer=True)
    start = await put(saver, 1, {"note": 1})
    await saver.adelete_thread("t")

    await put(saver, 2, {"note": 2}, start)

    assert await listed(saver, thread("t")) == [checkpoint_id(2)]
