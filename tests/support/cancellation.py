"""Ways to cancel a call of asyncio, and what must not be left of one."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio

from tests.support.backends import Backend, run_sql

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


def drawn() -> random.Random:
    """A source of random delays, whose seed is shown with a failure."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


async def eventually_no_transaction(database: Backend) -> bool:
    """Whether no connection of the database is in a transaction; the server may tell that late."""
    return await eventually(lambda: not has_transaction(database), 2)


async def eventually(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether something holds before so many seconds have passed."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


def has_transaction(database: Backend) -> bool:
    if database.name != "sqlite":
        return bool(run_sql(database, OPEN_TRANSACTIONS[database.name])[0]["n"])
    with database.outside.connect() as conn:
        conn.exec_driver_sql("PRAGMA busy_timeout=0")
        conn.exec_driver_sql("BEGIN IMMEDIATE")  # fails if another connection writes
        return False
