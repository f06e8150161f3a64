"""A database of a million checkpoints, beside one of a few thousand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from random import Random

from langgraph_session_saver import SessionSaver
from tests.benchmarks.bench import Bench, Workload
from tests.benchmarks.calls import of_thread, play, recorded, timed
from tests.benchmarks.contenders import OURS, Contender
from tests.benchmarks.databases import Database
from tests.benchmarks.filling import CHECKPOINTS, OWNERS, fill_database, thread_name
from tests.benchmarks.graphs import chat
from tests.benchmarks.measuring import Bar, Row, Sample
from tests.benchmarks.retention import KEEPING
from tests.benchmarks.saving import WARM
from tests.benchmarks.subjects import milliseconds, named

THREADS, SHORT_THREADS = 50_000, 500
FEW = THREADS // OWNERS
"""Threads of the small database: as many as each owner has in the large one."""

READS = 100
TURNS = 20
BAR = Bar(1.2)


def million(bench: Bench) -> Iterator[Row]:
    """Measure single steps and reads."""
    threads = bench.sized(THREADS, SHORT_THREADS)
    full_name, small_name = (f"{number * CHECKPOINTS:,} checkpoints" for number in (threads, FEW))
    for site in bench.on(["SQLite", "PostgreSQL"]):
        with ExitStack() as stack:
            samples: dict[str, Sample] = {}
            for name, number, owners in ((full_name, threads, OWNERS), (small_name, FEW, 1)):
                bench.say(f"million on {site.kind}: filling {number:,} threads")
                database = stack.enter_context(site.fresh())
                fill_database(database, number, owners=owners)
                samples[name] = _sample(database, number)
            found = bench.measure(MILLION.name, site.kind, samples)
        for quantity, bar in (
            ("put + put_writes", BAR),
            ("put + put_writes, keep_last=20", BAR),
            ("get_tuple, not read before", BAR),
            ("sessions.list of an owner's newest 20", None),
        ):
            what = f"{quantity}, {full_name}"
            yield found.row(quantity, "ms", full_name, small_name, bar, what=what)


def _sample(database: Database, threads: int) -> Callable[[], dict[str, float]]:
    numbers = count()
    rng = Random(0)

    def sample() -> dict[str, float]:
        # Each once: in the small database a third of them would be in the saver's cache.
        chosen = [thread_name(number) for number in rng.sample(range(threads), READS)]
        return {
            "put + put_writes": _step(OURS, database, f"new-{next(numbers)}"),
            "put + put_writes, keep_last=20": _step(KEEPING, database, f"new-{next(numbers)}"),
            "get_tuple, not read before": _reads(database, chosen),
            "sessions.list of an owner's newest 20": _sessions(database),
        }

    return sample


def _step(contender: Contender, database: Database, thread_id: str) -> float:
    with contender.open(database) as saver:
        calls = of_thread(recorded(chat(TURNS), saver), thread_id)
        play(calls[:WARM], saver)
        return timed(calls[WARM:], saver).milliseconds()["step"]


def _reads(database: Database, thread_ids: list[str]) -> float:
    with OURS.open(database) as saver:
        saver.get_tuple(named("template"))
        ids = iter(thread_ids)
        return milliseconds(lambda: saver.get_tuple(named(next(ids))), len(thread_ids))


def _sessions(database: Database) -> float:
    with SessionSaver.from_conn_string(database.url) as saver:
        sessions = saver.sessions
        sessions.list(owner_id="owner-0", limit=20)
        return milliseconds(lambda: sessions.list(owner_id="owner-0", limit=20), 20)


MILLION = Workload("million", "a database of 1,000,000 checkpoints over 50,000 threads", million)
