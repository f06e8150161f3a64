"""The processor time that the saver itself takes, beside LangGraph's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from tests.benchmarks.bench import Bench, Workload
from tests.benchmarks.calls import Call, Recorder, of_thread, play, recorded, run
from tests.benchmarks.contenders import PEERS, PLAIN
from tests.benchmarks.graphs import loop
from tests.benchmarks.measuring import Bar, Row
from tests.benchmarks.saving import WARM
from tests.benchmarks.subjects import Subject

BAR = Bar(0.6)
"""Beside what LangGraph takes of a step that it hands to a checkpointer."""

ALONE = "LangGraph, no checkpointer"
STORING_NOTHING = "LangGraph, a checkpointer that stores nothing"


def own_time(bench: Bench) -> Iterator[Row]:
    """Measure the processor time of a small step, on SQLite."""
    steps = bench.sized(300, 20)
    for site in bench.on(["SQLite"]):
        peer = PEERS[site.kind]
        with ExitStack() as stack:
            ours = Subject(PLAIN, site, stack)
            theirs = Subject(peer, site, stack)
            samples = {
                each.name: _saver_sample(each, recorded(loop(steps), each.saver))
                for each in (ours, theirs)
            }
            samples[ALONE] = lambda: {"cpu": _graph_time(steps, None)}
            samples[STORING_NOTHING] = _nothing_sample(ours, steps)
            found = bench.measure(OWN_TIME.name, site.kind, samples)
        what = "processor time of a 2 KB step"
        yield found.row("cpu", "ms", ours.name, STORING_NOTHING, BAR, what=what)
        yield found.row("cpu", "ms", ours.name, ALONE, what=what)
        yield found.row("cpu", "ms", ours.name, theirs.name, what=what)


def _saver_sample(subject: Subject, calls: list[Call]) -> Callable[[], dict[str, float]]:
    def sample() -> dict[str, float]:
        mine = of_thread(calls, subject.new_thread())
        play(mine[:WARM], subject.saver)
        started = time.process_time()
        play(mine[WARM:], subject.saver)
        spent = time.process_time() - started
        puts = sum(call.method == "put" for call in mine[WARM:])
        return {"cpu": 1_000 * spent / puts}

    return sample


def _nothing_sample(subject: Subject, steps: int) -> Callable[[], dict[str, float]]:
    return lambda: {"cpu": _graph_time(steps, Recorder(subject.saver))}


def _graph_time(steps: int, saver: Recorder | None) -> float:
    started = time.process_time()
    run(loop(steps), saver, "thread")
    return 1_000 * (time.process_time() - started) / steps


OWN_TIME = Workload("cpu", "processor time of a step, beside LangGraph's own", own_time)
