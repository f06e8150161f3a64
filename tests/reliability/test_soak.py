"""A soak: threads come and go over the same savers for long, and nothing grows."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.types import Command
from sqlalchemy import text, update

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.encoding import caches
from langgraph_session_saver.sql.dialects import base, dialect_for
from langgraph_session_saver.sql.scripts import write_script
from tests.support.backends import Backend, Sql
from tests.support.faces import SyncFaceAdapter
from tests.support.graphs import DELTA, ScriptRunner, nested, thread
from tests.support.houses import LONG_AGO, TABLES
from tests.support.rows import SEED, counts
from tests.support.workloads import asked, build_graph

LIVES, HEAVY_LIVES = 4, 50
"""Lives of each worker in a period, at the end of which all workers stop to be measured."""
HEAVY_SECONDS = 1_800

LIVING = 2
"""Lives of each worker whose threads are there, the newest among them."""
TURNS = 4
CHECKPOINTS = 80
"""A life saves more of them."""
CONNECTIONS = 3
"""Of each saver: each keeps the statements that it has prepared."""
EXECUTOR_THREADS = min(32, (os.cpu_count() or 1) + 4)
"""Threads that an event loop's executor starts as they are needed."""


class Worker:
    """Lives one life after the other: threads that run different graphs, and are then deleted."""

    def __init__(self, name: str, saver: Any) -> None:
        self.name = name
        self.lives = 0
        self._saver = saver
        self._chat = ScriptRunner(build_graph(saver), saver)
        self._asking = ScriptRunner(nested(None), saver)
        self._delta = ScriptRunner(DELTA, saver)

    async def live(self, lives: int, keeper: SessionSaver) -> None:
        """Live so often; ends the lives before the newest ones."""
        for _ in range(lives):
            await self._live(f"{self.name}-{self.lives}")
            await self._end(f"{self.name}-{self.lives - LIVING}", keeper)
            self.lives += 1

    async def _live(self, name: str) -> None:
        """A chat with pages, a graph that asks from within two subgraphs, and delta channels."""
        for turn in range(TURNS):
            given: Any = {"messages": [HumanMessage(asked(turn))]}
            await self._chat.invoke(given, thread(f"{name}-chat"))
            await self._delta.invoke({"items": [f"turn {turn}"]}, thread(f"{name}-delta"))
        await self._chat.history(thread(f"{name}-chat"))
        asks, given = thread(f"{name}-asks"), {"log": [name]}
        for question in count():
            await self._asking.invoke(given, asks)
            if not (await self._asking.state(asks)).next:
                assert question > 1
                return
            given = Command(resume=f"answer {question}")

    async def _end(self, name: str, keeper: SessionSaver) -> None:
        """Delete a life's threads, each in another way."""
        await self._saver.adelete_thread(f"{name}-chat")
        await self._saver.aprune([f"{name}-delta"], strategy="delete")
        threads = TABLES.threads
        idle = update(threads).where(threads.c.thread_id == f"{name}-asks")
        idle = idle.values(updated_at=LONG_AGO)
        await asyncio.to_thread(keeper._run, write_script(lambda conn: conn.execute(idle)))
        await self._saver.asweep(older_than=timedelta(minutes=1), idle_for=timedelta(days=1))


@dataclass(frozen=True)
class Figures:
    """What the process and its database take while no graph runs; sizes in bytes."""

    database_name: str

    lives: int
    memory: int
    objects: int
    os_threads: int
    open_files: int
    connections: int
    database: int
    log: int
    rows: dict[str, int]

    def __str__(self) -> str:
        """As a row of the table in the guide of tests."""
        memory, database, log = (
            f"{size / 1e6:.1f} MB" for size in (self.memory, self.database, self.log)
        )
        counted = (self.os_threads, self.open_files, self.connections)
        cells = (self.database_name, self.lives, memory, f"{self.objects:,}", *counted)
        return f"| {' | '.join(map(str, cells))} | {database} | {log} |"


