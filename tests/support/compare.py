"""Two savers' answers, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    CheckpointTuple,
)
from langgraph.checkpoint.memory import InMemorySaver

from tests.support.forwarding import ForwardingSaver


def comparable(found: CheckpointTuple | None) -> Any:
    """What a read says, without what savers may say differently."""
    if found is None:
        return None
    return {
        "config": ids(found.config),
        "checkpoint": found.checkpoint,
        "metadata": found.metadata,
        "parent": ids(found.parent_config),
        "writes": found.pending_writes or [],
    }


def ids(config: RunnableConfig | None) -> Any:
    if config is None:
        return None
    named = config["configurable"]
    return named["thread_id"], named.get("checkpoint_ns", ""), named["checkpoint_id"]


class Tee(ForwardingSaver):
    """Writes to a saver and to an ``InMemorySaver``; reads from the first."""

    def __init__(self, saver: BaseCheckpointSaver[Any], mirror: InMemorySaver) -> None:
        super().__init__(saver)
        self.mirror = mirror

    def put(self, *arguments: Any, **options: Any) -> Any:
        self.mirror.put(*arguments, **options)
        return super().put(*arguments, **options)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        self.mirror.put_writes(config, writes, task_id, task_path)
        super().put_writes(config, writes, task_id, task_path)
