"""`saver.sessions`: the sessions of an application and their rows, sync and async."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    cast,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)

from langgraph_session_saver import errors
from langgraph_session_saver.checkpointer.maintenance import ThreadMaintenance
from langgraph_session_saver.encoding.keys import ThreadRef
from langgraph_session_saver.projection.plain_json import clean_text
from langgraph_session_saver.projection.schemas import BuildStatus
from langgraph_session_saver.projection.status import STATUSES
from langgraph_session_saver.projection.usage import LARGEST_TOKEN_COUNT
from langgraph_session_saver.schema.column_types import microseconds, utc_now
from langgraph_session_saver.schema.tables import DELETED
from langgraph_session_saver.sessions import rows
from langgraph_session_saver.sessions.paging import PAGE_SIZE, Pagination, ordered
from langgraph_session_saver.sessions.records import (
    ErrorRecord,
    MessageRecord,
    Page,
    SessionChanges,
    SessionRecord,
    UsageRecord,
    UsageSummary,
    VersionRecord,
    View,
    first,
)
from langgraph_session_saver.sql.runner import BrokenReferenceError
from langgraph_session_saver.sql.scripts import (
    Request,
    Script,
    awaited,
    in_transaction,
    read_script,
    write_script,
)
from langgraph_session_saver.storage.thread_data import PIECE
from langgraph_session_saver.validation import (
    MODEL_LENGTH,
    check_id,
    check_number,
    check_one_of,
    check_optional_id,
    check_text,
)

if TYPE_CHECKING:
    from langgraph_session_saver.sql.borrowed import AnyConnection

R = TypeVar("R")

Group = Literal["agent", "model", "day"]

ORDERS = (
    "updated_at", "created_at", "title", "build_status", "current_version", "thread_status", "id"
)  # fmt: skip
"""The columns to order by, none of which is ever NULL."""

MANY_THREADS = 100
"""Threads of a session that are deleted in one transaction."""


class SessionRepository(rows.SessionMethods):
    """The sessions of one database, and the rows that belong to them: `saver.sessions`.

    Every method takes `connection=`: a SQLAlchemy `Connection` or ORM `Session`, or for an async
    method also their async kinds. It then runs in your transaction without commit, rollback or
    retry, and the database's errors are SQLAlchemy's. Objects that an ORM session has loaded show
    the changes after `session.refresh`.
    """

    # -- sessions ---------------------------------------------------------------------------

    def create(
        self,
        session_id: str | None = None,
        *,
        connection: AnyConnection | None = None,
        **columns: Unpack[SessionChanges],
    ) -> SessionRecord:
        """Create a session.

        Args:
            session_id: Its id; default a UUID4.
            connection: Where to run, as part of your transaction.
            **columns: The columns to set; others get their defaults.

        Raises:
            InvalidConfigError: The id or a value is invalid, or a column is unknown.
            SessionConflictError: A session with this id exists.
            AccessDeniedError: It is another owner's, or would be.
        """
        return self._run(self._create(session_id, columns), connection)

    acreate = awaited(create)

    def _create(self, session_id: Any, columns: Mapping[str, Any]) -> Script[SessionRecord]:
        session_id = check_id("session_id", str(uuid4()) if session_id is None else session_id)
        self._check_in_clear(columns)
        identity: dict[str, Any] = {"id": session_id, "created_at": utc_now()}
        row = identity | {"updated_at": identity["created_at"]} | rows.validated_columns(columns)
        row.setdefault("owner_id", self._context.owner_id)
        conflict = errors.SessionConflictError(
            f"session {session_id!r} already exists: update it, or omit the id for a new one"
        )

        def insert_row(conn: Connection) -> SessionRecord:
            self._check_own(conn, session_id, row)
            if self._find(conn, session_id) is not None:
                raise conflict
            conn.execute(insert(self._tables.sessions), row)
            return self._existing(conn, session_id)

        try:
            return (
                yield from rows.insert_once(
                    insert_row, self._views.sessions, SessionRecord, identity
                )
            )
        except BrokenReferenceError as exc:
            raise conflict from exc

    def get(
        self, session_id: str, *, connection: AnyConnection | None = None
    ) -> SessionRecord | None:
        """Read a session, soft-deleted or not; None if it does not exist."""
        return self._run(read_script(self._find, check_id("session_id", session_id)), connection)

    aget = awaited(get)

    def list(
        self,
        *,
        owner_id: str | None = None,
        build_status: str | None = None,
        product_type: str | None = None,
        complexity: str | None = None,
        thread_status: str | None = None,
        updated_since: datetime | None = None,
        updated_before: datetime | None = None,
        deleted: bool = False,
        order_by: str = "updated_at",
        descending: bool = True,
        limit: int = PAGE_SIZE,
        after: str | None = None,
        connection: AnyConnection | None = None,
    ) -> Page[SessionRecord]:
        """List sessions, a page at a time, last updated first.

        Args:
            owner_id: Only sessions of this owner.
            build_status: Only sessions with this build status.
            product_type: Only sessions of this product type.
            complexity: Only sessions of this complexity.
            thread_status: Only sessions whose threads' most urgent status is this one: of "done",
                "pending", "running", "interrupted" and "error", the last that a thread has.
            updated_since: Only sessions updated at this time or later.
            updated_before: Only sessions updated before this time.
            deleted: Whether to include soft-deleted sessions.
            order_by: `updated_at`, `created_at`, `title`, `build_status`, `current_version`,
                `thread_status` (by urgency) or `id`; equal values are ordered by id.
            descending: Whether the largest or most urgent come first.
            limit: The number of sessions in a page.
            after: The `next` of the page before.
            connection: Where to run, as part of your transaction.

        Raises:
            InvalidConfigError: A filter, the order, the limit or the cursor is invalid.
        """
        s, view = self._tables.sessions.c, self._views.sessions
        where: list[ColumnElement[bool]] = []
        if owner_id is not None:
            where.append(s.owner_id == check_id("owner_id", owner_id))
        if build_status is not None:
            where.append(
                s.build_status == check_one_of("build_status", build_status, [*BuildStatus])
            )
        if product_type is not None:
            where.append(s.product_type == check_text("product_type", product_type, 50))
        if complexity is not None:
            where.append(s.complexity == check_text("complexity", complexity, 20))
        if thread_status is not None:
            status = check_one_of("thread_status", thread_status, STATUSES)
            where.append(view.c["thread_status"] == status)
        where += rows.in_period(s.updated_at, updated_since, updated_before, "updated_")
        if not deleted:
            where.append(func.coalesce(s.status, "") != DELETED)
        by = check_one_of("order_by", order_by, ORDERS)
        order = ordered(view.c["thread_rank" if by == "thread_status" else by], s.id)
        pagination = Pagination(order, descending, limit, after)
        return self._run(pagination.read(view, SessionRecord, *where), connection)

    alist = awaited(list)  # noqa: A003 - the method above

    def update(
        self,
        session_id: str,
        *,
        connection: AnyConnection | None = None,
        **changes: Unpack[SessionChanges],
    ) -> SessionRecord:
        """Change the named columns of a session, and no other.

        A change of columns that a graph projects (all but title, owner, scope, status and round)
        clears `checkpoint_id`, until the next step writes those columns again.

        Args:
            session_id: The session.
            connection: Where to run, as part of your transaction.
            **changes: The new values; None resets a column. `owner_id` also changes the owner of
                the session's threads.

        Raises:
            InvalidConfigError: A column is unknown, or a value is invalid.
            SessionNotFoundError: The session does not exist.
        """
        session_id, columns = check_id("session_id", session_id), rows.validated_columns(changes)
        self._check_in_clear(changes)

        def operation(conn: Connection) -> SessionRecord:
            if columns:
                self._touch(conn, session_id, **columns)
            return self._existing(conn, session_id)

        return self._run(write_script(operation), connection)

    aupdate = awaited(update)

    def delete(
        self, session_id: str, *, soft: bool = False, connection: AnyConnection | None = None
    ) -> bool:
        """Delete a session with its threads, checkpoints, messages, versions and other rows.

        Args:
            session_id: The session.
            soft: Whether to only set the session's `status` to "deleted", which hides it from
                `list` and refuses further steps of its threads (`SessionDeletedError`);
                `update(session_id, status=None)` restores it.
            connection: Where to run, as part of your transaction; without it, many rows are
                deleted in several transactions, of which the first one hides the session.

        Returns:
            Whether the session existed.
        """
        session_id = check_id("session_id", session_id)
        script = self._delete(session_id)
        if soft:
            script = write_script(self._change, session_id, {"status": DELETED})
        return self._run(script, connection)

    adelete = awaited(delete)

    def _delete(self, session_id: str) -> Script[bool]:
        yield Request.read(self._check_own, session_id)
        if (yield Request.read(self._find, session_id)) is None:
            return False
        if (yield Request.read(self._is_large, session_id)):
            # What a delete that is cut off leaves is not listed, and takes no steps.
            yield Request.write(self._change, session_id, {"status": DELETED})
            yield from self._delete_in_pieces(session_id)
        while not (yield from in_transaction(self._delete_whole, session_id)):
            pass
        return True

    def _is_large(self, conn: Connection, session_id: str) -> bool:
        """Whether it takes several transactions to delete a session."""
        t, tables = self._tables.threads, self._tables
        keys = select(t.c.thread_key).where(t.c.session_id == session_id)
        limits = {(t, t.c.session_id == session_id): MANY_THREADS}
        for table in self._context.storage.threads.child_tables():
            limits[table, table.c.session_id == session_id] = PIECE
        for table in (tables.checkpoints, tables.blobs, tables.writes):
            limits[table, table.c.thread_key.in_(keys)] = PIECE
        has_more = (
            select(literal(1)).select_from(table).where(is_its).limit(1).offset(limit)
            for (table, is_its), limit in limits.items()
        )
        return any(conn.execute(select(*(query.scalar_subquery() for query in has_more))).one())

    def _delete_in_pieces(self, session_id: str) -> Script[None]:
        """Delete the threads and rows of a session, in as many transactions as it takes."""
        threads = self._context.storage.threads
        for table in threads.child_tables():
            while (yield Request.write(_delete_piece, table, session_id)):
                pass
        for thread_id in (yield Request.read(threads.of_session, session_id)):
            yield from self._delete_thread(thread_id, session_id)

    def _delete_whole(self, session_id: str) -> Script[bool]:
        """Delete a session with its threads; False if it has been given one meanwhile."""
        thread_ids = yield Request.write(self._lock_all, session_id)
        if thread_ids is None:
            return False
        for thread_id in thread_ids:
            yield from self._delete_thread(thread_id, session_id)
        yield Request.write(self._delete_row, session_id)
        return True

    def _lock_all(self, conn: Connection, session_id: str) -> Sequence[str] | None:
        """Lock a session's threads and then its row, as steps do; None if others are added."""
        s, threads = self._tables.sessions, self._context.storage.threads
        thread_ids = threads.lock_of_session(conn, session_id)
        query = select(s.c.id).where(s.c.id == session_id)
        conn.execute(self._context.dialect.locked(query, s))
        is_same = threads.lock_of_session(conn, session_id) == thread_ids
        return thread_ids if is_same else None

    def _delete_thread(self, thread_id: str, session_id: str) -> Script[None]:
        thread = ThreadRef.of(thread_id, None)  # what is in a session is its owner's
        maintenance = ThreadMaintenance(self._context)
        yield from maintenance.delete(thread, lambda row: row.session_id == session_id)

    def _delete_row(self, conn: Connection, session_id: str) -> None:
        """Delete a session without threads."""
        # Not left to foreign keys, which a caller's SQLite connection may not enforce.
        for table in self._context.storage.threads.child_tables():
            conn.execute(delete(table).where(table.c.session_id == session_id))
        s = self._tables.sessions
        conn.execute(delete(s).where(s.c.id == session_id))

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
        """List a session's messages in the order of the conversation.

        Args:
            session_id: The session; one that does not exist has no messages.
            removed: Whether to include messages that are not part of the present state: a reducer
                or a fork dropped them, or a run that was overtaken brought them.
            descending: Whether the last come first.
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
        pagination = Pagination([m.c.position, m.c.id], descending, limit, after)
        return self._run(pagination.read(self._views.messages, MessageRecord, *where), connection)

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
        now = utc_now()
        row = {
            "session_id": check_id("session_id", session_id),
            "role": check_one_of("role", role, ("user", "assistant", "system", "tool")),
            "content": self._text("content", content),
            "message_id": check_optional_id("message_id", message_id),
            "timestamp": now,
            "position": microseconds(now),
        }
        return self._run(self._add("messages", MessageRecord, row), connection)

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
        v, view = self._tables.versions, self._views.versions
        pagination = Pagination([v.c.version], descending, limit, after)
        where = _of_session(v, session_id)
        return self._run(pagination.read(view, VersionRecord, where), connection)

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
            wanted = check_number("version", number, rows.LARGEST_INTEGER)
        where = (_of_session(v, session_id), v.c.version == wanted)
        view = self._views.versions
        return self._run(read_script(first, view, VersionRecord, *where), connection)

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

        view = self._views.versions
        return self._run(rows.insert_once(insert_row, view, VersionRecord, row), connection)

    aadd_version = awaited(add_version)

    def rollback(
        self, session_id: str, number: int, *, connection: AnyConnection | None = None
    ) -> VersionRecord:
        """Make an earlier version the current one; later versions stay.

        Raises:
            SessionNotFoundError: The session does not exist.
            VersionNotFoundError: The version does not exist.
        """
        return self._run(self._change_version(session_id, number), connection)

    arollback = awaited(rollback)

    def pin(
        self, session_id: str, number: int, *, connection: AnyConnection | None = None
    ) -> VersionRecord:
        """Exempt a version from `keep_versions`; raises as `rollback` does."""
        return self._run(self._change_version(session_id, number, pinned=True), connection)

    apin = awaited(pin)

    def unpin(
        self, session_id: str, number: int, *, connection: AnyConnection | None = None
    ) -> VersionRecord:
        """Undo `pin`."""
        return self._run(self._change_version(session_id, number, pinned=False), connection)

    aunpin = awaited(unpin)

    def _change_version(
        self, session_id: str, number: int, *, pinned: bool | None = None
    ) -> Script[VersionRecord]:
        """Pin or unpin a version, or else make it the current one."""
        v, session_id = self._tables.versions, check_id("session_id", session_id)
        check_number("version", number, rows.LARGEST_INTEGER)
        is_row = (v.c.session_id == session_id, v.c.version == number)

        def operation(conn: Connection) -> VersionRecord:
            if pinned is None:
                self._touch(conn, session_id, current_version=number)
            else:
                self._touch(conn, session_id)
                conn.execute(update(v).where(*is_row).values(pinned=pinned))
            found = first(conn, self._views.versions, VersionRecord, *is_row)
            if found is None:
                raise errors.VersionNotFoundError(f"session {session_id!r} has no version {number}")
            return found

        return write_script(operation)

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
        where = _of_session(u, session_id)
        return self._run(pagination.read(self._views.token_usage, UsageRecord, where), connection)

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
        cache_read_tokens: int | None = None,
        cache_creation_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        connection: AnyConnection | None = None,
    ) -> UsageRecord:
        """Add a model call; `total_tokens` is the sum of input and output.

        Args:
            session_id: The session.
            agent_type: The agent that called the model.
            model: The model.
            input_tokens: All input tokens.
            output_tokens: All output tokens.
            cost_usd: What the call cost, in US dollars.
            cache_read_tokens: Of the input tokens, those read from the provider's cache.
            cache_creation_tokens: Of the input tokens, those written to the provider's cache.
            reasoning_tokens: Of the output tokens, those of the model's reasoning.
            connection: Where to run, as part of your transaction.

        Raises:
            InvalidConfigError: A number is negative, or a text is too long.
            SessionNotFoundError: The session does not exist.
        """
        is_number = isinstance(cost_usd, int | float) and not isinstance(cost_usd, bool)
        if not is_number or not 0 <= cost_usd < float("inf"):
            raise errors.InvalidConfigError(
                f"cost_usd is {cost_usd!r:.80}: pass US dollars from 0 on"
            )
        details = {
            "cache_read_tokens": cache_read_tokens,
            "cache_creation_tokens": cache_creation_tokens,
            "reasoning_tokens": reasoning_tokens,
        }
        row = {
            "session_id": check_id("session_id", session_id),
            "agent_type": check_text("agent_type", agent_type, 255),
            "model": check_text("model", model, MODEL_LENGTH),
            "input_tokens": check_number("input_tokens", input_tokens, LARGEST_TOKEN_COUNT),
            "output_tokens": check_number("output_tokens", output_tokens, LARGEST_TOKEN_COUNT),
            "total_tokens": input_tokens + output_tokens,
            "cost_usd": float(cost_usd),
            "timestamp": utc_now(),
            **{
                name: check_number(name, count, LARGEST_TOKEN_COUNT)
                for name, count in details.items()
                if count is not None
            },
        }
        return self._run(self._add("token_usage", UsageRecord, row), connection)

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
        groups = [columns[check_one_of("by", name, columns)] for name in dict.fromkeys(by)]
        # Databases sum integers up as decimals.
        sums = [
            cast(func.coalesce(func.sum(column), 0), column.type).label(column.name)
            for column in u.c
            if column.name.endswith("_tokens")
        ]
        sums += [func.sum(u.c.cost_usd).label("cost_usd"), func.count().label("calls")]
        query = select(*groups, *sums).select_from(u).group_by(*groups).order_by(*groups)
        if session_id is not None:
            query = query.where(_of_session(u, session_id))
        if owner_id is not None:
            is_owned = s.c.owner_id == check_id("owner_id", owner_id)
            query = query.join(s, s.c.id == u.c.session_id).where(is_owned)
        view = self._views.token_usage
        query = query.where(*view.where, *rows.in_period(u.c.timestamp, since, before))

        def operation(conn: Connection) -> tuple[UsageSummary, ...]:
            return tuple(
                UsageSummary(**row) for row in conn.execute(query).mappings() if row["calls"]
            )

        return self._run(read_script(operation), connection)

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
        return self._run(pagination.read(self._views.errors, ErrorRecord, *where), connection)

    aerrors = awaited(errors)

    # -- adding -----------------------------------------------------------------------------

    def _add(
        self, name: Literal["messages", "token_usage"], record: type[R], row: dict[str, Any]
    ) -> Script[R]:
        """Insert a row, and set its session's `updated_at`."""
        table: Table = getattr(self._tables, name)
        view: View = getattr(self._views, name)

        def insert_row(conn: Connection) -> R:
            self._touch(conn, row["session_id"])
            added = conn.execute(insert(table).values(row))
            (row_id,) = added.inserted_primary_key or (None,)
            return record(**{**row, "id": row_id})

        return rows.insert_once(insert_row, view, record, row)

    def _text(self, what: str, value: Any) -> str:
        """Validate text of any length, and replace the characters that databases refuse."""
        self._check_in_clear({what: value})
        if not isinstance(value, str):
            raise errors.InvalidConfigError(f"{what} is a {type(value).__name__}: pass text")
        text = clean_text(value)
        self._context.check_size(text.encode(), lambda: what)
        return text


def _of_session(table: Table, session_id: Any) -> ColumnElement[bool]:
    """The condition for the rows of a session."""
    return table.c.session_id == check_id("session_id", session_id)


def _delete_piece(conn: Connection, table: Table, session_id: str) -> bool:
    """Delete up to `PIECE` rows of a session; whether there may be more."""
    c = table.c
    some = select(c.id).where(c.session_id == session_id).order_by(c.id).limit(PIECE)
    ids = conn.execute(some).scalars().all()
    if ids:
        conn.execute(delete(table).where(c.session_id == session_id, c.id <= ids[-1]))
    return len(ids) == PIECE
