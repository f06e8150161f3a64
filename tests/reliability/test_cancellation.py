"""Cancelled calls: no connection stays out, in a transaction or locked, and nobody waits long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.sql import cancellation
from tests.support.backends import Backend, checked_out, run_sql
from tests.support.calls import fill_thread
from tests.support.cancellation import (
    WAYS,
    Cancel,
    cancel,
    drawn,
    eventually,
    eventually_no_transaction,
)
from tests.support.contents import contents_of
from tests.support.drivers import engine_of
from tests.support.forwarding import ForwardingSaver
from tests.support.rows import config, new_checkpoint
from tests.support.rows import put as put_step

ATTEMPTS = 20
SLOW_SECONDS = 10
SMALL_POOL = {"pool_size": 2, "max_overflow": 0, "pool_timeout": SLOW_SECONDS}
PATIENCE_SECONDS = 0.2
CANCELLABLE = frozenset({"asyncpg", "psycopg_async", "asyncmy"})
"""Drivers whose wait for an answer ends when its task is cancelled; others wait in a thread."""
ONE_CONNECTION = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 2 * SLOW_SECONDS}


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


async def test_a_call_cancelled_while_a_lock_holds_it_up_leaves_what_cannot_be_cancelled_to_its_end(
    database: Backend, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    engine = engine_of(database, driver, **SMALL_POOL)
    saver = SessionSaver(engine)
    await put(saver, html="first")
    with locked_sessions(database):
        updating = asyncio.create_task(saver.sessions.aupdate("t", title="cancelled"))
        assert await eventually(lambda: checked_out(engine) == 1, SLOW_SECONDS)
        await asyncio.sleep(PATIENCE_SECONDS)  # nothing tells that it waits for the lock
        updating.cancel()
        began = time.monotonic()
        await asyncio.wait({updating})
        assert time.monotonic() - began < 2
    assert await eventually(lambda: checked_out(engine) == 0, SLOW_SECONDS)
    assert await eventually_no_transaction(database)
    assert (await title_of(saver) == "cancelled") == (driver not in CANCELLABLE)
    await soon(put(saver, html="next"))
    assert await page_of(saver) == "next"


async def test_a_call_cancelled_while_a_lock_holds_it_up_leaves_the_callers_connection_at_rest(
    database: Backend, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    engine = engine_of(database, driver, **SMALL_POOL)
    saver = SessionSaver(engine)
    await put(saver, html="first")
    conn = await connect(engine)
    with locked_sessions(database):
        work = saver.sessions.aupdate("t", title="cancelled", connection=conn)
        cancelling = asyncio.create_task(cancel(work, PATIENCE_SECONDS))
        seconds = SLOW_SECONDS if driver in CANCELLABLE else 4 * PATIENCE_SECONDS
        left, _ = await asyncio.wait({cancelling}, timeout=seconds)
        assert bool(left) == (driver in CANCELLABLE)
    await soon(cancelling)
    await close(conn)  # which rolls back
    assert checked_out(engine) == 0
    assert await eventually_no_transaction(database)
    assert await title_of(saver) != "cancelled"


async def test_a_copy_cancelled_at_any_point_is_whole_or_not_there(
    database: Backend, driver: str
) -> None:
    saver = SessionSaver(engine_of(database, driver, **SMALL_POOL))
    await fill_thread(saver, "t")
    await saver.threads.acopy("t", "warm")
    began = time.monotonic()
    await saver.threads.acopy("t", "whole")
    duration = time.monotonic() - began
    draw = drawn()
    for number in range(ATTEMPTS):
        way, name = WAYS[number % len(WAYS)], f"<{number}>"
        await soon(way(saver.threads.acopy("t", name), draw.uniform(0, duration)))
        found = contents_of(database, [name, "whole"])
        assert found[name] in ((), found["whole"]), way


async def test_an_import_that_is_cancelled_waits_for_the_thread_that_lists_the_other_saver(
    database: Backend, driver: str
) -> None:
    saver = SessionSaver(engine_of(database, driver, **SMALL_POOL))
    other = StoppedSaver(InMemorySaver())
    await put_step(other, 1, {"note": 1}, config(checkpoint_ns=""))
    importing = asyncio.create_task(saver.aimport_from(other))
    await asyncio.to_thread(other.has_stopped.wait, SLOW_SECONDS)

    importing.cancel()
    done, _ = await asyncio.wait({importing}, timeout=0.1)
    assert not done
    other.may_go_on.set()
    await soon(asyncio.wait({importing}))

    assert importing.cancelled()
    assert not other.is_listing
    assert (await saver.aimport_from(other)).checkpoints == 1


class StoppedSaver(ForwardingSaver):
    """A sync saver whose `list` stops once it has begun, until it may go on."""

    def __init__(self, saver: InMemorySaver) -> None:
        super().__init__(saver)
        self.has_stopped, self.may_go_on = threading.Event(), threading.Event()
        self.is_listing = False

    def list(self, *args: Any, **options: Any) -> Iterator[CheckpointTuple]:
        self.is_listing = True
        self.has_stopped.set()
        assert self.may_go_on.wait(SLOW_SECONDS)
        yield from self.saver.list(*args, **options)
        self.is_listing = False


async def put(saver: SessionSaver, *, html: str) -> None:
    made = new_checkpoint(saver, {"html": html})
    await saver.aput(config(), made, {"source": "loop", "step": 1}, made["channel_versions"])


@contextmanager
def locked_sessions(database: Backend) -> Iterator[None]:
    """Lock the rows of sessions, as an application's own transaction does."""
    with database.engine().begin() as conn:
        conn.execute(text("UPDATE sessions SET id = id"))
        yield


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


async def title_of(saver: SessionSaver) -> str | None:
    found = await saver.sessions.aget("t")
    return None if found is None else found.title
