"""Deleting and pruning a piece at a time: what is left, and who comes between."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from langgraph_session_saver import thinning, thread_rows
from langgraph_session_saver.housekeeping import Housekeeping
from tests.support.backends import EACH_ONCE, Sql
from tests.support.rows import STORAGE, checkpoint_id, config, counts, listed, put
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE
PIECE = 4
STEPS = 5 * PIECE
LONG = "a text that changes in one place and is stored as a change of the one before " * 20


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_rows, "PIECE", PIECE)
    monkeypatch.setattr(thread_rows, "LARGEST", PIECE)
    monkeypatch.setattr(thinning, "PIECE", PIECE)


async def saved(saver: BaseCheckpointSaver[Any]) -> None:
    """A thread with a chain of changes and a channel of small values."""
    at: RunnableConfig = config()
    for number in range(STEPS):
        at = await put(saver, number, {"note": number, "text": f"{LONG}{number:04}"}, at)
        await saver.aput_writes(at, [("note", number)], "task")


async def test_a_thread_of_many_pieces_is_deleted_whole(make_saver: SaverFactory, sql: Sql) -> None:
    saver = make_saver()
    await saved(saver)

    await saver.adelete_thread("t")

    left = counts(sql)
    assert {table: left[table] for table in (*STORAGE, "sessions")} == dict.fromkeys(
        (*STORAGE, "sessions"), 0
    )


async def test_a_prune_of_many_pieces_leaves_only_what_is_kept(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver()
    await saved(saver)

    await saver.aprune(["t"], strategy="keep_last", keep_last=2)

    assert await listed(saver, config()) == [checkpoint_id(STEPS - 1), checkpoint_id(STEPS - 2)]
    left = counts(sql)
    assert (left["session_checkpoints"], left["session_writes"]) == (2, 2)
    found = await make_saver().aget_tuple(config())
    assert found is not None
    assert found.checkpoint["channel_values"]["text"] == f"{LONG}{STEPS - 1:04}"


async def test_a_prune_is_planned_anew_when_the_thread_was_written_to_meanwhile(
    make_saver: SaverFactory, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = make_saver()
    await saved(saver)
    plans: list[Any] = []
    plan = Housekeeping._plan

    def plan_and_be_late(*arguments: Any) -> Any:
        plans.append(plan(*arguments))
        if len(plans) == 1:
            sql("UPDATE session_threads SET revision = revision + 1")
        return plans[-1]

    monkeypatch.setattr(Housekeeping, "_plan", plan_and_be_late)
    await saver.aprune(["t"], strategy="keep_last", keep_last=1)

    assert len(plans) == 2
    assert await listed(saver, config()) == [checkpoint_id(STEPS - 1)]


async def test_writes_that_wait_for_their_checkpoint_survive_a_deletion_around_them(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver()
    at = await put(saver, 0, {"note": 0}, run_id="other")
    for number, run_id in ((1, "doomed"), (3, "doomed"), (4, "other")):
        at = await put(saver, number, {"note": number}, at, run_id=run_id)
    await saver.aput_writes(
        config(checkpoint_ns="", checkpoint_id=checkpoint_id(2)), [("note", 2)], "t"
    )

    await saver.adelete_for_runs(["doomed"])

    assert await listed(saver, config()) == [checkpoint_id(4), checkpoint_id(0)]
    assert counts(sql)["session_writes"] == 1
