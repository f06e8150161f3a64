"""What the methods of `saver.sessions`, `saver.threads` and `saver.state` share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, select, update

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.errors import (
    AccessDeniedError,
    InvalidConfigError,
    SessionNotFoundError,
)
from langgraph_session_saver.projection.plain_json import shorten
from langgraph_session_saver.projection.rules import BUILT_IN_COLUMNS, FROM_STATE
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.sessions.records import (
    SessionChanges,
    SessionRecord,
    View,
    first,
)
from langgraph_session_saver.sessions.views import views_of
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

_CONTENT = FROM_STATE | {"title", "content", "html", "description"}
"""Columns, of sessions and of their rows, that an encrypting saver does not set."""

_TEXT_LENGTHS = {"scope_type": 50, "status": 20}


class SessionMethods(ScriptMethods):
    """Base of the classes whose methods work on the sessions of one database."""

    def __init__(self, script_runner: ScriptRunner, context: Context) -> None:
        super().__init__(script_runner)
        self._context = context
        self._tables = context.tables
        self._views = views_of(context.tables, context.owner_id)

    def _find(self, conn: Connection, session_id: str) -> SessionRecord | None:
        s = self._views.sessions
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

        Raises:
            AccessDeniedError: It is another owner's, or would be.
        """
        self._check_own(conn, session_id, columns)
        threads, values = self._context.storage.threads, {"updated_at": utc_now(), **columns}
        if "owner_id" in columns:
            threads.change_owner(conn, session_id, columns["owner_id"])
        if columns.keys() & FROM_STATE:
            threads.outdate_columns(conn, session_id)
            values["checkpoint_id"] = None
        s = self._tables.sessions
        is_its = (s.c.id == session_id, *self._views.sessions.where)
        return conn.execute(update(s).where(*is_its).values(values)).rowcount > 0

    def _check_in_clear(self, changes: Mapping[str, Any]) -> None:
        """Check that columns may show, in clear, what the saver's serde encrypts."""
        shown = [name for name, value in changes.items() if value is not None and name in _CONTENT]
        if shown and not self._context.shows_state:
            raise InvalidConfigError(
                f"{', '.join(shown)} would be stored in clear, and this saver's serde encrypts: "
                "keep it in the graph's state, or ask for columns in clear with projections={}"
            )

    def _check_own(
        self, conn: Connection, session_id: str, columns: Mapping[str, Any] | None = None
    ) -> None:
        """Check that a saver for an owner may set columns of a session, which need not exist."""
        limit = self._context.owner_id
        if limit is None:
            return
        if (columns or {}).get("owner_id", limit) != limit:
            raise AccessDeniedError(
                "a saver of for_owner(…) cannot give a session away: leave owner_id out"
            )
        s = self._tables.sessions.c
        owner_ids = conn.execute(select(s.owner_id).where(s.id == session_id)).scalars().all()
        if any(owner_id != limit for owner_id in owner_ids):
            raise AccessDeniedError(
                f"session {session_id!r} is not of the owner that this saver is for: use another "
                "session_id"
            )

    def _touch(self, conn: Connection, session_id: str, **columns: Any) -> None:
        """Lock an existing session's row, and set `updated_at` and other columns."""
        if not self._change(conn, session_id, columns):
            self._existing(conn, session_id)  # it does not exist: this says so


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
    insert_row: Callable[[Connection], T], view: View, record: type[T], row: Mapping[str, Any]
) -> Script[T]:
    """Run an operation that inserts a row: only one, however often it is retried.

    A retry first looks for the row: the commit may have succeeded before the connection was lost.
    """
    is_row = [view.c[name] == value for name, value in row.items() if value is not None]
    is_retry = False

    def operation(conn: Connection) -> T:
        nonlocal is_retry
        found = first(conn, view, record, *is_row) if is_retry else None
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
