"""Processes killed in the middle of a change: it is there wholly or not at all."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from itertools import count

import pytest
from sqlalchemy import Engine, create_engine, event

from langgraph_session_saver import SessionSaver
from tests.support.backends import Backend
from tests.support.calls import CHANGES, MAKING, Calls, fill_thread
from tests.support.contents import Contents, contents_of
from tests.support.zygote import Zygote

METHODS: Calls = {
    **CHANGES,
    "saver.delete_for_runs": lambda saver, name: saver.adelete_for_runs([f"run of {name}"]),
}
OF_MANY_TABLES = ("saver.copy_thread", "saver.delete_for_runs", "sessions.delete", "threads.copy")
"""They change checkpoints, and what rows show of them."""

KILLS = 3
"""In the short form: kills in each change of many tables; in the others, one."""


@pytest.fixture
def changes(backend: Backend, zygote: Zygote) -> Iterator[Changes]:
    engine = backend.engine()
    with SessionSaver(engine) as saver:
        yield Changes(backend, engine, saver, zygote)


async def test_a_change_whose_process_is_killed_is_there_wholly_or_not_at_all(
    changes: Changes,
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    for method in METHODS:
        statements = await changes.note(method)
        for _ in range(KILLS if method in OF_MANY_TABLES else 1):
            await changes.kill_after(method, draw.randint(1, statements))


@pytest.mark.heavy
async def test_a_change_is_whole_or_not_there_whatever_statement_its_process_is_killed_after(
    changes: Changes, backend: Backend
) -> None:
    kills = 0
    for method in METHODS:
        await changes.note(method)
        statement = 1
        while await changes.kill_after(method, statement):
            statement += 1
            kills += 1
    print(f"| {backend.name} | {len(METHODS)} | {kills} | 0 | 0 |")


class Changes:
    """Changes of threads and sessions: each made by this process, and by one that is killed."""

    def __init__(
        self, backend: Backend, engine: Engine, saver: SessionSaver, zygote: Zygote
    ) -> None:
        self._backend, self._saver, self._zygote = backend, saver, zygote
        self._names = (f"<{number}>" for number in count())
        self._undisturbed: dict[str, tuple[Contents, Contents]] = {}
        """What there is before and after each change."""
        self._statements = 0
        event.listen(engine, "after_cursor_execute", self._count)

    def _count(self, *_: object) -> None:
        self._statements += 1

    async def note(self, method: str) -> int:
        """Make a change, take note of what it does, and return how many statements that took."""
        name = await self._new_name(method)
        before, self._statements = self._contents(name), 0
        await METHODS[method](self._saver, name)
        statements = self._statements
        self._undisturbed[method] = before, self._contents(name)
        return statements

    async def kill_after(self, method: str, statement: int) -> bool:
        """Make a change in a process that is killed after a statement, and then here.

        Returns:
            False if the change was over before.
        """
        name = await self._new_name(method)
        child = self._zygote.spawn(
            f"{__name__}:change_and_stop",
            {"url": self._backend.url, "method": method, "name": name, "statement": statement},
        )
        is_killed = child.wait_for("has ") == "has stopped"
        child.kill()
        assert child.wait() in {0, -signal.SIGKILL}, child.text
        found, (before, after) = self._contents(name), self._undisturbed[method]
        assert found in (before, after), (method, statement)
        if found == before:
            await METHODS[method](self._saver, name)
            assert self._contents(name) == after, (method, statement)
        return is_killed

    async def _new_name(self, method: str) -> str:
        name = next(self._names)
        await fill_thread(self._saver, "own" if method in MAKING else name)
        return name

    def _contents(self, name: str) -> Contents:
        return contents_of(self._backend, [name])[name]


async def change_and_stop(url: str, method: str, name: str, statement: int) -> None:
    """For a zygote's child: make a change, and stop after one of its statements to be killed."""
    engine, numbers = create_engine(url), count(1)
    saver = SessionSaver(engine)
    await saver.asetup()

    @event.listens_for(engine, "after_cursor_execute")
    def stop(*_: object) -> None:
        if next(numbers) == statement:
            print("has stopped", flush=True)
            signal.pause()

    await METHODS[method](saver, name)
    print("has ended", flush=True)
