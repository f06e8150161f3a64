"""The line in which the writers of one process wait for SQLite's single writer.

SQLite's busy handler sleeps and wakes at random, so under load some writers starve. Here they take
turns in the order of asking. Writes that wait at the same time share a transaction, because a
commit waits for the disk once, however much it commits.

A caller may be interrupted at any point, by a signal's handler that raises or by a cancellation.
So the queue's state says at any time who has the turn, leaving is safe to repeat, and a caller's
place is given up at the latest when its frame is gone.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakSet, WeakValueDictionary

from langgraph_session_saver.sql.cancellation import current_call, settle

GROUP_SIZE = 32
"""Most writes of one transaction: the first of them waits for the last."""


FORK_PATIENCE = 5.0
"""Seconds that a fork waits for the transaction of another thread to end.

SQLite keeps its locks for the whole process. The child would inherit those of an open transaction,
which nobody in the child can end.
"""


class Outcome(NamedTuple):
    """What a write returned, or the exception that it raised."""

    value: Any
    error: BaseException | None = None


RunTogether: TypeAlias = Callable[[Sequence[Any]], Sequence[Outcome]]
"""Runs writes in one transaction or, where that fails, each in its own; raises for none of them."""


class _Waiter:
    """A thread that waits for its turn, or until another caller has run its write."""

    def __init__(self, write: Any = None, run_together: RunTogether | None = None) -> None:
        self.write = write
        self.run_together = run_together
        """None for a caller that only wants the turn."""
        self.outcome: Outcome | None = None
        self.is_running = False
        self.has_left = False
        # Not an Event: a signal that interrupts one leaves its Python code half done.
        self._calls: SimpleQueue[None] = SimpleQueue()

    def wake(self) -> bool:
        """Tell the caller that it has the turn or an outcome; whether it is still there."""
        self._calls.put(None)
        return True

    def wait(self, seconds: float | None = None) -> None:
        """Block until the caller is woken.

        Raises:
            Empty: The seconds are over.
        """
        call = current_call.get()
        if call is not None:
            call.set_waiting(is_waiting=True)
        self._calls.get(timeout=seconds)

    def result(self) -> Any:
        """Return what the write returned, or raise what it raised."""
        value, error = self.outcome or Outcome(None)
        if error is not None:
            raise error
        return value


class _LoopWaiter(_Waiter):
    """A task of an event loop that waits for its turn."""

    def __init__(self, write: Any = None, run_together: RunTogether | None = None) -> None:
        super().__init__(write, run_together)
        self._loop = asyncio.get_running_loop()
        self.woken = self._loop.create_future()

    def wake(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._set)
        except RuntimeError:  # the loop was closed while its task waited
            return False
        return True

    def _set(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class _ServedWaiter(_LoopWaiter):
    """A task whose write is run in a thread that is started for it, if by no other waiter."""

    def __init__(self, queue: WriterQueue, write: Any, run_together: RunTogether) -> None:
        super().__init__(write, run_together)
        self._queue = queue

    def wake(self) -> bool:
        if self.outcome is not None:
            return super().wake()
        if self._queue.claim(self):
            serve, given = self._queue.serve, (self, self.run_together)
            threading.Thread(target=serve, args=given, name="session-saver-writer").start()
        return self.is_running


class _Turn:
    """A caller's place in the line and then its turn, which only the caller's frame keeps alive.

    A signal's handler may raise before the first statement of `__exit__`: then the line is left
    when the turn is deleted.
    """

    def __init__(self, queue: WriterQueue, waiter: _Waiter) -> None:
        self._queue = queue
        self._waiter = waiter
        self._has_left = False

    def __enter__(self) -> None:
        try:
            self._queue.enter(self._waiter)
            self._waiter.wait()
        except BaseException:
            self._leave()
            raise

    def __exit__(self, *_error: object) -> None:
        self._leave()

    def _leave(self) -> None:
        self._queue.leave(self._waiter)
        self._has_left = True

    def __del__(self) -> None:
        if not self._has_left:
            self._leave()


class _LoopTurn(_Turn):
    """As `_Turn`, for a task of an event loop."""

    def __init__(self, queue: WriterQueue, waiter: _LoopWaiter) -> None:
        super().__init__(queue, waiter)
        self._woken = waiter.woken

    async def __aenter__(self) -> None:
        try:
            self._queue.enter(self._waiter)
            await self._woken
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_error: object) -> None:
        self._leave()


class WriterQueue:
    """Runs the writes of threads and event loops in the order of asking."""

    def __init__(self) -> None:
        self.reset()
        _all_queues.add(self)

    def reset(self) -> None:
        """Forget all waiters: after a fork they are threads of the parent."""
        self._pauses: list[_Waiter] = []
        self._lock = threading.Lock()
        self._holder: _Waiter | None = None
        self._line: deque[_Waiter] = deque()

    def pause(self) -> None:
        """Take the turn before a fork, so that no transaction is open then."""
        waiter = _Waiter()
        self._pauses.append(waiter)
        self.enter(waiter)
        with suppress(Empty):
            waiter.wait(FORK_PATIENCE)

    def resume(self) -> None:
        """End a pause, in the parent process."""
        self.leave(self._pauses.pop())

    def turn(self) -> AbstractContextManager[None]:
        """Wait for the turn, blocking this thread, and hold it."""
        return _Turn(self, _Waiter())

    def aturn(self) -> AbstractAsyncContextManager[None]:
        """Wait for the turn, leaving the event loop free, and hold it."""
        return _LoopTurn(self, _LoopWaiter())

    def run(self, write: Any, run_together: RunTogether) -> Any:
        """Run a write with those that wait behind it, blocking this thread."""
        waiter = _Waiter(write, run_together)
        with _Turn(self, waiter):
            if waiter.outcome is None:  # no other caller has run it
                self._run_group(waiter, run_together)
        return waiter.result()

    async def arun(self, write: Any, run_together: RunTogether) -> Any:
        """As `run`, in a thread of its own, leaving the event loop free."""
        waiter = _ServedWaiter(self, write, run_together)
        self.enter(waiter)
        try:
            await asyncio.shield(waiter.woken)
        except asyncio.CancelledError:
            if self.claim(waiter):
                self.leave(waiter)
            else:
                await settle(waiter.woken)
            raise
        return waiter.result()

    def serve(self, waiter: _Waiter, run_together: RunTogether) -> None:
        """Lead for a caller on an event loop."""
        try:
            self._run_group(waiter, run_together)
        except BaseException as exc:  # noqa: BLE001 - the caller on the loop raises it
            waiter.outcome = Outcome(None, exc)
        finally:
            waiter.wake()
            self.leave(waiter)

    def enter(self, waiter: _Waiter) -> None:
        """Join the line, or take the turn at once and wake the waiter."""
        with self._lock:
            if self._holder is None:
                self._holder = waiter
            else:
                self._line.append(waiter)
        if self._holder is waiter:
            waiter.wake()

    def leave(self, waiter: _Waiter) -> None:
        """Leave the line, and pass the turn on if the waiter has it."""
        try:
            self._pass_on(waiter)
        except BaseException:  # a signal's handler raised: nobody may wait for this waiter
            self._pass_on(waiter)
            raise

    def _pass_on(self, waiter: _Waiter) -> None:
        waiter.has_left = True
        with self._lock:
            if self._holder is waiter:
                self._holder = next((one for one in self._line if not one.has_left), None)
            following = self._holder
            while self._line and (self._line[0].has_left or self._line[0] is following):
                self._line.popleft()
        if following is not None and not following.wake():
            self._pass_on(following)

    def claim(self, waiter: _Waiter) -> bool:
        """Take over the running of a waiter's write, unless somebody has or its caller left."""
        with self._lock:
            is_free = not (waiter.is_running or waiter.has_left)
            waiter.is_running |= is_free
            return is_free

    def _run_group(self, leader: _Waiter, run_together: RunTogether) -> None:
        """Run the leader's write and those that wait behind it, and wake the latter's callers."""
        with self._lock:
            group = [leader]
            for one in self._line:
                if one is leader or one.has_left or one.is_running:
                    continue
                if len(group) == GROUP_SIZE or one.run_together != run_together:
                    break
                one.is_running = True
                group.append(one)
        try:
            outcomes = run_together([one.write for one in group])
            for one, outcome in zip(group, outcomes, strict=True):
                one.outcome = outcome
        finally:
            for one in group[1:]:
                if one.outcome is None:  # interrupted: it is still in line, and runs again
                    one.is_running = False
                else:
                    one.has_left = True
                    one.wake()


_all_queues: WeakSet[WriterQueue] = WeakSet()
_queues: WeakValueDictionary[str, WriterQueue] = WeakValueDictionary()
_queues_lock = threading.Lock()


def queue_for(database: str) -> WriterQueue:
    """The queue that all engines of this process share for one database file."""
    with _queues_lock:
        return _queues.setdefault(database, WriterQueue())


def _tell_all(method: Callable[[WriterQueue], None]) -> None:
    for queue in list(_all_queues):
        method(queue)


def _reset_in_child() -> None:
    global _queues_lock  # noqa: PLW0603 - another thread of the parent may have held it
    _queues_lock = threading.Lock()
    _tell_all(WriterQueue.reset)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=partial(_tell_all, WriterQueue.pause),
        after_in_parent=partial(_tell_all, WriterQueue.resume),
        after_in_child=_reset_in_child,
    )
