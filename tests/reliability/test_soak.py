"""A soak: threads come and go over the same savers for long, and nothing grows.

The savers have a process of their own: what other tests leave behind is not counted.
"""

from __future__ import annotations

import json
import os

import pytest

from tests.support.backends import Backend
from tests.support.soaking import Figures
from tests.support.zygote import Zygote

LIVES, HEAVY_LIVES = 10, 50
"""Lives of each worker in a period, at the end of which all workers stop to be measured."""
HEAVY_SECONDS = 1_800

CHECKPOINTS = 80
"""A life saves more of them."""
EXECUTOR_THREADS = min(32, (os.cpu_count() or 1) + 4)
"""Threads that an event loop's executor starts as they are needed."""


def soak(zygote: Zygote, backend: Backend, lives: int, seconds: int = 0) -> list[Figures]:
    """The figures of each period, in a process of its own."""
    urls = {"url": backend.url, "async_url": backend.async_url}
    arguments = {**urls, "lives": lives, "seconds": seconds}
    child = zygote.spawn("tests.support.soaking:run", arguments)
    assert child.wait(2 * seconds + 120) == 0, child.text
    told = [line for line in child.lines if line.startswith("{")]  # psycopg logs to the terminal
    figures = [Figures(**json.loads(line)) for line in told]
    print(*figures, sep="\n")  # shown with a failure
    return figures


def assert_flat(warm: Figures, last: Figures) -> None:
    """Check that the rows are as many, and that nothing grows with the lives."""
    assert last.rows == warm.rows
    assert last.connections <= warm.connections
    assert last.open_files <= warm.open_files
    assert last.os_threads <= warm.os_threads + EXECUTOR_THREADS
    assert last.objects - warm.objects < CHECKPOINTS * (last.lives - warm.lives)
    assert last.memory < warm.memory + (16 << 20)
    assert last.database_size < 1.25 * warm.database_size
    assert last.log_size < 1.25 * warm.log_size or not warm.log_size


def test_nothing_grows_while_threads_come_and_go(backend: Backend, zygote: Zygote) -> None:
    _, warm, last = soak(zygote, backend, LIVES)

    assert_flat(warm, last)


@pytest.mark.heavy
def test_nothing_grows_in_half_an_hour(backend: Backend, zygote: Zygote) -> None:
    _, warm, *_, last = soak(zygote, backend, HEAVY_LIVES, HEAVY_SECONDS)

    assert_flat(warm, last)
