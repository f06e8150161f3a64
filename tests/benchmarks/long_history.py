"""The history of a thread of 10,000 checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, TypeAlias

from tests.benchmarks.bench import Bench, Workload
from tests.benchmarks.contenders import OURS, PEERS
from tests.benchmarks.filling import fill_thread
from tests.benchmarks.measuring import Measured, Row, Unit
from tests.benchmarks.subjects import Subject, milliseconds, named, peak_megabytes

THREAD = "long"
PAGE = 50

Work: TypeAlias = Callable[[], Any]
Works: TypeAlias = Mapping[str, Work]


def long_history(bench: Bench) -> Iterator[Row]:
    """Measure a first page beside what a peer offers: listing, all of it or a page."""
    checkpoints = bench.sized(10_000, 300)
    for site in bench.on(["SQLite", "PostgreSQL"]):
        with ExitStack() as stack:
            ours, peer = (Subject(each, site, stack) for each in (OURS, PEERS[site.kind]))
            for subject in (ours, peer):
                bench.say(f"history on {site.kind}: filling {subject.name}")
                fill_thread(subject.contender, subject.database, THREAD, checkpoints)
            works: dict[str, Works] = {ours.name: _our_works(ours), peer.name: _peer_works(peer)}
            timed = {name: _each(milliseconds, work) for name, work in works.items()}
            found = bench.measure(HISTORY.name, site.kind, timed)
            weighed = {name: _each(peak_megabytes, work) for name, work in works.items()}
            memory = bench.measure(HISTORY.name, site.kind, weighed, repeats=1, warm_up=False)
        what = f"history of {checkpoints:,} checkpoints, first page"
        yield from _rows(found, "ms", what, (ours.name, peer.name))
        yield from _rows(memory, "MB", f"{what}, peak memory", (ours.name, peer.name))


def _rows(found: Measured, unit: Unit, what: str, names: tuple[str, str]) -> Iterator[Row]:
    full = f"{what}, beside a full list"
    yield found.row("page", unit, *names, what=full, peer_quantity="full")
    yield found.row("page", unit, *names, what=f"{what}, beside list(limit={PAGE})")


def _our_works(subject: Subject) -> Works:
    saver: Any = subject.saver
    return {"page": lambda: saver.history(THREAD, limit=PAGE)}


def _peer_works(subject: Subject) -> Works:
    return {
        "page": lambda: list(subject.saver.list(named(THREAD), limit=PAGE)),
        "full": lambda: _walk(subject),
    }


def _each(measure: Callable[[Work], float], works: Works) -> Callable[[], dict[str, float]]:
    return lambda: {name: measure(work) for name, work in works.items()}


def _walk(subject: Subject) -> None:
    for _ in subject.saver.list(named(THREAD)):
        pass


HISTORY = Workload("history", "the history of a thread of 10,000 checkpoints", long_history)
