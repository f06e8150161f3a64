"""Every public method, cancelled at any moment beside other calls of the same saver."""

from __future__ import annotations

import asyncio
import faulthandler
import random
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count, cycle
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Engine

from langgraph_session_saver import SessionSaver
from tests.support.backends import Backend, checked_out, run_sql
from tests.support.calls import (
    CALLS,
    CHANGES,
    MAKING,
    Calls,
    all_of,
    fill_thread,
    public_methods,
)
from tests.support.cancellation import (
    WAYS,
    Cancel,
    drawn,
    eventually,
    eventually_no_transaction,
)
from tests.support.contents import Contents, contents_of
from tests.support.drivers import saver_on
from tests.support.graphs import engine_of
from tests.support.rows import config, listed, new_checkpoint

OTHERS: Calls = {
    "saver.setup": lambda saver, _name: saver.asetup(),
    "saver.health": lambda saver, _name: saver.ahealth(),
    "saver.list of all": lambda saver, _name: all_of(saver.alist(None, limit=20)),
    "saver.delete_for_runs": lambda saver, name: saver.adelete_for_runs([f"run of {name}"]),
    "saver.sweep": lambda saver, name: saver.for_owner(name).asweep(
        idle_for=timedelta(microseconds=1)
    ),
    "sessions.list": lambda saver, _name: saver.sessions.alist(order_by="thread_status"),
    "threads.list": lambda saver, _name: saver.threads.alist(metadata={"step": 1}),
}
CHANGING = {*CHANGES, "saver.delete_for_runs", "saver.sweep"}
OF_WHOLE_DATABASES = {"saver.backup", "saver.restore", "saver.reencrypt"}
WITHOUT_A_CONNECTION = {
    "saver.close", "saver.from_conn_string", "saver.for_owner", "saver.with_allowlist",
    "saver.get_next_version", "saver.config_specs", "saver.serde",
    "saver.sessions", "saver.threads", "saver.state",
}  # fmt: skip
METHODS: Calls = {**CALLS, **OTHERS}

DRAWN, ATTEMPTS = 8, 1
"""In the short form: methods, and how often each is cancelled."""
HEAVY_ATTEMPTS = 53
"""In the long form, each of all methods: 5,000 calls on each driver, over both engines."""
SLOW_SECONDS = 60.0

EITHER_ENGINE = pytest.mark.parametrize("is_own", [True, False], ids=["own", "callers"])


def test_every_public_method_that_uses_a_connection_is_cancelled() -> None:
    """A new method fails here until it is in a table of this module."""
    cancelled = {method.partition(" ")[0] for method in METHODS}
    assert public_methods() == {*cancelled, *OF_WHOLE_DATABASES, *WITHOUT_A_CONNECTION}


@EITHER_ENGINE
async def test_some_methods_cancelled_at_any_point_harm_no_other_call(
    database: Backend, driver: str, is_own: bool
) -> None:
    async with trials_on(database, driver, is_own=is_own) as trials:
        await trials.cancel_each(trials.draw.sample(list(METHODS), DRAWN), ATTEMPTS)


@pytest.mark.heavy
@EITHER_ENGINE
async def test_all_methods_cancelled_at_any_point_harm_no_other_call(
    database: Backend, driver: str, is_own: bool
) -> None:
    async with trials_on(database, driver, is_own=is_own) as trials:
        await trials.cancel_each(METHODS, HEAVY_ATTEMPTS)
        print(trials.told(driver, is_own=is_own))


