"""Figures of contenders that take turns, and the rows that compare them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median
from typing import Literal, TypeAlias

Unit: TypeAlias = Literal["ms", "s", "MB", "steps/s", "round trips"]

Sample: TypeAlias = Callable[[], Mapping[str, float]]
"""Does the work once; the quantities that it found, by name."""


ROUNDS = 5
"""Rounds that a figure is the median of, if nothing else is said of it."""

DIGITS = 5
"""Digits of a number that are kept: more would be noise."""


def rounded(value: float) -> float:
    """A number in as many digits as are kept."""
    return float(f"{value:.{DIGITS}g}")


@dataclass(frozen=True)
class Figure:
    """What the repeats of one quantity came to."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """Sum up repeats."""
        low, high = rounded(min(values)), rounded(max(values))
        return cls(rounded(median(values)), low, high, len(values))


@dataclass(frozen=True)
class Bar:
    """What a row must reach.

    Attributes:
        limit: The number.
        of: Whether it limits our share of the peer's figure or our figure itself.
        at_least: Whether more is better.
    """

    limit: float
    of: Literal["ratio", "value"] = "ratio"
    at_least: bool = False

    def is_met(self, value: float, ratio: float | None) -> bool:
        """Whether a row reaches it."""
        found = value if self.of == "value" else ratio
        if found is None:
            return False
        return found >= self.limit if self.at_least else found <= self.limit


@dataclass(frozen=True)
class Row:
    """One line of the table: a figure of ours, beside a peer's where there is one.

    Attributes:
        workload: The name that `--only` takes.
        what: What was measured.
        database: "SQLite", "PostgreSQL" or "MariaDB".
        unit: Of both figures.
        ours: The contender that is ours.
        value: Its figure.
        peer: The contender beside it.
        peer_value: Its figure.
        ratio: Our median in proportion to the peer's.
        bar: What the row must reach.
        is_met: Whether it does.
        measured_on: The day, as ISO 8601.
        note: What a reader has to know.
    """

    workload: str
    what: str
    database: str
    unit: Unit
    ours: str
    value: Figure
    peer: str | None
    peer_value: Figure | None
    ratio: float | None
    bar: Bar | None
    is_met: bool | None
    measured_on: str
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """What one run of several contenders found; makes the rows that compare them.

    Attributes:
        workload: The workload's name.
        database: The database's kind.
        figures: By contender and quantity.
    """

    workload: str
    database: str
    figures: Mapping[str, Mapping[str, Figure]]

    def row(
        self,
        quantity: str,
        unit: Unit,
        ours: str,
        peer: str | None = None,
        bar: Bar | None = None,
        *,
        what: str = "",
        peer_quantity: str = "",
        note: str = "",
    ) -> Row:
        """Compare two contenders.

        Args:
            quantity: The quantity's name.
            unit: Its unit.
            ours: The contender that is ours.
            peer: The one beside it.
            bar: What must be reached.
            what: What to call it, where that is not the quantity's name.
            peer_quantity: What of the peer's to compare with, where that is another one.
            note: What a reader has to know, if not only that it is of fewer rounds.
        """
        value = self.figures[ours][quantity]
        if not note and 1 < value.repeats < ROUNDS:
            note = f"of {value.repeats} rounds"
        beside = self.figures[peer][peer_quantity or quantity] if peer else None
        ratio = rounded(value.median / beside.median) if beside and beside.median else None
        return Row(
            workload=self.workload,
            what=what or quantity,
            database=self.database,
            unit=unit,
            ours=ours,
            value=value,
            peer=peer,
            peer_value=beside,
            ratio=ratio,
            bar=bar,
            is_met=bar.is_met(value.median, ratio) if bar else None,
            measured_on=date.today().isoformat(),  # noqa: DTZ011 - the reader's own day
            note=note,
        )


def measure(
    samples: Mapping[str, Sample],
    repeats: int,
    say: Callable[[str], None],
    *,
    warm_up: bool = True,
) -> dict[str, dict[str, Figure]]:
    """Let contenders take turns, in an order that alternates, after a round that does not count.

    Drift of the machine then falls on all of them alike.

    Args:
        samples: What each contender does.
        repeats: Rounds that count.
        say: Told the round.
        warm_up: Whether a round goes before.

    Returns:
        Figures by contender and quantity.
    """
    found: dict[str, dict[str, list[float]]] = {name: {} for name in samples}
    for number in range(0 if warm_up else 1, repeats + 1):
        say(f"{number} of {repeats}" if number else "warming up")
        names = list(samples)[:: 1 if number % 2 else -1]
        for name in names:
            gc.collect()
            quantities = samples[name]()
            if number:
                for quantity, value in quantities.items():
                    found[name].setdefault(quantity, []).append(value)
    return {
        name: {quantity: Figure.of(values) for quantity, values in quantities.items()}
        for name, quantities in found.items()
    }
