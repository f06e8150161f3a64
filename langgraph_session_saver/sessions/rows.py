"""The part of `saver.sessions` on what belongs to a session: messages, pages, usage, errors."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from langgraph_session_saver.sessions.child_scripts import By, ChildScripts
from langgraph_session_saver.sessions.paging import LIMIT
from langgraph_session_saver.sessions.records import (
    ErrorRecord,
    MessageRecord,
    Page,
    UsageRecord,
    UsageSummary,
    VersionRecord,
)
from langgraph_session_saver.sql.scripts import ScriptRunner

if TYPE_CHECKING:
    from langgraph_session_saver.sql.borrowed import AnyConnection, SyncConnection


class SessionRows:
    """What belongs to the sessions of one database."""

    def __init__(self, driver: ScriptRunner, children: ChildScripts) -> None:
        self._script_runner = driver
        self._children = children

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
        return self._script_runner.run(script, connection)

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
        return await self._script_runner.arun(script, connection)

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
        return self._script_runner.run(script, connection)

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
        return await self._script_runner.arun(script, connection)

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
        return self._script_runner.run(script, connection)

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
        return await self._script_runner.arun(script, connection)

    def version(
        self,
        session_id: str,
        number: int | None = None,
        *,
        connection: SyncConnection | None = None,
    ) -> VersionRecord | None:
        """Read a page of a session, by default the current one; None if there is none."""
        return self._script_runner.run(self._children.version(session_id, number), connection)

    async def aversion(
        self,
        session_id: str,
        number: int | None = None,
        *,
        connection: AnyConnection | None = None,
    ) -> VersionRecord | None:
        """As `version`."""
        return await self._script_runner.arun(
            self._children.version(session_id, number), connection
        )

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
        return self._script_runner.run(script, connection)

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
        return await self._script_runner.arun(script, connection)

    def rollback(
        self, session_id: str, number: int, *, connection: SyncConnection | None = None
    ) -> VersionRecord:
        """Make an earlier page the current one; later ones stay, and keep their numbers.

        Raises:
            SessionNotFoundError: There is no such session.
            VersionNotFoundError: It has no such page.
        """
        return self._script_runner.run(self._children.rollback(session_id, number), connection)

    async def arollback(
        self, session_id: str, number: int, *, connection: AnyConnection | None = None
    ) -> VersionRecord:
        """As `rollback`."""
        return await self._script_runner.arun(
            self._children.rollback(session_id, number), connection
        )

    def pin(
        self, session_id: str, number: int, *, connection: SyncConnection | None = None
    ) -> VersionRecord:
        """Keep a page whatever `keep_versions` says; raises as `rollback` does."""
        return self._script_runner.run(
            self._children.pin(session_id, number, pinned=True), connection
        )

    async def apin(
        self, session_id: str, number: int, *, connection: AnyConnection | None = None
    ) -> VersionRecord:
        """As `pin`."""
        script = self._children.pin(session_id, number, pinned=True)
        return await self._script_runner.arun(script, connection)

    def unpin(
        self, session_id: str, number: int, *, connection: SyncConnection | None = None
    ) -> VersionRecord:
        """Undo `pin`."""
        return self._script_runner.run(
            self._children.pin(session_id, number, pinned=False), connection
        )

    async def aunpin(
        self, session_id: str, number: int, *, connection: AnyConnection | None = None
    ) -> VersionRecord:
        """As `unpin`."""
        script = self._children.pin(session_id, number, pinned=False)
        return await self._script_runner.arun(script, connection)

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
        return self._script_runner.run(script, connection)

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
        return await self._script_runner.arun(script, connection)

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
        return self._script_runner.run(script, connection)

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
        return await self._script_runner.arun(script, connection)

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
        return self._script_runner.run(script, connection)

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
        return await self._script_runner.arun(script, connection)

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
        return self._script_runner.run(script, connection)

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
        return await self._script_runner.arun(script, connection)
