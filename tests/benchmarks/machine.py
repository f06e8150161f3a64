"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.databases import Site

PACKAGES = (
    "langgraph",
    "langgraph-checkpoint",
    "langgraph-checkpoint-sqlite",
    "langgraph-checkpoint-postgres",
    "langgraph-checkpoint-mysql",
    "sqlalchemy",
    "psycopg",
    "asyncpg",
    "pymysql",
    "aiosqlite",
)
SYNCS = 101


def about(sites: Iterable[Site], directory: Path) -> dict[str, Any]:
    """Machine and versions.

    Args:
        sites: The databases.
        directory: Where SQLite's files are.
    """
    sites = list(sites)
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "disk": _disk(directory),
        "fdatasync_us": round(_sync_microseconds(directory)),
        "python": platform.python_version(),
        "databases": {site.kind: _number(site.version()) for site in sites},
        "packages": {name: version(name) for name in PACKAGES},
        "doubts": [doubt for site in sites for doubt in site.doubts()],
    }


def _cpu() -> str:
    try:
        said = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    found = re.search(r"model name\s*:\s*(.+)", said)
    return found[1].strip() if found else platform.processor()


def _disk(directory: Path) -> str:
    """The file system that a directory is on, and what it is stored on."""
    try:
        mounts = [line.split()[:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    holding = [m for m in mounts if directory.resolve().is_relative_to(m[1])]
    if not holding:
        return "unknown"
    device, _, system = max(holding, key=lambda mount: len(mount[1]))
    name = re.sub(r"p?\d+$", "", Path(device).name)
    rotational = Path(f"/sys/block/{name}/queue/rotational")
    kind = "virtual disk" if name.startswith(("vd", "xvd")) else "SSD"
    if kind == "SSD" and rotational.exists() and rotational.read_text().strip() == "1":
        kind = "hard disk"
    return f"{system} on {kind}"


def _sync_microseconds(directory: Path) -> float:
    """The median time of making 4 KB durable."""
    path = directory / "fdatasync"
    taken = []
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(bytes(4096))
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - started)
    path.unlink()
    return 1e6 * median(taken)


def _number(said: str) -> str:
    found = re.search(r"\d+(?:\.\d+)+", said)
    return found[0] if found else said
