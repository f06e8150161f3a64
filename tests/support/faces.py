"""The three ways to call a saver, behind one async interface."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, Self, TypeAlias, get_args

from tests.support.forwarding import ForwardingSaver

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
    if name in {"sessions", "state", "threads"}:
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


class SyncFaceAdapter(ForwardingSaver):
    """A saver whose ``a…`` methods call the other saver's sync methods directly.

    So one test body of async calls serves the sync face too. The methods of the checkpointer's
    contract are spelled out, for whoever looks at the class; the rest is forwarded by name.
    """

    aget = _as_coroutine(ForwardingSaver.get)
    aget_tuple = _as_coroutine(ForwardingSaver.get_tuple)
    alist = _as_async_generator(ForwardingSaver.list)
    aput = _as_coroutine(ForwardingSaver.put)
    aput_writes = _as_coroutine(ForwardingSaver.put_writes)
    adelete_thread = _as_coroutine(ForwardingSaver.delete_thread)
    adelete_for_runs = _as_coroutine(ForwardingSaver.delete_for_runs)
    acopy_thread = _as_coroutine(ForwardingSaver.copy_thread)
    aprune = _as_coroutine(ForwardingSaver.prune)
    aget_delta_channel_history = _as_coroutine(ForwardingSaver.get_delta_channel_history)

    def for_owner(self, owner_id: str) -> SyncFaceAdapter:
        return SyncFaceAdapter(self.saver.for_owner(owner_id))  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        if name == "saver":  # not set yet, as in copy.copy
            raise AttributeError(name)
        return sync_twin(self.saver, name)

    async def __aenter__(self) -> Self:
        self.saver.__enter__()  # type: ignore[attr-defined]
        return self

    async def __aexit__(self, *problem: object) -> None:
        self.saver.__exit__(*problem)  # type: ignore[attr-defined]
