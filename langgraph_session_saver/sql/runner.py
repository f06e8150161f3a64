"""The one way an operation runs on an engine, for both faces.

An operation is a plain function of a connection: it never opens, commits or retries. This module
adds the turn in the writer queue, the transaction, retries on a fresh connection, and the
translation of the driver's errors into ours.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    nullcontext,
)
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from sqlalchemy import Connection, Engine, Executable
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import NullPool, Pool, QueuePool, SingletonThreadPool, StaticPool
from tenacity import AsyncRetrying, RetryCallState, Retrying, stop_after_delay
from tenacity.retry import retry_if_exception
from tenacity.wait import wait_random_exponential

from langgraph_session_saver.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    InvalidConfigError,
    PoolExhaustedError,
    SessionSaverError,
    StorageFullError,
    StoragePermissionError,
    WrongFaceError,
    WrongLoopError,
)
from langgraph_session_saver.log import logger
from langgraph_session_saver.sql.cancellation import Call, current_call, finish, in_thread
from langgraph_session_saver.sql.compiled import replace_connections
from langgraph_session_saver.sql.dialects import dialect_for
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.sql.line import Line
from langgraph_session_saver.sql.urls import address_of, said_by
from langgraph_session_saver.sql.writer_queue import Outcome, WriterQueue, queue_for

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")
Operation = Callable[[Connection], T]

Kind = Literal["read", "probe", "write", "step", "batch", "statement", "schema", "maintenance"]
"""How an operation is run.

