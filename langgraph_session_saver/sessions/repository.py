"""`saver.sessions`: the sessions of an application, sync and async, over one set of scripts."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Unpack

from langgraph_session_saver.sessions.child_scripts import ChildScripts
from langgraph_session_saver.sessions.paging import LIMIT
from langgraph_session_saver.sessions.records import Page, SessionChanges, SessionRecord
from langgraph_session_saver.sessions.rows import SessionRows
from langgraph_session_saver.sessions.session_scripts import SessionScripts
from langgraph_session_saver.sql.scripts import ScriptRunner

if TYPE_CHECKING:
    from langgraph_session_saver.sql.borrowed import AnyConnection, SyncConnection


class SessionRepository(SessionRows):
    """The sessions of one database, and what belongs to them: `saver.sessions`.

    Every method takes `connection=`: a SQLAlchemy `Connection` or ORM `Session` (an async method
    also takes their async kinds). It then runs there, in your transaction, and neither commits nor
    rolls back nor retries: what the database refuses surfaces as SQLAlchemy raises it. Objects
    that an ORM session has loaded already show what was changed after `session.refresh`.
    """

    def __init__(
        self, driver: ScriptRunner, sessions: SessionScripts, children: ChildScripts
    ) -> None:
        super().__init__(driver, children)
        self._sessions = sessions

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
        return self._script_runner.run(self._sessions.create(session_id, columns), connection)

    async def acreate(
        self,
        session_id: str | None = None,
        *,
        connection: AnyConnection | None = None,
        **columns: Unpack[SessionChanges],
    ) -> SessionRecord:
        """As `create`."""
        return await self._script_runner.arun(
            self._sessions.create(session_id, columns), connection
        )

    def get(
        self, session_id: str, *, connection: SyncConnection | None = None
    ) -> SessionRecord | None:
        """Read a session, one that was deleted softly too; None if there is none."""
        return self._script_runner.run(self._sessions.get(session_id), connection)

    async def aget(
        self, session_id: str, *, connection: AnyConnection | None = None
    ) -> SessionRecord | None:
        """As `get`."""
        return await self._script_runner.arun(self._sessions.get(session_id), connection)

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
    ) -> Page[SessionRecord]:
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
        return self._script_runner.run(script, connection)

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
    ) -> Page[SessionRecord]:
        """As `list`."""
        filters = _filters(owner_id, build_status, product_type, complexity)
        script = self._sessions.list(
            filters=filters, updated_since=updated_since, updated_before=updated_before,
            deleted=deleted, order_by=order_by, descending=descending, limit=limit, after=after,
        )  # fmt: skip
        return await self._script_runner.arun(script, connection)

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
        return self._script_runner.run(self._sessions.update(session_id, changes), connection)

    async def aupdate(
        self,
        session_id: str,
        *,
        connection: AnyConnection | None = None,
        **changes: Unpack[SessionChanges],
    ) -> SessionRecord:
        """As `update`."""
        return await self._script_runner.arun(
            self._sessions.update(session_id, changes), connection
        )

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
        return self._script_runner.run(self._sessions.delete(session_id, soft=soft), connection)

    async def adelete(
        self, session_id: str, *, soft: bool = False, connection: AnyConnection | None = None
    ) -> bool:
        """As `delete`."""
        return await self._script_runner.arun(
            self._sessions.delete(session_id, soft=soft), connection
        )


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
