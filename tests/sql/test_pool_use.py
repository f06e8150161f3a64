"""What running graphs take from a pool that they share with their application."""

from __future__ import annotations

import asyncio
import operator
import threading
import time
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from sqlalchemy import event, text

from langgraph_session_saver import PoolExhaustedError, SessionSaver
from tests.support.backends import Backend
from tests.support.graphs import thread

ONE_CONNECTION = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 10}


class Numbers(TypedDict):
    found: Annotated[list[int], operator.add]


def fan_out(node: Any, tasks: int) -> StateGraph[Any, Any, Any, Any]:
    """A graph that runs one node in parallel tasks."""
    builder = StateGraph(Numbers)
    builder.add_node("ask", node)
    builder.add_conditional_edges(START, lambda state: [Send("ask", state)] * tasks, ["ask"])
    return builder


def test_parallel_tasks_share_a_pool_of_one_connection(backend: Backend) -> None:
    saver = SessionSaver(backend.engine(**ONE_CONNECTION))
    graph = fan_out(lambda _: {"found": [1]}, tasks=20).compile(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "1"}}
    assert graph.invoke({"found": []}, config) == {"found": [1] * 20}


def test_a_node_gets_the_only_connection_of_the_pool(backend: Backend) -> None:
    engine = backend.engine(**ONE_CONNECTION)

    def query(_state: Numbers) -> dict[str, Any]:
        with engine.connect() as connection:
            return {"found": [connection.execute(text("SELECT 1")).scalar_one()]}

    graph = fan_out(query, tasks=1).compile(checkpointer=SessionSaver(engine))
    config: Any = {"configurable": {"thread_id": "1"}}
    assert graph.invoke({"found": []}, config) == {"found": [1]}


def test_a_listing_leaves_the_only_connection_free_between_its_items(backend: Backend) -> None:
    engine = backend.engine(**ONE_CONNECTION)
    saver = SessionSaver(engine)
    config: Any = {"configurable": {"thread_id": "1"}}
    fan_out(lambda _: {"found": [1]}, tasks=1).compile(checkpointer=saver).invoke(
        {"found": []}, config
    )
    numbers = []
    for _ in saver.list(config):
        with engine.connect() as connection:
            numbers.append(connection.execute(text("SELECT 1")).scalar_one())
    assert numbers == [1] * 3


def test_threads_get_the_connections_of_a_pool_in_the_order_of_asking(backend: Backend) -> None:
    """One that asks again at once comes last, whom SQLAlchemy's pool prefers to those that wait."""
    engine = backend.engine(**ONE_CONNECTION)
    saver = SessionSaver(engine)
    saver.setup()
    got: list[str] = []

    def read(calls: int) -> None:
        for _ in range(calls):
            saver.get_tuple(thread("t"))

    def note(*_given: Any) -> None:
        got.append(threading.current_thread().name)

    eager = threading.Thread(target=read, args=[3], name="eager")
    others = [threading.Thread(target=read, args=[1], name=f"other {n}") for n in range(9)]
    runner: Any = saver._runner
    with runner._in_line():
        event.listen(engine, "checkout", note)
        for number, one in enumerate([eager, *others], 1):
            one.start()
            while len(runner._line._line) < number:
                time.sleep(0.001)
    for one in (eager, *others):
        one.join()

    assert got == ["eager", *(one.name for one in others), "eager", "eager"]


def test_a_thread_that_waits_too_long_is_told_that_the_pool_is_exhausted(backend: Backend) -> None:
    saver = SessionSaver(backend.engine(pool_size=1, max_overflow=0, pool_timeout=0.05))
    saver.setup()
    with saver._runner._in_line(), pytest.raises(PoolExhaustedError, match="other calls use all"):
        saver.get_tuple(thread("t"))

    assert saver.get_tuple(thread("t")) is None


async def test_tasks_get_the_connections_of_a_pool_in_the_order_of_asking(
    backend: Backend,
) -> None:
    saver = SessionSaver(backend.async_engine(**ONE_CONNECTION))
    await saver.asetup()
    ended, overtaken, tasks = 0, list[int](), 30

    async def read(number: int) -> None:
        nonlocal ended
        for _ in range(20):
            for _ in range(number % 7):  # so that they ask at all moments
                await asyncio.sleep(0)
            before = ended
            await saver.aget_tuple(thread("t"))
            overtaken.append(ended - before)
            ended += 1

    await asyncio.gather(*(read(number) for number in range(tasks)))

    assert max(overtaken) < tasks
