"""Runs that overlap on a thread under `keep_last`: none loses what it stands on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from tests.support.backends import EACH_ONCE, Sql
from tests.support.faces import FaceName
from tests.support.graphs import Delta, Log, ScriptRunner, counts, line_of, thread
from tests.support.kept import Beside, check_kept, in_tables
from tests.support.rows import checkpoint_id, put
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


def node_that_once_awaits(face: FaceName, work: Callable[[], Awaitable[Any]], update: Any) -> Any:
    """A node that first does other work, which knows nothing of the run that the node is in."""
    waiting = [work]

    async def awaits(_state: Any) -> Any:
        if waiting:
            await asyncio.create_task(_awaited(waiting.pop()()), context=Context())
        return update

    def blocks(_state: Any) -> Any:
        if waiting:
            with ThreadPoolExecutor(1) as executor:
                executor.submit(asyncio.run, _awaited(waiting.pop()())).result()
        return update

    return blocks if face == "sync" else awaits


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("state", "channel"), [(Delta, "items"), (Log, "log")])
async def test_a_run_goes_on_after_others_have_run_many_turns_from_its_middle(
    make_saver: SaverFactory, sql: Sql, state: Any, channel: str, count: int
) -> None:
    everything, face = InMemorySaver(), make_saver.face

    async def take_turns() -> None:
        for turn in range(5):
            await other.invoke({channel: [f"{turn}"]}, thread("kept"), durability="sync")

    slow = node_that_once_awaits(face, take_turns, {channel: ["slow"]})
    nodes = [(name, lambda _state, name=name: {channel: [name]}) for name in ("first", "last")]
    builder = line_of(nodes[0], ("slow", slow), nodes[1], state=state)
    overtaken, other = (
        ScriptRunner(builder, Beside(make_saver(keep_last=count), everything), is_sync=is_sync)
        for is_sync in [face == "sync"] * 2
    )

    ended = await overtaken.invoke({channel: ["in"]}, thread("kept"), durability="sync")

    assert ended[channel] == ["in", "first", "slow", "last"]
    await check_kept(make_saver(), everything, sql, "kept", count)


@pytest.mark.parametrize("count", [1, 3])
async def test_runs_that_take_each_step_together_all_end(
    make_saver: SaverFactory, face: FaceName, count: int
) -> None:
    workers, turns = 3, 4
    met: Any = threading.Barrier(workers) if face == "sync" else asyncio.Barrier(workers)

    def together(state: Delta) -> Delta:
        met.wait()
        return counts(state)

    async def atogether(state: Delta) -> Delta:
        await met.wait()
        return counts(state)

    node = together if face == "sync" else atogether
    builder = line_of(("one", node), ("two", node), ("three", node), state=Delta)

    async def take_turns(driver: ScriptRunner, name: str) -> list[Any]:
        try:
            return [
                (await driver.invoke({"items": [f"{name}{turn}"]}, thread("kept")))["items"][-4]
                for turn in range(turns)
            ]
        except BaseException:  # the others would wait for this one
            if (aborted := met.abort()) is not None:
                await aborted
            raise

    drivers = {name: ScriptRunner(builder, make_saver(keep_last=count)) for name in "abc"}
    calls: list[Any] = [take_turns(driver, name) for name, driver in drivers.items()]
    if face == "sync":
        calls = [asyncio.to_thread(asyncio.run, call) for call in calls]

    assert await asyncio.gather(*calls) == [[f"{name}{n}" for n in range(turns)] for name in "abc"]


async def overtake(saver: Any) -> Any:
    """Save a run's checkpoint after another run's newer one; returns its config."""
    start = await put(saver, 1, {"note": 1})
    await put(saver, 3, {"note": 3}, start)
    return await put(saver, 2, {"note": 2, "branch:to:next": None}, start)


async def test_a_checkpoint_of_an_overtaken_run_is_read_by_its_id_and_not_listed(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver(keep_last=1)

    overtaken = await overtake(saver)

    found = await saver.aget_tuple(overtaken)
    assert found is not None
    assert found.checkpoint["channel_values"]["note"] == 2
    assert in_tables(sql, "t").roots == [checkpoint_id(3)]


async def test_an_overtaken_run_leaves_nothing_when_it_has_ended(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver(keep_last=1)
    overtaken = await overtake(saver)

    await put(saver, 4, {"note": 4}, overtaken)

    kept = in_tables(sql, "t")
    assert (kept.roots, kept.hidden) == ([checkpoint_id(4)], set())
