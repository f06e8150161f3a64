"""`sweep`: age and idle limits over all threads, dry runs and counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from langgraph_session_saver import InvalidConfigError, SessionSaver
from langgraph_session_saver.checkpointer.maintenance import Counts
from tests.support.backends import EACH_ONCE, Sql
from tests.support.kept import in_tables
from tests.support.rows import chain, checkpoint, config, counts, listed, one, put, run
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


async def aged(make_saver: SaverFactory, name: str, days: int) -> None:
    """Create a thread of four checkpoints, last written to some days ago."""
    saver = make_saver()
    where = config(name)
    moment = datetime.now(UTC) - timedelta(days=days)
    for number in range(1, 5):
        made, about, versions = _made(number, moment)
        where = await saver.aput(where if number > 1 else config(name), made, about, versions)
        await saver.aput_writes(where, [("note", number)], f"task {number}")


def _made(number: int, moment: datetime) -> tuple[Any, Any, Any]:
    made = checkpoint(number, {"note": f"{number} " * 300, "number": number})
    made["ts"] = (moment + timedelta(hours=number)).isoformat()
    return made, {"source": "loop", "step": number}, made["channel_versions"]


def sizes(sql: Sql) -> tuple[int, int, int]:
    found = counts(sql)
    return (found["session_threads"], found["session_checkpoints"], found["session_blobs"])


@pytest.mark.parametrize(
    "limits",
    [
        {"older_than": timedelta(days=5)},
        {"idle_for": timedelta(days=5)},
        {"older_than": timedelta(days=2), "idle_for": timedelta(days=20)},
        {"older_than": timedelta(days=300)},
    ],
    ids=["age", "idle", "both", "neither"],
)
async def test_a_dry_run_counts_what_a_sweep_then_removes(
    make_saver: SaverFactory, sql: Sql, limits: Any
) -> None:
    for name, days in (("old", 30), ("middle", 10), ("young", 1)):
        await aged(make_saver, name, days)
    saver, before = make_saver(), counts(sql)

    told = await saver.asweep(**limits, dry_run=True)
    assert counts(sql) == before
    removed = await saver.asweep(**limits)

    left = counts(sql)
    assert removed == told
    assert removed.deleted_threads == before["session_threads"] - left["session_threads"]
    assert removed.checkpoints == before["session_checkpoints"] - left["session_checkpoints"]
    assert removed.blobs == before["session_blobs"] - left["session_blobs"]
    assert await saver.asweep(**limits) == Counts()


async def test_a_sweep_by_age_leaves_the_newest_checkpoint_of_an_old_thread(
    make_saver: SaverFactory, sql: Sql
) -> None:
    await aged(make_saver, "old", 30)
    await aged(make_saver, "young", 1)
    saver = make_saver()

    removed = await saver.asweep(older_than=timedelta(days=7))

    assert (removed.threads, removed.checkpoints, removed.deleted_threads) == (1, 3, 0)
    assert len(in_tables(sql, "old").roots) == 1
    assert len(in_tables(sql, "young").roots) == 4
    found = await saver.aget_tuple(config("old"))
    assert found is not None
    assert found.checkpoint["channel_values"]["number"] == 4
    assert found.pending_writes == [("task 4", "note", 4)]


async def test_a_sweep_by_idle_time_removes_threads_and_their_sessions(
    make_saver: SaverFactory, sql: Sql
) -> None:
    await aged(make_saver, "old", 30)
    await aged(make_saver, "young", 1)

    removed = await make_saver().asweep(idle_for=timedelta(days=7))

    assert (removed.threads, removed.deleted_threads, removed.checkpoints) == (1, 1, 4)
    assert one(sql, "session_threads")["thread_id"] == "young"
    assert one(sql, "sessions")["id"] == "young"


async def test_a_sweep_by_idle_time_removes_all_idle_threads_of_a_session(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver, moment = make_saver(), datetime.now(UTC) - timedelta(days=30)
    for name in ("first", "second", "third"):
        made, about, versions = _made(1, moment)
        await saver.aput(config(name, session_id="s"), made, about, versions)

    removed = await saver.asweep(idle_for=timedelta(days=7))

    assert removed.deleted_threads == 3
    assert counts(sql)["sessions"] == 0


async def test_a_pruned_thread_is_as_idle_as_before(make_saver: SaverFactory) -> None:
    await aged(make_saver, "old", 30)
    saver, started = make_saver(), datetime.now(UTC)
    made = checkpoint(5, {"messages": [HumanMessage("hi")]})
    made["ts"] = (started - timedelta(days=20)).isoformat()
    about: Any = {"run_id": "r"}
    await saver.aput(config("old"), made, about, made["channel_versions"])

    await saver.adelete_for_runs(["r"])

    [message] = (await saver.sessions.amessages("old", removed=True)).items
    assert message.removed_at is not None
    assert message.removed_at >= started
    assert (await saver.asweep(idle_for=timedelta(days=7))).deleted_threads == 1


async def test_a_swept_thread_continues(make_saver: SaverFactory, sql: Sql) -> None:
    saver = make_saver()
    graph = chain(saver, {"items": ["a"]}, {"items": ["b"]})
    await run(graph, {"items": ["in"]})

    await make_saver().asweep(older_than=timedelta(microseconds=1))

    assert len(in_tables(sql, "t").roots) == 1
    ended = await run(graph, {"items": ["again"]})
    assert ended["items"] == ["in", "a", "b", "again", "a", "b"]


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"dry_run": True},
        {"older_than": timedelta()},
        {"older_than": timedelta(days=-1)},
        {"older_than": 5},
        {"older_than": "5 days"},
        {"idle_for": timedelta()},
        {"idle_for": 3.5},
        {"idle_for": datetime(2026, 1, 1, tzinfo=UTC)},
        {"older_than": timedelta(days=1), "idle_for": -1},
    ],
    ids=repr,
)
async def test_a_sweep_without_a_valid_limit_is_refused(limits: Any) -> None:
    with SessionSaver.from_conn_string(":memory:") as saver:
        await put(saver, 1, {"note": 1})
        with pytest.raises(InvalidConfigError, match=r"older_than|idle_for"):
            saver.sweep(**limits)
        with pytest.raises(InvalidConfigError, match=r"older_than|idle_for"):
            await saver.asweep(**limits)
        assert len(await listed(saver, config())) == 1


async def test_a_sweep_of_an_empty_database_counts_nothing(make_saver: SaverFactory) -> None:
    assert await make_saver().asweep(older_than=timedelta(days=1)) == Counts()


async def test_a_sweep_covers_more_threads_than_one_batch() -> None:
    with SessionSaver.from_conn_string(":memory:") as saver:
        for number in range(450):
            await put(saver, 1, {}, config(f"t{number}"))

        told = saver.sweep(idle_for=timedelta(microseconds=1))

        assert told == Counts(threads=450, checkpoints=450, blobs=0, deleted_threads=450)
