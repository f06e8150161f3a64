"""Saving single steps: `put` and `put_writes`, as a graph calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from tests.benchmarks.bench import Bench, Workload
from tests.benchmarks.calls import Call, of_thread, play, recorded, timed
from tests.benchmarks.contenders import OURS, PEERS, PLAIN, Contender
from tests.benchmarks.databases import KINDS, Kind, Site
from tests.benchmarks.graphs import Written, loop, megabyte
from tests.benchmarks.measuring import Bar, Measured, Row
from tests.benchmarks.subjects import Subject

WARM = 8
"""Calls at the start of a thread that are made but not timed."""

BARS: dict[Kind, tuple[Bar, Bar | None]] = {
    "SQLite": (Bar(1.4), Bar(1.15)),
    "PostgreSQL": (Bar(1.0), None),
    "MariaDB": (Bar(1.0), None),
}
"""With projections and without, for a step of a small state."""


def saving(bench: Bench) -> Iterator[Row]:
    """Measure steps of a small state and of a large one."""
    small, large = bench.sized(200, 20), bench.sized(20, 8)
    for site in bench.on(KINDS):
        peer = PEERS[site.kind]
        found = _measure(bench, site, (OURS, PLAIN, peer), lambda: loop(small))
        for quantity in ("put", "put_writes"):
            yield found.row(quantity, "ms", OURS.name, peer.name, what=f"{quantity}, 2 KB state")
        what = "put + put_writes, 2 KB state"
        for contender, bar in zip((OURS, PLAIN), BARS[site.kind], strict=True):
            yield found.row("step", "ms", contender.name, peer.name, bar, what=what)
        found = _measure(bench, site, (OURS, peer), lambda: megabyte(large))
        for quantity in ("put", "put_writes"):
            yield found.row(quantity, "ms", OURS.name, peer.name, what=f"{quantity}, 1 MB state")


def _measure(
    bench: Bench, site: Site, contenders: Sequence[Contender], program: Written
) -> Measured:
    with ExitStack() as stack:
        samples = {}
        for contender in contenders:
            subject = Subject(contender, site, stack)
            samples[contender.name] = _sample(subject, recorded(program(), subject.saver))
        return bench.measure(SAVING.name, site.kind, samples)


def _sample(subject: Subject, calls: list[Call]) -> Callable[[], dict[str, float]]:
    def sample() -> dict[str, float]:
        mine = of_thread(calls, subject.new_thread())
        play(mine[:WARM], subject.saver)
        return timed(mine[WARM:], subject.saver).milliseconds()

    return sample


SAVING = Workload("saving", "put and put_writes of a small state and of a large one", saving)
