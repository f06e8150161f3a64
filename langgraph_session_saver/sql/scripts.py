"""Scripts: work that is written once and run by both faces.

A script is a generator that yields requests (an operation, and whether it writes) and receives
their results. `ScriptRunner` runs it, blocking or on an event loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import closing
from copy import copy
from functools import wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeAlias, TypeVar, cast

from sqlalchemy import Connection

from langgraph_session_saver.sql.borrowed import arunner_on, connection_of
from langgraph_session_saver.sql.cancellation import in_thread
from langgraph_session_saver.sql.runner import Kind, Runner

T = TypeVar("T")
P = ParamSpec("P")
M = TypeVar("M", bound="ScriptMethods")

Operation: TypeAlias = Callable[Concatenate[Connection, P], Any]


class Request(NamedTuple):
    """An operation that a script wants run on a connection: `operation(conn, *args, **kwargs)`."""

    operation: Callable[[Connection], Any]
    kind: Kind

    @classmethod
    def of(cls, kind: Kind, operation: Operation[P], *args: P.args, **kwargs: P.kwargs) -> Request:
        """Request an operation of some kind."""
        return cls(lambda conn: operation(conn, *args, **kwargs), kind)

    @classmethod
    def read(cls, operation: Operation[P], *args: P.args, **kwargs: P.kwargs) -> Request:
        """Request a read-only operation."""
        return cls.of("read", operation, *args, **kwargs)

    @classmethod
    def write(cls, operation: Operation[P], *args: P.args, **kwargs: P.kwargs) -> Request:
        """Request an operation in a transaction of its own."""
        return cls.of("write", operation, *args, **kwargs)


class Aside(NamedTuple):
    """Work that needs no connection of ours: reading a file, asking another saver."""

    call: Callable[[], Any]
    """The async face awaits a coroutine function, and runs any other in a thread."""


Script: TypeAlias = Generator[Request | Aside, Any, T]


def read_script(
    operation: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> Script[T]:
    """A script of one read-only operation."""
    return (yield Request.read(operation, *args, **kwargs))  # type: ignore[no-any-return]


def write_script(
    operation: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> Script[T]:
    """A script of one operation in a transaction of its own."""
    return (yield Request.write(operation, *args, **kwargs))  # type: ignore[no-any-return]


def maintenance_script(
    operation: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> Script[T]:
    """A script of one operation outside a transaction."""
    return (yield Request.of("maintenance", operation, *args, **kwargs))  # type: ignore[no-any-return]


def in_transaction(script: Callable[P, Script[T]], *args: P.args, **kwargs: P.kwargs) -> Script[T]:
    """A script of all the requests of another one, in one transaction: all of it, or nothing."""

    def run(conn: Connection) -> T:
        return _drive(script(*args, **kwargs), lambda operation, _kind: operation(conn))

    return (yield Request.write(run))  # type: ignore[no-any-return]


def _drive(script: Script[T], run: Callable[[Callable[[Connection], Any], Kind], Any]) -> T:
    """Run a script, blocking, and each of its operations by `run`."""
    with closing(script):  # at once, also where it is interrupted
        try:
            request = next(script)
            while True:
                try:
                    result = request.call() if isinstance(request, Aside) else run(*request)
                except Exception as exc:  # noqa: BLE001 - the script handles it
                    request = script.throw(exc)
                else:
                    request = script.send(result)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


class ScriptRunner:
    """Runs scripts on an engine, or on a caller's connection.

    Args:
        runner: Runs their operations.
        prepare: Makes the script that creates or verifies the tables before their first use.
        check_tables: Verifies the tables in a caller's transaction.
    """

    def __init__(
        self,
        runner: Runner,
        prepare: Callable[[], Script[None]],
        check_tables: Callable[[Connection], None],
    ) -> None:
        self._runner = runner
        self._prepare = prepare
        self._check_tables = check_tables

    def run(self, script: Script[T], connection: Any = None) -> T:
        """Run a script, blocking.

        Args:
            script: The script.
            connection: A caller's `Connection` or ORM `Session`; the script then runs as part of
                the caller's transaction.
        """
        if connection is not None:
            conn = connection_of(connection)
            self._join(conn)
            return _drive(script, lambda operation, _kind: operation(conn))
        _drive(self._prepare(), self._runner.run)
        return _drive(script, self._runner.run)

    async def arun(self, script: Script[T], connection: Any = None) -> T:
        """Run a script on the event loop, or over a plain engine in a thread."""
        if connection is not None:
            run = await arunner_on(connection)
            await run(self._join)
            return await self._adrive(script, lambda operation, _kind: run(operation))
        if not self._runner.is_async and not self._runner.groups_writes:
            return await in_thread(self.run, script)
        return await self.arun_here(script)

    async def arun_here(self, script: Script[T]) -> T:
        """As `arun`, but await asides on this event loop over a plain engine too."""
        await self._adrive(self._prepare())
        return await self._adrive(script)

    def probe(self, script: Script[T]) -> T:
        """Run a script whether the tables exist or not."""
        return _drive(script, self._runner.run)

    async def aprobe(self, script: Script[T]) -> T:
        """As `probe`."""
        if self._runner.is_async:
            return await self._adrive(script)
        return await in_thread(self.probe, script)

    def _join(self, conn: Connection) -> None:
        """Check a caller's connection, and join its transaction."""
        self._runner.check_borrowed(conn)
        self._check_tables(conn)
        if not conn.in_transaction():
            # SQLAlchemy begins it by itself, but not for statements on a driver's cursor.
            conn.begin()

    async def _adrive(
        self, script: Script[T], run: Callable[..., Awaitable[Any]] | None = None
    ) -> T:
        run = run or self._runner.arun
        with closing(script):
            try:
                request = next(script)
                while True:
                    try:
                        if not isinstance(request, Aside):
                            result = await run(*request)
                        elif inspect.iscoroutinefunction(request.call):
                            result = await request.call()
                        else:
                            result = await in_thread(request.call)
                    except Exception as exc:  # noqa: BLE001
                        request = script.throw(exc)
                    else:
                        request = script.send(result)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]


class ScriptMethods:
    """Base of classes whose methods run scripts; `awaited` makes the async twin of a method."""

    def __init__(self, script_runner: ScriptRunner) -> None:
        self._script_runner = script_runner

    def _run(self, script: Script[T], connection: Any = None) -> T:
        return self._script_runner.run(script, connection)


def awaited(
    method: Callable[Concatenate[M, P], T],
) -> Callable[Concatenate[M, P], Coroutine[Any, Any, T]]:
    """Make the async twin of a method that returns what its only call of `self._run` returns."""

    @wraps(method)
    async def twin(self: M, /, *args: P.args, **kwargs: P.kwargs) -> T:
        on_loop = copy(self)
        vars(on_loop)["_run"] = self._script_runner.arun
        return await cast("Coroutine[Any, Any, T]", method(on_loop, *args, **kwargs))

    twin.__name__ = f"a{method.__name__}"
    twin.__qualname__ = method.__qualname__.removesuffix(method.__name__) + twin.__name__
    twin.__doc__ = f"As `{method.__name__}`."
    return twin
