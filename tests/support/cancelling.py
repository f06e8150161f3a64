"""A program for a zygote's children: graphs that are cancelled beside graphs that are not.

It runs until it is killed. Each checkpoint that a put has returned is printed with a digest of its
values, so that the test can look for it afterwards. Anything that should not happen ends the
program: an error, a warning, a line in a log, a call that takes too long.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import random
import sys
import traceback
import warnings
from collections.abc import Awaitable
from typing import Any, NoReturn, TypeVar

from langchain_core.messages import HumanMessage
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from langgraph_session_saver import SessionSaver
from tests.support.telling import TellingSaver, tell
from tests.support.workloads import asked, build_graph, on, turn_of

T = TypeVar("T")

SLOW_SECONDS = 10.0
PLAIN = [f"plain {number}" for number in range(3)]
CANCELLED = [f"cancelled {number}" for number in range(4)]
SHORT_DELAY, LONG_DELAY = 0.03, 0.5
DURABILITIES = ("sync", "async")


async def run(url: str, *, is_async: bool, is_own: bool, seed: int) -> None:
    """Run graphs over one saver, and cancel two of three, until this process is killed.

    Args:
        url: The database.
        is_async: Whether the URL's driver is async; else the async methods work in threads.
        is_own: Whether the saver makes its engine; else it gets one with SQLAlchemy's defaults.
        seed: Of the random delays.
    """
    fail_on_any_fault()
    if is_own:
        saver = TellingSaver.from_conn_string(url)
    else:
        saver = TellingSaver(create_async_engine(url) if is_async else create_engine(url))
    draw = random.Random(seed)
    async with asyncio.TaskGroup() as group:
        for thread_id in PLAIN:
            group.create_task(_run_turns(saver, thread_id, draw))
        for thread_id in CANCELLED:
            group.create_task(_cancel_turns(saver, thread_id, draw))


async def _run_turns(saver: SessionSaver, thread_id: str, draw: random.Random) -> NoReturn:
    while True:
        await _soon(_take_turn(saver, thread_id, draw))


async def _cancel_turns(saver: SessionSaver, thread_id: str, draw: random.Random) -> NoReturn:
    """Cancel one turn after the other, now and then twice or by a timeout."""
    while True:
        delay = draw.uniform(0, draw.choice((SHORT_DELAY, LONG_DELAY)))
        if draw.random() < 0.3:
            await _soon(_time_out(_take_turn(saver, thread_id, draw), delay))
            continue
        task = asyncio.create_task(_take_turn(saver, thread_id, draw))
        await asyncio.sleep(delay)
        task.cancel()
        if draw.random() < 0.3:
            await asyncio.sleep(draw.uniform(0, 0.002))
            task.cancel()
        await _soon(_end_of(task))


async def _time_out(work: Awaitable[object], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        tell(cancelled=1)


async def _end_of(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task})
    if task.cancelled():
        tell(cancelled=1)
    else:
        task.result()


async def _soon(work: Awaitable[T]) -> T:
    """Await what must not take long."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task}, timeout=SLOW_SECONDS)
    if not done:
        for each in asyncio.all_tasks():
            each.print_stack()
        faulthandler.dump_traceback()  # of all threads
        fault(f"a call took more than {SLOW_SECONDS:.0f} s")
    return task.result()


async def _take_turn(saver: SessionSaver, thread_id: str, draw: random.Random) -> None:
    """Resume what was cancelled, or take the thread's next turn."""
    graph, config = build_graph(saver), on(thread_id)
    state = await graph.aget_state(config)
    given = None
    if not state.tasks:
        turn = turn_of(state.values) + 1 if "messages" in state.values else 0  # type: ignore[arg-type]
        given = {"messages": [HumanMessage(asked(turn))]}
    durability: Any = draw.choice(DURABILITIES)
    await graph.ainvoke(given, config, durability=durability)  # type: ignore[arg-type]


# -- faults ----------------------------------------------------------------------------------


class _FaultHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if "unknown PostgreSQL timezone" not in record.getMessage():  # the test's server has one
            fault(f"{record.name}: {self.format(record)}")


def fail_on_any_fault() -> None:
    """End this process at a warning, a log line from WARNING on, or an unraisable exception."""
    warnings.simplefilter("error")
    logging.getLogger().addHandler(_FaultHandler(logging.WARNING))
    sys.unraisablehook = lambda seen: fault(
        f"{seen.err_msg or 'unraisable'} in {seen.object!r}: "
        + "".join(traceback.format_exception(seen.exc_value))
    )


def fault(what: str) -> NoReturn:
    """Print what happened, and end this process."""
    os.write(1, f"FAULT {what}\n".encode())
    os._exit(1)
