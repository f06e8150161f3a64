"""Connections that are dropped at rest or at any request: one retry each, and nothing twice."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, cast, get_args

import pytest
from langchain_core.messages import HumanMessage
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from langgraph_session_saver import DatabaseUnavailableError, SessionSaver
from tests.support.backends import Backend, end_connections, run_sql
from tests.support.calls import CALLS, CHANGES, MAKING, fill_thread
from tests.support.contents import Contents, contents_of
from tests.support.drivers import ASYNC_DRIVERS, DRIVERS, saver_on
from tests.support.faces import SyncFaceAdapter
from tests.support.graphs import engine_of
from tests.support.proxy import Moment, Proxy
from tests.support.workloads import answered, asked, build_graph, on, outcome, page

SERVER_DRIVERS = [name for name, (backend, _) in DRIVERS.items() if backend != "sqlite"]
MOMENTS: tuple[Moment, ...] = get_args(Moment)
CONNECTIONS = 16
GRAPHS, METHODS = 3, 10
"""In the short form: pairs of turns, and methods, with one cut each."""

pytestmark = pytest.mark.parametrize("driver", SERVER_DRIVERS, indirect=True)
EITHER_ENGINE = pytest.mark.parametrize("is_own", [True, False], ids=["own", "callers"])


def drawn() -> random.Random:
    """A source of random numbers, whose seed is shown with a failure."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


def named(*, is_own: bool) -> str:
    return "its own" if is_own else "a caller's"


@pytest.fixture
def proxy(database: Backend) -> Iterator[Proxy]:
    """A proxy in front of the database's server."""
    with Proxy(database.host, database.port) as proxy:
        yield proxy


def as_called(saver: SessionSaver, driver: str) -> SessionSaver:
    """The saver, by its sync methods where the driver is not async."""
    if driver in ASYNC_DRIVERS:
        return saver
    return cast("SessionSaver", SyncFaceAdapter(saver))


# -- connections at rest ------------------------------------------------------------------------


async def fill_pool(saver: SessionSaver) -> None:
    """Make all connections of a pool, and let them rest."""
    engine = engine_of(saver)
    if engine.dialect.is_async:
        conns = [await AsyncEngine(engine).connect() for _ in range(CONNECTIONS)]
        for conn in conns:
            await conn.close()
    else:
        for held in [engine.connect() for _ in range(CONNECTIONS)]:
            held.close()
    assert engine.pool.checkedin() == CONNECTIONS  # type: ignore[attr-defined]


def warnings_of(caplog: pytest.LogCaptureFixture) -> int:
    """How many warnings the saver has logged since the last look."""
    count = sum(record.levelno >= logging.WARNING for record in caplog.records)
    caplog.clear()
    return count


