"""Graphs that write, checkpoints made by hand, and what tests then find in plain SQL."""

from __future__ import annotations

import json
import operator
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph

from tests.support.backends import Sql

Graph = CompiledStateGraph[Any, Any, Any, Any]

STORAGE = ("session_threads", "session_checkpoints", "session_blobs", "session_writes")
SEED = ("sessions", "messages", "versions", "token_usage")
TABLES = (*SEED, *STORAGE, "session_errors")


class State(TypedDict, total=False):
    """Every channel that a built-in projection reads, and some that none does."""

    title: Any
    routing: Any
    product_type: Any
    complexity: Any
    skill_id: Any
    doc_tier: Any
    style_reference_mode: Any
    model_usage: Any
    build_status: Any
    build_artifacts: Any
    aesthetic_scores: Any
    html: Any
    messages: Annotated[list[Any], add_messages]
    note: Any
    other: Any
    items: Annotated[list[Any], operator.add]


def config(thread: str = "t", **configurable: Any) -> RunnableConfig:
    """A config that names a thread."""
    return {"configurable": {"thread_id": thread, **configurable}}


def chain(saver: BaseCheckpointSaver[Any] | None, *updates: Any, state: type[Any] = State) -> Graph:
    """A graph of nodes step1, step2 … in a row; each returns its update, or calls it."""
    builder: Any = StateGraph(state)
    builder.add_sequence([(f"step{n}", _node(update)) for n, update in enumerate(updates, 1)])
    builder.add_edge(START, "step1")
    graph: Graph = builder.compile(checkpointer=saver)
    return graph


def _node(update: Any) -> Callable[..., Any]:
    if callable(update):
        node: Callable[..., Any] = update
        return node

    def node_of_update(_state: Any) -> Any:
        return update

    return node_of_update


async def run(graph: Graph, value: Any, where: RunnableConfig | None = None, **options: Any) -> Any:
    """Invoke a graph; each step is saved before the next one starts."""
    return await graph.ainvoke(value, where or config(), durability="sync", **options)


def checkpoint(number: int, values: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint made by hand; a higher number is a newer one."""
    made = empty_checkpoint()
    made["id"] = checkpoint_id(number)
    made["channel_values"] = dict(values)
    made["channel_versions"] = dict.fromkeys(values, f"{number:010}.{number:012x}")
    return made


def new_checkpoint(saver: BaseCheckpointSaver[Any], values: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint made by hand, newer than those before, with versions of the saver's."""
    made = empty_checkpoint()
    made["id"] = str(uuid6())
    made["channel_values"] = dict(values)
    made["channel_versions"] = {name: saver.get_next_version(None, None) for name in values}
    return made


def checkpoint_id(number: int) -> str:
    return f"1f0a0000-0000-6000-8000-{number:012}"


async def put(
    saver: BaseCheckpointSaver[Any],
    number: int,
    values: Mapping[str, Any],
    where: RunnableConfig | None = None,
    **metadata: Any,
) -> RunnableConfig:
    """Save a checkpoint made by hand, in which all channels changed."""
    made = checkpoint(number, values)
    about: Any = {"source": "loop", "step": number, **metadata}
    at = config() if where is None else where
    return await saver.aput(at, made, about, made["channel_versions"])


async def listed(saver: BaseCheckpointSaver[Any], where: RunnableConfig | None) -> list[str]:
    """The ids of the checkpoints that `alist` gives."""
    return [found.checkpoint["id"] async for found in saver.alist(where)]


# -- plain SQL --------------------------------------------------------------------------------


def one(sql: Sql, table: str, where: str = "1 = 1", **parameters: Any) -> dict[str, Any]:
    """The only row of a table."""
    (row,) = sql(f"SELECT * FROM {table} WHERE {where}", **parameters)
    return row


def counts(sql: Sql) -> dict[str, int]:
    """How many rows each table has."""
    selects = [f"SELECT '{table}' AS name, count(*) AS n FROM {table}" for table in TABLES]
    return {row["name"]: row["n"] for row in sql(" UNION ALL ".join(selects))}


def from_json(value: Any) -> Any:
    """A JSON column's value: drivers of two of the databases return its text."""
    return json.loads(value) if isinstance(value, str) else value


def transcript(sql: Sql, *, removed: bool = False) -> list[tuple[str, str]]:
    """Role and content of the messages that are there, or that were removed, in their order."""
    condition = "IS NOT NULL" if removed else "IS NULL"
    order = "ORDER BY position, id"
    rows = sql(f"SELECT role, content FROM messages WHERE removed_at {condition} {order}")
    return [(row["role"], row["content"]) for row in rows]


async def fails(call: Awaitable[Any], expected: type[BaseException], *words: str) -> BaseException:
    """Await a call that must raise this error with these words in its message."""
    with pytest.raises(expected) as caught:
        await call
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{caught.value} lacks {missing}"
    return caught.value
