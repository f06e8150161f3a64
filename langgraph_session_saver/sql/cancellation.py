"""What an asyncio task does when it is cancelled in the middle of a database operation.

A driver that is cancelled in mid-statement leaves its connection in an unknown state: in a
transaction, or with an answer still on its way. So the operation goes on, and the cancelled task
waits for its end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

logger = logging.getLogger("langgraph_session_saver")

PATIENCE_SECONDS = 5.0
"""How long a cancelled task waits for its operation, before it cancels that and waits again."""


async def finish(operation: Coroutine[Any, Any, T]) -> T:
    """Await an operation to its end, also if the awaiting task is cancelled meanwhile.

    Raises:
        CancelledError: The task was cancelled. The operation has ended, or was cancelled after
            `PATIENCE_SECONDS` because it had not.
    """
    task = asyncio.ensure_future(operation)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await settle(task)
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
