"""The scripts on what a session has: messages, pages, token usage and errors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Select, Table, func, insert, select, update

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.errors import InvalidConfigError, VersionNotFoundError
from langgraph_session_saver.projection.plain_json import clean_text
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.sessions.paging import Keyset, check_limit, reader
from langgraph_session_saver.sessions.records import (
    ErrorRecord,
    MessageRecord,
    Page,
    UsageRecord,
    UsageSummary,
    VersionRecord,
)
from langgraph_session_saver.sessions.session_scripts import SessionScripts, once
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.validation import (
    MODEL_LENGTH,
    check_id,
    check_moment,
    check_optional_id,
    check_text,
)

By = Literal["agent", "model", "day"]

ROLES = ("user", "assistant", "system", "tool")

_LARGEST_VERSION = (1 << 31) - 1

_LARGEST_COUNT = (1 << 53) - 1

as_message, as_version = reader(MessageRecord), reader(VersionRecord)

as_usage, as_error = reader(UsageRecord), reader(ErrorRecord)


class ChildScripts:
    """Reads and adds rows that belong to sessions."""

    def __init__(self, context: Context, sessions: SessionScripts) -> None:
        self._context = context
        self._sessions = sessions
        self._tables = context.tables

    # -- messages ---------------------------------------------------------------------------

    def messages(
        self, session_id: Any, *, removed: bool, descending: bool, limit: int, after: str | None
    ) -> Script[Page[MessageRecord]]:
        """Read a page of a session's messages."""
        m = self._tables.messages
        where = [m.c.session_id == check_id("session_id", session_id)]
        if not removed:
            where.append(m.c.removed_at.is_(None))
        keyset = Keyset("messages", [m.c.id], descending, check_limit(limit), after)
        return self._page(keyset, _columns(m, MessageRecord).where(*where), as_message)

    def add_message(
        self, session_id: Any, role: str, content: str, message_id: str | None
    ) -> Script[MessageRecord]:
        """Insert a message."""
        if role not in ROLES:
            raise InvalidConfigError(f"role is {role!r:.80}: use one of {', '.join(ROLES)}")
        row = {
            "session_id": check_id("session_id", session_id),
            "role": role,
            "content": self._text("content", content),
            "message_id": check_optional_id("message_id", message_id),
            "timestamp": utc_now(),
        }
        return self._add(self._tables.messages, row, as_message)

    # -- token usage ------------------------------------------------------------------------

    def token_usage(
        self, session_id: Any, *, descending: bool, limit: int, after: str | None
    ) -> Script[Page[UsageRecord]]:
        """Read a page of a session's calls."""
        u = self._tables.token_usage
        keyset = Keyset("token_usage", [u.c.id], descending, check_limit(limit), after)
        of_session = u.c.session_id == check_id("session_id", session_id)
        return self._page(keyset, _columns(u, UsageRecord).where(of_session), as_usage)

    def add_token_usage(
        self,
        session_id: Any,
        *,
        agent_type: str,
        model: str,
        input_tokens: int,
        output_tokens: int,
        cost_usd: float,
    ) -> Script[UsageRecord]:
        """Insert a call."""
        tokens_in = _count("input_tokens", input_tokens)
        tokens_out = _count("output_tokens", output_tokens)
        is_cost = isinstance(cost_usd, int | float) and not isinstance(cost_usd, bool)
        if not is_cost or not 0 <= cost_usd < float("inf"):
            raise InvalidConfigError(f"cost_usd is {cost_usd!r:.80}: pass US dollars from 0 on")
        row = {
            "session_id": check_id("session_id", session_id),
            "agent_type": check_text("agent_type", agent_type, 255),
            "model": check_text("model", model, MODEL_LENGTH),
            "input_tokens": tokens_in,
            "output_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
            "cost_usd": float(cost_usd),
            "timestamp": utc_now(),
        }
        return self._add(self._tables.token_usage, row, as_usage)

    def usage_summary(
        self,
        by: Sequence[By],
        *,
        session_id: str | None,
        owner_id: str | None,
        since: datetime | None,
        before: datetime | None,
    ) -> Script[tuple[UsageSummary, ...]]:
        """Sum up calls, in one statement."""
        u, s = self._tables.token_usage, self._tables.sessions
        groups = {"agent": u.c.agent_type, "model": u.c.model, "day": None}
        unknown = [name for name in by if name not in groups]
        if unknown:
            raise InvalidConfigError(
                f"usage cannot be summed up by {unknown[0]!r:.80}: use {', '.join(groups)}"
            )
        groups["day"] = self._context.dialect.day(u.c.timestamp)  # type: ignore[assignment]
        chosen = [groups[name].label(name) for name in dict.fromkeys(by)]  # type: ignore[union-attr]
        summed = [u.c.input_tokens, u.c.output_tokens, u.c.total_tokens, u.c.cost_usd]
        sums = [func.count().label("calls"), *(func.sum(c).label(c.name) for c in summed)]
        query = select(*chosen, *sums).select_from(u).group_by(*chosen).order_by(*chosen)
        if (session := check_optional_id("session_id", session_id)) is not None:
            query = query.where(u.c.session_id == session)
        if (owner := check_optional_id("owner_id", owner_id)) is not None:
            query = query.join(s, s.c.id == u.c.session_id).where(s.c.owner_id == owner)
        if check_moment("since", since) is not None:
            query = query.where(u.c.timestamp >= since)
        if check_moment("before", before) is not None:
            query = query.where(u.c.timestamp < before)
        rows = yield Request.read(lambda conn: conn.execute(query).all())
        return tuple(_summary(row) for row in rows if row.calls)

    # -- errors -----------------------------------------------------------------------------

    def errors(
        self,
        session_id: str | None,
        *,
        recovered: bool | None,
        limit: int,
        after: str | None,
    ) -> Script[Page[ErrorRecord]]:
        """Read a page of errors, newest first."""
        e = self._tables.errors
        query = _columns(e, ErrorRecord)
        if (session := check_optional_id("session_id", session_id)) is not None:
            query = query.where(e.c.session_id == session)
        if recovered is not None:
            has = e.c.recovered_at
            query = query.where(has.is_not(None) if recovered else has.is_(None))
        keyset = Keyset("errors", [e.c.id], True, check_limit(limit), after)  # noqa: FBT003
        return self._page(keyset, query, as_error)

    # -- versions ---------------------------------------------------------------------------

    def versions(
        self, session_id: Any, *, descending: bool, limit: int, after: str | None
    ) -> Script[Page[VersionRecord]]:
        """Read a page of a session's pages."""
        v = self._tables.versions
        keyset = Keyset("versions", [v.c.version], descending, check_limit(limit), after)
        of_session = v.c.session_id == check_id("session_id", session_id)
        return self._page(keyset, _columns(v, VersionRecord).where(of_session), as_version)

    def version(self, session_id: Any, number: int | None) -> Script[VersionRecord | None]:
        """Read one page of a session, or its current one."""
        s, v = self._tables.sessions, self._tables.versions
        session_id = check_id("session_id", session_id)
        wanted: Any = select(s.c.current_version).where(s.c.id == session_id).scalar_subquery()
        if number is not None:
            wanted = _version(number)
        query = _columns(v, VersionRecord).where(
            v.c.session_id == session_id, v.c.version == wanted
        )
        row = yield Request.read(lambda conn: conn.execute(query).one_or_none())
        return None if row is None else as_version(row)

    def add_version(
        self, session_id: Any, html: str, description: str | None
    ) -> Script[VersionRecord]:
        """Insert a page under the next number, as the current one."""
        v, session_id, now = self._tables.versions, check_id("session_id", session_id), utc_now()
        row = {
            "session_id": session_id,
            "html": self._text("html", html),
            "description": None if description is None else self._text("description", description),
            "created_at": now,
        }
        newest = select(v.c.version).where(v.c.session_id == session_id)
        newest = newest.order_by(v.c.version.desc()).limit(1)
        # Locked to read what is there now: a caller's transaction may see an older state.
        newest = self._context.dialect.locked(newest, v)

        def insert_row(conn: Connection) -> VersionRecord:
            self._sessions.touch(conn, session_id)  # the row's lock: numbers are given in turn
            last = conn.execute(newest).scalar()
            number = 0 if last is None else last + 1
            conn.execute(insert(v), row | {"version": number})
            self._sessions.touch(conn, session_id, current_version=number)
            self._context.projected.drop_old_pages(conn, session_id, number)
            return as_version(self._find_version(conn, session_id, number))

        def find(conn: Connection) -> VersionRecord | None:
            added = (v.c.session_id == session_id, v.c.created_at == now, v.c.html == row["html"])
            found = conn.execute(_columns(v, VersionRecord).where(*added)).first()
            return None if found is None else as_version(found)

        return (yield Request.write(once(insert_row, find)))  # type: ignore[no-any-return]

    def rollback(self, session_id: Any, number: int) -> Script[VersionRecord]:
        """Make a page the current one; no page changes."""
        return self._change_version(session_id, number, {"current_version": number}, {})

    def pin(self, session_id: Any, number: int, *, pinned: bool) -> Script[VersionRecord]:
        """Say whether a page stays whatever `keep_versions` says."""
        return self._change_version(session_id, number, {}, {"pinned": pinned})

    def _change_version(
        self, session_id: Any, number: int, session: dict[str, Any], page: dict[str, Any]
    ) -> Script[VersionRecord]:
        v, session_id = self._tables.versions, check_id("session_id", session_id)
        number = _version(number)

        def operation(conn: Connection) -> VersionRecord:
            self._sessions.touch(conn, session_id, **session)
            if page:
                its_row = (v.c.session_id == session_id, v.c.version == number)
                conn.execute(update(v).where(*its_row).values(page))
            row = self._find_version(conn, session_id, number)
            if row is None:
                raise VersionNotFoundError(f"session {session_id!r} has no version {number}")
            return as_version(row)

        return (yield Request.write(operation))  # type: ignore[no-any-return]

    def _find_version(self, conn: Connection, session_id: str, number: int) -> Any:
        v = self._tables.versions
        its_row = (v.c.session_id == session_id, v.c.version == number)
        return conn.execute(_columns(v, VersionRecord).where(*its_row)).one_or_none()

    # -- what they share --------------------------------------------------------------------

    def _page(self, keyset: Keyset, query: Select[Any], read: Any) -> Script[Page[Any]]:
        paged = keyset.page_of(query)
        rows = yield Request.read(lambda conn: conn.execute(paged).all())
        return keyset.page(rows, read)

    def _add(self, table: Table, row: dict[str, Any], read: Any) -> Script[Any]:
        """Insert a row, and note at its session that it was written to."""

        def insert_row(conn: Connection) -> Any:
            self._sessions.touch(conn, row["session_id"])
            added = conn.execute(insert(table).values(row))
            (row_id,) = added.inserted_primary_key or (None,)
            return read(conn.execute(select(table).where(table.c.id == row_id)).one())

        def find(conn: Connection) -> Any:
            same = [table.c[name] == value for name, value in row.items() if value is not None]
            found = conn.execute(select(table).where(*same)).first()
            return None if found is None else read(found)

        return (yield Request.write(once(insert_row, find)))

    def _text(self, what: str, value: Any) -> str:
        """Text of any length, without what databases refuse.

        Raises:
            InvalidConfigError: It is not text.
            ValueTooLargeError: The database takes less.
        """
        if not isinstance(value, str):
            raise InvalidConfigError(f"{what} is a {type(value).__name__}: pass text")
        text = clean_text(value)
        self._context.check_size(text.encode(), lambda: what)
        return text


def _columns(table: Table, record: Any) -> Select[Any]:
    """A query for the columns that a record has."""
    return select(*(c for c in table.c if c.name in record.__annotations__))


def _count(what: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST_COUNT:
        raise InvalidConfigError(f"{what} is {value!r:.80}: pass a whole number from 0 on")
    return value


def _version(number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise InvalidConfigError(f"version is {number!r:.80}: pass a whole number from 0 on")
    if not 0 <= number <= _LARGEST_VERSION:
        raise InvalidConfigError(f"version is {number}: pass a whole number from 0 on")
    return number


def _summary(row: Any) -> UsageSummary:
    found = row._mapping  # noqa: SLF001
    return UsageSummary(
        agent_type=found.get("agent"),
        model=found.get("model"),
        day=found.get("day"),
        calls=int(row.calls),
        input_tokens=int(row.input_tokens),
        output_tokens=int(row.output_tokens),
        total_tokens=int(row.total_tokens),
        cost_usd=float(row.cost_usd),
    )
