"""Running scripts on a caller's connection, in the caller's transaction.

Nothing is committed, rolled back or retried here, and what the database refuses surfaces as
SQLAlchemy raised it: only the caller can run the whole transaction again.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from sqlalchemy import Connection

from langgraph_session_saver.errors import InvalidConfigError, WrongFaceError
from langgraph_session_saver.sql.cancellation import finish, in_thread
from langgraph_session_saver.sql.runner import Kind, Operation

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session

    SyncConnection: TypeAlias = Connection | Session | scoped_session[Any]
    AnyConnection: TypeAlias = (
        SyncConnection | AsyncConnection | AsyncSession | async_scoped_session[Any]
    )


_ASYNC = "sqlalchemy.ext.asyncio"

Run = Callable[[Operation[Any], Kind], Any]

ARun = Callable[[Operation[Any], Kind], Awaitable[Any]]

Check = Callable[[Connection], None]
"""Raises if the connection leads to another database than the saver's, or lacks its tables."""


def runner_on(given: Any, check: Check) -> Run:
    """Return a function that runs operations on a `Connection` or an ORM `Session`.

    Raises:
        WrongFaceError: The connection is async.
        InvalidConfigError: It is no connection, or leads to another database than the saver's.
        SchemaError: The tables are missing; they are not created in a caller's transaction.
    """
    if _is_async(given):
        raise WrongFaceError(
            f"connection is {_named(given)}, and this is a sync method: await its a… twin"
        )
    conn = _connection_of(given)
    _begin(conn, check)
    return lambda operation, _kind: operation(conn)


async def arunner_on(given: Any, check: Check) -> ARun:
    """As `runner_on`, for an `AsyncConnection`, an `AsyncSession` or a sync connection.

    Raises:
        WrongFaceError: A sync connection belongs to an AsyncEngine.
        InvalidConfigError: It is no connection, or leads to another database than the saver's.
        SchemaError: The tables are missing; they are not created in a caller's transaction.
    """
    if not _is_async(given):
        return await _in_threads(_connection_of(given), check)
    if _is_one_of(given, _ASYNC, ("AsyncSession", "async_scoped_session")):
        await given.flush()
        given = await given.connection()
    conn = cast("AsyncConnection", given)

    async def run(operation: Operation[Any], _kind: Kind) -> Any:
        return await finish(conn.run_sync(operation))

    await finish(conn.run_sync(lambda sync_conn: _begin(sync_conn, check)))
    return run


async def _in_threads(conn: Connection, check: Check) -> ARun:
    if conn.dialect.is_async:
        raise WrongFaceError(
            "connection is a sync one over an AsyncEngine: pass the AsyncConnection or "
            "AsyncSession itself, or call the sync method inside run_sync"
        )

    async def run(operation: Operation[Any], _kind: Kind) -> Any:
        return await in_thread(operation, conn)

    await in_thread(_begin, conn, check)
    return run


def _is_async(given: Any) -> bool:
    kinds = ("AsyncConnection", "AsyncSession", "async_scoped_session")
    return _is_one_of(given, _ASYNC, kinds)


def _is_one_of(given: Any, module: str, names: Sequence[str]) -> bool:
    """Whether an object is an instance of some classes of a module that may not be imported yet.

    Importing it would be slow, or need greenlet, and nobody has an instance before that.
    """
    found = sys.modules.get(module)
    return found is not None and isinstance(given, tuple(getattr(found, name) for name in names))


def _connection_of(given: Any) -> Connection:
    if _is_one_of(given, "sqlalchemy.orm", ("Session", "scoped_session")):
        given.flush()  # our rows may refer to rows that the session has not sent yet
        conn: Connection = given.connection()
        return conn
    if isinstance(given, Connection):
        return given
    raise InvalidConfigError(
        f"connection is {_named(given)}: pass a SQLAlchemy Connection or Session, or their async "
        "kinds to an a… method"
    )


def _begin(conn: Connection, check: Check) -> None:
    check(conn)
    if not conn.in_transaction():
        conn.begin()  # as SQLAlchemy does by itself, but not for statements on a driver's cursor


def _named(given: Any) -> str:
    return f"{'an' if type(given).__name__[0] in 'AEIOU' else 'a'} {type(given).__name__}"
