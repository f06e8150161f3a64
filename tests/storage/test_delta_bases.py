"""Bases of deltas: they exist even when another process deletes at the same time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from langgraph_session_saver import HistoryLostError, SessionSaver
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.faces import SyncFaceAdapter
from tests.support.rows import checkpoint, config, put
from tests.support.savers import SaverFactory
from tests.support.statements import hook, is_waiting

BACKENDS_AND_FACES = EACH_ONCE
SERVERS = pytest.mark.parametrize("backend_name", ["postgresql", "mariadb"], indirect=True)
LONG = "a text that changes in one place and is stored as a change of the one before " * 20
OTHER = "another text, of which nothing is like the first one, so that it is stored whole " * 20
RESUME = "__resume__"

DANGLING = """
    SELECT count(*) AS number FROM session_blobs b
    WHERE b.base_key IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM session_blobs base
        WHERE base.thread_key = b.thread_key AND base.blob_key = b.base_key
    )
"""


def delta_count(sql: Sql) -> int:
    """The number of deltas, after asserting that each has its base."""
    assert sql(DANGLING) == [{"number": 0}]
    found = sql("SELECT count(*) AS number FROM session_blobs WHERE base_key IS NOT NULL")
    return int(found[0]["number"])


async def save_two_texts(saver: Any) -> RunnableConfig:
    """A thread of two texts, the second stored as a delta of the first."""
    at = await put(saver, 1, {"note": "n" * 200, "text": f"{LONG}1"})
    return await put(saver, 2, {"text": f"{LONG}2"}, at)


async def save_another_text(saver: Any, at: RunnableConfig) -> RunnableConfig:
    """A third text, unlike the second."""
    return await put(saver, 3, {"text": OTHER}, at)


async def values(saver: Any) -> dict[str, Any]:
    found: CheckpointTuple | None = await saver.aget_tuple(config())
    assert found is not None
    return found.checkpoint["channel_values"]


@pytest.mark.parametrize("pruned", [False, True], ids=["kept", "pruned"])
@pytest.mark.parametrize("remembers", ["as it wrote", "as it read", "with the newest revision"])
async def test_a_value_whose_base_was_pruned_by_another_process_is_stored_whole(
    make_saver: SaverFactory,
    sql: Sql,
    remembers: str,
    pruned: bool,
) -> None:
    writer, other = make_saver(), make_saver()
    second = await save_two_texts(writer)
    mine = make_saver() if remembers == "as it read" else writer
    await values(mine)
    third = await save_another_text(other, second)
    if pruned:
        await other.aprune(["t"], strategy="keep_last", keep_last=1)
    if remembers == "with the newest revision":
        await mine.aput_writes(third, [(RESUME, "on")], "task")

    await put(mine, 4, {"text": f"{LONG}4"}, third)

    assert delta_count(sql) == (0 if pruned else 2)
    assert (await values(make_saver()))["text"] == f"{LONG}4"


class PruneAndStep:
    """A prune that deletes the first two texts, and a step that waits for it to end."""

    def __init__(self, backend: Backend, sql: Sql) -> None:
        self.engine = backend.engine()
        self.other = SyncFaceAdapter(SessionSaver(self.engine))
        self._sql = sql
        self._backend = backend

    async def prune_before(self, step: Callable[[], Any]) -> None:
        """Prune, and start a step before the prune ends."""
        with ThreadPoolExecutor(1) as pool:
            steps: list[Any] = []

            def begin(_conn: Any) -> None:
                steps.append(pool.submit(step))
                while not is_waiting(self._backend, self._sql):
                    assert not steps[0].done()

            with hook(self.engine, "UPDATE session_threads", begin):
                await self.other.aprune(["t"], strategy="keep_last", keep_last=1)
            steps[0].result()


@pytest.fixture
def race(backend: Backend, sql: Sql) -> PruneAndStep:
    return PruneAndStep(backend, sql)


async def outdated_saver(
    backend: Backend, race: PruneAndStep, *, knows_row: bool
) -> tuple[SessionSaver, Any, Any]:
    """A saver that read a thread before another saver continued it, and both configs."""
    saver = SessionSaver(backend.engine())
    mine = SyncFaceAdapter(saver)
    second = await save_two_texts(mine if knows_row else race.other)
    await values(mine)
    third = await save_another_text(race.other, second)
    if knows_row:
        await mine.aput_writes(third, [(RESUME, "on")], "task")
    return saver, second, third


@SERVERS
@pytest.mark.parametrize("knows_row", [False, True], ids=["locks the row", "knows the row"])
async def test_a_step_that_waited_for_a_prune_stores_no_delta_of_a_deleted_base(
    backend: Backend,
    sql: Sql,
    race: PruneAndStep,
    knows_row: bool,
) -> None:
    plain, _, third = await outdated_saver(backend, race, knows_row=knows_row)
    made = checkpoint(4, {"text": f"{LONG}4"})

    await race.prune_before(lambda: plain.put(third, made, {"step": 4}, made["channel_versions"]))

    assert delta_count(sql) == 0
    with SessionSaver(backend.engine()) as fresh:
        assert (await values(SyncFaceAdapter(fresh)))["text"] == f"{LONG}4"


@SERVERS
@pytest.mark.parametrize("knows_row", [False, True], ids=["locks the row", "knows the row"])
async def test_a_step_that_waited_for_a_prune_of_its_parent_is_stored_whole(
    backend: Backend,
    sql: Sql,
    race: PruneAndStep,
    knows_row: bool,
) -> None:
    plain, second, _ = await outdated_saver(backend, race, knows_row=knows_row)
    made = checkpoint(4, {"note": "n" * 200, "text": f"{LONG}4"})
    made["channel_versions"]["note"] = checkpoint(1, {"note": ""})["channel_versions"]["note"]
    changed = {"text": made["channel_versions"]["text"]}

    await race.prune_before(lambda: plain.put(second, made, {"step": 4}, changed))

    assert delta_count(sql) == 0
    with SessionSaver(backend.engine()) as fresh:
        found = await values(SyncFaceAdapter(fresh))
        assert found == {"note": "n" * 200, "text": f"{LONG}4"}


async def test_a_manually_deleted_link_of_a_chain_is_reported_as_missing(
    make_saver: SaverFactory, sql: Sql
) -> None:
    await save_two_texts(make_saver())
    where = "channel = 'text' AND base_key IS NULL"
    [gone] = sql(f"SELECT blob_key FROM session_blobs WHERE {where}")
    sql(f"DELETE FROM session_blobs WHERE {where}")

    with pytest.raises(HistoryLostError, match=bytes(gone["blob_key"]).hex()):
        await values(make_saver())


async def test_many_channels_that_change_at_once_are_stored_as_deltas(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver()
    at = await put(saver, 1, {f"text{n}": f"{LONG}{n}" for n in range(37)})

    await put(saver, 2, {f"text{n}": f"{LONG}{n}!" for n in range(37)}, at)

    assert delta_count(sql) == 37
    assert await values(make_saver()) == {f"text{n}": f"{LONG}{n}!" for n in range(37)}
