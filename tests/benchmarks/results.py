"""The JSON that is kept: what was measured, on what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.measuring import Bar, Figure, Row

RESULTS = Path(__file__).with_name("results.json")


@dataclass
class Results:
    """All rows, and what they were measured on.

    Attributes:
        about: Machine and versions.
        rows: In the order of the workloads.
    """

    about: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read what `write` wrote; nothing where there is no file."""
        if not path.exists():
            return cls()
        found = json.loads(path.read_text())
        return cls(found["about"], [_row(row) for row in found["results"]])

    def write(self, path: Path) -> None:
        """Write the file, a row a line, so that a later measurement changes few lines."""
        about = json.dumps(self.about, indent=2, ensure_ascii=False)
        rows = [json.dumps(asdict(row), ensure_ascii=False) for row in self.rows]
        lines = ",\n".join(rows)
        path.write_text(f'{{\n"about": {about},\n"results": [\n{lines}\n]\n}}\n')

    def merge(self, rows: Sequence[Row], order: Sequence[str]) -> None:
        """Put rows in the place of those of the same workload and database.

        Args:
            rows: The new ones.
            order: The names of all workloads.
        """
        anew = {(row.workload, row.database) for row in rows}
        kept = [row for row in self.rows if (row.workload, row.database) not in anew]
        kept = [row for row in kept if row.workload in order]
        self.rows = sorted([*kept, *rows], key=lambda row: order.index(row.workload))


def _row(stored: Mapping[str, Any]) -> Row:
    peer_value, bar = stored["peer_value"], stored["bar"]
    typed = {
        "value": Figure(**stored["value"]),
        "peer_value": Figure(**peer_value) if peer_value else None,
        "bar": Bar(**bar) if bar else None,
    }
    return Row(**{**stored, **typed})
