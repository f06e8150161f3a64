"""The history of a thread of 10,000 checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, TypeAlias

from tests.benchmarks.bench import Bench, Workload
from tests.benchmarks.contenders import OURS, PEERS
from tests.benchmarks.databases import Site
from tests.benchmarks.filling import fill_thread
from tests.benchmarks.measuring import Measured, Row, Sample
from tests.benchmarks.subjects import Subject, milliseconds, named, peak_megabytes

THREAD = "long"
PAGE = 50

Work: TypeAlias = Callable[[], Any]


def long_history(bench: Bench) -> Iterator[Row]:
    """Measure a first page beside what a peer offers: listing, all of it or a page."""
    checkpoints = bench.sized(10_000, 300)
    for site in bench.on(["SQLite", "PostgreSQL"]):
        with ExitStack() as stack:
            ours, peer = (Subject(each, site, stack) for each in (OURS, PEERS[site.kind]))
            for subject in (ours, peer):
                bench.say(f"history on {site.kind}: filling {subject.name}")
                fill_thread(subject.contender, subject.database, THREAD, checkpoints)
            what = f"history of {checkpoints:,} checkpoints, first page"
            names = (ours.name, peer.name)
            page = {ours.name: _our_page(ours), peer.name: _peer_page(peer)}
            full = {**page, peer.name: _peer_list(peer)}
            found = bench.measure(HISTORY.name, site.kind, _each(milliseconds, page))
            yield found.row("page", "ms", *names, what=f"{what} (peer: list(limit={PAGE}))")
            # Once: on PostgreSQL a full list of 10,000 takes the peer 14 s.
            note = bench.few(1)[1]
            found = _once(bench, site, _each(milliseconds, full))
            full_what = f"{what} (peer: a full list)"
            yield found.row("page", "ms", *names, what=full_what, note=note)
            for works, listed in ((full, "a full list"), (page, f"list(limit={PAGE})")):
                found = _once(bench, site, _each(peak_megabytes, works))
                yield found.row("page", "MB", *names, what=f"{what}, peak memory (peer: {listed})")


def _our_page(subject: Subject) -> Work:
    saver: Any = subject.saver
    return lambda: saver.history(THREAD, limit=PAGE)


def _peer_page(subject: Subject) -> Work:
    return lambda: list(subject.saver.list(named(THREAD), limit=PAGE))


def _each(measure: Callable[[Work], float], works: Mapping[str, Work]) -> dict[str, Sample]:
    return {name: _page(measure, work) for name, work in works.items()}


def _page(measure: Callable[[Work], float], work: Work) -> Sample:
    return lambda: {"page": measure(work)}


def _once(bench: Bench, site: Site, samples: Mapping[str, Sample]) -> Measured:
    return bench.measure(HISTORY.name, site.kind, samples, repeats=1, warm_up=False)


def _peer_list(subject: Subject) -> Work:
    def walk() -> None:
        for _ in subject.saver.list(named(THREAD)):
            pass

    return walk


HISTORY = Workload("history", "the history of a thread of 10,000 checkpoints", long_history)
