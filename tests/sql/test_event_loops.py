"""Sync and async calls over one engine, on one event loop and on several."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from langgraph_session_saver import SessionSaver, WrongFaceError
from tests.sql.one_step import asave_one, save_one
from tests.support.backends import Backend
from tests.support.workloads import finish, on

pytestmark = pytest.mark.empty_database


async def test_a_sync_call_on_the_event_loops_thread_names_the_async_method(
    backend: Backend,
) -> None:
    async with SessionSaver(backend.async_engine()) as saver:
        await asave_one(saver)
        with pytest.raises(WrongFaceError, match="await the a… twin"):
            saver.get_tuple(on("1"))
        with pytest.raises(WrongFaceError):
            saver.put(on("1"), empty_checkpoint(), {}, {})
        with pytest.raises(WrongFaceError):
            list(saver.list(on("1")))
        await asave_one(saver, "2")


async def test_a_sync_call_from_another_thread_runs_on_the_loop_that_used_the_engine(
    backend: Backend,
) -> None:
    async with SessionSaver(backend.async_engine()) as saver:
        await saver.asetup()
        await asyncio.to_thread(finish, saver, "1")
        found = await asyncio.to_thread(lambda: list(saver.list(on("1"))))
        assert len(found) == 6
        assert len([item async for item in saver.alist(on("1"))]) == 6


def test_a_sync_call_over_an_async_engine_without_a_running_loop_raises(backend: Backend) -> None:
    async def use() -> SessionSaver:
        async with SessionSaver.from_conn_string(backend.async_url) as used:
            await asave_one(used)
        return SessionSaver.from_conn_string(backend.async_url)

    with pytest.raises(WrongFaceError, match="no running event loop"):
        SessionSaver.from_conn_string(backend.async_url).setup()
    saver = asyncio.run(use())
    with pytest.raises(WrongFaceError, match="no running event loop"):
        saver.get_tuple(on("1"))


def test_an_async_engine_can_be_used_by_one_loop_after_another(backend: Backend) -> None:
    saver = SessionSaver.from_conn_string(backend.async_url)

    async def use(thread_id: str) -> int:
        await asave_one(saver, thread_id)
        await saver._runner.engine.dispose()  # type: ignore[misc]
        return len([item async for item in saver.alist(None)])

    async def close() -> None:
        await saver.aclose()

    assert asyncio.run(_then_dispose(saver, use("1"))) == 1
    assert asyncio.run(_then_dispose(saver, use("2"))) == 2
    asyncio.run(close())


async def _then_dispose(saver: SessionSaver, work: Any) -> Any:
    try:
        return await work
    finally:
        await saver._runner.engine.dispose()  # type: ignore[misc]


async def test_one_saver_over_an_engine_serves_sync_and_async_calls_together(
    backend: Backend,
) -> None:
    with SessionSaver(backend.engine()) as saver:
        await asyncio.gather(
            *(asave_one(saver, f"async {n}") for n in range(4)),
            *(asyncio.to_thread(save_one, saver, f"sync {n}") for n in range(4)),
        )
        save_one(saver, "on the loop's own thread")
        assert len([item async for item in saver.alist(None)]) == 9
