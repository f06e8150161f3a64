"""The database server is killed and started again while graphs run: they carry on by themselves."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import NullPool

from langgraph_session_saver import SessionSaver
from tests.reliability.test_failures import need_control
from tests.support.acknowledged import (
    Acknowledged,
    NotingSaver,
    disagreeing,
    lost,
    run_graphs,
)
from tests.support.backends import Backend

SERVERS = pytest.mark.parametrize("backend_name", ["postgresql", "mariadb"], indirect=True)
FACES = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])

KILLS, HEAVY_KILLS = 2, 50
THREADS = 3
SAVED_BETWEEN_KILLS = 12


def kill_again_and_again(server: Any, saver: NotingSaver, kills: int) -> None:
    draw = random.Random(kills)
    for number in range(kills):
        saver.acknowledged.wait_for(
            SAVED_BETWEEN_KILLS * number + draw.randint(1, SAVED_BETWEEN_KILLS)
        )
        server.kill()
        server.start()


async def run_through_kills(backend: Backend, kills: int, *, is_async: bool) -> NotingSaver:
    """Run graphs until the server was killed so often and is up again; none may fail."""
    server = need_control(backend)
    saver = NotingSaver(backend.async_engine() if is_async else backend.engine())
    saver.acknowledged, saver.is_async = Acknowledged(), is_async
    await run_graphs(
        [(saver, str(number)) for number in range(THREADS)],
        lambda: kill_again_and_again(server, saver, kills),
    )
    return saver


async def assert_nothing_is_lost(backend: Backend, saver: NotingSaver) -> None:
    with SessionSaver(backend.engine(poolclass=NullPool)) as reader:
        assert lost(reader, saver.acknowledged.saved) == []
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
    print(f"| {backend.name} | {is_async} | {HEAVY_KILLS} | {len(saver.acknowledged.saved)} |")
