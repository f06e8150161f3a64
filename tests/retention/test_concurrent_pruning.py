"""Pruning while other savers and processes write to the same thread."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from sqlalchemy import create_engine

from langgraph_session_saver import SessionSaver
from tests.retention.runs import LINE
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.faces import SyncFaceAdapter
from tests.support.graphs import ScriptRunner, line_of, says, thread, underlying
from tests.support.kept import Beside, check_kept
from tests.support.rows import checkpoint, checkpoint_id, put
from tests.support.savers import SaverFactory
from tests.support.zygote import Zygote

BACKENDS_AND_FACES = EACH_ONCE


@pytest.mark.parametrize("count", [1, 5])
async def test_two_savers_running_on_one_thread_leave_the_newest_checkpoints(
    make_saver: SaverFactory, sql: Sql, count: int
) -> None:
    everything, reader = InMemorySaver(), make_saver()
    drivers = []
    for _ in range(2):
        saver = make_saver(keep_last=count)
        beside = Beside(saver, everything, checks=False)
        drivers.append(ScriptRunner(LINE, beside, is_sync=isinstance(saver, SyncFaceAdapter)))

    async def turns(driver: ScriptRunner, name: str) -> Any:
        for turn in range(4):
            given = {"log": [f"{name}{turn}"], "big": name * 1_500}
            ended = await driver.invoke(given, thread("shared"))
        return ended

    if drivers[0].is_sync:
        pairs = zip(drivers, "ab", strict=True)
        calls = [asyncio.to_thread(asyncio.run, turns(driver, name)) for driver, name in pairs]
    else:
        calls = [turns(driver, name) for driver, name in zip(drivers, "ab", strict=True)]
    ended = await asyncio.gather(*calls)

    assert [values["log"][-3:] for values in ended] == [["one", "two", "three"]] * 2
    kept = await check_kept(reader, everything, sql, "shared", count)
    assert len(kept.roots) == count


def take_kept_turns(url: str, name: str, turns: int, count: int) -> None:
    """Take turns on a thread in a process; a second set of tables keeps every step."""
    engine = create_engine(url)
    pruned = SessionSaver(engine, keep_last=count)
    everything = SessionSaver(engine, table_prefix="whole_")
    graph = LINE.compile(checkpointer=Beside(pruned, everything, checks=False))
    for turn in range(turns):
        given: Any = {"log": [f"{name} {turn}"], "big": name * 1_500}
        graph.invoke(given, thread("shared"), durability="sync")
    engine.dispose()


async def test_two_processes_on_one_thread_leave_the_newest_checkpoints_unchanged(
    backend: Backend, zygote: Zygote, sql: Sql
) -> None:
    with (
        SessionSaver(backend.engine()) as reader,
        SessionSaver(backend.engine(), table_prefix="whole_") as everything,
    ):
        reader.setup()
        everything.setup()
        arguments = {"url": backend.url, "turns": 5, "count": 4}
        children = [
            zygote.spawn(
                "tests.retention.test_concurrent_pruning:take_kept_turns",
                {**arguments, "name": name},
            )
            for name in ("a", "b")
        ]
        for child in children:
            assert child.wait() == 0, child.text

        face: Any = SyncFaceAdapter(reader)
        kept = await check_kept(face, everything, sql, "shared", 4)
        assert len(kept.roots) == 4
        assert sql("SELECT count(*) AS n FROM whole_session_checkpoints") == [{"n": 50}]


async def test_a_run_whose_thread_is_pruned_meanwhile_stores_its_state_whole(
    make_saver: SaverFactory, sql: Sql
) -> None:
    other = make_saver()

    async def prune(_state: Any) -> Any:
        for number in (1, 2, 3):
            await other.aput(thread("kept", checkpoint_ns=""), *_made_late(number))
        await other.aprune(["kept"], strategy="keep_last", keep_last=1)
        return {"log": ["pruned"]}

    builder = line_of(("one", says("one")), ("prune", prune), ("two", says("two")))
    graph = builder.compile(checkpointer=underlying(make_saver()))
    given: Any = {"log": ["in"], "big": "x" * 2_000}

    ended = await graph.ainvoke(given, thread("kept"), durability="sync")

    assert ended["log"] == ["in", "one", "pruned", "two"]
    assert sql("SELECT count(*) AS n FROM session_blobs WHERE base_key IS NULL")[0]["n"] > 0


async def test_a_delta_stays_a_delta_when_the_whole_state_is_stored_again(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver, text = make_saver(), "a text that changes in one place " * 100
    at = await put(saver, 1, {"text": f"{text}1"})
    at = await put(saver, 2, {"text": f"{text}2"}, at)
    sql("DELETE FROM session_checkpoints")  # as a prune by another process may
    unchanged = checkpoint(2, {"text": f"{text}2"}) | {"id": checkpoint_id(3)}
    at = await saver.aput(at, unchanged, {"source": "loop", "step": 3}, {})

    await put(saver, 4, {"text": f"{text}4"}, at)

    depths = {
        bytes(row["blob_key"]): (row["depth"], row["base_key"] and bytes(row["base_key"]))
        for row in sql("SELECT blob_key, base_key, depth FROM session_blobs")
    }
    assert len(depths) == 3
    assert all(depth == (1 + depths[base][0] if base else 0) for depth, base in depths.values())


def _made_late(number: int) -> tuple[Any, Any, Any]:
    return empty_checkpoint(), {"source": "loop", "step": number}, {}
