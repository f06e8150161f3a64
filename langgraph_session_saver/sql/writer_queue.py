"""A fair queue before a database that has one writer.

SQLite's busy handler sleeps and wakes at random, so under load some writers starve. The writers
of one process wait here instead, in the order in which they came.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakValueDictionary


class WriterQueue:
    """One holder at a time, in the order of asking; threads and event loops alike."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = False
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> None:
        """Wait for the turn, blocking this thread."""
        asked = self._ask()
        if asked is not None:
            asked.result()

    def __exit__(self, *_exc: object) -> None:
        self._pass_on()

    async def __aenter__(self) -> None:
        """Wait for the turn, leaving the event loop free."""
        asked = self._ask()
        if asked is not None:
            try:
                await asyncio.wrap_future(asked)
            except asyncio.CancelledError:
                if not asked.cancelled():  # the turn came in the same moment
                    self._pass_on()
                raise

    async def __aexit__(self, *_exc: object) -> None:
        self._pass_on()

    def _ask(self) -> Future[None] | None:
        """Take the turn, or stand in line for it; None if it is taken."""
        with self._lock:
            if not self._held:
                self._held = True
                return None
            asked: Future[None] = Future()
            self._waiting.append(asked)
            return asked

    def _pass_on(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._held = False
                    return
                following = self._waiting.popleft()
            if following.set_running_or_notify_cancel():
                following.set_result(None)
                return


_queues: WeakValueDictionary[str, WriterQueue] = WeakValueDictionary()

_queues_lock = threading.Lock()


def queue_for(database: str) -> WriterQueue:
    """The queue that all engines of this process share for one database file."""
    with _queues_lock:
        queue = _queues.get(database)
        if queue is None:
            queue = _queues[database] = WriterQueue()
        return queue


W = TypeVar("W")

TOGETHER = 32
"""Most writes of one transaction: the first of them waits for the last."""


class Outcome(NamedTuple):
    """What a write returned, or what it raised."""

    value: Any
    error: Exception | None = None

    def get(self) -> Any:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        return self.value


class _Waiting(NamedTuple, Generic[W]):
    write: W
    told: Future[Outcome | None]
    """Gets the outcome, or None for a thread that is to write for the line itself."""
    has_thread: bool


class Grouped(Generic[W]):
    """Runs writes in the order of asking, those that wait together; threads and event loops alike.

    Args:
        run: Runs writes in one transaction or, where that fails, each in its own; it raises for
            none of them.
    """

    def __init__(self, run: Callable[[Sequence[W]], Sequence[Outcome]]) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._is_busy = False
        self._line: deque[_Waiting[W]] = deque()

    def run(self, write: W) -> Any:
        """Run a write, blocking this thread."""
        with self._lock:
            waiting = self._stand_in_line(write, has_thread=True) if self._is_busy else None
            self._is_busy = True
        outcome = waiting.told.result() if waiting is not None else None
        if outcome is None:
            try:
                outcome = self._write_for_line([write])[0]
            finally:
                if self._pass_on():
                    self._start_serving()
        return outcome.get()

    async def arun(self, write: W) -> Any:
        """Run a write, leaving the event loop free."""
        with self._lock:
            waiting = self._stand_in_line(write, has_thread=False)
            was_busy, self._is_busy = self._is_busy, True
        if not was_busy:
            self._start_serving()
        outcome = await asyncio.wrap_future(waiting.told)
        return outcome.get() if outcome is not None else None

    def _stand_in_line(self, write: W, *, has_thread: bool) -> _Waiting[W]:
        waiting = _Waiting(write, Future[Outcome | None](), has_thread)
        self._line.append(waiting)
        return waiting

    def _write_for_line(self, own: Sequence[W] = ()) -> Sequence[Outcome]:
        """Run a thread's own write, if it has one, and those that wait; tell these."""
        if own and not self._line:
            return self._run(own)
        with self._lock:
            count = min(TOGETHER - len(own), len(self._line))
            line = [self._line.popleft() for _ in range(count)]
        line = [waiting for waiting in line if not waiting.told.cancelled()]
        try:
            outcomes = self._run([*own, *(waiting.write for waiting in line)])
        except BaseException:  # this thread was interrupted: another writes for the line
            with self._lock:
                self._line.extendleft(reversed(line))
            raise
        for waiting, outcome in zip(line, outcomes[len(own) :], strict=True):
            if waiting.told.set_running_or_notify_cancel():
                waiting.told.set_result(outcome)
        return outcomes

    def _pass_on(self) -> bool:
        """Let the next thread in line write; whether it is an event loop's turn, which has none."""
        with self._lock:
            if not self._line:
                self._is_busy = False
                return False
            if not self._line[0].has_thread:
                return True
            following = self._line.popleft()
        following.told.set_result(None)
        return False

    def _start_serving(self) -> None:
        threading.Thread(target=self._serve, name="session-saver-writer").start()

    def _serve(self) -> None:
        """Write for event loops until it is a thread's turn, or nobody's."""
        while True:
            try:
                self._write_for_line()
            finally:
                goes_on = self._pass_on()
            if not goes_on:
                return