@asynccontextmanager
async def trials_on(database: Backend, driver: str, *, is_own: bool) -> AsyncIterator[Trials]:
    """Trials of a saver with two or three connections and other calls beside."""
    failures: list[Mapping[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    async with saver_on(database, driver, is_own=is_own, pool_size=2) as saver:
        trials = Trials(saver, database, drawn())
        yield trials
        await trials.check_what_ran_beside()
    assert failures == []


class Attempt:
    """A call that may be cancelled."""

    def __init__(self, call: Awaitable[Any]) -> None:
        self._call = call
        self.seconds: float | None = None
        """How long the call took, if it came to its end."""
        self.has_begun = False
        self.error: Exception | None = None

    async def run(self) -> None:
        """Await the call."""
        self.has_begun, began = True, time.monotonic()
        try:
            await self._call
            self.seconds = time.monotonic() - began
        except Exception as exc:  # noqa: BLE001 - whoever cancels does not look at it
            self.error = exc


class Beside:
    """A thread that takes steps which nobody cancels."""

    def __init__(self, saver: SessionSaver, name: str) -> None:
        self._saver, self.name = saver, name
        self.saved: list[str] = []

    async def take_step(self) -> None:
        """Save a checkpoint and a write, and read them."""
        page = f"<p>{len(self.saved)}"
        made = new_checkpoint(self._saver, {"html": page})
        at = await self._saver.aput(
            config(self.name), made, {"source": "loop", "step": 1}, made["channel_versions"]
        )
        self.saved.append(made["id"])
        await self._saver.aput_writes(at, [("note", page)], "task")
        found = await self._saver.aget_tuple(config(self.name))
        assert found is not None
        assert found.checkpoint["id"] == made["id"]
        assert found.checkpoint["channel_values"] == {"html": page}
        assert found.pending_writes == [("task", "note", page)]


class Undisturbed(NamedTuple):
    """What a method does when nobody cancels it."""

    before: Contents
    after: Contents


class Trials:
    """Calls of a saver that are cancelled, each beside two steps that are not."""

    def __init__(self, saver: SessionSaver, database: Backend, draw: random.Random) -> None:
        self.draw = draw
        self._saver, self._database = saver, database
        self._engine: Engine = engine_of(saver)
        self._names = (f"<{number}>" for number in count())
        self._ways = cycle(WAYS)
        self._beside = [Beside(saver, f"beside {number}") for number in range(2)]
        self._undisturbed: dict[str, Undisturbed] = {}
        self._seconds: dict[str, float] = {}
        self.attempts, self.cancelled, self.stored = 0, 0, 0

    async def cancel_each(self, methods: Iterable[str], attempts: int) -> None:
        """Cancel calls of methods; at last make a call of each."""
        methods = list(methods)
        await fill_thread(self._saver, "own")
        for method in methods:
            await self._note(method)
        for _ in range(attempts):
            for method in methods:
                await self._cancel(method, next(self._ways))
        for method in methods:
            noted = self._undisturbed[method]
            assert await self._note(method) == noted, method

    async def check_what_ran_beside(self) -> None:
        """What was acknowledged is there, and rows show the newest of it."""
        for one in self._beside:
            assert await listed(self._saver, config(one.name)) == one.saved[::-1]
        rows = run_sql(
            self._database,
            "SELECT t.thread_id, t.checkpoint_id, v.html FROM session_threads t "
            "JOIN sessions s ON s.id = t.session_id JOIN versions v "
            "ON v.session_id = s.id AND v.version = s.current_version "
            "WHERE t.thread_id LIKE 'beside%' ORDER BY t.thread_id",
        )
        assert [tuple(row.values()) for row in rows] == [
            (one.name, one.saved[-1], f"<p>{len(one.saved) - 1}") for one in self._beside
        ]

    def told(self, driver: str, *, is_own: bool) -> str:
        """A row of the table in tests/README.md."""
        engine = "its own" if is_own else "a caller's"
        beside = sum(len(one.saved) for one in self._beside)
        return (
            f"| {driver} | {engine} | {self.attempts:,} | {self.cancelled:,} | {beside:,} "
            "| 0 | 0 | 0 | 0 |"
        )

    async def _note(self, method: str) -> Undisturbed:
        """Call a method, and take note of what it does and how long it takes."""
        name = await self._new_name(method)
        before = self._contents(name)
        attempt = Attempt(METHODS[method](self._saver, name))
        await self._soon(attempt.run(), *(one.take_step() for one in self._beside))
        if attempt.error is not None:
            raise attempt.error
        noted = self._undisturbed[method] = Undisturbed(before, self._contents(name))
        self._seconds[method] = attempt.seconds or 0
        await self._remove(name)
        return noted

    async def _cancel(self, method: str, way: Cancel) -> None:
        """Cancel a call of a method somewhere, and check what that leaves."""
        name = await self._new_name(method)
        attempt = Attempt(METHODS[method](self._saver, name))
        delay = self.draw.uniform(0, self._seconds[method])
        cancelling = way(attempt.run(), delay)
        await self._soon(cancelling, *(one.take_step() for one in self._beside))
        case = method, way.__name__, delay
        assert attempt.error is None, case
        assert await self._all_is_given_back(), case
        if method in CHANGING:
            found, noted = self._contents(name), self._undisturbed[method]
            assert found in noted, case
            self.stored += found == noted.after
        await self._remove(name)
        self.attempts += 1
        if attempt.seconds is None:
            self.cancelled += attempt.has_begun
        else:
            self._seconds[method] = attempt.seconds

    async def _new_name(self, method: str) -> str:
        """A thread and session for a call: a new one, if the call changes it."""
        if method not in CHANGING:
            return "own"
        name = next(self._names)
        if method not in MAKING:
            await self._soon(fill_thread(self._saver, name, owner_id=name))
        return name

    async def _remove(self, name: str) -> None:
        if name != "own":
            await self._soon(self._saver.sessions.adelete(name))

    def _contents(self, name: str) -> Contents:
        return contents_of(self._database, [name])[name]

    async def _all_is_given_back(self) -> bool:
        """Whether no connection is out or in a transaction."""
        # A thread that was given up while it waited leaves by itself.
        is_back = await eventually(lambda: not checked_out(self._engine), SLOW_SECONDS)
        return is_back and await eventually_no_transaction(self._database)

    async def _soon(self, *works: Awaitable[Any]) -> None:
        """Await what must not take long; if it does, print where everything waits."""
        everything = asyncio.gather(*works)
        done, _ = await asyncio.wait({everything}, timeout=SLOW_SECONDS)
        if not done:
            for task in asyncio.all_tasks():
                task.print_stack()
            faulthandler.dump_traceback()
        assert done
        everything.result()
