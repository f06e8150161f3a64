"""A line in which the threads and tasks of one process wait for places, in the order of asking.

SQLAlchemy's pools and SQLite's busy handler give what is free to whoever asks next, even if others
wait: of 20 threads that read over 5 connections for 12 seconds, one read 12,525 times and another
once.

A caller may be interrupted at any point, by a signal's handler that raises or by a cancellation.
So the line's state says at any time who has a place, leaving is safe to repeat, and a caller's
place is given up at the latest when its frame is gone.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from queue import Empty, SimpleQueue
from weakref import WeakSet

from langgraph_session_saver.errors import NestedCallError
from langgraph_session_saver.sql.cancellation import current_call


class Waiter:
    """A thread that waits for its place."""

    def __init__(self) -> None:
        self.has_left = False
        self.is_woken = False
        self.thread: int | None = threading.get_ident()
        # Not an Event: a signal that interrupts one leaves its Python code half done.
        self._calls: SimpleQueue[None] = SimpleQueue()

    def wake(self) -> bool:
        """Tell the caller that it has what it waits for; whether it is still there."""
        self._calls.put(None)
        self.is_woken = True
        return True

    def wait(self, seconds: float | None = None) -> bool:
        """Block until the caller is woken; False if the seconds are over."""
        call = current_call.get()
        if call is not None:
            call.set_waiting(is_waiting=True)
        try:
            self._calls.get(timeout=seconds)
        except Empty:
            return False
        return True


class LoopWaiter(Waiter):
    """A task of an event loop that waits for its place."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = None  # other tasks of its thread go on while it has its place
        self._loop = asyncio.get_running_loop()
        self.woken = self._loop.create_future()

    def wake(self) -> bool:
        """As `Waiter.wake`, from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._set)
        except RuntimeError:  # the loop was closed while its task waited
            return False
        self.is_woken = True
        return True

    def _set(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class Turn:
    """A caller's wait in a line and then its place, which only the caller's frame keeps alive.

    A signal's handler may raise before the first statement of `__exit__`: then the line is left
    when the turn is deleted.
    """

    def __init__(
        self,
        line: Line,
        waiter: Waiter,
        seconds: float | None = None,
        error: Callable[[], Exception] = TimeoutError,
    ) -> None:
        self._line = line
        self._waiter = waiter
        self._seconds = seconds
        self._error = error
        self._has_left = False

    def __enter__(self) -> None:
        if self._seconds is None:
            self._line.refuse_nested()
        try:
            self._line.enter(self._waiter)
            is_woken = self._waiter.wait(self._seconds)
        except BaseException:
            self._leave()
            raise
        if not is_woken:
            self._leave()
            raise self._error()

    def __exit__(self, *_error: object) -> None:
        self._leave()

    def _leave(self) -> None:
        self._line.leave(self._waiter)
        self._has_left = True

    def __del__(self) -> None:
        if not self._has_left:
            self._leave()


class LoopTurn(Turn):
    """As `Turn`, for a task of an event loop."""

    def __init__(self, line: Line, waiter: LoopWaiter) -> None:
        super().__init__(line, waiter)
        self._woken = waiter.woken

    async def __aenter__(self) -> None:
        try:
            self._line.enter(self._waiter)
            await self._woken
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_error: object) -> None:
        self._leave()


class Line:
    """Places, each of which one caller has at a time.

    Args:
        places: How many there are.
    """

    def __init__(self, places: int = 1) -> None:
        self._places = places
        self.reset()
        _all_lines.add(self)

    def reset(self) -> None:
        """Forget all waiters: after a fork they are threads of the parent."""
        self._lock = threading.Lock()
        self._holders: list[Waiter] = []
        self._line: deque[Waiter] = deque()

    def turn(
        self, seconds: float | None = None, error: Callable[[], Exception] = TimeoutError
    ) -> AbstractContextManager[None]:
        """Wait for a place, blocking this thread, and hold it.

        Args:
            seconds: How long to wait; None is for ever.
            error: Makes the exception that is raised if no place was free within these seconds.
        """
        return Turn(self, Waiter(), seconds, error)

    def aturn(self) -> AbstractAsyncContextManager[None]:
        """Wait for a place, leaving the event loop free, and hold it."""
        return LoopTurn(self, LoopWaiter())

    def refuse_nested(self) -> None:
        """Raise where this thread has all places: it would wait for itself, for ever."""
        thread = threading.get_ident()
        with self._lock:
            is_nested = [one.thread for one in self._holders] == [thread] * self._places
        if is_nested:
            raise NestedCallError(
                "this thread is within a call that writes to this database: a projection, a serde "
                "or a listener of the engine called a saver; call it after that call has returned"
            )

    def enter(self, waiter: Waiter) -> None:
        """Join the line, or take a place at once and wake the waiter."""
        with self._lock:
            is_free = len(self._holders) < self._places
            (self._holders if is_free else self._line).append(waiter)
        if is_free:
            waiter.wake()

    def leave(self, waiter: Waiter) -> None:
        """Leave the line, and pass the place on if the waiter has one."""
        try:
            self._pass_on(waiter)
        except BaseException:  # a signal's handler raised: nobody may wait for this waiter
            self._pass_on(waiter)
            raise

    def _pass_on(self, waiter: Waiter) -> None:
        waiter.has_left = True
        with self._lock:
            if waiter in self._holders:
                self._holders.remove(waiter)
            while self._line:
                first = self._line[0]
                if first.has_left or first in self._holders:
                    self._line.popleft()
                elif len(self._holders) < self._places:
                    self._holders.append(first)
                else:
                    break
            asleep = [one for one in self._holders if not one.is_woken]
        for one in asleep:
            if not one.wake():
                self._pass_on(one)


_all_lines: WeakSet[Line] = WeakSet()


def _reset_in_child() -> None:
    for line in list(_all_lines):
        line.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_in_child)
