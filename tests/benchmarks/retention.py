"""What keeping the last N costs a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

from tests.benchmarks.bench import Bench, Workload
from tests.benchmarks.calls import Call, of_thread, recorded, timed
from tests.benchmarks.contenders import OURS, ours
from tests.benchmarks.databases import KINDS
from tests.benchmarks.graphs import chat
from tests.benchmarks.measuring import Bar, Row
from tests.benchmarks.subjects import Subject

KEPT = 20
KEEPING = ours(f"SessionSaver, keep_last={KEPT}", keep_last=KEPT)
BAR = Bar(1.15)


def keeping(bench: Bench) -> Iterator[Row]:
    """Measure all steps of a chat, those that delete included."""
    turns = bench.sized(100, 15)
    for site in bench.on(KINDS):
        with ExitStack() as stack:
            samples = {}
            for contender in (KEEPING, OURS):
                subject = Subject(contender, site, stack)
                calls = recorded(chat(turns), subject.saver)
                samples[contender.name] = _sample(subject, calls)
            found = bench.measure(KEEPING_LAST.name, site.kind, samples)
        what = f"time per step, chat of {turns} turns (peer: keeps all)"
        yield found.row("step", "ms", KEEPING.name, OURS.name, BAR, what=what)


def _sample(subject: Subject, calls: list[Call]) -> Callable[[], dict[str, float]]:
    def sample() -> dict[str, float]:
        mine = of_thread(calls, subject.new_thread())
        return timed(mine, subject.saver).milliseconds()

    return sample


KEEPING_LAST = Workload("keep-last", "what keep_last=20 costs a step", keeping)
