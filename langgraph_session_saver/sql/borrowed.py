"""Running scripts on a caller's connection, in the caller's transaction.

Nothing is committed, rolled back or retried here, and what the database refuses surfaces as
SQLAlchemy raised it: only the caller can run the whole transaction again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Connection

from langgraph_session_saver.errors import InvalidConfigError, WrongFaceError
from langgraph_session_saver.sql.cancellation import Then, finish, in_thread
from langgraph_session_saver.sql.dialects import dialect_for

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session

    SyncConnection: TypeAlias = Connection | Session | scoped_session[Any]
    AsyncKind: TypeAlias = AsyncConnection | AsyncSession | async_scoped_session[Any]
    AnyConnection: TypeAlias = SyncConnection | AsyncKind


def connection_of(given: Any) -> Connection:
    """Return a `Connection`, or that of an ORM `Session`.

    Raises:
        WrongFaceError: It is async.
        InvalidConfigError: It is no connection.
    """
    if _is_async(given):
        raise WrongFaceError(
            f"connection is {_named(given)}, and this is a sync method: await its a… twin"
        )
    if _is_one_of(given, "Session", "scoped_session"):
        given.flush()  # our rows may refer to rows that the session has not sent yet
        given = given.connection()
    if isinstance(given, Connection):
        return given
    raise InvalidConfigError(
        f"connection is {_named(given)}: pass a SQLAlchemy Connection or Session, or their async "
        "kinds to an a… method"
    )


async def arunner_on(given: Any) -> Callable[[Callable[[Connection], Any]], Awaitable[Any]]:
    """Return a function that runs operations on a connection or ORM session, async or not.

    Raises:
        WrongFaceError: A sync connection belongs to an AsyncEngine.
        InvalidConfigError: It is no connection.
    """
    if not _is_async(given):
        conn = connection_of(given)
        if conn.dialect.is_async:
            raise WrongFaceError(
                "connection is a sync one over an AsyncEngine: pass the AsyncConnection or "
                "AsyncSession itself, or call the sync method inside run_sync"
            )
        return lambda operation: in_thread(operation, conn, then="wait")
    if not _is_one_of(given, "AsyncConnection"):
        await given.flush()
        given = await given.connection()
    then: Then = "wait" if dialect_for(given.dialect).in_process else "cancel"
    return lambda operation: finish(given.run_sync(operation), then=then)


def _is_async(given: Any) -> bool:
    return _is_one_of(given, "AsyncConnection", "AsyncSession", "async_scoped_session")


def _is_one_of(given: Any, *names: str) -> bool:
    """Whether an object is of a class of SQLAlchemy, whose import is slow or needs greenlet."""
    return any(
        kind.__name__ in names and kind.__module__.startswith("sqlalchemy.")
        for kind in type(given).__mro__
    )


def _named(given: Any) -> str:
    return f"{'an' if type(given).__name__[0] in 'AEIOU' else 'a'} {type(given).__name__}"
