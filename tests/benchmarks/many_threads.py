"""Sixty-four threads at once: steps a second of whole graphs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.benchmarks.bench import Bench, Workload
from tests.benchmarks.contenders import (
    ASYNC_PEERS,
    OURS,
    OURS_ASYNC,
    POOLED_PEERS,
    AsyncContender,
    Contender,
    Saver,
)
from tests.benchmarks.databases import Database, Kind, Site
from tests.benchmarks.graphs import Program, loop
from tests.benchmarks.measuring import Bar, Row, Sample
from tests.support.proxy import distant

THREADS = 64
ROUND_TRIP = 0.005
"""Seconds: between two zones of a region."""

RATE = "steps a second"
BARS: dict[tuple[Kind, bool], Bar] = {
    ("SQLite", False): Bar(1.2, at_least=True),
    ("PostgreSQL", False): Bar(1.1, at_least=True),
    ("PostgreSQL", True): Bar(2.5, at_least=True),
}
"""Async, by database and whether it is distant."""


def many_threads(bench: Bench) -> Iterator[Row]:
    """Measure `ainvoke` on one event loop, and `invoke` in as many threads."""
    for site in bench.on(["SQLite", "PostgreSQL"]):
        for is_distant in (False, True) if site.kind == "PostgreSQL" else (False,):
            yield from _rows(bench, site, is_distant=is_distant)


def _rows(bench: Bench, site: Site, *, is_distant: bool) -> Iterator[Row]:
    steps = bench.sized(10, 2)
    where = f", {1_000 * ROUND_TRIP:g} ms round trip" if is_distant else ""
    ours, peer = OURS_ASYNC[site.kind], ASYNC_PEERS[site.kind]
    samples: dict[str, Sample] = {
        each.name: _async_sample(each, site, steps, is_distant=is_distant) for each in (ours, peer)
    }
    found = bench.measure(THREADS_AT_ONCE.name, site.kind, samples)
    bar = BARS[site.kind, is_distant]
    what = f"{THREADS} threads at once{where}"
    yield found.row(RATE, "steps/s", ours.name, peer.name, bar, what=f"{what}, ainvoke")
    sync_peer = POOLED_PEERS[site.kind]
    samples = {
        each.name: _sync_sample(each, site, steps, is_distant=is_distant)
        for each in (OURS, sync_peer)
    }
    found = bench.measure(THREADS_AT_ONCE.name, site.kind, samples)
    yield found.row(RATE, "steps/s", OURS.name, sync_peer.name, what=f"{what}, invoke")


@contextmanager
def _database(site: Site, *, is_distant: bool) -> Iterator[tuple[Database, Database]]:
    """A fresh database, and the way to it."""
    with site.fresh() as database:
        if not is_distant:
            yield database, database
            return
        host, port = str(database.url.host), database.url.port or 5432
        with distant(host, port, delay=ROUND_TRIP / 2) as proxy_port:
            yield database, database.through(proxy_port)


def _config(program: Program, thread_id: str) -> Any:
    return {**program.config, "configurable": {"thread_id": thread_id}}


# -- async --------------------------------------------------------------------------------------


def _async_sample(
    contender: AsyncContender, site: Site, steps: int, *, is_distant: bool
) -> Callable[[], dict[str, float]]:
    async def work(database: Database) -> float:
        async with contender.open(database) as saver:
            await _arun(saver, loop(1), "warm")
            started = time.perf_counter()
            await _arun(saver, loop(steps), "thread")
            return time.perf_counter() - started

    def sample() -> dict[str, float]:
        with _database(site, is_distant=is_distant) as (_, reached):
            return {RATE: THREADS * steps / asyncio.run(work(reached))}

    return sample


async def _arun(saver: Saver, program: Program, thread_id: str) -> None:
    graph = program.builder.compile(checkpointer=saver)
    [given] = program.inputs
    await asyncio.gather(
        *(
            graph.ainvoke(given, _config(program, f"{thread_id}-{number}"), durability="sync")
            for number in range(THREADS)
        )
    )


# -- sync ---------------------------------------------------------------------------------------


def _sync_sample(
    contender: Contender, site: Site, steps: int, *, is_distant: bool
) -> Callable[[], dict[str, float]]:
    def sample() -> dict[str, float]:
        with (
            _database(site, is_distant=is_distant) as (_, reached),
            contender.open(reached) as saver,
            ThreadPoolExecutor(THREADS) as executor,
        ):
            _run(executor, saver, loop(1), "warm")
            started = time.perf_counter()
            _run(executor, saver, loop(steps), "thread")
            return {RATE: THREADS * steps / (time.perf_counter() - started)}

    return sample


def _run(executor: ThreadPoolExecutor, saver: Saver, program: Program, thread_id: str) -> None:
    graph = program.builder.compile(checkpointer=saver)
    [given] = program.inputs

    def work(number: int) -> None:
        graph.invoke(given, _config(program, f"{thread_id}-{number}"), durability="sync")

    for _ in executor.map(work, range(THREADS)):
        pass


THREADS_AT_ONCE = Workload(
    "threads", f"{THREADS} threads at once, near and at a distance", many_threads
)
