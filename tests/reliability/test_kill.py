"""Processes killed at any point: what was acknowledged is stored, and rows agree with it."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any, get_args

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Durability
from sqlalchemy import Connection, NullPool, create_engine, text

from langgraph_session_saver import SessionSaver
from tests.support.acknowledged import lost, saved_by
from tests.support.backends import Backend, Sql
from tests.support.savers import SaverFactory
from tests.support.workloads import (
    Build,
    answered,
    asked,
    finish,
    on,
    outcome,
    page,
)
from tests.support.zygote import Zygote

pytestmark = pytest.mark.empty_database
KILLS, HEAVY_KILLS = 180, 500
THREADS = 10
WORKERS = 2
"""Children that run, and are killed, side by side."""
LINES_BEFORE_KILL = 14
"""A child is killed when it has begun, or told of one of its first steps and checkpoints, drawn at
random …"""
SECONDS_MORE = 0.012
"""… and up to so long after that: a step takes a good part of it."""

WORKLOADS = "tests.support.workloads"
DURABILITIES = get_args(Durability)


@pytest.fixture
def seed() -> int:
    """The seed of the random draws, printed with a failure; timing cannot be repeated."""
    drawn = random.SystemRandom().randrange(1 << 32)
    print(f"seed {drawn}")
    return drawn


@pytest.fixture
def reader(backend: Backend) -> Iterator[SessionSaver]:
    """A saver in this process, with empty caches."""
    with SessionSaver(backend.engine()) as saver:
        yield saver


def test_what_was_acknowledged_is_stored_after_a_kill_at_any_point_and_rows_agree(
    backend: Backend, zygote: Zygote, reader: SessionSaver, seed: int
) -> None:
    kill_and_resume(backend, zygote, reader, random.Random(seed), KILLS)


@pytest.mark.heavy
def test_what_was_acknowledged_is_stored_after_500_kills(
    backend: Backend, zygote: Zygote, reader: SessionSaver, seed: int
) -> None:
    for counted in kill_and_resume(backend, zygote, reader, random.Random(seed), HEAVY_KILLS):
        print(f"| {backend.name} | {counted} | 0 | 0 |")


def kill_and_resume(
    backend: Backend, zygote: Zygote, reader: SessionSaver, draw: random.Random, kills: int
) -> list[str]:
    """Kill processes on some threads, check after each kill, and resume every thread at the end.

    Returns:
        For each way to run a graph, a line with the kills and the acknowledged checkpoints.
    """
    faces = {
        "sync": ("build_for_ever", backend.url),
        "async, in threads": ("abuild_for_ever", backend.url),
        "async": ("abuild_for_ever", backend.async_url),
    }
    ways = list(product(faces, DURABILITIES))
    threads = [f"thread {number}" for number in range(THREADS)]
    plans: dict[str, list[Any]] = {thread_id: [] for thread_id in threads}
    for number in range(kills):
        lines, seconds = draw.randint(1, LINES_BEFORE_KILL), draw.uniform(0, SECONDS_MORE)
        # Ten threads and nine ways: each thread meets each way.
        plans[threads[number % THREADS]].append((ways[number % len(ways)], lines, seconds))
    counts = {way: [0, 0] for way in ways}

    def kill_again_and_again(thread_id: str) -> set[str | None]:
        seen = set()
        for (face, durability), lines, seconds in plans[thread_id]:
            function, url = faces[face]
            child = zygote.spawn(
                f"{WORKLOADS}:{function}",
                {"url": url, "thread_id": thread_id, "durability": durability},
            )
            while len(child.lines) < lines:
                assert child.reads_on(), child.text
            time.sleep(seconds)  # a kill comes at no event
            child.kill()
            assert child.wait() == -signal.SIGKILL, child.text
            saved = saved_by(child)
            assert lost(reader, saved) == []
            counts[face, durability][0] += 1
            counts[face, durability][1] += len(saved)
            seen.add(_check(backend, reader, thread_id))
        return seen

    with ThreadPoolExecutor(WORKERS) as pool:
        caught = set().union(*pool.map(kill_again_and_again, threads))
    for thread_id in threads:
        values = finish(reader, thread_id)
        turns = len(values["messages"]) // 2
        assert [m.content for m in values["messages"]] == _transcript(turns)
        assert values["build_status"] == outcome(turns - 1)
        assert values["html"] == page(turns - 1)
        assert _check(backend, reader, thread_id) == outcome(turns - 1)
        assert _pages(backend, thread_id) == [page(turn) for turn in range(turns)]
    assert caught >= {"pending", "building", "success", "failed"}, "the kills came too early"
    return [
        f"{face} | {durability} | {killed} | {saved}"
        for (face, durability), (killed, saved) in counts.items()
    ]


def test_a_step_that_sets_build_status_is_seen_from_another_process_and_survives_a_kill(
    backend: Backend, zygote: Zygote, reader: SessionSaver, sql: Sql
) -> None:
    query = "SELECT build_status FROM sessions WHERE id = 'blocked'"
    child = zygote.spawn(
        f"{WORKLOADS}:build_and_block", {"url": backend.url, "thread_id": "blocked"}
    )
    child.wait_for("blocked")
    assert sql(query) == [{"build_status": "building"}]
    child.kill()
    assert child.wait() == -signal.SIGKILL
    assert sql(query) == [{"build_status": "building"}]
    assert finish(reader, "blocked")["build_status"] == "success"
    assert sql(query) == [{"build_status": "success"}]


async def test_a_step_that_sets_build_status_is_seen_by_sql_while_the_next_node_runs(
    make_saver: SaverFactory, sql: Sql
) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def hold(state: Build) -> Build:
        entered.set()
        await go_on.wait()
        return {"build_status": "failed"}

    builder = StateGraph(Build)
    builder.add_node("start", lambda _state: {"build_status": "building"})
    builder.add_node("hold", hold)
    builder.add_edge(START, "start")
    builder.add_edge("start", "hold")
    builder.add_edge("hold", END)
    graph = builder.compile(checkpointer=make_saver())
    query = "SELECT build_status, checkpoint_id FROM sessions WHERE id = 'held'"
    run = asyncio.create_task(graph.ainvoke({"html": ""}, on("held"), durability="sync"))
    await entered.wait()
    seen = sql(query)
    state = await graph.aget_state(on("held"))
    go_on.set()
    await run
    assert seen == [
        {
            "build_status": "building",
            "checkpoint_id": state.config["configurable"]["checkpoint_id"],
        }
    ]
    assert sql(query)[0]["build_status"] == "failed"


# -- what must hold --------------------------------------------------------------------------


def _check(backend: Backend, reader: SessionSaver, thread_id: str) -> str | None:
    """Compare rows and checkpoint over another connection; return the build status."""
    seen = _snapshot(backend, thread_id)
    assert seen["session"] == seen["newest"] == seen["thread"], seen
    assert seen["baseless"] == 0
    if seen["newest"] is None:
        assert seen["messages"] == []
        return None
    config = on(thread_id)
    config["configurable"] |= {"checkpoint_id": seen["newest"], "checkpoint_ns": ""}
    found = reader.get_tuple(config)
    assert found is not None
    values = found.checkpoint["channel_values"]
    # Before the first step there is no value: the column has its default.
    assert seen["build_status"] == values.get("build_status", "pending")
    roles = {"human": "user", "ai": "assistant"}
    messages = [(roles[m.type], m.content) for m in values.get("messages", [])]
    assert seen["messages"] == messages
    assert seen["html"] == values.get("html")
    return str(seen["build_status"])


def _snapshot(backend: Backend, thread_id: str) -> dict[str, Any]:
    """Read in one transaction: the last COMMIT of a killed process may still be in progress."""
    isolation = "SERIALIZABLE" if backend.name == "sqlite" else "REPEATABLE READ"
    engine = create_engine(backend.url, poolclass=NullPool, isolation_level=isolation)
    try:
        with engine.begin() as conn:
            if backend.name == "sqlite":
                conn.exec_driver_sql("BEGIN")
            return _look(conn, {"id": thread_id})
    finally:
        engine.dispose()


def _look(conn: Connection, wanted: dict[str, str]) -> dict[str, Any]:
    if not _has_tables(conn):
        return dict.fromkeys(("session", "newest", "thread")) | {"baseless": 0, "messages": []}
    session = conn.execute(
        text(
            "SELECT s.checkpoint_id, s.build_status, t.checkpoint_id AS thread FROM sessions s "
            "JOIN session_threads t ON t.session_id = s.id WHERE t.thread_id = :id"
        ),
        wanted,
    ).one_or_none()
    newest = conn.execute(
        text(
            "SELECT max(c.checkpoint_id) FROM session_checkpoints c JOIN session_threads t "
            "ON t.thread_key = c.thread_key WHERE t.thread_id = :id AND c.checkpoint_ns = ''"
        ),
        wanted,
    ).scalar()
    messages = conn.execute(
        text(
            "SELECT role, content FROM messages WHERE session_id = :id AND removed_at IS NULL "
            "ORDER BY id"
        ),
        wanted,
    )
    baseless = conn.execute(
        text(
            "SELECT count(*) FROM session_blobs b LEFT JOIN session_blobs base "
            "ON base.thread_key = b.thread_key AND base.blob_key = b.base_key "
            "WHERE b.base_key IS NOT NULL AND base.blob_key IS NULL"
        )
    ).scalar_one()
    html = conn.execute(
        text("SELECT html FROM versions WHERE session_id = :id ORDER BY version DESC LIMIT 1"),
        wanted,
    ).scalar()
    return {
        "session": session.checkpoint_id if session else None,
        "build_status": session.build_status if session else None,
        "thread": session.thread if session else None,
        "newest": newest,
        "messages": [(row.role, row.content) for row in messages],
        "baseless": baseless,
        "html": html,
    }


def _has_tables(conn: Connection) -> bool:
    name = "session_saver_alembic_version"
    if not conn.dialect.has_table(conn, name):
        return False
    return bool(conn.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() == 1)


def _pages(backend: Backend, thread_id: str) -> list[str]:
    engine = create_engine(backend.url, poolclass=NullPool)
    query = text("SELECT version, html FROM versions WHERE session_id = :id ORDER BY version")
    try:
        with engine.connect() as conn:
            rows = conn.execute(query, {"id": thread_id}).all()
    finally:
        engine.dispose()
    assert [row.version for row in rows] == list(range(len(rows)))
    return [row.html for row in rows]


def _transcript(turns: int) -> list[str]:
    return [line for turn in range(turns) for line in (asked(turn), answered(turn))]
