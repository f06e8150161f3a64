"""Graphs that several tests run, and what runs one through a face."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.pregel import Pregel
from langgraph.types import interrupt
from sqlalchemy import Engine
from typing_extensions import TypedDict

from tests.support.faces import SyncFaceAdapter


def underlying(saver: BaseCheckpointSaver[Any]) -> BaseCheckpointSaver[Any]:
    """The saver to compile a graph with, from what ``make_saver`` gave."""
    return saver.saver if isinstance(saver, SyncFaceAdapter) else saver


def engine_of(saver: Any) -> Engine:
    """The sync engine of a ``SessionSaver``, or of the one that ``make_saver`` gave."""
    inner: Any = underlying(saver)
    engine: Engine = inner._runner.sync_engine
    return engine


def thread(name: str, **named: Any) -> RunnableConfig:
    """A config that names a thread."""
    return {"configurable": {"thread_id": name, **named}}


class ScriptRunner:
    """One graph with one saver: calls the sync methods on the sync face, else the async ones.

    ``builder`` is compiled with the saver; a graph that is compiled already is given the saver.
    ``saver`` is what ``make_saver`` gave, or any other saver, which is then called synchronously
    if ``is_sync`` says so.
    """

    def __init__(
        self, builder: Any, saver: BaseCheckpointSaver[Any], *, is_sync: bool | None = None
    ) -> None:
        self.is_sync = isinstance(saver, SyncFaceAdapter) if is_sync is None else is_sync
        self.graph: Any = (
            builder.copy(update={"checkpointer": underlying(saver)})
            if isinstance(builder, Pregel)
            else builder.compile(checkpointer=underlying(saver))
        )

    async def invoke(self, given: Any, config: RunnableConfig, **options: Any) -> Any:
        if self.is_sync:
            return self.graph.invoke(given, config, **options)
        return await self.graph.ainvoke(given, config, **options)

    async def state(self, config: RunnableConfig, **options: Any) -> Any:
        if self.is_sync:
            return self.graph.get_state(config, **options)
        return await self.graph.aget_state(config, **options)

    async def update(self, config: RunnableConfig, values: Any, **options: Any) -> RunnableConfig:
        updated: RunnableConfig
        if self.is_sync:
            updated = self.graph.update_state(config, values, **options)
        else:
            updated = await self.graph.aupdate_state(config, values, **options)
        return updated

    async def history(self, config: RunnableConfig) -> list[Any]:
        if self.is_sync:
            return list(self.graph.get_state_history(config))
        return [state async for state in self.graph.aget_state_history(config)]


class Log(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    number: int
    big: str


def says(word: str) -> Any:
    def node(state: Log) -> Log:
        return {"log": [word], "number": state.get("number", 0) + 1}

    return node


def line_of(*nodes: tuple[str, Any], state: Any = Log) -> StateGraph[Any]:
    """A graph that runs nodes one after the other."""
    builder: StateGraph[Any] = StateGraph(state)
    before = START
    for name, node in nodes:
        builder.add_node(name, node)
        builder.add_edge(before, name)
        before = name
    builder.add_edge(before, END)
    return builder


def ask(question: str) -> Any:
    def node(state: Log) -> Log:
        return {"log": [f"{question} {interrupt(question)}"]}

    return node


def nested(checkpointer: Any) -> StateGraph[Any]:
    """A root with a subgraph that has one of its own, which asks."""
    innermost = line_of(("ask", ask("deep?")), ("tell", says("told"))).compile(
        checkpointer=checkpointer
    )
    inner = line_of(("prepare", says("prepared")), ("innermost", innermost)).compile(
        checkpointer=checkpointer
    )

    def again(state: Log) -> Literal["inner", "__end__"]:
        return "inner" if state.get("number", 0) < 8 and len(state["log"]) < 12 else "__end__"

    builder: StateGraph[Any] = StateGraph(Log)
    builder.add_node("inner", inner)
    builder.add_edge(START, "inner")
    builder.add_conditional_edges("inner", again)
    return builder


def extended(items: Any, writes: Sequence[list[str]]) -> list[str]:
    return [*(items or []), *(item for write in writes for item in write)]


class Delta(TypedDict, total=False):
    items: Annotated[list[str], DeltaChannel(extended, snapshot_frequency=4)]
    rare: Annotated[list[str], DeltaChannel(extended, snapshot_frequency=1_000)]
    number: int


def counts(state: Delta) -> Delta:
    number = state.get("number", 0) + 1
    return {"items": [f"item {number}"], "rare": [f"rare {number}"], "number": number}


DELTA = line_of(("one", counts), ("two", counts), ("three", counts), state=Delta)
