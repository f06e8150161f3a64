"""One step on a thread, saved and read."""

from __future__ import annotations

from langgraph.checkpoint.base import empty_checkpoint

from langgraph_session_saver import SessionSaver
from tests.support.workloads import on


def save_one(saver: SessionSaver, thread_id: str = "1") -> None:
    saver.put(on(thread_id), empty_checkpoint(), {}, {})
    assert saver.get_tuple(on(thread_id)) is not None


async def asave_one(saver: SessionSaver, thread_id: str = "1") -> None:
    await saver.aput(on(thread_id), empty_checkpoint(), {}, {})
    assert await saver.aget_tuple(on(thread_id)) is not None