@EITHER_ENGINE
@pytest.mark.parametrize("by", ["server", "proxy"])
async def test_a_pool_of_connections_that_died_at_rest_costs_a_graph_one_retry(
    database: Backend,
    proxy: Proxy,
    driver: str,
    is_own: bool,
    by: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with saver_on(database, driver, is_own=is_own, port=proxy.port) as saver:
        graph = build_graph(as_called(saver, driver))
        await graph.ainvoke({"messages": [HumanMessage(asked(0))]}, on("1"))
        await fill_pool(saver)
        dropped: list[object] = []
        event.listen(engine_of(saver).pool, "invalidate", lambda *_: dropped.append(1))
        warnings_of(caplog)

        if by == "server":
            assert end_connections(database) == CONNECTIONS
        else:
            proxy.cut()
        await graph.ainvoke({"messages": [HumanMessage(asked(1))]}, on("1"))

        assert (len(dropped), warnings_of(caplog)) == (1, 1)
    assert_two_turns(database)


@EITHER_ENGINE
async def test_calls_at_once_on_a_pool_that_died_at_rest_take_one_retry_each(
    database: Backend, driver: str, is_own: bool
) -> None:
    async with saver_on(database, driver, is_own=is_own) as saver:
        names = [f"<{number}>" for number in range(2 * CONNECTIONS)]
        for name in names:
            await fill_thread(saver, name)
        await fill_pool(saver)
        dropped: list[object] = []
        event.listen(engine_of(saver).pool, "invalidate", lambda *_: dropped.append(1))

        end_connections(database)
        await asyncio.gather(*(CHANGES["saver.put"](saver, name) for name in names))

        assert len(dropped) <= CONNECTIONS
        assert len({*contents_of(database, names).values()}) == 1


def assert_two_turns(database: Backend) -> None:
    """The rows of a thread's first two turns, and no other."""
    rows = run_sql(database, "SELECT version, html FROM versions ORDER BY version")
    assert [tuple(row.values()) for row in rows] == [(0, page(0)), (1, page(1))]
    rows = run_sql(database, "SELECT content FROM messages ORDER BY position")
    assert [row["content"] for row in rows] == [asked(0), answered(0), asked(1), answered(1)]
    [session] = run_sql(database, "SELECT build_status, current_version FROM sessions")
    assert session == {"build_status": outcome(1), "current_version": 1}
    [counted] = run_sql(database, "SELECT count(*) AS n FROM session_checkpoints")
    assert counted == {"n": 2 * 6}  # the input, what it starts, and four steps


# -- connections that are cut at a request --------------------------------------------------------


@EITHER_ENGINE
async def test_a_graph_does_not_notice_a_connection_that_is_cut_at_some_request(
    database: Backend, proxy: Proxy, driver: str, is_own: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with saver_on(database, driver, is_own=is_own, port=proxy.port) as saver:
        turns = Turns(as_called(saver, driver), database, proxy)
        requests, draw = await turns.take(), drawn()
        for _ in range(GRAPHS):
            await turns.take_with_cut(draw.randint(1, requests), draw.choice(MOMENTS), caplog)


@pytest.mark.heavy
@EITHER_ENGINE
async def test_a_graph_does_not_notice_a_connection_that_is_cut_at_any_request(
    database: Backend, proxy: Proxy, driver: str, is_own: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Before, within and after each request in turn, COMMITs among them."""
    cuts = 0
    async with saver_on(database, driver, is_own=is_own, port=proxy.port) as saver:
        turns = Turns(as_called(saver, driver), database, proxy)
        await turns.take()  # a database that has never been reached is an error at once
        for moment in MOMENTS:
            request = 1
            while await turns.take_with_cut(request, moment, caplog):
                request += 1
                cuts += 1
    print(f"| {driver} | {named(is_own=is_own)} | graphs | {cuts} | 0 | 0 |")


class Turns:
    """Two turns of a graph on a thread, which is then deleted."""

    def __init__(self, saver: SessionSaver, database: Backend, proxy: Proxy) -> None:
        self._saver, self._database, self._proxy = saver, database, proxy
        self._graph = build_graph(saver)

    async def take(self) -> int:
        """Take the turns, check the rows, and return how many requests that took."""
        before = self._proxy.round_trips
        for turn in range(2):
            given: Any = {"messages": [HumanMessage(asked(turn))]}
            await self._graph.ainvoke(given, on("1"), durability="sync")
        requests = self._proxy.round_trips - before
        assert_two_turns(self._database)
        await self._saver.adelete_thread("1")
        return requests

    async def take_with_cut(
        self, request: int, moment: Moment, caplog: pytest.LogCaptureFixture
    ) -> bool:
        """Take the turns with a cut; False if they have not so many requests."""
        warnings_of(caplog)
        self._proxy.cut_at(request, moment)
        await self.take()
        was_cut = not self._proxy.cancel_cut()
        # None where the request was to end a connection.
        assert warnings_of(caplog) <= was_cut, (request, moment)
        return was_cut


@EITHER_ENGINE
async def test_no_call_is_carried_out_twice_when_its_connection_is_cut(
    database: Backend,
    proxy: Proxy,
    driver: str,
    is_own: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Some public methods, with the connection cut at one of the requests that each sends."""
    draw = drawn()
    methods = draw.sample(list(CALLS), METHODS)
    async with saver_on(database, driver, is_own=is_own, port=proxy.port) as saver:
        for call in await calls_of(as_called(saver, driver), database, proxy, methods):
            request, moment = draw.randint(1, call.requests), draw.choice(MOMENTS)
            await call.is_the_same_when_cut(request, moment, caplog)


@pytest.mark.heavy
@EITHER_ENGINE
async def test_no_call_is_carried_out_twice_wherever_its_connection_is_cut(
    database: Backend,
    proxy: Proxy,
    driver: str,
    is_own: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each public method, with the connection cut at each of its requests."""
    cuts = 0
    async with saver_on(database, driver, is_own=is_own, port=proxy.port) as saver:
        for call in await calls_of(as_called(saver, driver), database, proxy, CALLS):
            for moment in MOMENTS:
                request = 1
                while await call.is_the_same_when_cut(request, moment, caplog):
                    request += 1
                    cuts += 1
    print(f"| {driver} | {named(is_own=is_own)} | {len(CALLS)} methods | {cuts} | 0 | 0 |")


class Call:
    """A method's call, and what it does on a connection that is not cut."""

    def __init__(self, saver: SessionSaver, database: Backend, proxy: Proxy, method: str) -> None:
        self._saver, self._database, self._proxy = saver, database, proxy
        self.method = method
        self.requests = 0
        self._names = (f"<{method} {number}>" for number in count())
        self._undisturbed: Any = None

    async def note(self) -> None:
        """Call the method, and take note of what it does."""
        name = await self._new_name()
        before = self._proxy.round_trips
        self._undisturbed = await self._outcome(name)
        self.requests = self._proxy.round_trips - before

    async def is_the_same_when_cut(
        self, request: int, moment: Moment, caplog: pytest.LogCaptureFixture
    ) -> bool:
        """Call the method again, with a cut; False if it has not so many requests."""
        name = await self._new_name()
        warnings_of(caplog)
        self._proxy.cut_at(request, moment)
        outcome = await self._outcome(name)
        was_cut = not self._proxy.cancel_cut()
        assert outcome == self._undisturbed, (self.method, request, moment)
        assert warnings_of(caplog) <= was_cut, (self.method, request, moment)
        return was_cut

    async def _new_name(self) -> str:
        name = next(self._names)
        if self.method not in MAKING:
            await fill_thread(self._saver, name)
        return name

    async def _outcome(self, name: str) -> tuple[object, Contents]:
        """What the call returns, and what there is afterwards."""
        returned = await CALLS[self.method](self._saver, name)
        told = returned if isinstance(returned, bool | None) else type(returned)
        return told, contents_of(self._database, [name])[name]


async def calls_of(
    saver: SessionSaver, database: Backend, proxy: Proxy, methods: Iterable[str]
) -> list[Call]:
    """Calls of methods, each made twice: the first time it may prepare statements."""
    await fill_thread(saver, "own")
    calls = [Call(saver, database, proxy, method) for method in methods]
    for call in calls:
        await call.note()
        await call.note()
    return calls


# -- bounds ---------------------------------------------------------------------------------------


async def test_retries_end_when_their_time_is_over(
    database: Backend, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[object] = []
    with Proxy(database.host, database.port) as proxy:
        async with saver_on(database, driver, is_own=True, port=proxy.port, retry_for=1) as raw:
            saver = as_called(raw, driver)
            await fill_thread(saver, "1")
            event.listen(engine_of(raw), "do_connect", lambda *_: attempts.append(1))
            proxy.close_for_good()
            with pytest.raises(DatabaseUnavailableError, match="cannot be reached"):
                await CHANGES["saver.put"](saver, "1")
    assert 2 <= len(attempts) <= 30
    assert warnings_of(caplog) == 1
