"""`saver.sessions`: the sessions of an application, sync and async, over one set of scripts."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Unpack

from langgraph_session_saver.driving import Driver
from langgraph_session_saver.sessions.children import By, ChildScripts
from langgraph_session_saver.sessions.paging import LIMIT
from langgraph_session_saver.sessions.records import (
    ErrorRecord,
    MessageRecord,
    Page,
    SessionChanges,
    SessionRecord,
    UsageRecord,
    UsageSummary,
    VersionRecord,
)
from langgraph_session_saver.sessions.scripts import SessionScripts

if TYPE_CHECKING:
    from langgraph_session_saver.borrowing import AnyConnection, SyncConnection

PageOfSessions = Page[SessionRecord]  # where `list` is a method, it is no type


class SessionRepository:
    """The sessions of one database, and what belongs to them: `saver.sessions`.

    Every method takes `connection=`: a SQLAlchemy `Connection` or ORM `Session` (an async method
    also takes their async kinds). It then runs there, in your transaction, and neither commits nor
    rolls back nor retries: what the database refuses surfaces as SQLAlchemy raises it. Objects
    that an ORM session has loaded already show what was changed after `session.refresh`.
    """

    def __init__(self, driver: Driver, sessions: SessionScripts, children: ChildScripts) -> None:
        self._driver = driver
        self._sessions = sessions
        self._children = children

    # -- sessions ---------------------------------------------------------------------------

    def create(
        self,
        session_id: str | None = None,
        *,
        connection: SyncConnection | None = None,
        **columns: Unpack[SessionChanges],
    ) -> SessionRecord:
        """Create a session.

        Args:
            session_id: Its id; default a UUID4.
            connection: Where to run, as part of your transaction.
            **columns: What to set; the rest has its defaults.

        Raises:
            InvalidConfigError: The id or a value cannot be stored, or there is no such column.
            SessionConflictError: There is a session of this id.
        """
        return self._driver.run(self._sessions.create(session_id, columns), connection)

    async def acreate(
        self,
        session_id: str | None = None,
        *,
        connection: AnyConnection | None = None,
        **columns: Unpack[SessionChanges],
    ) -> SessionRecord:
        """As `create`."""
        return await self._driver.arun(self._sessions.create(session_id, columns), connection)

    def get(
        self, session_id: str, *, connection: SyncConnection | None = None
    ) -> SessionRecord | None:
        """Read a session, one that was deleted softly too; None if there is none."""
        return self._driver.run(self._sessions.get(session_id), connection)

    async def aget(
        self, session_id: str, *, connection: AnyConnection | None = None
    ) -> SessionRecord | None:
        """As `get`."""
        return await self._driver.arun(self._sessions.get(session_id), connection)

    def list(
        self,
        *,
        owner_id: str | None = None,
        build_status: str | None = None,
        product_type: str | None = None,
        complexity: str | None = None,
        updated_since: datetime | None = None,
        updated_before: datetime | None = None,
        deleted: bool = False,
        order_by: str = "updated_at",
        descending: bool = True,
        limit: int = LIMIT,
        after: str | None = None,
        connection: SyncConnection | None = None,
    ) -> PageOfSessions:
        """List sessions, those written to last first, a page at a time.

        Args:
            owner_id: Only this owner's.
            build_status: Only those that stand there.
            product_type: Only those of this type.
            complexity: Only those of this complexity.
            updated_since: Only those written to at this moment or later.
            updated_before: Only those written to before this moment.
            deleted: Whether to list those too that were deleted softly.
            order_by: `updated_at`, `created_at`, `title`, `build_status`, `current_version` or
                `id`; equal ones by id.
            descending: Whether the largest come first.
            limit: Sessions of a page.
            after: The `next` of the page before.
            connection: Where to run, as part of your transaction.

        Raises:
            InvalidConfigError: A filter, the order, the limit or the cursor cannot be used.
        """
        filters = _filters(owner_id, build_status, product_type, complexity)
        script = self._sessions.list(
            filters=filters, updated_since=updated_since, updated_before=updated_before,
            deleted=deleted, order_by=order_by, descending=descending, limit=limit, after=after,
        )  # fmt: skip
        return self._driver.run(script, connection)

    async def alist(
        self,
        *,
        owner_id: str | None = None,
        build_status: str | None = None,
        product_type: str | None = None,
        complexity: str | None = None,
        updated_since: datetime | None = None,
        updated_before: datetime | None = None,
        deleted: bool = False,
        order_by: str = "updated_at",
        descending: bool = True,
        limit: int = LIMIT,
        after: str | None = None,
        connection: AnyConnection | None = None,
    ) -> PageOfSessions:
        """As `list`."""
        filters = _filters(owner_id, build_status, product_type, complexity)
        script = self._sessions.list(
            filters=filters, updated_since=updated_since, updated_before=updated_before,
            deleted=deleted, order_by=order_by, descending=descending, limit=limit, after=after,
        )  # fmt: skip
        return await self._driver.arun(script, connection)

    def update(
        self,
        session_id: str,
        *,
        connection: SyncConnection | None = None,
        **changes: Unpack[SessionChanges],
    ) -> SessionRecord:
        """Change the columns that are named, and no other.

        What a graph projects (all but title, owner, scope, status and round) then carries no
        `checkpoint_id`, until the next step writes those columns anew.

        Args:
            session_id: The session.
            connection: Where to run, as part of your transaction.
            **changes: The new values; None clears a column. `owner_id` goes for its threads too.

        Raises:
            InvalidConfigError: There is no such column, or it does not take the value.
            SessionNotFoundError: There is no such session.
        """
        return self._driver.run(self._sessions.update(session_id, changes), connection)

    async def aupdate(
        self,
        session_id: str,
        *,
        connection: AnyConnection | None = None,
        **changes: Unpack[SessionChanges],
    ) -> SessionRecord:
        """As `update`."""
        return await self._driver.arun(self._sessions.update(session_id, changes), connection)

    def delete(
        self, session_id: str, *, soft: bool = False, connection: SyncConnection | None = None
    ) -> bool:
        """Delete a session with all that it owns: threads, checkpoints, messages, pages …

        Args:
            session_id: The session.
            soft: Whether only to hide it: its `status` becomes "deleted", whatever that was, and
                `list` leaves it out; `update(session_id, status=None)` brings it back.
            connection: Where to run, as part of your transaction; else much is deleted in several
                transactions.

        Returns:
            Whether there was such a session.
        """
        return self._driver.run(self._sessions.delete(session_id, soft=soft), connection)

    async def adelete(
        self, session_id: str, *, soft: bool = False, connection: AnyConnection | None = None
    ) -> bool:
        """As `delete`."""
        return await self._driver.arun(self._sessions.delete(session_id, soft=soft), connection)

    # -- messages ---------------------------------------------------------------------------

    def messages(
        self,
        session_id: str,
        *,
        removed: bool = False,
        descending: bool = False,
        limit: int = LIMIT,
        after: str | None = None,
        connection: SyncConnection | None = None,
    ) -> Page[MessageRecord]:
        """List a session's messages, the first ones first.

        Args:
            session_id: The session; one that there is not has none.
            removed: Whether to list those too that a reducer or a fork dropped.
            descending: Whether the last ones come first.
            limit: Messages of a page.
            after: The `next` of the page before.
            connection: Where to run, as part of your transaction.

        Raises:
            InvalidConfigError: The id, the limit or the cursor cannot be used.
        """
        script = self._children.messages(
            session_id, removed=removed, descending=descending, limit=limit, after=after
        )
        return self._driver.run(script, connection)

    async def amessages(
        self,
        session_id: str,
        *,
        removed: bool = False,
        descending: bool = False,
        limit: int = LIMIT,
        after: str | None = None,
        connection: AnyConnection | None = None,
    ) -> Page[MessageRecord]:
        """As `messages`."""
        script = self._children.messages(
            session_id, removed=removed, descending=descending, limit=limit, after=after
        )
        return await self._driver.arun(script, connection)

    def add_message(
        self,
        session_id: str,
        role: str,
        content: str,
        *,
        message_id: str | None = None,
        connection: SyncConnection | None = None,
    ) -> MessageRecord:
        """Add a message that no graph's state holds.

        Args:
            session_id: The session.
            role: `user`, `assistant`, `system` or `tool`.
            content: Its text.
            message_id: An id of the application's own.
            connection: Where to run, as part of your transaction.

        Raises:
            InvalidConfigError: There is no such role, or the content is no text.
            SessionNotFoundError: There is no such session.
        """
        script = self._children.add_message(session_id, role, content, message_id)
        return self._driver.run(script, connection)

    async def aadd_message(
        self,
        session_id: str,
        role: str,
        content: str,
        *,
        message_id: str | None = None,
        connection: AnyConnection | None = None,
    ) -> MessageRecord:
        """As `add_message`."""
        script = self._children.add_message(session_id, role, content, message_id)
        return await self._driver.arun(script, connection)

    # -- versions ---------------------------------------------------------------------------

    def versions(
        self,
        session_id: str,
        *,
        descending: bool = False,
        limit: int = LIMIT,
        after: str | None = None,
        connection: SyncConnection | None = None,
    ) -> Page[VersionRecord]:
        """List a session's pages by number; arguments as of `messages`."""
        script = self._children.versions(
            session_id, descending=descending, limit=limit, after=after
        )
        return self._driver.run(script, connection)

    async def aversions(
        self,
        session_id: str,
        *,
        descending: bool = False,
        limit: int = LIMIT,
        after: str | None = None,
        connection: AnyConnection | None = None,
    ) -> Page[VersionRecord]:
        """As `versions`."""
        script = self._children.versions(
            session_id, descending=descending, limit=limit, after=after
        )
        return await self._driver.arun(script, connection)

    def version(
        self,
        session_id: str,
        number: int | None = None,
        *,
        connection: SyncConnection | None = None,
    ) -> VersionRecord | None:
        """Read a page of a session, by default the current one; None if there is none."""
        return self._driver.run(self._children.version(session_id, number), connection)

    async def aversion(
        self,
        session_id: str,
        number: int | None = None,
        *,
        connection: AnyConnection | None = None,
    ) -> VersionRecord | None:
        """As `version`."""
        return await self._driver.arun(self._children.version(session_id, number), connection)

    def add_version(
        self,
        session_id: str,
        html: str,
        description: str | None = None,
        *,
        connection: SyncConnection | None = None,
    ) -> VersionRecord:
        """Add a page, which becomes the current one; the first is 0, the next the largest plus 1.

        Raises:
            InvalidConfigError: The page is no text.
            SessionNotFoundError: There is no such session.
        """
        script = self._children.add_version(session_id, html, description)
        return self._driver.run(script, connection)

    async def aadd_version(
        self,
        session_id: str,
        html: str,
        description: str | None = None,
        *,
        connection: AnyConnection | None = None,
    ) -> VersionRecord:
        """As `add_version`."""
        script = self._children.add_version(session_id, html, description)
        return await self._driver.arun(script, connection)

    def rollback(
        self, session_id: str, number: int, *, connection: SyncConnection | None = None
    ) -> VersionRecord:
        """Make an earlier page the current one; later ones stay, and keep their numbers.

        Raises:
            SessionNotFoundError: There is no such session.
            VersionNotFoundError: It has no such page.
        """
        return self._driver.run(self._children.rollback(session_id, number), connection)

    async def arollback(
        self, session_id: str, number: int, *, connection: AnyConnection | None = None
    ) -> VersionRecord:
        """As `rollback`."""
        return await self._driver.arun(self._children.rollback(session_id, number), connection)

    def pin(
        self, session_id: str, number: int, *, connection: SyncConnection | None = None
    ) -> VersionRecord:
        """Keep a page whatever `keep_versions` says; raises as `rollback` does."""
        return self._driver.run(self._children.pin(session_id, number, pinned=True), connection)

    async def apin(
        self, session_id: str, number: int, *, connection: AnyConnection | None = None
    ) -> VersionRecord:
        """As `pin`."""
        script = self._children.pin(session_id, number, pinned=True)
        return await self._driver.arun(script, connection)

    def unpin(
        self, session_id: str, number: int, *, connection: SyncConnection | None = None
    ) -> VersionRecord:
        """Undo `pin`."""
        return self._driver.run(self._children.pin(session_id, number, pinned=False), connection)

    async def aunpin(
        self, session_id: str, number: int, *, connection: AnyConnection | None = None
    ) -> VersionRecord:
        """As `unpin`."""
        script = self._children.pin(session_id, number, pinned=False)
        return await self._driver.arun(script, connection)

    # -- token usage ------------------------------------------------------------------------

    def token_usage(
        self,
        session_id: str,
        *,
        descending: bool = False,
        limit: int = LIMIT,
        after: str | None = None,
        connection: SyncConnection | None = None,
    ) -> Page[UsageRecord]:
        """List a session's calls of models; arguments as of `messages`."""
        script = self._children.token_usage(
            session_id, descending=descending, limit=limit, after=after
        )
        return self._driver.run(script, connection)

    async def atoken_usage(
        self,
        session_id: str,
        *,
        descending: bool = False,
        limit: int = LIMIT,
        after: str | None = None,
        connection: AnyConnection | None = None,
    ) -> Page[UsageRecord]:
        """As `token_usage`."""
        script = self._children.token_usage(
            session_id, descending=descending, limit=limit, after=after
        )
        return await self._driver.arun(script, connection)

    def add_token_usage(
        self,
        session_id: str,
        *,
        agent_type: str,
        model: str,
        input_tokens: int,
        output_tokens: int,
        cost_usd: float = 0.0,
        connection: SyncConnection | None = None,
    ) -> UsageRecord:
        """Add a call of a model; the total is input plus output.

        Raises:
            InvalidConfigError: A number is negative, or a text too long.
            SessionNotFoundError: There is no such session.
        """
        script = self._children.add_token_usage(
            session_id, agent_type=agent_type, model=model, input_tokens=input_tokens,
            output_tokens=output_tokens, cost_usd=cost_usd,
        )  # fmt: skip
        return self._driver.run(script, connection)

    async def aadd_token_usage(
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
        """As `add_token_usage`."""
        script = self._children.add_token_usage(
            session_id, agent_type=agent_type, model=model, input_tokens=input_tokens,
            output_tokens=output_tokens, cost_usd=cost_usd,
        )  # fmt: skip
        return await self._driver.arun(script, connection)

    def usage_summary(
        self,
        *by: By,
        session_id: str | None = None,
        owner_id: str | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
        connection: SyncConnection | None = None,
    ) -> tuple[UsageSummary, ...]:
        """Sum up tokens and cost.

        Args:
            *by: "agent", "model" and "day" (of UTC): one sum for each combination; without any,
                one sum of all.
            session_id: Only this session's calls.
            owner_id: Only those of this owner's sessions.
            since: Only calls at this moment or later.
            before: Only calls before this moment.
            connection: Where to run, as part of your transaction.

        Raises:
            InvalidConfigError: It cannot be summed up so, or a limit cannot be used.
        """
        script = self._children.usage_summary(
            by, session_id=session_id, owner_id=owner_id, since=since, before=before
        )
        return self._driver.run(script, connection)

    async def ausage_summary(
        self,
        *by: By,
        session_id: str | None = None,
        owner_id: str | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
        connection: AnyConnection | None = None,
    ) -> tuple[UsageSummary, ...]:
        """As `usage_summary`."""
        script = self._children.usage_summary(
            by, session_id=session_id, owner_id=owner_id, since=since, before=before
        )
        return await self._driver.arun(script, connection)

    # -- errors -----------------------------------------------------------------------------

    def errors(
        self,
        session_id: str | None = None,
        *,
        recovered: bool | None = None,
        limit: int = LIMIT,
        after: str | None = None,
        connection: SyncConnection | None = None,
    ) -> Page[ErrorRecord]:
        """List what failed, newest first.

        Args:
            session_id: Only this session's errors; default all.
            recovered: Whether its thread has gone on since; None is either.
            limit: Errors of a page.
            after: The `next` of the page before.
            connection: Where to run, as part of your transaction.

        Raises:
            InvalidConfigError: The id, the limit or the cursor cannot be used.
        """
        script = self._children.errors(session_id, recovered=recovered, limit=limit, after=after)
        return self._driver.run(script, connection)

    async def aerrors(
        self,
        session_id: str | None = None,
        *,
        recovered: bool | None = None,
        limit: int = LIMIT,
        after: str | None = None,
        connection: AnyConnection | None = None,
    ) -> Page[ErrorRecord]:
        """As `errors`."""
        script = self._children.errors(session_id, recovered=recovered, limit=limit, after=after)
        return await self._driver.arun(script, connection)


def _filters(
    owner_id: str | None,
    build_status: str | None,
    product_type: str | None,
    complexity: str | None,
) -> dict[str, Any]:
    return {
        "owner_id": owner_id, "build_status": build_status, "product_type": product_type,
        "complexity": complexity,
    }  # fmt: skip
