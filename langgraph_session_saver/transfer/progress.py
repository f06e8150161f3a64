"""How far long work is, told to whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backup, a restore, a copy or an import is."""

    done: int
    """Rows, or for an import checkpoints."""
    total: int
    what: str
    """What it is at: a table's name, "verify", or a thread's id."""


OnProgress: TypeAlias = Callable[[Progress], object]


@dataclass(frozen=True, slots=True)
class Transferred:
    """What a restore or a copy did, by table."""

    written: dict[str, int]
    kept: dict[str, int]
    """What was there already, with the same content."""

    def add(self, name: str, written: int, kept: int) -> None:
        """Count some more."""
        self.written[name] += written
        self.kept[name] += kept


class Meter:
    """Counts what is done and tells it."""

    def __init__(self, tell: OnProgress | None, total: int) -> None:
        self._tell = tell
        self._total = total
        self._done = 0

    def advance(self, count: int, what: str) -> None:
        """Say that so many more are done."""
        self._done += count
        if self._tell is not None:
            self._tell(Progress(self._done, self._total, what))
