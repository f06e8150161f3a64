"""The methods of `saver.sessions` on a session's messages, versions, token usage and errors."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, cast, func, insert, select, update

from langgraph_session_saver.errors import InvalidConfigError, VersionNotFoundError
from langgraph_session_saver.projection.plain_json import clean_text
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.sessions.paging import PAGE_SIZE, Pagination
from langgraph_session_saver.sessions.records import (
    ErrorRecord,
    MessageRecord,
    Page,
    UsageRecord,
    UsageSummary,
    VersionRecord,
    first,
)
from langgraph_session_saver.sessions.rows import LARGEST_INTEGER, SessionMethods, insert_once
from langgraph_session_saver.sql.scripts import awaited
from langgraph_session_saver.validation import (
    MODEL_LENGTH,
    check_id,
    check_moment,
    check_number,
    check_optional_id,
    check_text,
)

if TYPE_CHECKING:
    from langgraph_session_saver.sql.borrowed import AnyConnection

R = TypeVar("R")

Group = Literal["agent", "model", "day"]

ROLES = ("user", "assistant", "system", "tool")

_LARGEST_TOKEN_COUNT = (1 << 53) - 1


class SessionChildren(SessionMethods):
    """Messages, versions, token usage and errors of the sessions of one database."""

    # -- messages ---------------------------------------------------------------------------

    def messages(
        self,
        session_id: str,
        *,
        removed: bool = False,
        descending: bool = False,
        limit: int = PAGE_SIZE,
        after: str | None = None,
        connection: AnyConnection | None = None,
    ) -> Page[MessageRecord]:
        """List a session's messages, oldest first.

        Args:
            session_id: The session; one that does not exist has no messages.
            removed: Whether to include messages that a reducer or a fork dropped.
            descending: Whether the newest come first.
            limit: The number of messages in a page.
            after: The `next` of the page before.
            connection: Where to run, as part of your transaction.

        Raises:
            InvalidConfigError: The id, the limit or the cursor is invalid.
        """
        m = self._tables.messages
        where = [_of_session(m, session_id)]
        if not removed:
            where.append(m.c.removed_at.is_(None))
        pagination = Pagination([m.c.id], descending, limit, after)
        return self._run(pagination.read(MessageRecord, *where), connection)

    amessages = awaited(messages)

    def add_message(
        self,
        session_id: str,
        role: str,
        content: str,
        *,
        message_id: str | None = None,
        connection: AnyConnection | None = None,
    ) -> MessageRecord:
        """Add a message that is in no graph's state.

        Args:
            session_id: The session.
            role: `user`, `assistant`, `system` or `tool`.
            content: The message's text.
            message_id: The application's id of the message.
            connection: Where to run, as part of your transaction.

        Raises:
            InvalidConfigError: The role is unknown, or the content is not text.
            SessionNotFoundError: The session does not exist.
        """
        if role not in ROLES:
            raise InvalidConfigError(f"role is {role!r:.80}: use one of {', '.join(ROLES)}")
        row = {
            "session_id": check_id("session_id", session_id),
            "role": role,
            "content": self._text("content", content),
            "message_id": check_optional_id("message_id", message_id),
            "timestamp": utc_now(),
        }
        return self._add(connection, self._tables.messages, MessageRecord, row)

    aadd_message = awaited(add_message)

    # -- versions ---------------------------------------------------------------------------

    def versions(
        self,
        session_id: str,
        *,
        descending: bool = False,
        limit: int = PAGE_SIZE,
        after: str | None = None,
        connection: AnyConnection | None = None,
    ) -> Page[VersionRecord]:
        """List the versions of a session's page by number; arguments as for `messages`."""
        v = self._tables.versions
        pagination = Pagination([v.c.version], descending, limit, after)
        return self._run(pagination.read(VersionRecord, _of_session(v, session_id)), connection)

    aversions = awaited(versions)

    def version(
        self,
        session_id: str,
        number: int | None = None,
        *,
        connection: AnyConnection | None = None,
    ) -> VersionRecord | None:
        """Read a version, by default the current one; None if it does not exist."""
        s, v = self._tables.sessions, self._tables.versions
        wanted: Any = select(s.c.current_version).where(s.c.id == v.c.session_id).scalar_subquery()
        if number is not None:
            wanted = check_number("version", number, LARGEST_INTEGER)
        where = (_of_session(v, session_id), v.c.version == wanted)
        return self._read(connection, first, v, VersionRecord, *where)

    aversion = awaited(version)

    def add_version(
        self,
        session_id: str,
        html: str,
        description: str | None = None,
        *,
        connection: AnyConnection | None = None,
    ) -> VersionRecord:
        """Add a version as the current one; numbers count from 0.

        Raises:
            InvalidConfigError: The page is not text.
            SessionNotFoundError: The session does not exist.
        """
        v, session_id = self._tables.versions, check_id("session_id", session_id)
        row: dict[str, Any] = {
            "session_id": session_id,
            "html": self._text("html", html),
            "description": None if description is None else self._text("description", description),
            "created_at": utc_now(),
        }
        latest = select(v.c.version).where(v.c.session_id == session_id)
        latest = latest.order_by(v.c.version.desc()).limit(1)
        # A locking read sees what is committed; a caller's transaction may have an older snapshot.
        latest = self._context.dialect.locked(latest, v)

        def insert_row(conn: Connection) -> VersionRecord:
            self._touch(conn, session_id)  # the lock under which numbers are assigned
            last = conn.execute(latest).scalar()
            number = 0 if last is None else last + 1
            added = VersionRecord(version=number, **row)
            conn.execute(insert(v), asdict(added))
            self._touch(conn, session_id, current_version=number)
            self._context.projected.drop_old_pages(conn, session_id, number)
            return added

        def find_row(conn: Connection) -> VersionRecord | None:
            is_row = (v.c.created_at == row["created_at"], v.c.html == row["html"])
            return first(conn, v, VersionRecord, v.c.session_id == session_id, *is_row)

        return self._write(connection, insert_once(insert_row, find_row))

    aadd_version = awaited(add_version)

    def rollback(
        self, session_id: str, number: int, *, connection: AnyConnection | None = None
    ) -> VersionRecord:
        """Make an earlier version the current one; later versions stay.

        Raises:
            SessionNotFoundError: The session does not exist.
            VersionNotFoundError: The version does not exist.
        """
        return self._change_version(connection, session_id, number)

    arollback = awaited(rollback)

    def pin(
        self, session_id: str, number: int, *, connection: AnyConnection | None = None
    ) -> VersionRecord:
        """Exempt a version from `keep_versions`; raises as `rollback` does."""
        return self._change_version(connection, session_id, number, pinned=True)

    apin = awaited(pin)

    def unpin(
        self, session_id: str, number: int, *, connection: AnyConnection | None = None
    ) -> VersionRecord:
        """Undo `pin`."""
        return self._change_version(connection, session_id, number, pinned=False)

    aunpin = awaited(unpin)

    def _change_version(
        self,
        connection: AnyConnection | None,
        session_id: str,
        number: int,
        *,
        pinned: bool | None = None,
    ) -> VersionRecord:
        """Pin or unpin a version, or else make it the current one."""
        v, session_id = self._tables.versions, check_id("session_id", session_id)
        check_number("version", number, LARGEST_INTEGER)
        is_row = (v.c.session_id == session_id, v.c.version == number)

        def operation(conn: Connection) -> VersionRecord:
            if pinned is None:
                self._touch(conn, session_id, current_version=number)
            else:
                self._touch(conn, session_id)
                conn.execute(update(v).where(*is_row).values(pinned=pinned))
            found = first(conn, v, VersionRecord, *is_row)
            if found is None:
                raise VersionNotFoundError(f"session {session_id!r} has no version {number}")
            return found

        return self._write(connection, operation)

    # -- token usage ------------------------------------------------------------------------

    def token_usage(
        self,
        session_id: str,
        *,
        descending: bool = False,
        limit: int = PAGE_SIZE,
        after: str | None = None,
        connection: AnyConnection | None = None,
    ) -> Page[UsageRecord]:
        """List a session's model calls; arguments as for `messages`."""
        u = self._tables.token_usage
        pagination = Pagination([u.c.id], descending, limit, after)
        return self._run(pagination.read(UsageRecord, _of_session(u, session_id)), connection)

    atoken_usage = awaited(token_usage)

    def add_token_usage(
        self,
        session_id: str,
        *,
        agent_type: str,
        model: str,
        input_tokens: int,
        output_tokens: int,
        cost_usd: float = 0.0,
        connection: AnyConnection | None = None,
    ) -> UsageRecord:
        """Add a model call; `total_tokens` is the sum of input and output.

        Raises:
            InvalidConfigError: A number is negative, or a text is too long.
            SessionNotFoundError: The session does not exist.
        """
        check_number("input_tokens", input_tokens, _LARGEST_TOKEN_COUNT)
        check_number("output_tokens", output_tokens, _LARGEST_TOKEN_COUNT)
        is_number = isinstance(cost_usd, int | float) and not isinstance(cost_usd, bool)
        if not is_number or not 0 <= cost_usd < float("inf"):
            raise InvalidConfigError(f"cost_usd is {cost_usd!r:.80}: pass US dollars from 0 on")
        row = {
            "session_id": check_id("session_id", session_id),
            "agent_type": check_text("agent_type", agent_type, 255),
            "model": check_text("model", model, MODEL_LENGTH),
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
            "cost_usd": float(cost_usd),
            "timestamp": utc_now(),
        }
        return self._add(connection, self._tables.token_usage, UsageRecord, row)

    aadd_token_usage = awaited(add_token_usage)

    def usage_summary(
        self,
        *by: Group,
        session_id: str | None = None,
        owner_id: str | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
        connection: AnyConnection | None = None,
    ) -> tuple[UsageSummary, ...]:
        """Sum up tokens and cost.

        Args:
            *by: "agent", "model" and "day" (in UTC): one sum for each combination; without any,
                one sum of all calls.
            session_id: Only calls of this session.
            owner_id: Only calls of this owner's sessions.
            since: Only calls at this time or later.
            before: Only calls before this time.
            connection: Where to run, as part of your transaction.

        Raises:
            InvalidConfigError: A group is unknown, or another argument is invalid.
        """
        u, s = self._tables.token_usage, self._tables.sessions
        columns = {
            "agent": u.c.agent_type,
            "model": u.c.model,
            "day": self._context.dialect.day(u.c.timestamp).label("day"),
        }
        if unknown := [name for name in by if name not in columns]:
            raise InvalidConfigError(
                f"usage cannot be summed up by {unknown[0]!r:.80}: use {', '.join(columns)}"
            )
        groups = [columns[name] for name in dict.fromkeys(by)]
        tokens = [u.c.input_tokens, u.c.output_tokens, u.c.total_tokens]
        # Databases sum integers up as decimals.
        sums = [cast(func.sum(column), column.type).label(column.name) for column in tokens]
        sums += [func.sum(u.c.cost_usd).label("cost_usd"), func.count().label("calls")]
        query = select(*groups, *sums).select_from(u).group_by(*groups).order_by(*groups)
        if (session := check_optional_id("session_id", session_id)) is not None:
            query = query.where(u.c.session_id == session)
        if (owner := check_optional_id("owner_id", owner_id)) is not None:
            query = query.join(s, s.c.id == u.c.session_id).where(s.c.owner_id == owner)
        if check_moment("since", since) is not None:
            query = query.where(u.c.timestamp >= since)
        if check_moment("before", before) is not None:
            query = query.where(u.c.timestamp < before)

        def operation(conn: Connection) -> tuple[UsageSummary, ...]:
            return tuple(
                UsageSummary(**row) for row in conn.execute(query).mappings() if row["calls"]
            )

        return self._read(connection, operation)

    ausage_summary = awaited(usage_summary)

    # -- errors -----------------------------------------------------------------------------

    def errors(
        self,
        session_id: str | None = None,
        *,
        recovered: bool | None = None,
        limit: int = PAGE_SIZE,
        after: str | None = None,
        connection: AnyConnection | None = None,
    ) -> Page[ErrorRecord]:
        """List errors, newest first.

        Args:
            session_id: Only errors of this session.
            recovered: Only errors after which the thread has continued, or has not.
            limit: The number of errors in a page.
            after: The `next` of the page before.
            connection: Where to run, as part of your transaction.

        Raises:
            InvalidConfigError: The id, the limit or the cursor is invalid.
        """
        e = self._tables.errors
        where = [] if session_id is None else [_of_session(e, session_id)]
        if recovered is not None:
            is_open = e.c.recovered_at.is_(None)
            where.append(~is_open if recovered else is_open)
        pagination = Pagination([e.c.id], descending=True, limit=limit, after=after)
        return self._run(pagination.read(ErrorRecord, *where), connection)

    aerrors = awaited(errors)

    # -- adding -----------------------------------------------------------------------------

    def _add(
        self,
        connection: AnyConnection | None,
        table: Table,
        record: type[R],
        row: dict[str, Any],
    ) -> R:
        """Insert a row, and set its session's `updated_at`."""

        def insert_row(conn: Connection) -> R:
            self._touch(conn, row["session_id"])
            added = conn.execute(insert(table).values(row))
            (row_id,) = added.inserted_primary_key or (None,)
            return record(**{**row, "id": row_id})

        def find_row(conn: Connection) -> R | None:
            same = [table.c[name] == value for name, value in row.items() if value is not None]
            return first(conn, table, record, *same)

        return self._write(connection, insert_once(insert_row, find_row))

    def _text(self, what: str, value: Any) -> str:
        """Validate text of any length, and replace the characters that databases refuse.

        Raises:
            InvalidConfigError: It is not text.
            ValueTooLargeError: It is larger than the database's limit.
        """
        if not isinstance(value, str):
            raise InvalidConfigError(f"{what} is a {type(value).__name__}: pass text")
        text = clean_text(value)
        self._context.check_size(text.encode(), lambda: what)
        return text


def _of_session(table: Table, session_id: Any) -> ColumnElement[bool]:
    """The condition for the rows of a session."""
    return table.c.session_id == check_id("session_id", session_id)
