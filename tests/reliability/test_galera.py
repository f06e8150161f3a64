"""Graphs run on a MariaDB Galera cluster of three nodes, through conflicts and lost nodes."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypedDict

import pytest
from sqlalchemy import NullPool, create_engine, make_url

from langgraph_session_saver import DatabaseUnavailableError, SessionSaver
from tests.support.acknowledged import (
    Acknowledged,
    EngineKind,
    disagreeing,
    lost,
    noting_savers,
    run_graphs,
)
from tests.support.clusters import GaleraCluster, GaleraNode, running
from tests.support.rows import chain, config

BOTH = (False, True)
FACES = pytest.mark.parametrize("is_async", BOTH, ids=["sync", "async"])
ENGINES = pytest.mark.parametrize("engine", ["own", "callers", "observed"])
SAVED = 60
SAVED_BETWEEN_KILLS = 20
RETRY_SECONDS = 120.0
"""A node that comes back first copies the data of another one."""
HEAVY_SAVED, HEAVY_KILLS = 1000, 10


@pytest.fixture(scope="module")
def lasting_cluster() -> Iterator[GaleraCluster]:
    """Three nodes that the tests of this module share; skips where Galera is not installed."""
    with running(GaleraCluster) as cluster:
        yield cluster


@pytest.fixture
def cluster(lasting_cluster: GaleraCluster) -> GaleraCluster:
    """The three nodes; one that was killed is started again."""
    lasting_cluster.start()
    return lasting_cluster


@pytest.fixture
def database(cluster: GaleraCluster) -> str:
    """A new database, with our tables, on all nodes."""
    name = f"t_{secrets.token_hex(8)}"
    cluster.nodes[0].create_database(name)
    with SessionSaver.from_conn_string(cluster.nodes[0].url(name)) as saver:
        saver.setup()
    return name


class Note(TypedDict, total=False):
    """A state of one channel."""

    note: str


def waiting(url: str) -> str:
    """The URL of connections whose statements wait for what other nodes have committed."""
    parsed = make_url(url).update_query_dict({"init_command": "SET wsrep_sync_wait=7"})
    return parsed.render_as_string(hide_password=False)


def assert_nothing_is_lost(node: GaleraNode, database: str, acknowledged: Acknowledged) -> None:
    with SessionSaver.from_conn_string(waiting(node.url(database))) as reader:
        assert lost(reader, acknowledged.saved) == []
        engine = create_engine(waiting(node.url(database)), poolclass=NullPool)
        assert disagreeing(engine, reader) == []


def conflicts(cluster: GaleraCluster) -> int:
    """How many transactions the nodes have rolled back because of one on another node."""
    names = ("local_cert_failures", "local_bf_aborts")
    return sum(int(node.status(name)) for node in cluster.nodes for name in names)


async def meet(
    cluster: GaleraCluster, database: str, saved: int, *, is_async: bool, engine: EngineKind
) -> Acknowledged:
    """Run graphs on two nodes, two of them on one thread, until so many checkpoints are saved."""
    urls = [node.url(database, asynchronous=is_async) for node in cluster.nodes[:2]]
    async with noting_savers(urls, engine=engine) as (one, other):
        await run_graphs(
            [(one, "shared"), (other, "shared"), (one, "one's"), (other, "other's")],
            lambda: one.acknowledged.wait_for_more(saved),
        )
    return one.acknowledged


@FACES
@ENGINES
async def test_graphs_on_two_nodes_meet_on_one_thread(
    cluster: GaleraCluster, database: str, is_async: bool, engine: EngineKind
) -> None:
    before = conflicts(cluster)

    acknowledged = await meet(cluster, database, SAVED, is_async=is_async, engine=engine)

    assert conflicts(cluster) > before
    assert_nothing_is_lost(cluster.nodes[2], database, acknowledged)


@pytest.mark.heavy
@FACES
@ENGINES
async def test_graphs_on_two_nodes_meet_for_1000_checkpoints(
    cluster: GaleraCluster, database: str, is_async: bool, engine: EngineKind
) -> None:
    before = conflicts(cluster)

    acknowledged = await meet(cluster, database, HEAVY_SAVED, is_async=is_async, engine=engine)

    assert_nothing_is_lost(cluster.nodes[2], database, acknowledged)
    counts = f"{conflicts(cluster) - before} | {len(acknowledged.saved)}"
    print(f"| Galera | {engine} | {is_async} | {counts} |")


@contextmanager
def without_quorum(cluster: GaleraCluster) -> Iterator[None]:
    """Let two nodes be silent, until the first one is alone and refuses statements."""
    first, *others = cluster.nodes
    for node in others:
        node.pause()
    try:
        first.wait_until("cluster_status", "non-Primary")
        yield
    finally:
        for node in others:
            node.resume()
        for node in cluster.nodes:
            node.wait_until("cluster_size", "3")
            node.wait_until("ready", "ON")


async def test_without_a_quorum_graphs_wait_for_as_long_as_retry_for(
    cluster: GaleraCluster, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    node = cluster.nodes[0]
    async with (
        noting_savers([node.url(database)], engine="callers") as savers,
        noting_savers([node.url(database, asynchronous=True)]) as async_savers,
    ):
        graphs = [chain(saver, {"note": "one"}, state=Note) for saver in (*savers, *async_savers)]
        hasty = SessionSaver(create_engine(node.url(database), poolclass=NullPool), retry_for=0.1)
        for graph in (*graphs, chain(hasty, {"note": "one"}, state=Note)):
            await graph.ainvoke({}, config())
        with without_quorum(cluster):
            with pytest.raises(DatabaseUnavailableError, match="1047"):
                await hasty.aget_tuple(config())
            with pytest.raises(DatabaseUnavailableError, match="1047"):
                await hasty.adelete_thread("t")
            caplog.set_level(logging.INFO)
            caplog.clear()
            running = [asyncio.create_task(graph.ainvoke({}, config())) for graph in graphs]
            while caplog.text.count("retrying") < len(graphs):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        assert [await run for run in running] == [{"note": "one"}] * len(graphs)


@contextmanager
def behind(node: GaleraNode) -> Iterator[None]:
    """Let a node not yet apply what other nodes commit, as one that has much to apply."""
    engine = create_engine(node.url(), poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("FLUSH TABLES WITH READ LOCK")
        yield
    # The lock ends with the connection.


@FACES
async def test_a_node_that_is_behind_shows_an_older_state(
    cluster: GaleraCluster, database: str, is_async: bool
) -> None:
    urls = [node.url(database, asynchronous=is_async) for node in cluster.nodes[:2]]
    async with noting_savers(urls) as (here, there):
        await chain(here, {"note": "old"}, state=Note).ainvoke({}, config())
        until_there(cluster.nodes[1], database)
        with behind(cluster.nodes[1]):
            graph = chain(here, {"note": "new"}, state=Note)
            await graph.ainvoke({}, config())

            assert (await graph.aget_state(config())).values == {"note": "new"}
            assert (await chain(there, {}, state=Note).aget_state(config())).values == {
                "note": "old"
            }


@FACES
async def test_with_wsrep_sync_wait_a_node_waits_for_what_others_have_committed(
    cluster: GaleraCluster, database: str, is_async: bool
) -> None:
    node = cluster.nodes[1]
    urls = [each.url(database, asynchronous=is_async) for each in (cluster.nodes[0], node)]
    async with noting_savers([urls[0], waiting(urls[1])]) as (here, there):
        await chain(here, {"note": "old"}, state=Note).ainvoke({}, config())
        graph = chain(there, {}, state=Note)
        assert (await graph.aget_state(config())).values == {"note": "old"}
        with behind(node):
            await chain(here, {"note": "new"}, state=Note).ainvoke({}, config())
            reading = asyncio.create_task(graph.aget_state(config()))
            while not node.has_query(database):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        assert (await reading).values == {"note": "new"}


def until_there(node: GaleraNode, database: str) -> None:
    """Wait until a node has applied what others have committed."""
    engine = create_engine(waiting(node.url(database)), poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1 FROM sessions")


async def run_on(
    nodes: Sequence[GaleraNode], database: str, during: Callable[[Acknowledged], object]
) -> Acknowledged:
    """Run a sync and an async graph on each node, until `during` is over."""
    urls = [node.url(database, asynchronous=is_async) for is_async in BOTH for node in nodes]
    async with noting_savers(urls, retry_for=RETRY_SECONDS) as savers:
        acknowledged = savers[0].acknowledged
        runs = [(saver, str(number)) for number, saver in enumerate(savers)]
        await run_graphs(runs, lambda: during(acknowledged))
    return acknowledged


async def test_graphs_carry_on_while_another_node_is_killed(
    cluster: GaleraCluster, database: str
) -> None:
    *survivors, killed = cluster.nodes

    def kill(acknowledged: Acknowledged) -> None:
        acknowledged.wait_for_more(SAVED_BETWEEN_KILLS)
        killed.kill()
        acknowledged.wait_for_more(SAVED_BETWEEN_KILLS)

    acknowledged = await run_on(survivors, database, kill)

    for node in survivors:
        assert_nothing_is_lost(node, database, acknowledged)


@pytest.mark.heavy
async def test_graphs_on_all_nodes_carry_on_through_10_kills(
    cluster: GaleraCluster, database: str
) -> None:
    def kill_again_and_again(acknowledged: Acknowledged) -> None:
        for number in range(HEAVY_KILLS):
            node = cluster.nodes[number % 3]
            acknowledged.wait_for_more(SAVED_BETWEEN_KILLS)
            node.kill()
            acknowledged.wait_for_more(SAVED_BETWEEN_KILLS)
            node.start()
        acknowledged.wait_for_more(SAVED_BETWEEN_KILLS)

    acknowledged = await run_on(cluster.nodes, database, kill_again_and_again)

    for node in cluster.nodes:
        assert_nothing_is_lost(node, database, acknowledged)
    print(f"| Galera | killed {HEAVY_KILLS} | {len(acknowledged.saved)} |")
