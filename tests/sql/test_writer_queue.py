"""Writers that wait for SQLite's one writer: in order, together, and none behind a lost one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata
from sqlalchemy import Connection

from langgraph_session_saver import (
    AccessDeniedError,
    NestedCallError,
    SessionDeletedError,
    SessionSaver,
)
from langgraph_session_saver.sql.writer_queue import GROUP_SIZE, Outcome, WriterQueue
from tests.support.alarms import SoftTimeLimit, alarm
from tests.support.graphs import engine_of
from tests.support.rows import checkpoint, config, put
from tests.support.statements import hook

WAIT = 30


class Interrupted(BaseException):
    """What a thread is interrupted with."""


class Writer:
    """Runs writes, and holds the first of them back until it is let go."""

    def __init__(self, *, interrupted: bool = False) -> None:
        self.batches: list[list[Any]] = []
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.queue = WriterQueue()
        self._interrupted = interrupted

    def run_together(self, writes: Sequence[Any]) -> list[Outcome]:
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

    def run(self, write: Any) -> Any:
        return self.queue.run(write, self.run_together)

    def arun(self, write: Any) -> Coroutine[Any, Any, Any]:
        return self.queue.arun(write, self.run_together)

    async def held_back(self, *, in_thread: bool) -> asyncio.Task[Any]:
        """Start a write that waits to be let go."""
        write = asyncio.to_thread(self.run, "first") if in_thread else self.arun("first")
        task = asyncio.create_task(write)
        assert await asyncio.to_thread(self.entered.wait, WAIT)
        return task

    async def in_line(self, *writes: Any) -> list[asyncio.Task[Any]]:
        """Let writes of an event loop stand in line."""
        tasks = [asyncio.create_task(self.arun(write)) for write in writes]
        await asyncio.sleep(0)  # each of them runs until it waits
        return tasks


@pytest.mark.parametrize("in_thread", [True, False])
async def test_waiting_writes_run_together_in_order(*, in_thread: bool) -> None:
    writer = Writer()
    first = await writer.held_back(in_thread=in_thread)
    tasks = await writer.in_line(*range(GROUP_SIZE + 8))
    writer.go_on.set()

    assert await first == "first is done"
    assert await asyncio.gather(*tasks) == [f"{n} is done" for n in range(GROUP_SIZE + 8)]
    rest = list(range(GROUP_SIZE, GROUP_SIZE + 8))
    assert writer.batches == [["first"], list(range(GROUP_SIZE)), rest]


async def test_each_write_gets_its_own_exception() -> None:
    writer = Writer()
    first = await writer.held_back(in_thread=True)
    tasks = await writer.in_line("good", "bad", "fine")
    writer.go_on.set()

    found = await asyncio.gather(first, *tasks, return_exceptions=True)

    assert found[:2] == ["first is done", "good is done"]
    assert isinstance(found[2], ValueError)
    assert found[3] == "fine is done"


async def test_a_cancelled_waiting_write_is_not_run() -> None:
    writer = Writer()
    first = await writer.held_back(in_thread=True)
    given_up, wanted = await writer.in_line("given up", "wanted")
    given_up.cancel()
    await asyncio.sleep(0)
    writer.go_on.set()

    assert await first == "first is done"
    assert await wanted == "wanted is done"
    assert writer.batches == [["first"], ["wanted"]]
    assert given_up.cancelled()


async def test_a_write_that_is_cancelled_while_it_runs_is_waited_for() -> None:
    writer = Writer()
    first = await writer.held_back(in_thread=False)
    first.cancel()
    await asyncio.sleep(0)
    assert not first.done()
    writer.go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await first
    assert writer.batches == [["first"]]


async def test_a_write_that_is_cancelled_when_another_has_run_it_does_not_take_the_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer = Writer()
    first = await writer.held_back(in_thread=False)
    second, third = await writer.in_line("second", "third")
    has_run, go_on = threading.Event(), threading.Event()
    leave = writer.queue.leave

    def leave_late(waiter: Any) -> None:
        if waiter.write == "second":  # which has run the third write too
            has_run.set()
            assert go_on.wait(WAIT)
        leave(waiter)

    monkeypatch.setattr(writer.queue, "leave", leave_late)
    writer.go_on.set()
    assert has_run.wait(WAIT)
    third.cancel()
    await asyncio.wait({third})
    go_on.set()

    assert [await first, await second] == ["first is done", "second is done"]
    assert third.cancelled()
    assert await asyncio.wait_for(writer.arun("fourth"), WAIT) == "fourth is done"


@pytest.mark.parametrize("in_thread", [True, False])
async def test_a_writer_that_is_interrupted_while_it_writes_leaves_nobody_waiting(
    *, in_thread: bool
) -> None:
    writer = Writer(interrupted=True)
    first = await writer.held_back(in_thread=in_thread)
    (waiting,) = await writer.in_line("waiting")
    writer.go_on.set()

    with pytest.raises(Interrupted):
        await first
    assert await waiting == "waiting is done"


async def test_a_turn_that_is_given_up_while_it_is_waited_for_is_passed_on() -> None:
    queue, order = WriterQueue(), list[str]()

    async def take(name: str) -> None:
        async with queue.aturn():
            order.append(name)

    async with queue.aturn():
        given_up, wanted = (asyncio.create_task(take(name)) for name in ("given up", "wanted"))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
    await wanted

    assert order == ["wanted"]
    assert given_up.cancelled()


@contextmanager
def turn_of_another_thread(queue: WriterQueue) -> Iterator[None]:
    with ExitStack() as turn, ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: turn.enter_context(queue.turn())).result()
        yield


def ways(saver: SessionSaver, at: RunnableConfig) -> dict[str, Callable[[str], object]]:
    """A short write, which others may take along, and one in a transaction of its own."""
    return {
        "step": lambda name: saver.put_writes(at, [("note", name)], name),
        "session": lambda name: saver.sessions.create(title=name),
    }


@pytest.mark.parametrize("way", ["step", "session"])
def test_a_thread_that_a_signal_interrupts_while_it_waits_stops_no_later_write(
    tmp_path: Path, way: str
) -> None:
    with SessionSaver.from_conn_string(tmp_path / "a.db") as saver:
        at = asyncio.run(put(saver, 1, {"note": 0}))
        write = ways(saver, at)[way]
        queue = saver._runner._queue
        assert queue is not None
        with turn_of_another_thread(queue):
            for number in range(3):
                with pytest.raises(SoftTimeLimit), alarm(0.02):
                    write(f"interrupted {number}")
        later = threading.Thread(target=write, args=("later",), daemon=True)
        later.start()
        later.join(WAIT)
        assert not later.is_alive()


# Python reports, and does not raise, what a handler raises while an object is deleted.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_signals_at_any_moment_leave_the_queue_free() -> None:
    queue, done = WriterQueue(), list[int]()

    def run_together(writes: Sequence[Any]) -> list[Outcome]:
        return [Outcome(write) for write in writes]

    def write_on(stop: threading.Event) -> None:
        while not stop.is_set():
            queue.run(0, run_together)
            with queue.turn():
                done.append(1)

    stop = threading.Event()
    neighbour = threading.Thread(target=write_on, args=(stop,), daemon=True)
    neighbour.start()
    for number in range(1_000):
        with suppress(SoftTimeLimit), alarm(0.0005 + number * 1e-6) as is_over:
            while not is_over.is_set():
                queue.run(1, run_together)
                with queue.turn():
                    pass
    before = len(done)
    with queue.turn():
        stop.set()
    neighbour.join(WAIT)
    assert not neighbour.is_alive()
    assert before


async def test_waiting_steps_of_many_threads_are_stored_in_few_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionSaver.from_conn_string(tmp_path / "many.db") as saver:
        await put(saver, 1, {"note": 0}, config("first"))
        runner, runs = saver._runner, list[str]()
        connected = runner._connected

        def counted(operation: Any, kind: Any) -> Any:
            runs.append(kind)
            return connected(operation, kind)

        monkeypatch.setattr(runner, "_connected", counted)
        assert runner._queue is not None
        with runner._queue.turn():  # somebody else writes, so all of these have to wait
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
        deleted = await put(saver, 1, {"note": 0}, config("deleted"))
        await saver.sessions.adelete("deleted", soft=True)
        assert saver._runner._queue is not None
        with saver._runner._queue.turn():
            steps = [
                asyncio.create_task(step)
                for step in (
                    put(saver, 2, {"note": 1}, config("a", owner_id="ada")),
                    put(saver, 2, {"note": 1}, config("adas", owner_id="bob")),
                    put(saver, 2, {"note": 1}, config("b", owner_id="bob")),
                    put(saver, 2, {"note": 1}, deleted),
                    saver.aput_writes(deleted, [("note", 1)], "task"),
                    put(saver, 2, {"note": 1}, config("c")),
                )
            ]
            await asyncio.sleep(0)
        found = await asyncio.gather(*steps, return_exceptions=True)

        assert [type(one) for one in found if isinstance(one, Exception)] == [
            AccessDeniedError, SessionDeletedError, SessionDeletedError,
        ]  # fmt: skip
        assert all(saver.get_tuple(config(name)) for name in "abc")


@pytest.mark.parametrize("face", ["sync", "async"])
async def test_a_write_from_within_a_write_is_refused(tmp_path: Path, face: str) -> None:
    async with SessionSaver.from_conn_string(tmp_path / "one.db") as saver:

        def write_within(_conn: Connection) -> None:
            saver.delete_thread("another")

        made = checkpoint(1, {"note": 0})
        given = config(), made, CheckpointMetadata(), made["channel_versions"]
        with (
            hook(engine_of(saver), "INSERT", write_within),
            pytest.raises(NestedCallError, match="call it after that call has returned"),
        ):
            saver.put(*given) if face == "sync" else await saver.aput(*given)

        assert await saver.aget_tuple(config()) is None
        await put(saver, 1, {"note": 0})
        assert await saver.aget_tuple(config())
