"""Contenders at work on databases of their own, left open while they take turns."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import count
from typing import Any

from langchain_core.runnables import RunnableConfig

from tests.benchmarks.calls import Call, of_thread, play
from tests.benchmarks.contenders import Contender, Saver
from tests.benchmarks.databases import Database, Site


class Subject:
    """A contender on a fresh database, with its saver left open."""

    def __init__(self, contender: Contender, site: Site, stack: ExitStack) -> None:
        self.contender = contender
        self.name = contender.name
        self.database: Database = stack.enter_context(site.fresh())
        self.saver: Saver = stack.enter_context(contender.open(self.database))
        self._number = count()

    def new_thread(self) -> str:
        """A thread id that was not used yet."""
        return f"thread-{next(self._number)}"

    def save(self, calls: Sequence[Call], thread_id: str) -> None:
        """Make calls in a thread."""
        play(of_thread(calls, thread_id), self.saver)


def named(thread_id: str) -> RunnableConfig:
    """The config of a thread's newest checkpoint."""
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}


def milliseconds(work: Callable[[], Any], times: int = 1) -> float:
    """Milliseconds that one of so many takes."""
    started = time.perf_counter()
    for _ in range(times):
        work()
    return 1_000 * (time.perf_counter() - started) / times


def peak_megabytes(work: Callable[[], Any]) -> float:
    """The most memory that Python objects took meanwhile: what C libraries hold is not seen."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
