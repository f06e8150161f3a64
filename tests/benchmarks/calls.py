"""The calls that a graph makes to its saver, recorded once to be made again and timed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.base.id import uuid6

from tests.benchmarks.graphs import Program

Method = Literal["put", "put_writes"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call: its method, its config and its other arguments."""

    method: Method
    config: RunnableConfig
    arguments: tuple[Any, ...]

    def of_thread(self, thread_id: str) -> Call:
        """The same call for another thread."""
        configurable = {**self.config["configurable"], "thread_id": thread_id}
        return replace(self, config={**self.config, "configurable": configurable})

    def make(self, saver: BaseCheckpointSaver[Any]) -> None:
        """Make it."""
        getattr(saver, self.method)(self.config, *self.arguments)


class Recorder(BaseCheckpointSaver[Any]):
    """Writes down what is asked of it, and remembers the newest checkpoint so that runs go on.

    Args:
        like: The saver that the calls are for: its versions are used.
    """

    def __init__(self, like: BaseCheckpointSaver[Any]) -> None:
        super().__init__(serde=like.serde)
        self.calls: list[Call] = []
        self._like = like
        self._newest: CheckpointTuple | None = None

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self._like.get_next_version(current, channel)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        del config
        return self._newest

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        self.calls.append(Call("put", config, (checkpoint, metadata, new_versions)))
        named = {name: config["configurable"][name] for name in ("thread_id", "checkpoint_ns")}
        stored: RunnableConfig = {"configurable": {**named, "checkpoint_id": checkpoint["id"]}}
        self._newest = CheckpointTuple(stored, checkpoint, metadata, config, [])
        return stored

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        self.calls.append(Call("put_writes", config, (writes, task_id, task_path)))


def recorded(program: Program, like: BaseCheckpointSaver[Any]) -> list[Call]:
    """The calls that a program makes to a saver of one kind."""
    recorder = Recorder(like)
    run(program, recorder, "recorded")
    return recorder.calls


def continued(calls: Sequence[Call], rounds: int, like: BaseCheckpointSaver[Any]) -> Iterator[Call]:
    """The same calls, round after round in one thread, each time with new ids and versions.

    What a graph would take longer to run than a saver takes to store.

    Args:
        calls: The calls of one run.
        rounds: How often to make them.
        like: The saver that they are for.
    """
    # The first call of a run names no parent: of later rounds, it is what was saved last.
    ids: dict[str | None, str | None] = {None: None}
    newest: dict[str, Any] = {}
    for _ in range(rounds):
        versions: dict[tuple[str, Any], Any] = {}

        def renewed(old: ChannelVersions, versions: dict[Any, Any] = versions) -> ChannelVersions:
            for channel, version in old.items():
                if (channel, version) not in versions:
                    newest[channel] = like.get_next_version(newest.get(channel), None)
                    versions[channel, version] = newest[channel]
            return {channel: versions[channel, version] for channel, version in old.items()}

        for call in calls:
            old_id = call.config["configurable"].get("checkpoint_id")
            configurable = {**call.config["configurable"], "checkpoint_id": ids[old_id]}
            config: RunnableConfig = {**call.config, "configurable": configurable}
            arguments = call.arguments
            if call.method == "put":
                old, metadata, new_versions = arguments
                seen = {node: renewed(each) for node, each in old["versions_seen"].items()}
                checkpoint = {
                    **old,
                    "id": str(uuid6()),
                    "channel_versions": renewed(old["channel_versions"]),
                    "versions_seen": seen,
                }
                ids[old["id"]] = ids[None] = checkpoint["id"]
                arguments = (checkpoint, metadata, renewed(new_versions))
            yield Call(call.method, config, arguments)


def run(program: Program, saver: BaseCheckpointSaver[Any] | None, thread_id: str) -> float:
    """Run a program in a thread; seconds that `invoke` took."""
    graph = program.builder.compile(checkpointer=saver)
    options: dict[str, Any] = {"durability": "sync"} if saver else {}
    config: RunnableConfig = {**program.config, "configurable": {"thread_id": thread_id}}
    spent = 0.0
    for given in program.inputs:
        started = time.perf_counter()
        graph.invoke(given, config, **options)
        spent += time.perf_counter() - started
    return spent


def of_thread(calls: Sequence[Call], thread_id: str) -> list[Call]:
    """The same calls for another thread."""
    return [call.of_thread(thread_id) for call in calls]


def play(calls: Sequence[Call], saver: BaseCheckpointSaver[Any]) -> None:
    """Make calls, one after the other."""
    for call in calls:
        call.make(saver)


@dataclass
class Spent:
    """Seconds in each method, and how often it was called."""

    put: float = 0.0
    put_writes: float = 0.0
    puts: int = 0

    def milliseconds(self) -> dict[str, float]:
        """Milliseconds a step: a step is a `put` and the `put_writes` of its tasks."""
        found = {
            "put": self.put,
            "put_writes": self.put_writes,
            "step": self.put + self.put_writes,
        }
        return {name: 1_000 * seconds / self.puts for name, seconds in found.items()}


def timed(calls: Sequence[Call], saver: BaseCheckpointSaver[Any]) -> Spent:
    """Make calls; what each method took."""
    spent = Spent()
    for call in calls:
        started = time.perf_counter()
        call.make(saver)
        elapsed = time.perf_counter() - started
        if call.method == "put":
            spent.put += elapsed
            spent.puts += 1
        else:
            spent.put_writes += elapsed
    return spent
