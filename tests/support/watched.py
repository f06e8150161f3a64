"""A saver that tells its subclass of each checkpoint that it has saved."""

from __future__ import annotations

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata

from langgraph_session_saver import SessionSaver


class WatchedSaver(SessionSaver):
    """Calls `has_saved` after each put that has returned."""

    def has_saved(self, checkpoint: Checkpoint, saved: RunnableConfig) -> None:
        """Do something about a checkpoint that is saved.

        Args:
            checkpoint: What was put.
            saved: The config that the put returned.
        """
        raise NotImplementedError

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        saved = super().put(config, checkpoint, metadata, new_versions)
        self.has_saved(checkpoint, saved)
        return saved

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        saved = await super().aput(config, checkpoint, metadata, new_versions)
        self.has_saved(checkpoint, saved)
        return saved
