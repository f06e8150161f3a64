"""What the methods of `saver.sessions`, `saver.threads` and `saver.state` share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, case, func, select, update

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.errors import InvalidConfigError, SessionNotFoundError
from langgraph_session_saver.projection.plain_json import shorten
from langgraph_session_saver.projection.rules import BUILT_IN_COLUMNS, FROM_STATE
from langgraph_session_saver.projection.status import STATUSES
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sessions.records import (
    Extended,
    SessionChanges,
    SessionRecord,
    Source,
    first,
)
from langgraph_session_saver.sql.scripts import Script, ScriptMethods, ScriptRunner, write_script
from langgraph_session_saver.validation import (
    check_moment,
    check_number,
    check_optional_id,
    check_text,
)

T = TypeVar("T")

LARGEST_INTEGER = (1 << 31) - 1
"""The largest number of an INTEGER column."""

_TEXT_LENGTHS = {"scope_type": 50, "status": 20}


class SessionMethods(ScriptMethods):
    """Base of the classes whose methods work on the sessions of one database."""

    def __init__(self, script_runner: ScriptRunner, context: Context) -> None:
        super().__init__(script_runner)
        self._context = context
        self._tables = context.tables
        self._sessions = with_thread_status(context.tables)

    def _find(self, conn: Connection, session_id: str) -> SessionRecord | None:
        s = self._sessions
        return first(conn, s, SessionRecord, s.c["id"] == session_id)

    def _existing(self, conn: Connection, session_id: str) -> SessionRecord:
        """Read a session, which must exist."""
        found = self._find(conn, session_id)
        if found is None:
            raise SessionNotFoundError(f"there is no session {session_id!r}: create it first")
        return found

    def _change(self, conn: Connection, session_id: str, columns: Mapping[str, Any]) -> bool:
        """Set columns by hand; False if the session does not exist.

        The session's threads are marked as changed where processes cache what changes here. Their
        rows are locked before the session's, in the order of a graph step.
        """
        threads, values = self._context.storage.threads, {"updated_at": utc_now(), **columns}
        if "owner_id" in columns:
            threads.change_owner(conn, session_id, columns["owner_id"])
        if columns.keys() & FROM_STATE:
            threads.outdate_columns(conn, session_id)
            values["checkpoint_id"] = None
        s = self._tables.sessions
        return conn.execute(update(s).where(s.c.id == session_id).values(values)).rowcount > 0

    def _touch(self, conn: Connection, session_id: str, **columns: Any) -> None:
        """Lock an existing session's row, and set `updated_at` and other columns."""
        if not self._change(conn, session_id, columns):
            self._existing(conn, session_id)  # it does not exist: this says so


@lru_cache(maxsize=64)
def with_thread_status(tables: Tables) -> Extended:
    """The table of sessions with the most urgent status of each one's threads, and its rank."""
    s, t = tables.sessions, tables.threads.c
    rank = case({status: n for n, status in enumerate(STATUSES, 1)}, value=t.status, else_=0)
    of_threads = select(t.status).where(t.session_id == s.c.id).correlate(s)
    return Extended.of(
        s,
        thread_status=of_threads.order_by(rank.desc()).limit(1).scalar_subquery(),
        thread_rank=func.coalesce(
            of_threads.with_only_columns(func.max(rank)).scalar_subquery(), 0
        ),
    )


def in_period(
    column: ColumnElement[datetime],
    since: datetime | None,
    before: datetime | None,
    prefix: str = "",
) -> list[ColumnElement[bool]]:
    """The conditions for times from `since` on and before `before`.

    The prefix is that of the arguments' names in error messages.
    """
    where = []
    if check_moment(f"{prefix}since", since) is not None:
        where.append(column >= since)
    if check_moment(f"{prefix}before", before) is not None:
        where.append(column < before)
    return where


def insert_once(
    insert_row: Callable[[Connection], T], table: Source, record: type[T], row: Mapping[str, Any]
) -> Script[T]:
    """Run an operation that inserts a row: only one, however often it is retried.

    A retry first looks for the row: the commit may have succeeded before the connection was lost.
    """
    is_row = [table.c[name] == value for name, value in row.items() if value is not None]
    is_retry = False

    def operation(conn: Connection) -> T:
        nonlocal is_retry
        found = first(conn, table, record, *is_row) if is_retry else None
        is_retry = True
        return insert_row(conn) if found is None else found

    return (yield from write_script(operation))


def validated_columns(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Validate what an application sets, as for a graph step, and convert it to columns."""
    settable = SessionChanges.__annotations__
    refuse_unknown("a session", changes, settable)
    columns: dict[str, Any] = {}
    # In this order, a given `build_artifacts` overrides that of a `BuildInfo`.
    for name in (name for name in settable if name in changes):
        value = changes[name]
        if name in {"owner_id", "scope_id"}:
            columns[name] = check_optional_id(name, value)
        elif limit := _TEXT_LENGTHS.get(name):
            columns[name] = None if value is None else check_text(name, value, limit)
        elif name == "round_sequence":
            columns[name] = 0 if value is None else check_number(name, value, LARGEST_INTEGER)
        elif name.startswith("model_"):
            columns |= projected_columns("model_usage", {name.removeprefix("model_"): value})
        else:
            columns |= projected_columns(name, value)
    return columns


def projected_columns(rule: str, value: Any) -> dict[str, Any]:
    """Convert a value to columns by a built-in projection's rule, which validates it."""
    read, expected = BUILT_IN_COLUMNS[rule]
    try:
        return dict(read(value))
    except ValueError as exc:
        raise InvalidConfigError(
            f"{rule} is {shorten(repr(value), 200)}, which is not {expected}: {exc}"
        ) from exc


def refuse_unknown(what: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse a mapping with other names than the known ones."""
    if unknown := sorted(map(str, given.keys() - set(known))):
        raise InvalidConfigError(
            f"{what} has no {', '.join(map(repr, unknown))}: use {', '.join(known)}"
        )
