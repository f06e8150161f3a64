"""The queue before SQLite's writer: waiting writes are committed together, each with its result."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from langgraph_session_saver import SessionConflictError, SessionSaver
from langgraph_session_saver.sql.writer_queue import TOGETHER, Grouped, Outcome
from tests.support.rows import config, put

WAIT = 30


class Interrupted(BaseException):
    """What a thread is interrupted with."""


class Writer:
    """Runs writes, and holds the first one back until it is released."""

    def __init__(self, *, interrupted: bool = False) -> None:
        self.batches: list[list[Any]] = []
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.grouped: Grouped[Any] = Grouped(self.run)
        self._interrupted = interrupted

    def run(self, writes: Sequence[Any]) -> list[Outcome]:
        if not self.entered.is_set():
            self.entered.set()
            assert self.go_on.wait(WAIT)
            if self._interrupted:
                raise Interrupted
        self.batches.append(list(writes))
        return [
            Outcome(None, ValueError(write)) if write == "bad" else Outcome(f"{write} is done")
            for write in writes
        ]

    async def held_back(self, *, in_thread: bool) -> asyncio.Task[Any]:
        """Start a write that waits until it is released."""
        write = (
            asyncio.to_thread(self.grouped.run, "first")
            if in_thread
            else self.grouped.arun("first")
        )
        task = asyncio.create_task(write)
        assert await asyncio.to_thread(self.entered.wait, WAIT)
        return task


async def in_line(writer: Writer, *writes: Any) -> list[asyncio.Task[Any]]:
    """Let the writes of an event loop queue up."""
    tasks = [asyncio.create_task(writer.grouped.arun(write)) for write in writes]
    await asyncio.sleep(0)  # each of them runs until it waits
    return tasks


@pytest.mark.parametrize("in_thread", [True, False])
async def test_waiting_writes_run_together_in_order(*, in_thread: bool) -> None:
    writer = Writer()
    first = await writer.held_back(in_thread=in_thread)
    tasks = await in_line(writer, *range(TOGETHER + 8))
    writer.go_on.set()

    assert await first == "first is done"
    assert await asyncio.gather(*tasks) == [f"{n} is done" for n in range(TOGETHER + 8)]
    rest = list(range(TOGETHER, TOGETHER + 8))
    assert writer.batches == [["first"], list(range(TOGETHER)), rest]


async def test_each_write_gets_its_own_exception() -> None:
    writer = Writer()
    first = await writer.held_back(in_thread=True)
    tasks = await in_line(writer, "good", "bad", "fine")
    writer.go_on.set()

    found = await asyncio.gather(first, *tasks, return_exceptions=True)

    assert found[:2] == ["first is done", "good is done"]
    assert isinstance(found[2], ValueError)
    assert found[3] == "fine is done"


async def test_a_cancelled_waiting_write_is_not_run() -> None:
    writer = Writer()
    first = await writer.held_back(in_thread=True)
    given_up, wanted = await in_line(writer, "given up", "wanted")
    given_up.cancel()
    await asyncio.sleep(0)
    writer.go_on.set()

    assert await first == "first is done"
    assert await wanted == "wanted is done"
    assert writer.batches == [["first"], ["wanted"]]
    assert given_up.cancelled()


async def test_an_interrupted_thread_leaves_no_other_waiting() -> None:
    writer = Writer(interrupted=True)
    first = await writer.held_back(in_thread=True)
    (waiting,) = await in_line(writer, "waiting")
    writer.go_on.set()

    with pytest.raises(Interrupted):
        await first
    assert await waiting == "waiting is done"


async def test_waiting_steps_of_many_threads_are_stored_in_few_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionSaver.from_conn_string(tmp_path / "many.db") as saver:
        await put(saver, 1, {"note": 0}, config("first"))
        runner, runs = saver._runner, list[str]()
        run_once = runner._run_once

        def counted(operation: Any, kind: Any) -> Any:
            runs.append(kind)
            return run_once(operation, kind)

        monkeypatch.setattr(runner, "_run_once", counted)
        assert runner._queue is not None
        with runner._queue:  # another connection writes, so all of these wait
            steps = [
                asyncio.create_task(put(saver, 1, {"note": number}, config(f"t{number}")))
                for number in range(20)
            ]
            await asyncio.sleep(0)
        await asyncio.gather(*steps)

        assert len(runs) <= 2  # the first of them, and all that came while it waited
        found = [saver.get_tuple(config(f"t{number}")) for number in range(20)]
        assert [one and one.checkpoint["channel_values"]["note"] for one in found] == list(
            range(20)
        )


async def test_a_refused_step_does_not_fail_the_others_of_its_group(tmp_path: Path) -> None:
    async with SessionSaver.from_conn_string(tmp_path / "one.db") as saver:
        await put(saver, 1, {"note": 0}, config("adas", owner_id="ada"))
        assert saver._runner._queue is not None
        with saver._runner._queue:
            steps = [
                asyncio.create_task(put(saver, 2, {"note": 1}, config(name, owner_id=owner)))
                for name, owner in (("a", "ada"), ("adas", "bob"), ("b", "bob"), ("c", None))
            ]
            await asyncio.sleep(0)
        found = await asyncio.gather(*steps, return_exceptions=True)

        assert [isinstance(one, SessionConflictError) for one in found] == [
            False, True, False, False,
        ]  # fmt: skip
        assert all(saver.get_tuple(config(name)) for name in "abc")
