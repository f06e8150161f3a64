"""A tree of checkpoints as lanes of text, newest first, like `git log --graph`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Lanes = tuple[str | None, ...]
"""For each lane the checkpoint that it leads to, or None where a lane has ended."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """How one checkpoint is drawn: its lane, its line, and the line above where forks meet."""

    lane: int
    line: str
    above: str


class Tree:
    """Draws checkpoints in turn, each after all that follow it.

    Args:
        lanes: Where a page before this one stopped.
    """

    def __init__(self, lanes: Sequence[str | None] = ()) -> None:
        self._lanes: list[str | None] = list(lanes)

    @property
    def lanes(self) -> Lanes:
        """The lanes that go on below what was drawn."""
        return tuple(self._lanes)

    def draw(self, checkpoint_id: str, parent_id: str | None) -> Drawn:
        """Draw a checkpoint; a lane ends at one whose parent is None."""
        coming = [i for i, wanted in enumerate(self._lanes) if wanted == checkpoint_id]
        lane = coming[0] if coming else self._free()
        above = self._joined(lane, coming[1:])
        for other in coming[1:]:
            self._lanes[other] = None
        cells = ["|" if wanted is not None else " " for wanted in self._lanes]
        cells[lane] = "*"
        self._lanes[lane] = parent_id
        while self._lanes and self._lanes[-1] is None:
            self._lanes.pop()
        return Drawn(lane, " ".join(cells).rstrip(), above)

    def _free(self) -> int:
        for i, wanted in enumerate(self._lanes):
            if wanted is None:
                return i
        self._lanes.append(None)
        return len(self._lanes) - 1

    def _joined(self, lane: int, others: Sequence[int]) -> str:
        """The line on which lanes end in the lane of the checkpoint that they forked from."""
        if not others:
            return ""
        cells = [" "] * (2 * len(self._lanes))
        for i, wanted in enumerate(self._lanes):
            if wanted is not None and i not in others:
                cells[2 * i] = "|"
        for other in others:
            for at in range(2 * lane + 1, 2 * other - 1):
                cells[at] = "_" if cells[at] == " " else cells[at]
            cells[2 * other - 1] = "/"
        return "".join(cells).rstrip()
