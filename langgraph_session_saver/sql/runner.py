"""The one way an operation runs on an engine, for both faces.

An operation is a plain function of a connection: it never opens, commits or retries. Everything
around it is here: the writers' queue, the transaction, retry on a fresh connection, and turning
the driver's errors into ours.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import (
    NullPool,
    Pool,
    QueuePool,
    SingletonThreadPool,
    StaticPool,
)
from sqlalchemy.util import greenlet_spawn
from tenacity import AsyncRetrying, Retrying, stop_after_delay
from tenacity.retry import retry_if_exception
from tenacity.wait import wait_random_exponential

from langgraph_session_saver.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    InvalidConfigError,
    SessionSaverError,
    StoragePermissionError,
    WrongFaceError,
)
from langgraph_session_saver.sql.compiled import Checkout, Spares, is_heard
from langgraph_session_saver.sql.dialects import dialect_for
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.sql.urls import address_of, is_file, said_by
from langgraph_session_saver.sql.writer_queue import Grouped, Outcome, WriterQueue, queue_for

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


T = TypeVar("T")

Operation = Callable[[Connection], T]

Kind = Literal["lookup", "read", "probe", "write", "step", "batch", "statement", "schema"]
"""A batch is one statement where the database takes it as one, else a transaction; a statement is
one everywhere. These and lookups are of compiled statements alone. A step is a write that is as
short as a batch. A probe is a read that is not tried again.
"""

_Write = tuple[Operation[Any], Kind]

logger = logging.getLogger("langgraph_session_saver")

RETRY_SECONDS = 30.0
"""How long a transient failure is retried: a failover takes seconds, a busy file less."""


class Runner:
    """Runs operations on one engine."""

    def __init__(self, engine: Engine | AsyncEngine, *, owned: bool = False) -> None:
        self.engine = engine
        self.owned = False
        self.sync_engine: Engine = cast("Engine", getattr(engine, "sync_engine", engine))
        self.is_async = self.sync_engine is not engine
        self.dialect: Dialect = dialect_for(self.sync_engine.dialect)
        self.closed = False
        self._reached = False
        self._queue = self._writer_queue()
        self._has_file = self._queue is not None and is_file(self.sync_engine.url.database)
        is_memory = self._queue is not None and not self._has_file
        # An AsyncEngine's connections belong to its loop, and its pool is disposed of with that.
        self._spares = None if is_memory or self.is_async else Spares(self.sync_engine)
        self._group: Grouped[_Write] = Grouped(self._run_together)
        self.grouped = _NONE
        """Kinds of operations that wait in line together for a file's one writer."""
        # Writers take turns; over one shared connection, so do readers.
        shares_connection = isinstance(self.sync_engine.pool, StaticPool)
        self._without_turn = _NONE if shares_connection else _READS
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        if owned:
            self.own()

    def own(self) -> None:
        """Take over an engine that was made for this saver alone."""
        self.owned = True
        if self._has_file and not self.is_async:
            self.grouped = _GROUPED

    def _writer_queue(self) -> WriterQueue | None:
        if not self.dialect.single_writer:
            return None
        database = self.sync_engine.url.database
        if is_file(database):
            return queue_for(str(Path(str(database)).absolute()))
        pool = self.sync_engine.pool
        if isinstance(pool, SingletonThreadPool | NullPool) or _holds_several(pool):
            raise InvalidConfigError(
                "this engine's pool makes more than one memory database, each empty: create it "
                "with poolclass=QueuePool, pool_size=1, max_overflow=0 and "
                "connect_args={'check_same_thread': False}, or use SessionSaver.from_conn_string"
                "(':memory:')"
            )
        return WriterQueue()

    # -- the one way per face ---------------------------------------------------------------

    def run(self, operation: Operation[T], kind: Kind) -> T:
        """Run an operation, in a transaction of its own if it writes; sync."""
        if self.is_async:
            return self._from_other_thread(lambda: self.arun(operation, kind))  # type: ignore[no-any-return]
        once = self._run_in_group if kind in self.grouped else self._run_once
        try:
            try:
                return once(operation, kind)
            except Exception as exc:
                if kind == "probe" or not self._is_transient(exc):
                    raise
                _pause_before_retry()
            retrying = Retrying(**self._retry_policy())
            return retrying(once, operation, kind)  # type: ignore[no-any-return]
        except SQLAlchemyError as exc:
            raise self._translated(exc, kind) from exc

    async def arun(self, operation: Operation[T], kind: Kind) -> T:
        """Run an operation, in a transaction of its own if it writes; async."""
        if not self.is_async and kind not in self.grouped:
            return await asyncio.to_thread(self.run, operation, kind)
        once = self._arun_once if self.is_async else self._arun_in_group
        try:
            try:
                return await once(operation, kind)
            except Exception as exc:
                if kind == "probe" or not self._is_transient(exc):
                    raise
                await asyncio.sleep(_FIRST_PAUSE)
            retrying = AsyncRetrying(**self._retry_policy())
            return await retrying(once, operation, kind)
        except SQLAlchemyError as exc:
            raise self._translated(exc, kind) from exc

    def _run_once(self, operation: Operation[T], kind: Kind) -> T:
        queue = self._queue
        if queue is None or kind in self._without_turn:
            return self._connected(operation, kind)
        with queue:
            return self._connected(operation, kind)

    def _run_in_group(self, operation: Operation[T], kind: Kind) -> T:
        return self._group.run((operation, kind))  # type: ignore[no-any-return]

    async def _arun_in_group(self, operation: Operation[T], kind: Kind) -> T:
        return await self._group.arun((operation, kind))  # type: ignore[no-any-return]

    def _run_together(self, writes: Sequence[_Write]) -> list[Outcome]:
        """Run writes in one transaction or, where one of them fails, each in its own."""
        if len(writes) > 1:
            try:
                kind: Kind = "step" if any(kind == "step" for _, kind in writes) else "batch"
                values = self._run_once(lambda conn: [run(conn) for run, _ in writes], kind)
                return [Outcome(value) for value in values]
            except Exception:  # noqa: BLE001 - it is found out below whose it is
                logger.debug("%d writes failed together: each is run alone", len(writes))
        return [self._outcome(*write) for write in writes]

    def _outcome(self, operation: Operation[Any], kind: Kind) -> Outcome:
        try:
            return Outcome(self._run_once(operation, kind))
        except Exception as exc:  # noqa: BLE001 - whoever asked for it raises it
            return Outcome(None, exc)

    async def _arun_once(self, operation: Operation[T], kind: Kind) -> T:
        self._loop = weakref.ref(asyncio.get_running_loop())
        queue = self._queue
        async with _NO_TURN if queue is None or kind in self._without_turn else queue:
            return await greenlet_spawn(self._connected, operation, kind)

    def _connected(self, operation: Operation[T], kind: Kind) -> T:
        with self._connect(kind) as conn:
            return self._execute(conn, operation, kind)

    def run_within(self, conn: Connection, operation: Operation[T], kind: Kind) -> T:
        """Run an operation on a caller's connection, within its transaction if it is in one."""
        try:
            if conn.in_transaction():
                if kind != "read":
                    self.dialect.join_transaction(conn)
                return operation(conn)
            return self._execute(conn, operation, kind)
        except SQLAlchemyError as exc:
            raise self._translated(exc, kind) from exc

    def _execute(self, conn: Connection, operation: Operation[T], kind: Kind) -> T:
        if kind in _READS:
            self.dialect.leave_transactions(conn)
            return operation(conn)
        if kind == "schema":
            return self.dialect.in_schema_transaction(conn, operation)
        if kind == "statement" or (kind == "batch" and self.dialect.takes_batches(conn)):
            return self.dialect.alone(conn, operation)
        return self.dialect.in_transaction(conn, operation)

    # -- connections ------------------------------------------------------------------------

    def _connect(self, kind: Kind) -> Connection | Checkout:
        self._refuse_closed()
        engine = self.sync_engine
        is_plain = self.owned and kind in _COMPILED and not is_heard(engine)
        try:
            if is_plain and self._spares is not None:
                conn: Connection | Checkout = self._spares.take()
            else:
                conn = Checkout(engine) if is_plain else engine.connect()
        except (SQLAlchemyError, OSError) as exc:
            raise self._unreachable(exc) from exc
        self._reached = True
        return conn

    def _refuse_closed(self) -> None:
        if self.closed:
            raise InvalidConfigError("this SessionSaver is closed: create another one")

    def _unreachable(self, exc: BaseException) -> SessionSaverError:
        url = self.sync_engine.url
        if self.dialect.cannot_open(exc):
            return StoragePermissionError(
                f"the database file {address_of(url)} cannot be opened ({said_by(exc)}): name one "
                "that can be written, in a directory that can be"
            )
        return UnreachableError(
            f"the {url.get_backend_name()} database at {address_of(url)} cannot be reached: "
            f"{said_by(exc)}. Check that it is up and that the URL is right",
            # A file that exists may be busy before the first connection is made to it.
            transient=self._reached
            or (self.dialect.single_writer and self.dialect.is_transient(exc)),
        )

    # -- retry and errors -------------------------------------------------------------------

    def _is_transient(self, exc: BaseException) -> bool:
        if isinstance(exc, UnreachableError):
            return exc.transient
        return self.dialect.is_transient(exc)

    def _retry_policy(self) -> dict[str, Any]:
        return {
            "retry": retry_if_exception(self._is_transient),
            "stop": stop_after_delay(RETRY_SECONDS),
            "wait": wait_random_exponential(multiplier=0.02, max=2.0),
            "reraise": True,
        }

    def _translated(self, exc: SQLAlchemyError, kind: Kind) -> Exception:
        if isinstance(exc, IntegrityError):
            return BrokenReferenceError(said_by(exc))
        url = self.sync_engine.url
        if self.dialect.is_transient(exc):
            tried = "" if kind == "probe" else f" for {RETRY_SECONDS:.0f} seconds"
            return DatabaseUnavailableError(
                f"the {url.get_backend_name()} database at {address_of(url)} kept failing{tried}: "
                f"{said_by(exc)}"
            )
        message = f"the {url.get_backend_name()} database refused a statement: {said_by(exc)}"
        if isinstance(exc, DBAPIError) and "readonly" in str(exc.orig).replace("-", ""):
            return StoragePermissionError(message)
        return DatabaseError(message)

    # -- sync calls over an AsyncEngine -------------------------------------------------------

    def _from_other_thread(self, call: Callable[[], Any]) -> Any:
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
        return asyncio.run_coroutine_threadsafe(call(), loop).result()

    # -- the end ----------------------------------------------------------------------------

    def close(self) -> None:
        """Dispose of the engine if it was made here."""
        self.closed = True
        if not self.owned:
            return
        if self.is_async:
            # Without a running loop the connections of an AsyncEngine can only be dropped.
            self.sync_engine.dispose(close=False)
        else:
            self._dispose()

    async def aclose(self) -> None:
        """Dispose of the engine if it was made here."""
        self.closed = True
        if not self.owned:
            return
        if self.is_async:
            await self.engine.dispose()  # type: ignore[misc]
        else:
            await asyncio.to_thread(self._dispose)

    def _dispose(self) -> None:
        if self._spares is not None:
            self._spares.close()
        self.sync_engine.dispose()


class UnreachableError(DatabaseUnavailableError):
    """No connection could be made: worth another try only where there was one before."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class BrokenReferenceError(SessionSaverError):
    """A row refers to one that another process deleted; the caller knows what to do about it."""


def _holds_several(pool: Pool) -> bool:
    most = getattr(pool, "_max_overflow", 0)
    return isinstance(pool, QueuePool) and (pool.size() != 1 or most != 0)


_FIRST_PAUSE = 0.005

_NO_TURN = nullcontext()

_READS: frozenset[Kind] = frozenset(("lookup", "read", "probe"))

_COMPILED = frozenset(("lookup", "batch", "statement"))

_GROUPED: frozenset[Kind] = frozenset(("step", "batch", "statement"))

_NONE: frozenset[Kind] = frozenset()


def _pause_before_retry() -> None:
    time.sleep(_FIRST_PAUSE)
