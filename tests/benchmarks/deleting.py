"""Deleting and pruning a thread of 100,000 checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import TypeAlias

from tests.benchmarks.bench import Bench, Workload
from tests.benchmarks.contenders import OURS, PEERS, Contender, Saver
from tests.benchmarks.databases import Database, Kind, Site
from tests.benchmarks.filling import fill_alike, fill_thread
from tests.benchmarks.measuring import Bar, Row, Sample
from tests.benchmarks.subjects import milliseconds
from tests.benchmarks.transactions import longest_transaction

THREAD = "long"
ROUNDS = 5
RATIO_BAR = Bar(1.0)
TRANSACTION_BAR = Bar(1.0, of="value")

Deletion: TypeAlias = Callable[[Saver], None]
DELETIONS: Mapping[str, Deletion] = {
    "delete_thread": lambda saver: saver.delete_thread(THREAD),
    "prune(keep_latest)": lambda saver: saver.prune([THREAD], strategy="keep_latest"),
}
PRUNING_PEERS: tuple[Kind, ...] = ("PostgreSQL",)


def deleting(bench: Bench) -> Iterator[Row]:
    """Measure each on fresh copies of one thread."""
    checkpoints = bench.sized(100_000, 1_000)
    with ExitStack() as stack:
        ours: Database | None = None
        for site in bench.on(["SQLite", "PostgreSQL"]):
            peer = PEERS[site.kind]
            filled = {contender: stack.enter_context(site.fresh()) for contender in (OURS, peer)}
            for contender, database in filled.items():
                bench.say(f"deleting on {site.kind}: filling {contender.name}")
                if contender is OURS and ours is not None:
                    fill_alike(ours, database)
                else:
                    fill_thread(contender, database, THREAD, checkpoints)
            ours = filled[OURS]
            yield from _rows(bench, site, filled, f"{checkpoints:,} checkpoints")


def _rows(
    bench: Bench, site: Site, filled: Mapping[Contender, Database], size: str
) -> Iterator[Row]:
    """Measure each deletion on one database."""
    repeats, note = bench.few(ROUNDS)
    for name, deletion in DELETIONS.items():
        peer = PEERS[site.kind]
        beside = name == "delete_thread" or site.kind in PRUNING_PEERS
        samples: dict[str, Sample] = {
            contender.name: _sample(contender, site, database, deletion)
            for contender, database in filled.items()
            if contender is OURS or beside
        }
        found = bench.measure(DELETING.name, site.kind, samples, repeats=repeats, warm_up=False)
        what, other = f"{name} of {size}", peer.name if beside else None
        bar = RATIO_BAR if beside else None
        yield found.row("time", "ms", OURS.name, other, bar, what=what, note=note)
        yield found.row(
            "longest", "s", OURS.name, other, TRANSACTION_BAR,
            what=f"longest transaction of {what}", note=note,
        )  # fmt: skip


def _sample(
    contender: Contender, site: Site, filled: Database, deletion: Deletion
) -> Callable[[], dict[str, float]]:
    def sample() -> dict[str, float]:
        with (
            site.copy_of(filled) as database,
            longest_transaction(database) as longest,
            contender.open(database) as saver,
        ):
            longest.seconds = 0.0
            spent = milliseconds(lambda: deletion(saver))
        return {"time": spent, "longest": longest.seconds}

    return sample


DELETING = Workload("deleting", "deleting and pruning a thread of 100,000 checkpoints", deleting)
