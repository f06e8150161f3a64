"""A saver that forwards its calls to another one, for tests that change some of them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Collection
from typing import Any, Self

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.base import SerializerProtocol


def _forward(name: str) -> Callable[..., Any]:
    # With the signature: LangGraph passes a task's path only to a put_writes that has the argument.
    @functools.wraps(getattr(BaseCheckpointSaver, name))
    def call(self: ForwardingSaver, *arguments: Any, **options: Any) -> Any:
        return getattr(self.saver, name)(*arguments, **options)

    return call


class ForwardingSaver(BaseCheckpointSaver[Any]):
    """Forwards each method of a checkpointer, sync or async, to the same method of another."""

    def __init__(self, saver: BaseCheckpointSaver[Any]) -> None:
        self.saver = saver  # no super().__init__(): the serde is the other saver's

    @property
    def serde(self) -> SerializerProtocol:
        return self.saver.serde

    @serde.setter
    def serde(self, value: SerializerProtocol) -> None:
        self.saver.serde = value

    @property
    def config_specs(self) -> list[Any]:
        return self.saver.config_specs

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> Self:
        inner = self.saver.with_allowlist(extra_allowlist)
        if inner is self.saver:
            return self
        clone = copy.copy(self)
        clone.saver = inner
        return clone

    get = _forward("get")
    get_tuple = _forward("get_tuple")
    list = _forward("list")
    put = _forward("put")
    put_writes = _forward("put_writes")
    delete_thread = _forward("delete_thread")
    delete_for_runs = _forward("delete_for_runs")
    copy_thread = _forward("copy_thread")
    prune = _forward("prune")
    get_delta_channel_history = _forward("get_delta_channel_history")
    get_next_version = _forward("get_next_version")
    aget = _forward("aget")
    aget_tuple = _forward("aget_tuple")
    alist = _forward("alist")
    aput = _forward("aput")
    aput_writes = _forward("aput_writes")
    adelete_thread = _forward("adelete_thread")
    adelete_for_runs = _forward("adelete_for_runs")
    acopy_thread = _forward("acopy_thread")
    aprune = _forward("aprune")
    aget_delta_channel_history = _forward("aget_delta_channel_history")
