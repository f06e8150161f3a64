"""Deletion and pruning in pieces: what is left, and writers in between."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from sqlalchemy import create_engine

from langgraph_session_saver.checkpointer import maintenance
from langgraph_session_saver.checkpointer.maintenance import ThreadMaintenance
from langgraph_session_saver.retention import apply
from langgraph_session_saver.sql.dialects import dialect_for
from langgraph_session_saver.sql.dialects.postgresql import PostgreSQL
from langgraph_session_saver.sql.dialects.sqlite import BULK_CACHE
from langgraph_session_saver.storage import thread_data
from langgraph_session_saver.storage.thread_data import FASTER, LARGEST, SECONDS, Pace, ThreadData
from tests.support.backends import EACH_ONCE, Sql
from tests.support.rows import STORAGE, checkpoint_id, config, counts, listed, put
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE
PIECE = 4
STEPS = 5 * PIECE
LONG = "a text that changes in one place and is stored as a change of the one before " * 20


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_data, "PIECE", PIECE)
    monkeypatch.setattr(thread_data, "LARGEST", PIECE)
    monkeypatch.setattr(apply, "PIECE", PIECE)
    monkeypatch.setattr(PostgreSQL, "first_piece_factor", 1)


def note(number: int) -> str:
    """A small value that is too long for its checkpoint's own row."""
    return f"{number:030}"


async def saved(saver: BaseCheckpointSaver[Any]) -> None:
    """A thread with a chain of changes and a channel of small values."""
    at: RunnableConfig = config()
    for number in range(STEPS):
        at = await put(saver, number, {"note": note(number), "text": f"{LONG}{number:04}"}, at)
        await saver.aput_writes(at, [("note", number)], "task")


async def test_a_thread_of_many_pieces_is_deleted_completely(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver()
    await saved(saver)

    await saver.adelete_thread("t")

    left = counts(sql)
    assert {table: left[table] for table in (*STORAGE, "sessions")} == dict.fromkeys(
        (*STORAGE, "sessions"), 0
    )


DANGLING = """
    SELECT count(*) AS number FROM session_blobs b
    WHERE b.base_key IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM session_blobs base
        WHERE base.thread_key = b.thread_key AND base.blob_key = b.base_key
    )
"""


@pytest.fixture
def blobs_before(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Blobs visible to others before each piece is deleted, and those without their base."""
    found: list[tuple[int, int]] = []
    delete = ThreadData.delete_newest_blobs

    def look_and_delete(*arguments: Any, **named: Any) -> None:
        found.append((counts(sql)["session_blobs"], sql(DANGLING)[0]["number"]))
        delete(*arguments, **named)

    monkeypatch.setattr(ThreadData, "delete_newest_blobs", look_and_delete)
    return found


async def test_no_delta_outlives_its_base_while_a_thread_is_deleted(
    make_saver: SaverFactory, sql: Sql, blobs_before: list[tuple[int, int]]
) -> None:
    saver = make_saver()
    await saved(saver)
    changes = sql("SELECT count(*) AS number FROM session_blobs WHERE depth > 0")

    await saver.adelete_thread("t")

    assert changes[0]["number"] == STEPS - 1
    assert blobs_before == [(number, 0) for number in range(2 * STEPS, PIECE, -PIECE)]


async def test_large_values_are_deleted_in_smaller_pieces(
    make_saver: SaverFactory,
    monkeypatch: pytest.MonkeyPatch,
    blobs_before: list[tuple[int, int]],
) -> None:
    monkeypatch.setattr(thread_data, "BYTES", 1)
    saver = make_saver()
    await saved(saver)

    await saver.adelete_thread("t")

    assert blobs_before == [(number, 0) for number in range(2 * STEPS, 1, -1)]


@pytest.mark.parametrize("few", [0, 2 * PIECE], ids=["named", "all but a few"])
async def test_no_delta_outlives_its_base_while_a_thread_is_pruned(
    make_saver: SaverFactory,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
    blobs_before: list[tuple[int, int]],
    few: int,
) -> None:
    monkeypatch.setattr(maintenance, "BATCH", few)
    saver = make_saver()
    at: RunnableConfig = config()
    for number in range(STEPS):
        # Every fourth text is new and stored whole; the others are deltas.
        text = f"{number // PIECE} " * 500 + f"{number:04}"
        at = await put(saver, number, {"note": note(number), "text": text}, at)

    await saver.aprune(["t"], strategy="keep_last", keep_last=1)

    kept = 1 + PIECE  # a note, and a text with its chain of bases
    assert counts(sql)["session_blobs"] == kept
    assert sql(DANGLING)[0]["number"] == 0
    before = [(number, 0) for number in range(2 * STEPS, kept, -PIECE)]
    assert blobs_before == (before if few else [])
    found = await make_saver().aget_tuple(config())
    assert found is not None
    assert found.checkpoint["channel_values"] == {"note": note(STEPS - 1), "text": text}


def test_the_size_of_pieces_adapts_to_the_time_they_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pace = Pace()
    pace.most = 100
    monkeypatch.setattr(thread_data, "LARGEST", LARGEST)

    for seconds, most in (
        (SECONDS, 100),
        (SECONDS / 2, 200),
        (2 * SECONDS, 200),
        (3 * SECONDS, 100),
        (SECONDS / 4, 400),
        (0.0, 400 * FASTER),
        (0.0, 400 * FASTER * FASTER),
        (0.0, LARGEST),
        (SECONDS / 2, LARGEST),
    ):
        pace.note(seconds)
        assert pace.most == most

    pace.restart()
    assert pace.most == PIECE


@pytest.mark.parametrize(
    ("before", "within"),
    [(-2_000, -BULK_CACHE), (500, -BULK_CACHE), (-64_000, -64_000), (20_000, 20_000)],
)
def test_the_larger_cache_is_used_only_for_the_deletion(before: int, within: int) -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as conn:
        conn.exec_driver_sql(f"PRAGMA cache_size={before}")
        with suppress(LookupError), dialect_for(engine.dialect).tuned_for_bulk_deletes(conn):
            found = conn.exec_driver_sql("PRAGMA cache_size").scalar()
            raise LookupError

        assert found == within
        assert conn.exec_driver_sql("PRAGMA cache_size").scalar() == before
    engine.dispose()


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


async def test_a_prune_is_planned_again_when_the_thread_was_written_to_meanwhile(
    make_saver: SaverFactory, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = make_saver()
    await saved(saver)
    plans: list[Any] = []
    plan = ThreadMaintenance._plan

    def plan_and_be_late(*arguments: Any) -> Any:
        plans.append(plan(*arguments))
        if len(plans) == 1:
            sql("UPDATE session_threads SET revision = revision + 1")
        return plans[-1]

    monkeypatch.setattr(ThreadMaintenance, "_plan", plan_and_be_late)
    await saver.aprune(["t"], strategy="keep_last", keep_last=1)

    assert len(plans) == 2
    assert await listed(saver, config()) == [checkpoint_id(STEPS - 1)]


async def test_early_writes_survive_the_deletion_of_others(
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
