"""Reading: `get_tuple` and `list`, as a graph and its application call them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

from langchain_core.runnables import RunnableConfig

from tests.benchmarks.bench import Bench, Workload
from tests.benchmarks.calls import recorded
from tests.benchmarks.contenders import OURS, PEERS
from tests.benchmarks.databases import KINDS, Kind
from tests.benchmarks.graphs import chat, loop
from tests.benchmarks.measuring import Bar, Row
from tests.benchmarks.subjects import Subject, milliseconds, named, peak_megabytes

WARM_BAR, NEW_PROCESS_BAR = Bar(1.0), Bar(1.25)
LIST_BAR, FIRST_ITEM_BAR = Bar(1.0), Bar(0.1)

TURNS: dict[Kind, int] = {"MariaDB": 60}
"""Of a chat that is listed, where those are not 400: the one query in which PyMySQLSaver lists
1,200 checkpoints had not ended after 16 minutes.
"""


# -- get_tuple ----------------------------------------------------------------------------------


def reading(bench: Bench) -> Iterator[Row]:
    """Measure a saver that knows the thread, and a new one."""
    steps, turns = bench.sized(100, 10), bench.sized(280, 20)
    for site in bench.on(KINDS):
        with ExitStack() as stack:
            peer = PEERS[site.kind]
            subjects = [Subject(contender, site, stack) for contender in (OURS, peer)]
            for subject in subjects:
                bench.say(f"reading on {site.kind}: filling")
                subject.save(recorded(loop(steps), subject.saver), "2 KB")
                subject.save(recorded(loop(steps), subject.saver), "another")
                subject.save(recorded(chat(turns), subject.saver), "280 KB")
            for thread, times in (("2 KB", 200), ("280 KB", 20)):
                samples = {s.name: _sample(s, thread, bench.sized(times, 3)) for s in subjects}
                found = bench.measure(READING.name, site.kind, samples)
                for quantity, bar in (("warm", WARM_BAR), ("in a new process", NEW_PROCESS_BAR)):
                    what = f"get_tuple {quantity}, {thread} state"
                    yield found.row(quantity, "ms", OURS.name, peer.name, bar, what=what)


def _sample(subject: Subject, thread_id: str, times: int) -> Callable[[], dict[str, float]]:
    def sample() -> dict[str, float]:
        config = named(thread_id)
        subject.saver.get_tuple(config)
        warm = milliseconds(lambda: subject.saver.get_tuple(config), times)
        return {"warm": warm, "in a new process": _cold(subject, config, max(times // 10, 2))}

    return sample


def _cold(subject: Subject, config: RunnableConfig, times: int) -> float:
    """Milliseconds of the first read of a thread by a saver that has read another one.

    That one opened the connection, and prepared what a process prepares once.
    """
    spent = 0.0
    for _ in range(times):
        with subject.contender.open(subject.database) as saver:
            saver.get_tuple(named("another"))
            spent += milliseconds(lambda saver=saver: saver.get_tuple(config))  # type: ignore[misc]
    return spent / times


# -- list ---------------------------------------------------------------------------------------


def listing(bench: Bench) -> Iterator[Row]:
    """Measure lists of a chat's 1,200 checkpoints: time, and memory while one item is held."""
    for site in bench.on(KINDS):
        turns = bench.sized(TURNS.get(site.kind, 400), 10)
        with ExitStack() as stack:
            ours, peer = (Subject(each, site, stack) for each in (OURS, PEERS[site.kind]))
            for subject in (ours, peer):
                bench.say(f"listing on {site.kind}: filling")
                subject.save(recorded(chat(turns), subject.saver), "chat")
            samples = {s.name: _list_sample(s) for s in (ours, peer)}
            found = bench.measure(LISTING.name, site.kind, samples)
            names = (ours.name, peer.name)
            full = f"full list of {3 * turns:,} checkpoints"
            yield found.row("limit", "ms", *names, what="list(limit=10)")
            yield found.row("full", "ms", *names, LIST_BAR, what=full)
            yield found.row(
                "first", "ms", *names, FIRST_ITEM_BAR,
                what="first item of that list (peer: the full list)", peer_quantity="full",
            )  # fmt: skip
            yield found.row("first", "ms", *names, what="first item of that list")
            samples = {s.name: _memory_sample(s) for s in (ours, peer)}
            found = bench.measure(LISTING.name, site.kind, samples, repeats=1, warm_up=False)
            yield found.row("full", "MB", *names, what=f"peak memory, {full}")
            yield found.row("first", "MB", *names, what="peak memory, first item of that list")


def _list_sample(subject: Subject) -> Callable[[], dict[str, float]]:
    def sample() -> dict[str, float]:
        return {
            "limit": milliseconds(lambda: _walk(subject, limit=10), 5),
            "first": milliseconds(lambda: _first(subject), 3),
            "full": milliseconds(lambda: _walk(subject)),
        }

    return sample


def _memory_sample(subject: Subject) -> Callable[[], dict[str, float]]:
    return lambda: {
        "first": peak_megabytes(lambda: _first(subject)),
        "full": peak_megabytes(lambda: _walk(subject)),
    }


def _walk(subject: Subject, limit: int | None = None) -> None:
    for _ in subject.saver.list(named("chat"), limit=limit):
        pass


def _first(subject: Subject) -> None:
    next(iter(subject.saver.list(named("chat"))))


READING = Workload("reading", "get_tuple of a small state and of a large one", reading)
LISTING = Workload("listing", "list of a chat's 1,200 checkpoints", listing)
