"""What an asyncio task does when it is cancelled in the middle of a database operation.

A driver that is cancelled in mid-statement leaves its connection in an unknown state: in a
transaction, or with an answer still on its way. So the operation goes on, and the cancelled task
waits for its end. An operation that still waits for a turn or a connection is given up at once.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias, TypeVar

from langgraph_session_saver.log import logger

T = TypeVar("T")


PATIENCE_SECONDS = 5.0
"""How long a cancelled task waits for its operation, before it cancels that or leaves it."""

Then: TypeAlias = Literal["cancel", "leave", "wait"]
"""What a cancelled task does with an operation that takes longer.

One that waits for a server's answer is cancelled, and its connection is given up. One that runs in
a thread cannot be cancelled: it is left to itself, and gives its connection back at its end. If
that is the caller's connection, the task waits, because the caller would use it meanwhile.
"""


class Call:
    """The state of an operation that a task awaits: it waits, uses a connection, or is given up."""

    def __init__(self, *, is_waiting: bool = True) -> None:
        self._is_waiting = is_waiting
        self._is_given_up = False
        self._lock = threading.Lock()

    def set_waiting(self, *, is_waiting: bool) -> None:
        """Note whether the operation waits for a turn or a connection, or uses one.

        Raises:
            CancelledError: Its task was cancelled, and has left.
        """
        with self._lock:
            if self._is_given_up:
                raise asyncio.CancelledError
            self._is_waiting = is_waiting

    def give_up(self, *, at_any_point: bool = False) -> bool:
        """Give the operation up if it waits, or at any point; whether it was given up."""
        with self._lock:
            self._is_given_up = self._is_waiting or at_any_point
            return self._is_given_up


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
"""The operation that this thread runs for a task, if it does."""


async def in_thread(function: Callable[..., T], *args: Any, then: Then = "leave") -> T:
    """Await a blocking function in a worker thread, to its end as `finish` does."""
    call = Call()

    def run() -> T:
        current_call.set(call)  # in the thread's copy of the context
        call.set_waiting(is_waiting=False)
        return function(*args)

    return await finish(asyncio.to_thread(run), call, then=then)


async def finish(
    operation: Coroutine[Any, Any, T], call: Call | None = None, *, then: Then = "cancel"
) -> T:
    """Await an operation to its end, also if the awaiting task is cancelled meanwhile.

    Args:
        operation: The operation.
        call: Says whether the operation still waits for a connection; by default it does not.
        then: What to do with an operation that goes on after `PATIENCE_SECONDS`.

    Raises:
        CancelledError: The task was cancelled. The operation has ended, or was left to itself. If
            it waited for a connection it was cancelled at once.
    """
    call = call or Call(is_waiting=False)
    task = asyncio.ensure_future(operation)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if call.give_up():
            task.cancel()
            await settle(task)
        else:
            await settle(task, math.inf if then == "wait" else None)
            call.give_up(at_any_point=True)
            if then == "cancel" and not task.done():
                task.cancel()
                await settle(task)
        task.add_done_callback(_note_failure)
        raise


def _note_failure(task: asyncio.Future[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.debug("a cancelled operation failed: %s", error)


async def settle(future: asyncio.Future[Any], seconds: float | None = None) -> None:
    """Wait until a future is done, but no longer than `PATIENCE_SECONDS`, whoever cancels.

    Args:
        future: The future.
        seconds: How long to wait instead.
    """
    deadline = time.monotonic() + (PATIENCE_SECONDS if seconds is None else seconds)
    while not future.done() and (left := deadline - time.monotonic()) > 0:
        try:
            await asyncio.wait({future}, timeout=None if left == math.inf else left)
        except asyncio.CancelledError:
            continue  # the caller raises it once the future is done
