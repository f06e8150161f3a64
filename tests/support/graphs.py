"""Compiled graphs, run through a face."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from tests.support.faces import SyncFaceAdapter


def underlying(saver: BaseCheckpointSaver[Any]) -> BaseCheckpointSaver[Any]:
    """The saver to compile a graph with, from what ``make_saver`` gave."""
    return saver.saver if isinstance(saver, SyncFaceAdapter) else saver


def thread(name: str, **named: Any) -> RunnableConfig:
    """A config that names a thread."""
    return {"configurable": {"thread_id": name, **named}}


class Driver:
    """One graph with one saver: calls the sync methods on the sync face, else the async ones.

    ``saver`` is what ``make_saver`` gave, or any other saver, which is then called synchronously
    if ``is_sync`` says so.
    """

    def __init__(
        self, builder: Any, saver: BaseCheckpointSaver[Any], *, is_sync: bool | None = None
    ) -> None:
        self.is_sync = isinstance(saver, SyncFaceAdapter) if is_sync is None else is_sync
        self.graph = builder.compile(checkpointer=underlying(saver))

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
