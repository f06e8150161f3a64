"""The two drivers of scripts, one for each face: the only place where the faces differ."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, TypeVar

from langgraph_session_saver.borrowing import ARun, Run, arunner_on, runner_on
from langgraph_session_saver.core import Aside, Core, Script
from langgraph_session_saver.engine import Runner

T = TypeVar("T")


class Driver:
    """Runs scripts on an engine, after seeing once that the database is ready."""

    def __init__(self, runner: Runner, core: Core) -> None:
        self._runner = runner
        self._core = core

    def run(self, script: Script[T], connection: Any = None) -> T:
        """Run a script to its end, blocking.

        Args:
            script: The script.
            connection: A caller's `Connection` or ORM `Session` to run it on, as part of the
                caller's transaction.
        """
        if connection is not None:
            return self._drive(script, runner_on(connection, self._core))
        if not self._core.is_ready:
            self._drive(self._core.prepare())
        return self._drive(script)

    async def arun(self, script: Script[T], connection: Any = None) -> T:
        """Run a script to its end: on the event loop, or over a plain engine in a thread."""
        if connection is not None:
            return await self._adrive(script, await arunner_on(connection, self._core))
        if not self._runner.is_async and "batch" not in self._runner.grouped:
            return await asyncio.to_thread(self.run, script)
        if not self._core.is_ready:
            await self._adrive(self._core.prepare())
        return await self._adrive(script)

    def probe(self, script: Script[T]) -> T:
        """Run a script on whatever database there is, set up or not."""
        return self._drive(script)

    async def aprobe(self, script: Script[T]) -> T:
        """As `probe`."""
        if self._runner.is_async:
            return await self._adrive(script)
        return await asyncio.to_thread(self.probe, script)

    async def arun_here(self, script: Script[T]) -> T:
        """As `arun`, but asides are awaited on this event loop, over a plain engine too."""
        if not self._core.is_ready:
            await self._adrive(self._core.prepare())
        return await self._adrive(script)

    def set_up(self) -> None:
        """Create what is missing in the database, `auto_setup` or not."""
        self._drive(self._core.set_up())

    async def aset_up(self) -> None:
        """As `set_up`."""
        if self._runner.is_async:
            await self._adrive(self._core.set_up())
        else:
            await asyncio.to_thread(self.set_up)

    def _drive(self, script: Script[T], run: Run | None = None) -> T:
        run = run or self._runner.run
        try:
            request = next(script)
            while True:
                try:
                    result = request.call() if isinstance(request, Aside) else run(*request)
                except Exception as exc:  # noqa: BLE001 - the script knows what to do about it
                    request = script.throw(exc)
                else:
                    request = script.send(result)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    async def _adrive(self, script: Script[T], run: ARun | None = None) -> T:
        run = run or self._runner.arun
        try:
            request = next(script)
            while True:
                try:
                    if isinstance(request, Aside):
                        result = await _done(request)
                    else:
                        result = await run(*request)
                except Exception as exc:  # noqa: BLE001
                    request = script.throw(exc)
                else:
                    request = script.send(result)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


async def _done(aside: Aside) -> Any:
    if inspect.iscoroutinefunction(aside.call):
        return await aside.call()
    return await asyncio.to_thread(aside.call)
