"""The three ways to call a saver, behind one async interface."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any, Literal, Self, TypeAlias, get_args

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

FaceName: TypeAlias = Literal["sync", "async-engine", "async"]
FACE_NAMES: tuple[FaceName, ...] = get_args(FaceName)


class SyncFace:
    """Gives an object's sync methods the names of their async twins.

    ``face.alist(…)`` calls ``target.list(…)`` on the calling thread. Only where both exist: an
    ``a…`` method without a sync twin, or the other way round, is an ``AttributeError`` here.
    """

    def __init__(self, target: object) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        # Reached only for what the class itself does not define.
        return sync_twin(self._target, name)


def sync_twin(target: object, name: str) -> Any:
    """What stands for ``target.<name>`` on the sync face."""
    if name.startswith("__") or name == "_target":
        raise AttributeError(name)
    value = getattr(target, name)
    if inspect.isasyncgenfunction(value):
        return _as_async_generator(getattr(target, name.removeprefix("a")))
    if inspect.iscoroutinefunction(value):
        return _as_coroutine(getattr(target, name.removeprefix("a")))
    if name in {"sessions", "state"}:
        return SyncFace(value)
    return value


def _as_coroutine(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return call


def _as_async_generator(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def iterate(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        for item in method(*args, **kwargs):
            yield item

    return iterate


class SyncFaceAdapter(BaseCheckpointSaver[Any]):
    """A saver whose ``a…`` methods call the wrapped saver's sync methods directly.

    So one test body of async calls serves the sync face too. The methods of the checkpointer's
    contract are spelled out, for whoever looks at the class; the rest is forwarded by name.
    """

    def __init__(self, saver: BaseCheckpointSaver[Any]) -> None:
        self._saver = saver  # no super().__init__(): the serde is the wrapped saver's

    @property
    def saver(self) -> BaseCheckpointSaver[Any]:
        """The wrapped saver."""
        return self._saver

    @property
    def serde(self) -> SerializerProtocol:
        return self._saver.serde

    @serde.setter
    def serde(self, value: SerializerProtocol) -> None:
        self._saver.serde = value

    @property
    def config_specs(self) -> list[Any]:
        return self._saver.config_specs

    def __getattr__(self, name: str) -> Any:
        if name == "_saver":  # not set yet, as in copy.copy
            raise AttributeError(name)
        return sync_twin(self._saver, name)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._saver.get_tuple(config)

    def list(self, config: RunnableConfig | None, **options: Any) -> Any:
        return self._saver.list(config, **options)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self._saver.put(config, checkpoint, metadata, new_versions)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        self._saver.put_writes(config, writes, task_id, task_path)

    def delete_thread(self, thread_id: str) -> None:
        self._saver.delete_thread(thread_id)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        self._saver.delete_for_runs(run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self._saver.copy_thread(source_thread_id, target_thread_id)

    def prune(self, thread_ids: Sequence[str], **options: Any) -> None:
        self._saver.prune(thread_ids, **options)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return self._saver.get_delta_channel_history(config=config, channels=channels)

    async def aget(self, config: RunnableConfig) -> Checkpoint | None:
        return self._saver.get(config)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._saver.get_tuple(config)

    async def alist(
        self, config: RunnableConfig | None, **options: Any
    ) -> AsyncIterator[CheckpointTuple]:
        for item in self._saver.list(config, **options):
            yield item

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self._saver.put(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        self._saver.put_writes(config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        self._saver.delete_thread(thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        self._saver.delete_for_runs(run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self._saver.copy_thread(source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], **options: Any) -> None:
        self._saver.prune(thread_ids, **options)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return self._saver.get_delta_channel_history(config=config, channels=channels)

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self._saver.get_next_version(current, channel)

    def with_allowlist(
        self, extra_allowlist: Collection[tuple[str, ...]]
    ) -> BaseCheckpointSaver[Any]:
        inner = self._saver.with_allowlist(extra_allowlist)
        return self if inner is self._saver else type(self)(inner)

    async def __aenter__(self) -> Self:
        self._saver.__enter__()  # type: ignore[attr-defined]
        return self

    async def __aexit__(self, *problem: object) -> None:
        self._saver.__exit__(*problem)  # type: ignore[attr-defined]
