"""Progress and results of a backup, a restore, a copy or an import."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self, TypeAlias


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backup, a restore, a copy or an import is."""

    done: int
    """Rows; checkpoints of an import."""
    total: int
    what: str
    """What it is at: a table's name, "verify", or a thread's id."""


OnProgress: TypeAlias = Callable[[Progress], object]


@dataclass(frozen=True, slots=True)
class Transferred:
    """What a restore or a copy did, by table."""

    written: dict[str, int]
    """Rows that were written."""
    kept: dict[str, int]
    """Rows that existed with the same content."""

    @classmethod
    def none_of(cls, tables: Iterable[str]) -> Self:
        """Nothing yet of these tables."""
        written = dict.fromkeys(tables, 0)
        return cls(written, written.copy())

    def add(self, name: str, rows: int, written: int) -> None:
        """Count a page of a table's rows, some of which were written."""
        self.written[name] += written
        self.kept[name] += rows - written


class Meter:
    """Counts what is done, and reports it to a callback if there is one."""

    def __init__(self, report: OnProgress | None, total: int) -> None:
        self._report = report
        self._total = total
        self._done = 0

    def advance(self, count: int, what: str) -> None:
        """Count some more, and report it."""
        self._done += count
        if self._report is not None:
            self._report(Progress(self._done, self._total, what))
