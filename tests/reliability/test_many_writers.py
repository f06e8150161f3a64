"""Many writers at once: 64 threads on one SQLite file, and 200 tasks on a pool of 5 connections."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from logging.handlers import BufferingHandler
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from sqlalchemy.ext.asyncio import AsyncEngine

from langgraph_session_saver import SessionSaver
from tests.support.acknowledged import (
    Acknowledged,
    NotingSaver,
    disagreeing,
    lost,
    take_turns,
)
from tests.support.backends import Backend
from tests.support.cancelling import fail_on_any_fault
from tests.support.drivers import ASYNC_DRIVERS, engine_of
from tests.support.graphs import line_of
from tests.support.telling import tell
from tests.support.workloads import Build, answered, asked, on, page, turn_of
from tests.support.zygote import Zygote

PROCESSES, THREADS = 8, 8
SECONDS, HEAVY_SECONDS = 3, 60
TASKS, CONNECTIONS = 200, 5
TURNS, HEAVY_TURNS = 1, 20

EACH_ASYNC_DRIVER = pytest.mark.parametrize("driver", sorted(ASYNC_DRIVERS))
SQLITE = pytest.mark.parametrize("driver", ["pysqlite"])


class TimedSaver(NotingSaver):
    """Notes, too, how many seconds each write took."""

    seconds: list[float]

    def put(self, *arguments: Any) -> Any:
        with self._timed():
            return super().put(*arguments)

    def put_writes(self, *arguments: Any) -> None:
        with self._timed():
            super().put_writes(*arguments)

    async def aput(self, *arguments: Any) -> Any:
        with self._timed():
            return await super().aput(*arguments)

    async def aput_writes(self, *arguments: Any) -> None:
        with self._timed():
            await super().aput_writes(*arguments)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds.append(time.perf_counter() - start)


def timed(saver: TimedSaver) -> TimedSaver:
    """A new saver, with notes."""
    saver.acknowledged, saver.seconds = Acknowledged(), []
    return saver


@pytest.fixture
def reader(database: Backend) -> Iterator[SessionSaver]:
    """A saver that has written nothing."""
    with SessionSaver(database.engine()) as saver:
        saver.setup()
        yield saver


def report(saved: int, seconds: Sequence[float], others: str = "") -> str:
    """A line of what was written, and how long that took at most."""
    ordered = sorted(seconds)
    longest = f"{ordered[int(len(ordered) * 0.999)]:.3f} s | {ordered[-1]:.3f} s"
    return f"| {saved} checkpoints | {len(ordered)} writes | 99.9 %: {longest} | {others}"


# -- processes and threads on one file ----------------------------------------------------------


def write(url: str, process: int, seconds: float) -> None:
    """A process whose threads run graphs for some seconds, each on a thread of its own."""
    fail_on_any_fault()
    logged = BufferingHandler(sys.maxsize)  # a busy file is retried, and logged with level INFO
    logger = logging.getLogger("langgraph_session_saver")
    logger.addHandler(logged)
    logger.setLevel(logging.INFO)
    saver = timed(TimedSaver.from_conn_string(url))
    end = time.monotonic() + seconds
    with saver, ThreadPoolExecutor(THREADS) as pool:
        runs = [
            pool.submit(take_turns, saver, f"{process} {n}", lambda: time.monotonic() > end)
            for n in range(THREADS)
        ]
        for run in runs:
            run.result()
    retried = [record.getMessage() for record in logged.buffer]
    tell(saved=saver.acknowledged.saved, seconds=saver.seconds, retried=retried)


def write_for(
    seconds: float, database: Backend, zygote: Zygote, reader: SessionSaver
) -> tuple[int, list[float], list[str]]:
    """Let all processes write, and check what they left.

    Returns:
        The number of checkpoints, the seconds of each write, and the errors that were retried.
    """
    children = [
        zygote.spawn(
            f"{__name__}:write", {"url": database.url, "process": number, "seconds": seconds}
        )
        for number in range(PROCESSES)
    ]
    told: list[dict[str, Any]] = []
    for child in children:
        assert child.wait(seconds + 120) == 0, child.text
        told += map(json.loads, child.lines)
    saved, waited, retried = (
        [each for line in told for each in line[name]] for name in ("saved", "seconds", "retried")
    )
    assert len({line["thread"] for line in saved}) == PROCESSES * THREADS
    assert lost(reader, saved) == []
    assert disagreeing(database.outside, reader) == []
    return len(saved), waited, retried


@SQLITE
def test_64_threads_of_8_processes_write_one_file_and_nothing_fails(
    database: Backend, zygote: Zygote, reader: SessionSaver
) -> None:
    saved, waited, _ = write_for(SECONDS, database, zygote, reader)

    print(report(saved, waited))


@pytest.mark.heavy
@SQLITE
def test_64_threads_of_8_processes_write_one_file_for_a_minute(
    database: Backend, zygote: Zygote, reader: SessionSaver
) -> None:
    saved, waited, retried = write_for(HEAVY_SECONDS, database, zygote, reader)

    print(report(saved, waited, f"{len(retried)} retried"))
    assert retried == []


# -- tasks on a small pool ----------------------------------------------------------------------


async def run_at_once(turns: int, database: Backend, driver: str) -> TimedSaver:
    """Run graphs in many tasks, each on a thread of its own, over a pool of a few connections."""
    limits = {"pool_size": CONNECTIONS, "max_overflow": 0, "pool_timeout": 300}
    engine = engine_of(database, driver, **limits)
    assert isinstance(engine, AsyncEngine)
    saver = timed(TimedSaver(engine))
    graph = line_of(("answer", answer), state=Build).compile(checkpointer=saver)

    async def chat(thread_id: str) -> None:
        for turn in range(turns):
            given: Any = {"messages": [HumanMessage(asked(turn))]}
            await graph.ainvoke(given, on(thread_id), durability="async")

    await asyncio.gather(*(chat(str(number)) for number in range(TASKS)))
    await database.log.dispose_async()
    return saver


def answer(state: Build) -> Build:
    """The one step of a graph: an answer, and a page."""
    turn = turn_of(state)
    return {"messages": [AIMessage(answered(turn))], "html": page(turn)}


def assert_nothing_is_lost(saver: TimedSaver, database: Backend, reader: SessionSaver) -> None:
    saved = saver.acknowledged.saved
    assert len({line["thread"] for line in saved}) == TASKS
    assert lost(reader, saved) == []
    assert disagreeing(database.outside, reader) == []
    print(report(len(saved), saver.seconds))


@EACH_ASYNC_DRIVER
async def test_200_tasks_share_5_connections_and_nothing_fails(
    database: Backend, reader: SessionSaver, driver: str
) -> None:
    saver = await run_at_once(TURNS, database, driver)

    assert_nothing_is_lost(saver, database, reader)


@pytest.mark.heavy
@EACH_ASYNC_DRIVER
async def test_200_tasks_share_5_connections_for_20_turns(
    database: Backend, reader: SessionSaver, driver: str
) -> None:
    saver = await run_at_once(HEAVY_TURNS, database, driver)

    assert_nothing_is_lost(saver, database, reader)
