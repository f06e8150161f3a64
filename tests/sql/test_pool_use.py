"""What running graphs take from a pool that they share with their application."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import Send
from sqlalchemy import text

from langgraph_session_saver import SessionSaver
from tests.support.backends import Backend

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
