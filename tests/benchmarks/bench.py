"""What one run of the benchmark was asked for, and where it tells how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.benchmarks.databases import Kind, Site
from tests.benchmarks.measuring import Measured, Row, Sample, measure


@dataclass(frozen=True)
class Bench:
    """One run.

    Attributes:
        sites: The databases that are to be had here, by kind.
        repeats: Rounds that count.
        short: Whether sizes are to be small.
        say: Told what is being measured.
    """

    sites: Mapping[Kind, Site]
    repeats: int = 5
    short: bool = False
    say: Callable[[str], None] = field(default=lambda _line: None)

    def sized(self, full: int, short: int) -> int:
        """A size, or the one that stands for it in the short form."""
        return short if self.short else full

    def few(self, rounds: int) -> tuple[int, str]:
        """Rounds of a workload that takes too long for as many as asked for, and a note of it."""
        fewer = min(rounds, self.repeats)
        return fewer, f"of {fewer} rounds"

    def on(self, kinds: Sequence[Kind]) -> Iterator[Site]:
        """The sites of these kinds that there are."""
        return (self.sites[kind] for kind in kinds if kind in self.sites)

    def measure(
        self,
        workload: str,
        database: str,
        samples: Mapping[str, Sample],
        *,
        repeats: int | None = None,
        warm_up: bool = True,
    ) -> Measured:
        """Let contenders take turns.

        Args:
            workload: The workload's name.
            database: The database's kind.
            samples: What each contender does.
            repeats: Rounds that count, where they are not as many as asked for.
            warm_up: Whether a round goes before that does not count.
        """

        def say(progress: str) -> None:
            self.say(f"{workload} on {database}: {progress}")

        figures = measure(samples, repeats or self.repeats, say, warm_up=warm_up)
        return Measured(workload, database, figures)


@dataclass(frozen=True)
class Workload:
    """Something to measure.

    Attributes:
        name: What `--only` takes.
        title: What it is, in a few words.
        run: Measures it; its rows.
    """

    name: str
    title: str
    run: Callable[[Bench], Iterator[Row]]
