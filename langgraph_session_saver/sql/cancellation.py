"""What an asyncio task does when it is cancelled in the middle of a database operation.

A driver that is cancelled in mid-statement leaves its connection in an unknown state: in a
transaction, or with an answer still on its way. So the operation goes on, and the cancelled task
waits for its end. An operation that still waits for a connection is given up at once.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

logger = logging.getLogger("langgraph_session_saver")

PATIENCE_SECONDS = 5.0
"""How long a cancelled task waits for its operation, before it cancels that and waits again."""


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


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Await a blocking function in a worker thread, to its end as `finish` does."""
    call = Call()

    def run() -> T:
        current_call.set(call)  # in the thread's copy of the context
        call.set_waiting(is_waiting=False)
        return function(*args)

    return await finish(asyncio.to_thread(run), call)


async def finish(operation: Coroutine[Any, Any, T], call: Call | None = None) -> T:
    """Await an operation to its end, also if the awaiting task is cancelled meanwhile.

    Args:
        operation: The operation.
        call: Says whether the operation still waits for a connection; by default it does not.

    Raises:
        CancelledError: The task was cancelled. The operation has ended, or was cancelled: at once
            if it waited, else after `PATIENCE_SECONDS`.
    """
    call = call or Call(is_waiting=False)
    task = asyncio.ensure_future(operation)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not call.give_up():
            await settle(task)
            call.give_up(at_any_point=True)
        if not task.done():
            task.cancel()
            await settle(task)
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            logger.debug("a cancelled operation failed: %r", error)
        raise


async def settle(future: asyncio.Future[Any]) -> None:
    """Wait until a future is done, but no longer than `PATIENCE_SECONDS`, whoever cancels."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not future.done() and (left := deadline - time.monotonic()) > 0:
        try:
            await asyncio.wait({future}, timeout=left)
        except asyncio.CancelledError:
            continue  # the caller raises it once the future is done
