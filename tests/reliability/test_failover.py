"""Graphs carry on while a PostgreSQL primary is killed and a synchronous standby takes over."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from langchain_core.messages import HumanMessage
from sqlalchemy import NullPool, create_engine

from langgraph_session_saver import SessionSaver
from tests.support.acknowledged import (
    Acknowledged,
    EngineKind,
    disagreeing,
    lost,
    noting_savers,
    run_graphs,
)
from tests.support.clusters import PostgreSQLCluster, running
from tests.support.workloads import asked, build_graph, on

DRIVERS = ["psycopg", "psycopg_async", "asyncpg"]
FAILOVERS, HEAVY_FAILOVERS = 1, 20
SAVED_BETWEEN = 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgreSQLCluster]:
    """Three servers that the tests of this module share; skips where PostgreSQL is missing."""
    with running(PostgreSQLCluster) as cluster:
        yield cluster


@pytest.fixture
def database(cluster: PostgreSQLCluster) -> str:
    """A new database, with our tables."""
    cluster.replace()
    name = f"t_{secrets.token_hex(8)}"
    cluster.primary.create_database(name)
    with SessionSaver.from_conn_string(cluster.url(name, "psycopg")) as saver:
        saver.setup()
    return name


async def run_through_failovers(
    cluster: PostgreSQLCluster, database: str, failovers: int
) -> Acknowledged:
    """Run graphs over each driver, two over each, while one server after the other is killed."""
    urls = [cluster.url(database, driver) for driver in DRIVERS * 2]
    async with noting_savers(urls) as savers:
        acknowledged = savers[0].acknowledged

        def fail_over_again_and_again() -> None:
            for _ in range(failovers):
                cluster.replace()
                acknowledged.wait_for_more(SAVED_BETWEEN)
                cluster.fail_over()
                acknowledged.wait_for_more(SAVED_BETWEEN)

        runs = [(saver, str(number)) for number, saver in enumerate(savers)]
        await run_graphs(runs, fail_over_again_and_again)
    return acknowledged


def assert_nothing_is_lost(
    cluster: PostgreSQLCluster, database: str, acknowledged: Acknowledged
) -> None:
    url = cluster.url(database, "psycopg")
    with SessionSaver.from_conn_string(url) as reader:
        assert lost(reader, acknowledged.saved) == []
        assert disagreeing(create_engine(url, poolclass=NullPool), reader) == []


async def test_graphs_carry_on_on_the_standby_that_was_promoted(
    cluster: PostgreSQLCluster, database: str
) -> None:
    acknowledged = await run_through_failovers(cluster, database, FAILOVERS)

    assert_nothing_is_lost(cluster, database, acknowledged)


@pytest.mark.heavy
async def test_graphs_carry_on_through_20_failovers(
    cluster: PostgreSQLCluster, database: str
) -> None:
    acknowledged = await run_through_failovers(cluster, database, HEAVY_FAILOVERS)

    assert_nothing_is_lost(cluster, database, acknowledged)
    print(f"| PostgreSQL | killed {HEAVY_FAILOVERS} | {len(acknowledged.saved)} |")


@pytest.mark.parametrize("engine", ["own", "callers"])
async def test_connections_to_a_server_that_became_read_only_are_given_up(
    cluster: PostgreSQLCluster, database: str, engine: EngineKind
) -> None:
    urls = [cluster.url(database, driver) for driver in DRIVERS]
    async with noting_savers(urls, engine=engine) as savers:
        graphs = [build_graph(saver) for saver in savers]
        threads = [on(driver) for driver in DRIVERS]
        for graph, thread in zip(graphs, threads, strict=True):
            await graph.ainvoke({"messages": [HumanMessage(asked(0))]}, thread)
        demoted = cluster.switch_over()
        try:
            for graph, thread in zip(graphs, threads, strict=True):
                await graph.ainvoke({"messages": [HumanMessage(asked(1))]}, thread)
        finally:
            demoted.kill()

        assert_nothing_is_lost(cluster, database, savers[0].acknowledged)
