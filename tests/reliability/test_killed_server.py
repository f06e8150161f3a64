"""The database server is killed and started again while graphs run: they carry on by themselves."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from sqlalchemy import NullPool

from langgraph_session_saver import SessionSaver
from tests.reliability.test_cancelled_and_killed import disagreeing, lost
from tests.reliability.test_failures import need_control
from tests.support.backends import Backend
from tests.support.cancelling import digest
from tests.support.workloads import asked, build_graph, on

SERVERS = pytest.mark.parametrize("backend_name", ["postgresql", "mariadb"], indirect=True)
FACES = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])

KILLS, HEAVY_KILLS = 2, 50
THREADS = 3
SAVED_BETWEEN_KILLS = 12


class NotingSaver(SessionSaver):
    """Notes each checkpoint that it has saved, and wakes who waits for so many."""

    def note(self, checkpoint: Checkpoint, saved: RunnableConfig) -> None:
        """Note a checkpoint of which the put has returned."""
        with self.more:
            self.saved.append(
                {
                    "saved": saved["configurable"]["checkpoint_id"],
                    "thread": saved["configurable"]["thread_id"],
                    "digest": digest(checkpoint["channel_values"]),
                }
            )
            self.more.notify_all()

    def start_notes(self) -> None:
        """Begin with nothing noted."""
        self.saved: list[dict[str, Any]] = []
        self.more = threading.Condition()

    def wait_for(self, count: int) -> None:
        """Wait until so many checkpoints were saved."""
        with self.more:
            assert self.more.wait_for(lambda: len(self.saved) >= count, 60)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        saved = super().put(config, checkpoint, metadata, new_versions)
        self.note(checkpoint, saved)
        return saved

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        saved = await super().aput(config, checkpoint, metadata, new_versions)
        self.note(checkpoint, saved)
        return saved


def kill_again_and_again(server: Any, saver: NotingSaver, kills: int) -> None:
    draw = random.Random(kills)
    for number in range(kills):
        saver.wait_for(SAVED_BETWEEN_KILLS * number + draw.randint(1, SAVED_BETWEEN_KILLS))
        server.kill()
        server.start()


def take_turns(saver: SessionSaver, thread_id: str, is_over: Callable[[], bool]) -> None:
    graph = build_graph(saver)
    turn = 0
    while not is_over():
        given: Any = {"messages": [HumanMessage(asked(turn))]}
        graph.invoke(given, on(thread_id), durability="sync")
        turn += 1


async def atake_turns(saver: SessionSaver, thread_id: str, is_over: Callable[[], bool]) -> None:
    graph = build_graph(saver)
    turn = 0
    while not is_over():
        given: Any = {"messages": [HumanMessage(asked(turn))]}
        await graph.ainvoke(given, on(thread_id), durability="async")
        turn += 1


async def run_through_kills(backend: Backend, kills: int, *, is_async: bool) -> NotingSaver:
    """Run graphs until the server was killed so often and is up again; none may fail."""
    server = need_control(backend)
    saver = NotingSaver(backend.async_engine() if is_async else backend.engine())
    saver.start_notes()
    names = [str(number) for number in range(THREADS)]
    with ThreadPoolExecutor(THREADS + 1) as executor:
        killing = executor.submit(kill_again_and_again, server, saver, kills)
        if is_async:
            await asyncio.gather(*(atake_turns(saver, name, killing.done) for name in names))
        else:
            list(executor.map(lambda name: take_turns(saver, name, killing.done), names))
        killing.result()
    return saver


async def assert_nothing_is_lost(backend: Backend, saver: NotingSaver) -> None:
    with SessionSaver(backend.engine(poolclass=NullPool)) as reader:
        assert lost(reader, saver.saved) == []
        assert disagreeing(backend.outside, reader) == []
    await saver.aclose()


@SERVERS
@FACES
async def test_graphs_carry_on_while_the_server_is_killed(backend: Backend, is_async: bool) -> None:
    saver = await run_through_kills(backend, KILLS, is_async=is_async)

    await assert_nothing_is_lost(backend, saver)


@pytest.mark.heavy
@SERVERS
@FACES
async def test_graphs_carry_on_through_50_kills(backend: Backend, is_async: bool) -> None:
    saver = await run_through_kills(backend, HEAVY_KILLS, is_async=is_async)

    await assert_nothing_is_lost(backend, saver)
    print(f"| {backend.name} | {is_async} | {HEAVY_KILLS} | {len(saver.saved)} |")
