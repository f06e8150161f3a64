"""Cancelled calls: no connection stays out, in a transaction or locked, and nobody waits long."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import anyio
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine

from langgraph_session_saver import SessionSaver
from tests.support.backends import Backend, checked_out, run_sql
from tests.support.drivers import engine_of
from tests.support.rows import config, new_checkpoint

ATTEMPTS = 20
SLOW_SECONDS = 10
SMALL_POOL = {"pool_size": 2, "max_overflow": 0, "pool_timeout": SLOW_SECONDS}
ONE_CONNECTION = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 2 * SLOW_SECONDS}

OPEN_TRANSACTIONS = {
    "postgresql": "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() "
    "AND state LIKE 'idle in transaction%'",
    "mariadb": "SELECT count(*) AS n FROM information_schema.innodb_trx t "
    "JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id "
    "WHERE p.db = database()",
}

Work = Coroutine[Any, Any, object]
Cancel = Callable[[Work, float], Awaitable[None]]


async def cancel(work: Work, delay: float) -> None:
    task = asyncio.create_task(work)
    await asyncio.sleep(delay)
    task.cancel()
    await asyncio.wait({task})


async def cancel_twice(work: Work, delay: float) -> None:
    task = asyncio.create_task(work)
    await asyncio.sleep(delay)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})


async def time_out(work: Work, delay: float) -> None:
    try:
        async with asyncio.timeout(delay):
            await work
    except TimeoutError:
        return


async def wait_for(work: Work, delay: float) -> None:
    try:
        await asyncio.wait_for(work, delay)
    except TimeoutError:
        return


async def move_on_after(work: Work, delay: float) -> None:
    with anyio.move_on_after(delay):
        await work


WAYS: tuple[Cancel, ...] = (cancel, cancel_twice, time_out, wait_for, move_on_after)


@pytest.fixture
async def dispose(database: Backend) -> AsyncIterator[None]:
    """Disposes of the test's async engines, on its loop."""
    yield
    assert database.log.leaks() == []
    await database.log.dispose_async()


pytestmark = pytest.mark.usefixtures("dispose")


async def test_calls_cancelled_at_any_point_leave_no_connection_out_or_in_a_transaction(
    database: Backend, driver: str
) -> None:
    engine = engine_of(database, driver, **SMALL_POOL)
    saver = SessionSaver(engine)
    await put(saver, html="warm")
    began = time.monotonic()
    await put(saver, html="once")
    duration = time.monotonic() - began
    draw = drawn()
    for number in range(ATTEMPTS):
        way = WAYS[number % len(WAYS)]
        await soon(way(put(saver, html=f"{number}"), draw.uniform(0, duration)))
        assert checked_out(engine) == 0, way
        assert await eventually_no_transaction(database), way
    await soon(put(saver, html="last"))
    assert await page_of(saver) == "last"


async def test_first_uses_cancelled_at_any_point_leave_the_database_usable(
    database: Backend, driver: str
) -> None:
    engine = engine_of(database, driver, **SMALL_POOL)
    draw = drawn()
    for number in range(ATTEMPTS):
        way = WAYS[number % len(WAYS)]
        saver = SessionSaver(engine)  # which has not seen the tables yet
        await soon(way(put(saver, html=f"{number}"), draw.uniform(0, 0.1)))
        assert checked_out(engine) == 0, way
    saver = SessionSaver(engine)
    await soon(put(saver, html="last"))
    assert await page_of(saver) == "last"
    assert await eventually_no_transaction(database)


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_cancelled_while_it_waits_for_a_connection_leaves_at_once(
    database: Backend, driver: str, way: Cancel
) -> None:
    engine = engine_of(database, driver, **ONE_CONNECTION)
    saver = SessionSaver(engine)
    await put(saver, html="first")
    held = await connect(engine)
    began = time.monotonic()
    await way(put(saver, html="cancelled"), 0.1)
    assert time.monotonic() - began < 2
    await close(held)
    await soon(put(saver, html="next"))
    await asyncio.get_running_loop().shutdown_default_executor()  # threads wait for a connection
    assert checked_out(engine) == 0
    pages = run_sql(database, "SELECT html FROM versions ORDER BY version")
    assert pages == [{"html": "first"}, {"html": "next"}]


async def test_a_call_cancelled_in_the_callers_transaction_leaves_that_to_be_rolled_back(
    database: Backend, driver: str
) -> None:
    engine = engine_of(database, driver, **SMALL_POOL)
    saver = SessionSaver(engine)
    await put(saver, html="first")
    draw = drawn()
    for number in range(ATTEMPTS):
        way = WAYS[number % len(WAYS)]
        conn = await connect(engine)
        work = saver.sessions.acreate(f"s{number}", connection=conn)
        await soon(way(work, draw.uniform(0, 0.02)))
        await close(conn)  # which rolls back
        assert checked_out(engine) == 0, way
    sessions = run_sql(database, "SELECT id FROM sessions")
    assert [row["id"] for row in sessions] == ["t"]
    assert await eventually_no_transaction(database)


def drawn() -> random.Random:
    """A source of random delays, whose seed is shown with a failure."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


async def put(saver: SessionSaver, *, html: str) -> None:
    made = new_checkpoint(saver, {"html": html})
    await saver.aput(config(), made, {"source": "loop", "step": 1}, made["channel_versions"])


async def soon(work: Awaitable[object]) -> None:
    """Await what must not take long."""
    async with asyncio.timeout(SLOW_SECONDS):
        await work


async def connect(engine: Engine | AsyncEngine) -> Any:
    """A connection that has run a statement."""
    if isinstance(engine, AsyncEngine):
        conn = await engine.connect()
        await conn.execute(text("SELECT 1"))
        await conn.rollback()
        return conn
    return engine.connect()


async def close(conn: Any) -> None:
    closed = conn.close()
    if closed is not None:
        await closed


async def page_of(saver: SessionSaver) -> Any:
    found = await saver.aget_tuple(config())
    return None if found is None else found.checkpoint["channel_values"]["html"]


async def eventually_no_transaction(database: Backend) -> bool:
    """Whether no connection of the database is in a transaction; the server may tell that late."""
    deadline = time.monotonic() + 2
    while has_transaction(database):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


def has_transaction(database: Backend) -> bool:
    if database.name != "sqlite":
        return bool(run_sql(database, OPEN_TRANSACTIONS[database.name])[0]["n"])
    with database.outside.connect() as conn:
        conn.exec_driver_sql("PRAGMA busy_timeout=0")
        conn.exec_driver_sql("BEGIN IMMEDIATE")  # fails if another connection writes
        return False
