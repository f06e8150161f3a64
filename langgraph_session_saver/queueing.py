"""A fair queue before a database that has one writer.

SQLite's busy handler sleeps and wakes at random, so under load some writers starve. The writers
of one process wait here instead, in the order in which they came.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
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
