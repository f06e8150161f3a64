"""Backup, restore and re-encryption, cancelled at any moment beside other calls of the saver."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.encoding.key_ring import KeyRing
from langgraph_session_saver.transfer.backup import open_archive
from langgraph_session_saver.transfer.records import all_records
from tests.reliability.test_cancelled_operations import SLOW_SECONDS, Attempt, Beside
from tests.security.rotating import NEW_KEY, OLD_KEY, with_both, with_key
from tests.support.backends import Backend, checked_out
from tests.support.calls import fill_thread
from tests.support.cancellation import WAYS, drawn, eventually, eventually_no_transaction
from tests.support.contents import TABLES, Contents, contents_of
from tests.support.drivers import saver_on
from tests.support.graphs import engine_of
from tests.support.rows import config, listed, put

NAMES = [f"<{number}>" for number in range(8)]
"""Threads that are backed up, restored and encrypted."""

ATTEMPTS = pytest.mark.parametrize(
    "attempts", [2, pytest.param(50, marks=pytest.mark.heavy)], ids=["short", "long"]
)


class Trials:
    """Calls of a saver that are cancelled, each beside steps of two threads that are not."""

    def __init__(self, saver: SessionSaver, database: Backend, draw: random.Random) -> None:
        self.saver = saver
        self._database, self._draw, self._ways = database, draw, cycle(WAYS)
        self._beside = [Beside(saver, f"beside {number}") for number in range(2)]
        self._seconds = 0.0

    async def call(self, call: Awaitable[Any]) -> None:
        """Await a call to its end, and take note of how long it takes."""
        attempt = Attempt(call)
        await self._with_steps(attempt.run())
        self._check(attempt)
        assert attempt.seconds is not None
        self._seconds = attempt.seconds

    async def cancel(self, call: Awaitable[Any]) -> None:
        """Cancel a call somewhere, and check that it gives all back."""
        attempt, delay = Attempt(call), self._draw.uniform(0, self._seconds)
        way = next(self._ways)
        print(way.__name__, delay)
        await self._with_steps(way(attempt.run(), delay))
        self._check(attempt)
        # What was left to itself in a thread ends by itself.
        assert await eventually(lambda: not checked_out(engine_of(self.saver)), SLOW_SECONDS)
        assert await eventually_no_transaction(self._database)

    async def check_what_ran_beside(self) -> None:
        for one in self._beside:
            assert await listed(self.saver, config(one.name)) == one.saved[::-1]

    async def _with_steps(self, work: Awaitable[Any]) -> None:
        async with asyncio.timeout(SLOW_SECONDS):
            await asyncio.gather(work, *(one.take_step() for one in self._beside))

    def _check(self, attempt: Attempt) -> None:
        if attempt.error is not None:
            raise attempt.error


@asynccontextmanager
async def trials_on(
    database: Backend, driver: str, serde: EncryptedSerializer | None = None
) -> AsyncIterator[Trials]:
    """Trials of a saver with threads, over an engine of its own or a caller's at random."""
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    draw = drawn()
    is_own = draw.random() < 0.5
    print("own" if is_own else "caller's")
    async with saver_on(database, driver, is_own=is_own, pool_size=3, serde=serde) as saver:
        for name in NAMES:
            if serde is None:
                await fill_thread(saver, name)
            else:  # which leaves the columns in clear empty
                at = await put(saver, 1, {"note": name * 99}, config(name))
                await saver.aput_writes(at, [("note", name * 99)], "task")
        trials = Trials(saver, database, draw)
        yield trials
        await trials.check_what_ran_beside()
    assert failures == []


@ATTEMPTS
async def test_a_cancelled_backup_leaves_the_file_before_or_a_whole_one(
    database: Backend, driver: str, tmp_path: Path, attempts: int
) -> None:
    path = tmp_path / "backups" / "file.backup"
    path.parent.mkdir()
    async with trials_on(database, driver) as trials:
        await trials.cancel(trials.saver.abackup(path))
        await trials.call(trials.saver.abackup(path))
        for _ in range(attempts):
            await trials.cancel(trials.saver.abackup(path))

            assert await eventually(lambda: [*path.parent.iterdir()] == [path], SLOW_SECONDS)
            open_archive(path, all_records(TABLES)).close()


@ATTEMPTS
async def test_a_cancelled_restore_has_done_all_or_nothing(
    database: Backend, driver: str, tmp_path: Path, attempts: int
) -> None:
    path = tmp_path / "file.backup"
    async with trials_on(database, driver) as trials:
        saver = trials.saver
        await saver.abackup(path)  # before there are other threads
        whole = contents_of(database, NAMES)
        none: dict[str, Contents] = dict.fromkeys(NAMES, ())
        await _delete(saver)
        await trials.call(saver.arestore(path))
        for _ in range(attempts):
            await _delete(saver)
            await trials.cancel(saver.arestore(path))
            assert contents_of(database, NAMES) in (whole, none)
        await saver.arestore(path)
        assert contents_of(database, NAMES) == whole


async def _delete(saver: SessionSaver) -> None:
    for name in NAMES:
        await saver.sessions.adelete(name)
        await saver.adelete_thread(name)


@ATTEMPTS
async def test_a_cancelled_change_of_keys_is_continued_by_another_call(
    database: Backend, driver: str, attempts: int
) -> None:
    back = EncryptedSerializer(KeyRing(with_key(OLD_KEY).cipher, with_key(NEW_KEY).cipher))
    async with trials_on(database, driver, back) as trials:
        saver = trials.saver
        before = [await _read(saver, name) for name in NAMES]
        await trials.call(saver.areencrypt())
        for attempt in range(attempts):
            saver.serde = back if attempt % 2 else with_both()
            await trials.cancel(saver.areencrypt())
            assert [await _read(saver, name) for name in NAMES] == before
        saver.serde = with_both()
        await saver.areencrypt()
    async with saver_on(database, driver, is_own=True, serde=with_key(NEW_KEY)) as only_new:
        assert [await _read(only_new, name) for name in NAMES] == before


async def _read(saver: SessionSaver, name: str) -> list[Any]:
    """A thread's checkpoints, with their values and writes."""
    found = [one async for one in saver.alist(config(name))]
    return [(one.checkpoint, one.metadata, one.pending_writes) for one in found]
