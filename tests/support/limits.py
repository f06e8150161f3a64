"""Limits of the memory and the time that a zygote's child may take."""

from __future__ import annotations

import resource
from pathlib import Path


def limit_memory(size: int) -> None:
    """Limit the address space of this process to what it is now and so many bytes more."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + size
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def limit_time(seconds: int) -> None:
    """Limit the processor time of this process: more ends it."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