Reads and probes write nothing; a probe is not retried. The others run in a transaction: a write
in one of its own; a step, a batch and a statement in one that they may share with others that wait
for SQLite's writer. A batch is a single statement where the database takes it as one, a statement
is one everywhere, and both then need no transaction. A schema operation may rebuild tables.
Maintenance is what a database does outside a transaction only, and is not retried.
"""

_Write = tuple[Operation[Any], Kind]


RETRY_SECONDS = 30.0
"""How long a transient failure, such as a failover, is retried by default."""

_AFTER_OUTAGE = wait_random_exponential(multiplier=0.02, max=2.0)
_AFTER_CONFLICT = wait_random_exponential(multiplier=0.02, max=0.2)
"""The database is there, and whoever pauses for longer loses to those who do not."""

_READS: frozenset[Kind] = frozenset(("read", "probe"))
_ALONE: frozenset[Kind] = _READS | {"maintenance"}
_ONCE: frozenset[Kind] = frozenset(("probe", "maintenance"))
_SHARING: frozenset[Kind] = frozenset(("step", "batch", "statement"))
_FIRST_PAUSE = 0.005


class Runner:
    """Runs operations on one engine.

    Args:
        engine: The engine.
        owned: Whether it is disposed of with the saver.
        retry_for: Seconds that a transient failure is retried for.
    """

    def __init__(
        self,
        engine: Engine | AsyncEngine,
        *,
        owned: bool = False,
        retry_for: float = RETRY_SECONDS,
    ) -> None:
        self.engine = engine
        self.owned = owned
        self.retry_for = retry_for
        self.sync_engine: Engine = cast("Engine", getattr(engine, "sync_engine", engine))
        if not isinstance(self.sync_engine, Engine):
            raise InvalidConfigError(
                f"engine is a {type(engine).__name__}: pass a SQLAlchemy Engine or AsyncEngine. "
                "SessionSaver.from_conn_string(url) makes a saver from a URL or a file path"
            )
        self.is_async = self.sync_engine is not engine
        self.dialect: Dialect = dialect_for(self.sync_engine.dialect)
        raw_errors = self.dialect.raw_errors(self.sync_engine.dialect.driver)
        self._errors: tuple[type[Exception], ...] = (SQLAlchemyError, *raw_errors)
        self._connect_errors: tuple[type[Exception], ...] = (OSError, *self._errors)
        self.closed = False
        self._reached = False
        self._schema_names = _schema_names(self.sync_engine)
        self._file = self.dialect.database_file(self.sync_engine.url)
        self._is_memory = self.dialect.single_writer and self._file is None
        self._queue = self._writer_queue()
        # Over one shared connection readers take turns with the writers.
        self._shares_connection = isinstance(self.sync_engine.pool, StaticPool)
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._places: asyncio.Semaphore | None = None
        limit = _limit(self.sync_engine.pool)
        self._line = None if self.is_async or limit is None else Line(limit)
        _all_runners.add(self)

    def own(self) -> None:
        """Take over an engine that was made for this saver: it is disposed of with the saver."""
        self.owned = True

    @property
    def groups_writes(self) -> bool:
        """Whether short writes that wait for the file's one writer share a transaction."""
        return self.owned and self._file is not None and not self.is_async

    def _writer_queue(self) -> WriterQueue | None:
        if not self.dialect.single_writer:
            return None
        if self._file is not None:
            return queue_for(str(self._file))
        pool = self.sync_engine.pool
        if isinstance(pool, SingletonThreadPool | NullPool) or _holds_several(pool):
            raise InvalidConfigError(
                "this engine's pool makes more than one memory database, each empty: create it "
                "with poolclass=QueuePool, pool_size=1, max_overflow=0 and "
                "connect_args={'check_same_thread': False}, or use SessionSaver.from_conn_string"
                "(':memory:')"
            )
        return WriterQueue()

    # -- running operations -----------------------------------------------------------------

    def run(self, operation: Operation[T], kind: Kind) -> T:
        """Run an operation, blocking; in a transaction if it writes."""
        if self.is_async:
            return self._from_other_thread(lambda: self.arun(operation, kind))  # type: ignore[no-any-return]
        try:
            try:
                return self._attempt(operation, kind)
            except Exception as exc:
                if not self._retries(exc, kind):
                    raise
            time.sleep(_FIRST_PAUSE)
            retrying = Retrying(**self._retry_policy())
            return retrying(self._attempt, operation, kind)  # type: ignore[no-any-return]
        except self._errors as exc:
            raise self._translated(exc, kind) from _cause(exc)

    async def arun(self, operation: Operation[T], kind: Kind) -> T:
        """As `run`, on the event loop, or over a plain engine in a thread."""
        try:
            try:
                return await self._aattempt(operation, kind)
            except Exception as exc:
                if not self._retries(exc, kind):
                    raise
            await asyncio.sleep(_FIRST_PAUSE)
            retrying = AsyncRetrying(**self._retry_policy())
            return await retrying(self._aattempt, operation, kind)
        except self._errors as exc:
            raise self._translated(exc, kind) from _cause(exc)

    def run_within(self, conn: Connection, operation: Operation[T], kind: Kind) -> T:
        """Run an operation on a caller's connection, within its transaction if it is in one."""
        try:
            if not conn.in_transaction():
                return self._execute(conn, operation, kind)
            if kind != "read":
                self.dialect.join_transaction(conn)
            return operation(conn)
        except self._errors as exc:
            raise self._translated(exc, kind) from _cause(exc)

    def _attempt(self, operation: Operation[T], kind: Kind) -> T:
        queue = self._queue
        if queue is None or (kind in _READS and not self._shares_connection):
            return self._connected(operation, kind)
        if self.groups_writes and kind in _SHARING:
            return queue.run((operation, kind), self._run_together)  # type: ignore[no-any-return]
        with queue.turn():
            return self._connected(operation, kind)

    async def _aattempt(self, operation: Operation[T], kind: Kind) -> T:
        queue = self._queue
        if not self.is_async:
            if queue is not None and self.groups_writes and kind in _SHARING:
                return await queue.arun((operation, kind), self._run_together)  # type: ignore[no-any-return]
            return await in_thread(self._attempt, operation, kind)
        if queue is None or (kind in _READS and not self._shares_connection):
            return await self._aconnected(operation, kind, nullcontext())
        return await self._aconnected(operation, kind, queue.aturn())

    def _run_together(self, writes: Sequence[_Write]) -> list[Outcome]:
        """Run writes in one transaction or, where one of them fails, each in its own."""
        if len(writes) > 1:
            try:
                values = self._connected(lambda conn: [run(conn) for run, _ in writes], "step")
                return [Outcome(value) for value in values]
            except Exception:  # noqa: BLE001 - running each alone shows which one it was
                logger.debug("%d writes failed together: each is run alone", len(writes))
        return [self._outcome(*write) for write in writes]

    def _outcome(self, operation: Operation[Any], kind: Kind) -> Outcome:
        try:
            return Outcome(self._connected(operation, kind))
        except Exception as exc:  # noqa: BLE001 - the caller of this write raises it
            return Outcome(None, exc)

    def _connected(self, operation: Operation[T], kind: Kind) -> T:
        self._refuse_closed()
        call, pool = current_call.get(), self.sync_engine.pool
        with self._in_line():
            if call is not None:
                call.set_waiting(is_waiting=_is_exhausted(pool))
            try:
                conn = self.sync_engine.connect()
            except self._connect_errors as exc:
                raise self._unreachable(exc) from _cause(exc)
            self._reached = True
            with conn:
                if call is not None:
                    call.set_waiting(is_waiting=False)
                return self._use(conn, operation, kind)

    def _in_line(self) -> AbstractContextManager[None]:
        """As `_place`, for a thread."""
        pool = self.sync_engine.pool
        if self._line is None or not isinstance(pool, QueuePool):
            return nullcontext()
        return self._line.turn(pool.timeout(), self._exhausted)

    async def _aconnected(
        self, operation: Operation[T], kind: Kind, turn: AbstractAsyncContextManager[None]
    ) -> T:
        """As `_connected`, in a turn. A cancelled task waits for the operation, not for its turn.

        The operation keeps its turn and its place to its end, if its task does not wait for that.
        """
        self._refuse_closed()
        self._refuse_other_loop()
        call = Call()

        async def use() -> T:
            async with turn, self._place():
                # A connection that is being made is waited for: left half made, it would stay open.
                call.set_waiting(is_waiting=_is_exhausted(self.sync_engine.pool))
                try:
                    conn = await cast("AsyncEngine", self.engine).connect()
                except self._connect_errors as exc:
                    raise self._unreachable(exc) from _cause(exc)
                self._reached = True
                try:
                    call.set_waiting(is_waiting=False)
                    return await conn.run_sync(self._use, operation, kind)
                finally:
                    await conn.close()

        return await finish(use(), call, then="leave" if self.dialect.in_process else "cancel")

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Wait for one of the pool's connections, in the order of asking.

        The pool gives a connection that is returned to the next task that asks, even if others
        wait: among hundreds, some would wait until its timeout.
        """
        places, pool = self._places, self.sync_engine.pool
        if places is None or not isinstance(pool, QueuePool):
            yield
            return
        try:
            async with asyncio.timeout(pool.timeout()):
                await places.acquire()
        except TimeoutError:
            raise self._exhausted() from None
        try:
            yield
        finally:
            places.release()

    def _use(self, conn: Connection, operation: Operation[T], kind: Kind) -> T:
        """Run an operation on a connection of the pool."""
        self._keep_schemas(conn)
        try:
            return self._execute(conn, operation, kind)
        except Exception as exc:
            if self.dialect.needs_new_connection(exc) and not self._is_memory:
                replace_connections(conn, exc)
            raise

    def _execute(self, conn: Connection, operation: Operation[T], kind: Kind) -> T:
        if kind in _ALONE:
            self.dialect.use_autocommit(conn)
            return operation(conn)
        if kind == "schema":
            around = self.dialect.schema_transaction(conn)
        elif kind == "statement" or (kind == "batch" and self.dialect.takes_batches(conn)):
            around = self.dialect.one_statement(conn)
        else:
            around = self.dialect.transaction(conn)
        with around:
            return operation(conn)

    # -- schemas ----------------------------------------------------------------------------

    def _keep_schemas(self, conn: Connection) -> None:
        """Run statements with the schemas they name: `translated` has applied the engine's map."""
        names = _schema_names(conn)
        if names != self._schema_names:
            raise InvalidConfigError(
                f"the connection has the schema_translate_map {names!r}, and the saver was made "
                f"with {self._schema_names!r}: make one saver for each map, on "
                "engine.execution_options(schema_translate_map=…)"
            )
        if names:
            conn.execution_options(schema_translate_map=None)

    def check_borrowed(self, conn: Connection) -> None:
        """Verify that a caller's connection leads to the saver's kind of database and schema.

        Raises:
            InvalidConfigError: It leads elsewhere.
        """
        if type(dialect_for(conn.dialect)) is not type(self.dialect):
            raise InvalidConfigError(
                f"connection leads to a {conn.dialect.name} database, which is not the saver's"
            )
        names = _schema_names(conn)
        if names != self._schema_names or any(names.get(n, n) != n for n in names.values()):
            raise InvalidConfigError(
                f"connection has the schema_translate_map {names!r}, and the saver was made with "
                f"{self._schema_names!r}: pass a connection of the saver's engine"
            )

    # -- retry and errors -------------------------------------------------------------------

    def _retries(self, exc: Exception, kind: Kind) -> bool:
        """Whether to retry after a first failure, which is logged."""
        if kind in _ONCE or not self.retry_for or not self._is_transient(exc):
            return False
        # Deadlocks and busy files are part of ordinary work, and lost servers are not.
        is_lost = not self.dialect.single_writer and (
            isinstance(exc, UnreachableError) or getattr(exc, "connection_invalidated", False)
        )
        url = self.sync_engine.url
        logger.log(
            logging.WARNING if is_lost else logging.INFO,
            "the %s database at %s failed (%s): retrying for up to %g seconds",
            url.get_backend_name(), address_of(url), said_by(exc), self.retry_for,
        )  # fmt: skip
        return True

    def _is_transient(self, exc: BaseException) -> bool:
        if isinstance(exc, UnreachableError):
            return exc.transient
        return self.dialect.is_transient(exc)

    def _retry_policy(self) -> dict[str, Any]:
        return {
            "retry": retry_if_exception(self._is_transient),
            "stop": stop_after_delay(self.retry_for),
            "wait": self._seconds_to_wait,
            "reraise": True,
        }

    def _seconds_to_wait(self, state: RetryCallState) -> float:
        exc = state.outcome.exception() if state.outcome else None
        is_conflict = exc is not None and self.dialect.is_conflict(exc)
        return (_AFTER_CONFLICT if is_conflict else _AFTER_OUTAGE)(state)

    def _unreachable(self, exc: Exception) -> SessionSaverError:
        """The error for a connection that could not be made."""
        pool, url = self.sync_engine.pool, self.sync_engine.url
        if isinstance(exc, PoolTimeoutError):
            return PoolExhaustedError(
                f"no connection of the engine's {type(pool).__name__} for {address_of(url)} "
                f"became free in time ({pool.status()}; {said_by(exc)}). Raise pool_size and "
                "max_overflow, run fewer graphs at once, or look for connections that are kept "
                "open while a model is waited for"
            )
        if self.dialect.is_forbidden(exc):
            return self._forbidden(exc)
        return UnreachableError(
            f"the {url.get_backend_name()} database at {address_of(url)} cannot be reached: "
            f"{said_by(exc)}. Check that it is up and that the URL is right",
            # A file that exists may be busy before the first connection is made to it.
            transient=self._reached
            or (self.dialect.single_writer and self.dialect.is_transient(exc)),
        )

    def _exhausted(self) -> SessionSaverError:
        """The error for a call that no other call has left a connection to."""
        return self._unreachable(PoolTimeoutError("other calls use all of them"))

    def _translated(self, exc: Exception, kind: Kind) -> SessionSaverError:
        """Our error for one of SQLAlchemy's or the driver's."""
        url = self.sync_engine.url
        refused = f"the {url.get_backend_name()} database refused a statement: {said_by(exc)}"
        if isinstance(exc, IntegrityError):
            return BrokenReferenceError(refused)
        if self.dialect.is_forbidden(exc):
            return self._forbidden(exc)
        if self.dialect.is_transient(exc):
            is_retried = kind not in _ONCE and self.retry_for
            tried = f" for {self.retry_for:g} seconds" if is_retried else ""
            return DatabaseUnavailableError(
                f"the {url.get_backend_name()} database at {address_of(url)} kept failing{tried}: "
                f"{said_by(exc)}"
            )
        if self.dialect.is_full(exc):
            return StorageFullError(
                f"the {url.get_backend_name()} database at {address_of(url)} has no space left "
                f"({said_by(exc)}). Nothing of this call was stored: make room, for example with "
                "keep_last= or sweep(), and run the thread again"
            )
        return DatabaseError(refused)

    def _forbidden(self, exc: Exception) -> StoragePermissionError:
        url = self.sync_engine.url
        return StoragePermissionError(
            f"the {url.get_backend_name()} database at {address_of(url)} refused access "
            f"({said_by(exc)}). Nothing of this call was stored: {self.dialect.how_to_permit(url)}"
        )

    # -- event loops --------------------------------------------------------------------------

    def _refuse_other_loop(self) -> None:
        """Refuse an event loop other than the one that the engine's connections belong to."""
        running = asyncio.get_running_loop()
        known = self._loop() if self._loop else None
        if self._loop is not None and known is not running and _has_connections(self.sync_engine):
            raise WrongLoopError(
                "this saver's AsyncEngine has connections that belong to another event loop"
                f"{', which is closed' if known is None or known.is_closed() else ''}: use one "
                "saver for each event loop, or await saver.aclose() (for an engine of your own: "
                "await engine.dispose()) before its loop ends"
            )
        if known is not running:
            self._loop = weakref.ref(running)
            limit = _limit(self.sync_engine.pool)
            self._places = None if limit is None else asyncio.Semaphore(limit)

    def _from_other_thread(self, call: Callable[[], Any]) -> Any:
        """Run a coroutine on the event loop of an AsyncEngine, from another thread."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise WrongFaceError(
                "a sync method was called on the event loop's own thread over an AsyncEngine, "
                "where it would wait for itself: await the a… twin (aput, aget_tuple, ainvoke …), "
                "or give SessionSaver an Engine"
            )
        loop = self._loop() if self._loop else None
        if loop is None or not loop.is_running():
            raise WrongFaceError(
                "a sync method was called over an AsyncEngine, and no running event loop has used "
                "that engine: call the a… twins, or give SessionSaver an Engine"
            )
        future = asyncio.run_coroutine_threadsafe(call(), loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    # -- closing ----------------------------------------------------------------------------

    def _refuse_closed(self) -> None:
        if self.closed:
            raise InvalidConfigError("this SessionSaver is closed: create another one")

    def close(self) -> None:
        """Dispose of the engine if the saver made it."""
        self.closed = True
        if self.owned:
            # Without a running loop the connections of an AsyncEngine can only be dropped.
            self.sync_engine.dispose(close=not self.is_async)

    async def aclose(self) -> None:
        """Dispose of the engine if the saver made it."""
        self.closed = True
        if not self.owned:
            return
        if self.is_async:
            await cast("AsyncEngine", self.engine).dispose()
        else:
            await asyncio.to_thread(self.sync_engine.dispose)

    def forget_connections(self) -> None:
        """After a fork, leave the connections of the saver's engine to the parent process."""
        if not self.owned or self._is_memory:
            return  # a memory database was copied with the process
        _inherited.append(self.sync_engine.pool)
        self.sync_engine.dispose(close=False)
        self._loop = None