class Soak:
    """A saver that is called sync and async side by side, and one over an async engine."""

    def __init__(self, backend: Backend, plain: SessionSaver, async_: SessionSaver) -> None:
        self._backend, self._plain = backend, plain
        self._pools: list[Any] = [saver._runner.sync_engine.pool for saver in (plain, async_)]
        self._sync = Worker("sync", SyncFaceAdapter(plain))
        self._async = [Worker("async-engine", plain), Worker("async", async_)]

    async def run(self, lives: int, sql: Sql) -> Figures:
        """Let each worker live so often, and measure when all have stopped."""
        await asyncio.gather(
            asyncio.to_thread(asyncio.run, self._sync.live(lives, self._plain)),
            *(worker.live(lives, self._plain) for worker in self._async),
        )
        return await asyncio.to_thread(self._measure, sql)

    def _measure(self, sql: Sql) -> Figures:
        backend = self._backend
        outside = backend.outside.execution_options(isolation_level="AUTOCOMMIT")
        with outside.connect() as conn:
            if backend.name == "postgresql":  # autovacuum comes once a minute
                conn.execute(text("VACUUM"))
            space = dialect_for(conn.dialect).space(conn, list(TABLES))
        log = backend.path.with_name(f"{backend.path.name}-wal") if backend.path else None
        caches._reset_in_child()  # what they hold is bounded, and grows until it is
        gc.collect()
        found = counts(sql)
        return Figures(
            database_name=backend.name,
            lives=self._sync.lives + sum(worker.lives for worker in self._async),
            memory=int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE"),
            objects=len(gc.get_objects()),
            os_threads=len(list(Path("/proc/self/task").iterdir())),
            open_files=len(list(Path("/proc/self/fd").iterdir())),
            connections=sum(pool.checkedin() + pool.checkedout() for pool in self._pools),
            database=space.bytes,
            log=log.stat().st_size if log else 0,
            rows={table: found[table] for table in (*SEED, "session_threads")},
        )


@asynccontextmanager
async def soaking(backend: Backend) -> AsyncIterator[Soak]:
    """Savers with small pools, all of whose connections are made before the soak."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(base.POOL, "pool_size", CONNECTIONS)
        plain = SessionSaver.from_conn_string(backend.url, keep_last=3)
        async_ = SessionSaver.from_conn_string(backend.async_url, keep_last=3)
    async with plain, async_:
        engine: Any = async_._runner.engine
        async with AsyncExitStack() as stack:
            for _ in range(CONNECTIONS):
                stack.enter_context(plain._runner.sync_engine.connect())
                await stack.enter_async_context(engine.connect())
        yield Soak(backend, plain, async_)


def assert_flat(warm: Figures, last: Figures) -> None:
    """Check that the rows are as many, and that nothing grows with the lives."""
    print(warm, last, sep="\n")  # shown with a failure
    assert last.rows == warm.rows
    assert last.connections <= warm.connections
    assert last.open_files <= warm.open_files
    assert last.os_threads <= warm.os_threads + EXECUTOR_THREADS
    assert last.objects - warm.objects < CHECKPOINTS * (last.lives - warm.lives)
    assert last.memory < warm.memory + (16 << 20)
    assert last.database < 1.25 * warm.database
    assert last.log < 1.25 * warm.log or not warm.log


async def test_nothing_grows_while_threads_come_and_go(backend: Backend, sql: Sql) -> None:
    async with soaking(backend) as soak:
        _, warm, last = [await soak.run(LIVES, sql) for _ in range(3)]

    assert_flat(warm, last)


@pytest.mark.heavy
async def test_nothing_grows_in_half_an_hour(backend: Backend, sql: Sql) -> None:
    async with soaking(backend) as soak:
        _, warm = [await soak.run(HEAVY_LIVES, sql) for _ in range(2)]
        last, end = warm, time.monotonic() + HEAVY_SECONDS
        while time.monotonic() < end:
            last = await soak.run(HEAVY_LIVES, sql)

    assert_flat(warm, last)
