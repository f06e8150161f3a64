"""A program for a zygote's child: threads come and go, and what the process takes is measured."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.types import Command
from sqlalchemy import NullPool, create_engine, make_url, text, update

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.encoding import caches
from langgraph_session_saver.sql.dialects import base, dialect_for
from langgraph_session_saver.sql.scripts import write_script
from tests.support.faces import SyncFaceAdapter
from tests.support.graphs import DELTA, ScriptRunner, nested, thread
from tests.support.houses import LONG_AGO, TABLES
from tests.support.rows import SEED, counts
from tests.support.workloads import asked, build_graph

LIVING = 2
"""Lives of each worker whose threads are there, the newest among them."""
TURNS = 4
M_ARENA_MAX = -8
"""Of `malloc.h`."""
CONNECTIONS = 3
"""Of each saver: each keeps the statements that it has prepared."""


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

    database: str
    lives: int
    memory: int
    objects: int
    os_threads: int
    open_files: int
    connections: int
    database_size: int
    log_size: int
    rows: dict[str, int]

    def __str__(self) -> str:
        """As a row of the table in the guide of tests."""
        memory, database_size, log_size = (
            f"{size / 1e6:.1f} MB" for size in (self.memory, self.database_size, self.log_size)
        )
        counted = (self.os_threads, self.open_files, self.connections)
        cells = (self.database, self.lives, memory, f"{self.objects:,}", *counted)
        return f"| {' | '.join(map(str, cells))} | {database_size} | {log_size} |"


class Soak:
    """A saver that is called sync and async side by side, and one over an async engine."""

    def __init__(self, url: str, plain: SessionSaver, async_: SessionSaver) -> None:
        self._plain = plain
        self._outside = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._pools: list[Any] = [saver._runner.sync_engine.pool for saver in (plain, async_)]
        self._sync = Worker("sync", SyncFaceAdapter(plain))
        self._async = [Worker("async-engine", plain), Worker("async", async_)]

    async def pass_a_megabyte(self) -> None:
        """Save and delete a thread that is larger than any other.

        InnoDB gives a file that passes 1 MB seven more at once, which would look like growth.
        """
        given: Any = {"messages": [HumanMessage(token_hex(2 << 20))]}
        await build_graph(self._plain).ainvoke(given, thread("large"))
        await self._plain.adelete_thread("large")

    async def run(self, lives: int) -> Figures:
        """Let each worker live so often, and measure when all have stopped."""
        await asyncio.gather(
            asyncio.to_thread(asyncio.run, self._sync.live(lives, self._plain)),
            *(worker.live(lives, self._plain) for worker in self._async),
        )
        return await asyncio.to_thread(self._measure)

    def _measure(self) -> Figures:
        with self._outside.connect() as conn:
            if conn.dialect.name == "postgresql":  # autovacuum comes once a minute
                conn.execute(text("VACUUM"))
            space = dialect_for(conn.dialect).space(conn, list(TABLES))
            found = counts(lambda sql: [dict(row) for row in conn.execute(text(sql)).mappings()])
        log = Path(f"{self._outside.url.database}-wal")  # of SQLite
        caches._reset_in_child()  # what they hold is bounded, and grows until it is
        gc.collect()
        return Figures(
            database=self._outside.dialect.name,
            lives=self._sync.lives + sum(worker.lives for worker in self._async),
            memory=int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE"),
            objects=len(gc.get_objects()),
            os_threads=len(list(Path("/proc/self/task").iterdir())),
            open_files=len(list(Path("/proc/self/fd").iterdir())),
            connections=sum(pool.checkedin() + pool.checkedout() for pool in self._pools),
            database_size=space.bytes,
            log_size=log.stat().st_size if log.exists() else 0,
            rows={table: found[table] for table in (*SEED, "session_threads")},
        )


@asynccontextmanager
async def soaking(url: str, async_url: str) -> AsyncIterator[Soak]:
    """Savers with small pools, all of whose connections are made before the soak."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(base.POOL, "pool_size", CONNECTIONS)
        plain = SessionSaver.from_conn_string(url, keep_last=3)
        async_ = SessionSaver.from_conn_string(async_url, keep_last=3)
    async with plain, async_:
        engine: Any = async_._runner.engine
        async with AsyncExitStack() as stack:
            for _ in range(CONNECTIONS):
                stack.enter_context(plain._runner.sync_engine.connect())
                await stack.enter_async_context(engine.connect())
        yield Soak(url, plain, async_)


async def run(url: str, async_url: str, lives: int, seconds: float) -> None:
    """Soak for three periods or longer; prints the figures of each period.

    Args:
        url: The database, for a plain engine.
        async_url: The same, for an async engine.
        lives: How many lives each worker lives in a period.
        seconds: How long the periods after the first two take at least.
    """
    # glibc gives threads arenas of their own, and what is free in one is of no use to the others.
    assert ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    async with soaking(url, async_url) as soak:
        if make_url(url).get_backend_name() in {"mysql", "mariadb"}:
            await soak.pass_a_megabyte()
        for _ in range(2):
            print(json.dumps(asdict(await soak.run(lives))))
        end = time.monotonic() + seconds
        while True:
            print(json.dumps(asdict(await soak.run(lives))))
            if time.monotonic() >= end:
                return