_all_runners: weakref.WeakSet[Runner] = weakref.WeakSet()

_inherited: list[Pool] = []
"""Pools of the parent process, kept alive: a driver may end a connection that is collected."""


def _forget_in_child() -> None:
    for runner in list(_all_runners):
        runner.forget_connections()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


class UnreachableError(DatabaseUnavailableError):
    """No connection could be made; transient if there was one before."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class BrokenReferenceError(DatabaseError):
    """A constraint refused a row: mostly one that refers to a row that another process deleted.

    Callers handle it. What they cannot mend, such as a constraint of an application's table, is an
    error of the database to whoever called them.
    """


def translated(bind: Engine | Connection, schema: str | None) -> str | None:
    """The schema that the `schema_translate_map` of an engine or connection makes of another."""
    return _schema_names(bind).get(schema, schema)


def _schema_names(bind: Engine | Connection) -> Mapping[str | None, str | None]:
    return bind.get_execution_options().get("schema_translate_map") or {}


def execute_own(
    conn: Connection, statement: Executable, rows: Sequence[Mapping[str, Any]] | None = None
) -> None:
    """Run a statement on an application's own tables, with the map of the engine's schemas."""
    names = _schema_names(conn.engine)
    conn.execute(statement, rows, execution_options={"schema_translate_map": names})


def _cause(exc: BaseException) -> BaseException:
    """The driver's own error behind SQLAlchemy's."""
    return getattr(exc, "orig", None) or exc


def _holds_several(pool: Pool) -> bool:
    return isinstance(pool, QueuePool) and (pool.size() != 1 or _max_overflow(pool) != 0)


def _is_exhausted(pool: Pool) -> bool:
    """Whether the next caller waits until a connection is returned."""
    limit = _limit(pool)
    return limit is not None and cast("QueuePool", pool).checkedout() >= limit


def _limit(pool: Pool) -> int | None:
    """The most connections that a pool makes, None without a limit."""
    if not isinstance(pool, QueuePool) or _max_overflow(pool) < 0:
        return None
    return pool.size() + _max_overflow(pool)


def _max_overflow(pool: QueuePool) -> int:
    return getattr(pool, "_max_overflow", 0)


def _has_connections(engine: Engine) -> bool:
    pool = engine.pool
    return isinstance(pool, QueuePool) and pool.checkedin() + pool.checkedout() > 0
