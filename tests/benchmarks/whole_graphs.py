"""Whole graphs: what a turn or a step takes with a saver, and what is on disk at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.benchmarks.bench import Bench, Workload
from tests.benchmarks.calls import run
from tests.benchmarks.contenders import MEMORY, OURS, PEERS, PLAIN, Contender
from tests.benchmarks.databases import KINDS, Kind, Site
from tests.benchmarks.graphs import (
    Program,
    Written,
    agent,
    chat,
    delta_chat,
    fan_out,
    large_dict,
    page_builder,
)
from tests.benchmarks.measuring import Bar, Measured, Row, Sample

WARM_TURNS = 5
"""Turns of a chat by which contenders warm up: a whole program would take as long as a round."""


def program_sample(
    contender: Contender, site: Site, program: Written, unit: str
) -> Callable[[], dict[str, float]]:
    """Runs a program in a fresh database: milliseconds a unit, and megabytes on disk."""

    def sample() -> dict[str, float]:
        written = program()
        with site.fresh() as database:
            with contender.open(database) as saver:
                seconds = run(written, saver, "run")
                right_after = database.size() if contender is not MEMORY else 0
            if contender is not MEMORY:
                database.vacuum()
            vacuumed = database.size() if contender is not MEMORY else 0
        return {
            f"time per {unit}": 1_000 * seconds / written.units,
            "right after": right_after / 1e6,
            "vacuumed": vacuumed / 1e6,
        }

    return sample


def _warm_up(contenders: Mapping[str, Contender], site: Site) -> None:
    for contender in contenders.values():
        program_sample(contender, site, lambda: chat(WARM_TURNS), "turn")()


# -- the chat -----------------------------------------------------------------------------------

CHAT_BARS: dict[tuple[int, Kind], Bar] = {
    (400, "SQLite"): Bar(0.85),
    (400, "PostgreSQL"): Bar(0.5),
    (400, "MariaDB"): Bar(0.5),
}
MEMORY_BAR = Bar(1.3)
SHORT_CHAT_BARS = (Bar(1.15), Bar(1.05))
"""Of the chat of 30 turns: with projections, and without."""


def chat_workload(turns: int) -> Workload:
    """The time per turn of a chat of so many turns."""
    name = f"chat-{turns}"

    def measure(bench: Bench) -> Iterator[Row]:
        length = bench.sized(turns, max(turns // 40, 3))
        for site in bench.on(KINDS):
            contenders = {c.name: c for c in _chat_contenders(site, turns)}
            _warm_up(contenders, site)
            samples: dict[str, Sample] = {
                c.name: program_sample(c, site, lambda: chat(length), "turn")
                for c in contenders.values()
            }
            # One run of a thousand turns writes 2 GB with the official saver.
            repeats = 1 if turns >= 1_000 else None
            found = bench.measure(name, site.kind, samples, repeats=repeats, warm_up=False)
            yield from _chat_rows(found, turns, site.kind)

    return Workload(name, f"time per turn of a chat of {turns:,} turns", measure)


def _chat_contenders(site: Site, turns: int) -> Iterator[Contender]:
    yield OURS
    if turns == 30:
        yield PLAIN
    yield PEERS[site.kind]
    if site.kind == "SQLite":
        yield MEMORY


def _chat_rows(found: Measured, turns: int, kind: Kind) -> Iterator[Row]:
    peer, note = PEERS[kind].name, "one run" if turns >= 1_000 else ""
    quantity, what = "time per turn", f"time per turn, chat of {turns:,}"
    with_bar, plain_bar = SHORT_CHAT_BARS if turns == 30 else (CHAT_BARS.get((turns, kind)), None)
    yield found.row(quantity, "ms", OURS.name, peer, with_bar, what=what, note=note)
    if PLAIN.name in found.figures:
        yield found.row(quantity, "ms", PLAIN.name, peer, plain_bar, what=what)
    if MEMORY.name in found.figures:
        bar = MEMORY_BAR if turns == 400 else None
        yield found.row(quantity, "ms", OURS.name, MEMORY.name, bar, what=what, note=note)


# -- size ---------------------------------------------------------------------------------------

SIZE_BARS: dict[Kind, Bar] = {
    "SQLite": Bar(4.0, of="value"),
    "PostgreSQL": Bar(5.0, of="value"),
}


def size(bench: Bench) -> Iterator[Row]:
    """Measure what a chat of 400 turns takes on disk."""
    turns = bench.sized(400, 30)
    what = f"chat of {turns} turns on disk"
    for site in bench.on(KINDS):
        peer = PEERS[site.kind]
        rewritten = f"{peer.name}, DeltaChannel"
        samples: dict[str, Sample] = {
            OURS.name: program_sample(OURS, site, lambda: chat(turns), "turn"),
            peer.name: program_sample(peer, site, lambda: chat(turns), "turn"),
            rewritten: program_sample(peer, site, lambda: delta_chat(turns), "turn"),
        }
        # Bytes hardly differ between runs: one is enough to know them.
        found = bench.measure(SIZE.name, site.kind, samples, repeats=1, warm_up=False)
        bar = SIZE_BARS.get(site.kind)
        now, then = f"{what}, right after the run", f"{what}, vacuumed"
        yield found.row("right after", "MB", OURS.name, peer.name, what=now)
        yield found.row("right after", "MB", OURS.name, rewritten, what=now)
        yield found.row("vacuumed", "MB", OURS.name, peer.name, bar, what=then)
        yield found.row("vacuumed", "MB", OURS.name, rewritten, what=then)


SIZE = Workload("size", "bytes on disk of a chat of 400 turns", size)


# -- other graphs -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Graph:
    """A graph to run in full and in the short form, and what its time is given for."""

    name: str
    title: str
    unit: str
    full: Callable[[], Program]
    short: Callable[[], Program]

    def workload(self) -> Workload:
        return Workload(self.name, self.title, self._measure)

    def _measure(self, bench: Bench) -> Iterator[Row]:
        program = self.short if bench.short else self.full
        for site in bench.on(KINDS):
            contenders = {c.name: c for c in (OURS, PEERS[site.kind])}
            _warm_up(contenders, site)
            samples: dict[str, Sample] = {
                name: program_sample(contender, site, program, self.unit)
                for name, contender in contenders.items()
            }
            found = bench.measure(self.name, site.kind, samples, warm_up=False)
            names, quantity = list(contenders), f"time per {self.unit}"
            title = self.title
            yield found.row(quantity, "ms", names[0], names[1], what=f"{quantity}, {title}")
            yield found.row("vacuumed", "MB", names[0], names[1], what=f"on disk, {title}")


GRAPHS = (
    _Graph(
        "page-builder", "100 changes of one of six 50 KB pages", "step",
        lambda: page_builder(100), lambda: page_builder(6),
    ),
    _Graph(
        "fan-out", "10 rounds of 50 parallel tasks", "round",
        lambda: fan_out(10), lambda: fan_out(2, tasks=10),
    ),
    _Graph(
        "agent", "an agent of 20 tool calls a turn, 8 KB each", "turn",
        lambda: agent(5), lambda: agent(1, calls=4),
    ),
    _Graph(
        "large-dict", "20 changes of one field of 5 MB", "step",
        lambda: large_dict(20), lambda: large_dict(3, fields=50),
    ),
)  # fmt: skip

CHATS = tuple(chat_workload(turns) for turns in (30, 100, 400, 1_000))
OTHERS = tuple(graph.workload() for graph in GRAPHS)
