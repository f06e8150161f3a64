"""A process that moves a database and says what it took: `moving.py backup|restore URL FILE`."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langgraph_session_saver import Progress, SessionSaver


def peak_megabytes() -> float:
    """The most memory that this process had, not counting the one that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(what: str, url: str, file: str) -> dict[str, Any]:
    """Back up or restore; seconds, peak memory, and how often progress was told."""
    told: list[Progress | None] = [None]
    times = 0

    def tell(progress: Progress) -> None:
        nonlocal times
        times += 1
        told[0] = progress

    before = peak_megabytes()
    began = time.perf_counter()
    with SessionSaver.from_conn_string(url) as saver:
        (saver.backup if what == "backup" else saver.restore)(file, tell)
    last = told[0]
    return {
        "seconds": time.perf_counter() - began,
        "before": before,
        "peak": peak_megabytes(),
        "rows": last.done if last else 0,
        "finished": last is not None and last.done == last.total,
        "told": times,
    }


def run(arguments: Sequence[str]) -> None:
    """Print what `main` returns."""
    sys.stdout.write(json.dumps(main(*arguments)) + "\n")


if __name__ == "__main__":
    run(sys.argv[1:])
