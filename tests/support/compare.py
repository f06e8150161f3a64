"""Two savers' answers, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.memory import InMemorySaver


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


class Tee(BaseCheckpointSaver[Any]):
    """Writes to a saver and to an ``InMemorySaver``; reads from the first."""

    def __init__(self, saver: BaseCheckpointSaver[Any], mirror: InMemorySaver) -> None:
        super().__init__(serde=saver.serde)
        self.saver = saver
        self.mirror = mirror

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        self.mirror.put(config, checkpoint, metadata, new_versions)
        return self.saver.put(config, checkpoint, metadata, new_versions)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        self.mirror.put_writes(config, writes, task_id, task_path)
        self.saver.put_writes(config, writes, task_id, task_path)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self.saver.get_tuple(config)

    def list(self, config: RunnableConfig | None, **options: Any) -> Any:
        return self.saver.list(config, **options)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return self.saver.get_delta_channel_history(config=config, channels=channels)

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self.saver.get_next_version(current, channel)
