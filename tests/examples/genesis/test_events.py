"""Events: what was committed, in an order from which a watcher goes on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.genesis.errors import EventIdError
from examples.genesis.events import follow, insert_event, position_of
from examples.genesis.models import GenesisEvent, GenesisFlow, Novel
from examples.genesis.repositories import lock
from examples.web.database import make_engine, reading, transaction
from examples.web.models import new_id
from tests.examples.genesis.locks import waiting_for_a_lock
from tests.support.backends import Backend

READERS, WRITERS, EVENTS = 3, 6, 8


@pytest.fixture
async def flow_id(engine: AsyncEngine, novel: Novel) -> str:
    async with transaction(engine) as orm:
        flow = GenesisFlow(novel_id=novel.id)
        orm.add(flow)
    return flow.id


async def happened(engine: AsyncEngine, flow_id: str, *types: str, **columns: str) -> None:
    async with transaction(engine) as orm:
        await orm.execute(lock(flow_id))
        for what in types:
            await orm.execute(insert_event(what, flow_id, data={}, **columns))


async def read(engine: AsyncEngine, flow_id: str, position: int = 0) -> list[tuple[int, str]]:
    async with reading(engine) as orm:
        events = await orm.execute(
            select(GenesisEvent.position, GenesisEvent.type)
            .where(GenesisEvent.flow_id == flow_id, GenesisEvent.position > position)
            .order_by(GenesisEvent.position)
        )
    return [(number, what) for number, what in events]


def watch(engine: AsyncEngine, flow_id: str, position: int = 0) -> AsyncGenerator[GenesisEvent]:
    return follow(engine, flow_id, position, lambda: False)


# -- the log -------------------------------------------------------------------------------------


async def test_the_events_of_each_flow_are_numbered_from_one_on(
    engine: AsyncEngine, flow_id: str
) -> None:
    async with transaction(engine) as orm:
        other = Novel(owner_id=new_id(), title="Salt")
        orm.add(other)
        await orm.flush()
        flow = GenesisFlow(novel_id=other.id)
        orm.add(flow)
    await happened(engine, flow_id, "a", "b")
    await happened(engine, flow.id, "c")
    await happened(engine, flow_id, "d")

    assert await read(engine, flow_id) == [(1, "a"), (2, "b"), (3, "d")]
    assert await read(engine, flow.id) == [(1, "c")]


async def test_a_step_that_is_saved_twice_has_one_event(engine: AsyncEngine, flow_id: str) -> None:
    step = f"step/{new_id()}"
    for _ in range(2):
        await happened(engine, flow_id, "session.step", id=step)

    assert await read(engine, flow_id) == [(1, "session.step")]


async def test_an_event_that_is_rolled_back_leaves_no_gap(
    engine: AsyncEngine, flow_id: str
) -> None:
    async with transaction(engine) as orm:
        await orm.execute(lock(flow_id))
        await orm.execute(insert_event("lost", flow_id, data={}))
        await orm.rollback()
    await happened(engine, flow_id, "a")

    assert await read(engine, flow_id) == [(1, "a")]


# SQLite has one writer: the second one would wait before its first statement.
@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
async def test_an_event_waits_for_one_that_is_not_committed(
    engine: AsyncEngine, flow_id: str
) -> None:
    async with transaction(engine) as orm:
        await orm.execute(lock(flow_id))
        await orm.execute(insert_event("began first", flow_id, data={}))
        second = asyncio.create_task(happened(engine, flow_id, "began second"))
        await waiting_for_a_lock(engine)
        assert await read(engine, flow_id) == []
    await second

    assert await read(engine, flow_id) == [(1, "began first"), (2, "began second")]


async def test_no_reader_misses_an_event_of_many_writers(engine: AsyncEngine, flow_id: str) -> None:
    """Transactions of random length meet, while others read."""
    dice = random.Random(7)
    expected = {f"{writer}.{n}" for writer in range(WRITERS) for n in range(EVENTS)}

    async def write(writer: int) -> None:
        for n in range(EVENTS):
            async with transaction(engine) as orm:
                await orm.execute(lock(flow_id))
                await orm.execute(insert_event(f"{writer}.{n}", flow_id, data={}))
                for _ in range(dice.randrange(4)):
                    await asyncio.sleep(0)
                    await orm.connection()

    async def follow() -> list[tuple[int, str]]:
        """What a reader sees who always goes on after the last position that he has seen."""
        seen: list[tuple[int, str]] = []
        while len(seen) < len(expected):
            seen += await read(engine, flow_id, seen[-1][0] if seen else 0)
        return seen

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for writer in range(WRITERS):
            group.create_task(write(writer))
        readers = [group.create_task(follow()) for _ in range(READERS)]
    in_order = await read(engine, flow_id)
    for reader in readers:
        assert reader.result() == in_order
    assert [position for position, _ in in_order] == [*range(1, len(expected) + 1)]
    assert {what for _, what in in_order} == expected
    for writer in range(WRITERS):  # a writer's own events keep their order
        own = [what for _, what in in_order if what.startswith(f"{writer}.")]
        assert own == [f"{writer}.{n}" for n in range(EVENTS)]


# -- watchers ------------------------------------------------------------------------------------


async def test_a_watcher_is_told_what_any_process_commits(
    engine: AsyncEngine, database: Backend, flow_id: str
) -> None:
    other = make_engine(database.async_url)
    watched = watch(engine, flow_id)
    for n, writer in enumerate((engine, other, engine), 1):
        await happened(writer, flow_id, f"{n}")
        event = await anext(watched)
        assert (event.position, event.type) == (n, f"{n}")
    await watched.aclose()
    await other.dispose()


async def test_a_watcher_goes_on_after_a_position(engine: AsyncEngine, flow_id: str) -> None:
    await happened(engine, flow_id, "a", "b")
    watched = watch(engine, flow_id, 1)
    assert (await anext(watched)).type == "b"
    await watched.aclose()


async def test_what_is_sent_ends_with_the_server(engine: AsyncEngine, flow_id: str) -> None:
    await happened(engine, flow_id, "a")
    ends = False
    watched = follow(engine, flow_id, 0, lambda: ends)
    assert (await anext(watched)).type == "a"
    ends = True
    assert await anext(watched, None) is None


@pytest.mark.parametrize("event_id", ["", "f", "f:", ":1", "g:1", "f:-1", "f:x", "f:²", "f:1:1"])
def test_an_id_that_is_no_event_of_the_flow_is_refused(event_id: str) -> None:
    with pytest.raises(EventIdError, match="none to begin with the first"):
        position_of(event_id, "f")
    assert position_of("f:12", "f") == 12
