"""A line for several places: they go to those who wait, in order, and to nobody who has left."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from langgraph_session_saver.sql.line import Line
from tests.support.alarms import SoftTimeLimit, alarm

PLACES = 3


def waits(line: Line, number: int) -> None:
    """Wait until so many callers stand in line."""
    while len(line._line) < number:
        os.sched_yield()


class Callers:
    """Threads that take a place, and give it back when they are told."""

    def __init__(self, line: Line) -> None:
        self.line, self.got = line, list[int]()
        self._threads: list[threading.Thread] = []
        self._ends: list[threading.Event] = []
        self._changed = threading.Condition()

    def ask(self) -> None:
        """Let one more ask for a place."""
        number, end = len(self._threads), threading.Event()
        thread = threading.Thread(target=self._hold, args=[number, end])
        self._threads.append(thread)
        self._ends.append(end)
        thread.start()

    def _hold(self, number: int, end: threading.Event) -> None:
        with self.line.turn():
            with self._changed:
                self.got.append(number)
                self._changed.notify_all()
            end.wait(30)

    def wait_for(self, number: int) -> None:
        """Wait until so many have got a place."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.got) >= number, 30)

    def end(self, number: int) -> None:
        self._ends[number].set()
        self._threads[number].join(30)


def test_a_place_that_becomes_free_goes_to_the_first_in_line() -> None:
    callers = Callers(Line(PLACES))
    for number in range(10):
        callers.ask()
        if number < PLACES:
            callers.wait_for(number + 1)
        else:
            waits(callers.line, number + 1 - PLACES)
    assert callers.got == [0, 1, 2]

    for number, free in enumerate([1, 0, 3, 2, 4, 5, 6], PLACES):
        callers.end(free)
        callers.wait_for(number + 1)
        assert callers.got[number:] == [number]
    for number in (7, 8, 9):
        callers.end(number)
    assert callers.line._holders == []


def test_who_waits_too_long_leaves_the_line_to_the_others() -> None:
    line = Line(1)
    callers = Callers(line)
    with line.turn():
        with (
            pytest.raises(ValueError, match="too long"),
            line.turn(0.01, lambda: ValueError("too long")),
        ):
            pass
        callers.ask()
        waits(line, 1)
    callers.wait_for(1)
    callers.end(0)


async def test_a_cancelled_task_leaves_the_line_to_the_others() -> None:
    line, got = Line(1), list[str]()

    async def take(name: str) -> None:
        async with line.aturn():
            got.append(name)

    async with line.aturn():
        tasks = [asyncio.create_task(take(name)) for name in "abc"]
        await asyncio.sleep(0)
        tasks[0].cancel()
    done: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)

    assert got == ["b", "c"]
    assert isinstance(done[0], asyncio.CancelledError)


# Python reports, and does not raise, what a handler raises while an object is deleted.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_signals_at_any_moment_leave_all_places_free() -> None:
    line, stop = Line(PLACES), threading.Event()

    def take_and_leave() -> None:
        while not stop.is_set():
            with line.turn():
                pass

    others = [threading.Thread(target=take_and_leave, daemon=True) for _ in range(PLACES + 1)]
    for one in others:
        one.start()
    for number in range(1_000):
        with suppress(SoftTimeLimit), alarm(0.0005 + number * 1e-6) as is_over:
            while not is_over.is_set():
                with line.turn():
                    pass
    stop.set()
    for one in others:
        one.join(30)
        assert not one.is_alive()

    with ExitStack() as held:
        for _ in range(PLACES):
            held.enter_context(line.turn(1))


def test_a_child_process_does_not_wait_for_the_threads_of_its_parent() -> None:
    line = Line(PLACES)
    with ExitStack() as held:
        for _ in range(PLACES):
            held.enter_context(line.turn())
        child = os.fork()
        if not child:
            with line.turn(0):
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
