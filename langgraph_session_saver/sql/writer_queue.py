"""The line in which the writers of one process wait for SQLite's single writer.

SQLite's busy handler sleeps and wakes at random, so under load some writers starve. Here they take
turns in the order of asking. Writes that wait at the same time share a transaction, because a
commit waits for the disk once, however much it commits.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakSet, WeakValueDictionary

from langgraph_session_saver.sql.cancellation import settle
from langgraph_session_saver.sql.line import Line, LoopWaiter, Turn, Waiter

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


class _Writer(Waiter):
    """A thread that waits for its turn, or until another caller has run its write."""

    def __init__(self, write: Any, run_together: RunTogether) -> None:
        super().__init__()
        self.write = write
        self.run_together = run_together
        self.outcome: Outcome | None = None
        self.is_running = False

    def result(self) -> Any:
        """Return what the write returned, or raise what it raised."""
        value, error = self.outcome or Outcome(None)
        if error is not None:
            raise error
        return value


class _LoopWriter(_Writer, LoopWaiter):
    """A task whose write is run in a thread that is started for it, if by no other writer."""

    def __init__(self, queue: WriterQueue, write: Any, run_together: RunTogether) -> None:
        super().__init__(write, run_together)
        self._queue = queue

    def wake(self) -> bool:
        if self.outcome is not None:
            return super().wake()
        if self._queue.claim(self):
            serve, given = self._queue.serve, (self, self.run_together)
            threading.Thread(target=serve, args=given, name="session-saver-writer").start()
        self.is_woken = self.is_running
        return self.is_running


class WriterQueue(Line):
    """Runs the writes of threads and event loops in the order of asking."""

    def __init__(self) -> None:
        super().__init__()
        _all_queues.add(self)

    def reset(self) -> None:
        """As `Line.reset`."""
        super().reset()
        self._pauses: list[Waiter] = []

    def pause(self) -> None:
        """Take the turn before a fork, so that no transaction is open then."""
        waiter = Waiter()
        self._pauses.append(waiter)
        self.enter(waiter)
        waiter.wait(FORK_PATIENCE)

    def resume(self) -> None:
        """End a pause, in the parent process."""
        self.leave(self._pauses.pop())

    def run(self, write: Any, run_together: RunTogether) -> Any:
        """Run a write with those that wait behind it, blocking this thread."""
        waiter = _Writer(write, run_together)
        with Turn(self, waiter):
            if waiter.outcome is None:  # no other caller has run it
                self._run_group(waiter, run_together)
        return waiter.result()

    async def arun(self, write: Any, run_together: RunTogether) -> Any:
        """As `run`, in a thread of its own, leaving the event loop free."""
        waiter = _LoopWriter(self, write, run_together)
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

    def serve(self, waiter: _Writer, run_together: RunTogether) -> None:
        """Lead for a caller on an event loop."""
        waiter.thread = threading.get_ident()
        try:
            self._run_group(waiter, run_together)
        except BaseException as exc:  # noqa: BLE001 - the caller on the loop raises it
            waiter.outcome = Outcome(None, exc)
        finally:
            waiter.wake()
            self.leave(waiter)

    def claim(self, waiter: _Writer) -> bool:
        """Take over the running of a waiter's write, unless somebody has or its caller left."""
        with self._lock:
            is_free = not (waiter.is_running or waiter.has_left)
            waiter.is_running |= is_free
            return is_free

    def _run_group(self, leader: _Writer, run_together: RunTogether) -> None:
        """Run the leader's write and those that wait behind it, and wake the latter's callers."""
        with self._lock:
            group = [leader]
            for one in self._line:
                if one is leader or one.has_left:
                    continue
                if not isinstance(one, _Writer):  # it only wants the turn
                    break
                if one.is_running:
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
            try:
                _wake(group[1:])
            except BaseException:  # a signal's handler raised: nobody may wait for this leader
                _wake(group[1:])
                raise


def _wake(group: Sequence[_Writer]) -> None:
    """Wake the callers of writes that have run; it is safe to repeat."""
    for one in group:
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


def _forget_lock_in_child() -> None:
    global _queues_lock  # noqa: PLW0603 - another thread of the parent may have held it
    _queues_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=partial(_tell_all, WriterQueue.pause),
        after_in_parent=partial(_tell_all, WriterQueue.resume),
        after_in_child=_forget_lock_in_child,
    )
