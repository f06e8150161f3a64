"""What one saver and its clones share: statements, projections and caches."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

from sqlalchemy import Connection

from langgraph_session_saver.checkpointer.known import KnownCheckpoints, KnownThreads
from langgraph_session_saver.encoding.caches import BlobCache
from langgraph_session_saver.encoding.message_decoder import MessageListDecoder
from langgraph_session_saver.encoding.messages import MessageListEncoder
from langgraph_session_saver.errors import SchemaError, ValueTooLargeError
from langgraph_session_saver.projection.project import Pricing, Projector
from langgraph_session_saver.projection.rows import ProjectedRows
from langgraph_session_saver.projection.rules import ErrorRows, Policy, Projection
from langgraph_session_saver.schema.setup import is_current, set_up, verify
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.storage.storage import Storage

ATTEMPTS = 5
"""Attempts at an operation that others' deletes or steps keep making invalid."""


class Context:
    """Statements, projections, and what this process remembers of the database."""

    def __init__(
        self,
        storage: Storage,
        projections: tuple[Projection, ...],
        *,
        policy: Policy,
        pricing: Pricing | None,
        auto_setup: bool,
        keep_last: int | None = None,
        keep_versions: int | None = None,
    ) -> None:
        self.storage = storage
        self.tables = storage.tables
        self.dialect = storage.dialect
        self.projector = Projector(projections, pricing, self.tables.sessions)
        self.projected = ProjectedRows(storage, keep_versions)
        self.policy: Policy = policy
        self.records_errors = any(isinstance(p, ErrorRows) for p in projections)
        self.keep_last = keep_last
        self.auto_setup = auto_setup
        self.value_limit: int | None = None
        """Bytes that the database takes in one value; None until the tables were checked."""
        self.blob_cache = BlobCache()
        self.message_encoder = MessageListEncoder()
        self.message_decoder = MessageListDecoder()
        self.threads = KnownThreads()
        self.checkpoints = KnownCheckpoints()

    @property
    def is_ready(self) -> bool:
        """Whether the schema has been seen to be this code's."""
        return self.value_limit is not None

    def prepare(self) -> Script[None]:
        """Before the first use: set the database up, or with `auto_setup` off verify it."""
        if self.auto_setup:
            yield from self.set_up()
        else:
            self.value_limit = yield Request.read(self._verify)

    def set_up(self) -> Script[None]:
        """Create what is missing in the database."""
        self.value_limit = yield Request.read(self._already_current)
        if self.value_limit is None:
            self.value_limit = yield Request(self._set_up, "schema")

    def _already_current(self, conn: Connection) -> int | None:
        return self.dialect.value_limit(conn) if is_current(conn, self.tables) else None

    def _set_up(self, conn: Connection) -> int:
        set_up(conn, self.tables, self.dialect, upgrade)
        return self.dialect.value_limit(conn)

    def _verify(self, conn: Connection) -> int:
        verify(conn, self.tables)
        return self.dialect.value_limit(conn)

    def check_borrowed(self, conn: Connection) -> None:
        """Verify that a caller's connection leads to the saver's tables.

        Raises:
            SchemaError: The tables are missing; they are not created in a caller's transaction.
        """
        if self.is_ready:
            return
        if not is_current(conn, self.tables):
            raise SchemaError(
                "the database lacks this code's tables, and a call in your own transaction makes "
                "none: call saver.setup() first"
            )
        self.value_limit = self.dialect.value_limit(conn)

    def check_size(self, data: bytes, what: Callable[[], str]) -> bytes:
        """Refuse a value that the database would.

        Raises:
            ValueTooLargeError: Names the value, its size and the limit.
        """
        if self.value_limit is not None and len(data) > self.value_limit:
            raise ValueTooLargeError(
                f"{what()} takes {len(data):,} bytes, and this database takes at most "
                f"{self.value_limit:,}. Nothing was written: keep such values elsewhere and their "
                "address in the state, or raise the server's limit (MySQL: max_allowed_packet)"
            )
        return data

    def without_pruning(self) -> Context:
        """A context with the same caches under which puts delete nothing."""
        context = copy(self)
        context.keep_last = None
        return context

    def forget_thread(self, thread_key: bytes) -> None:
        """Forget a thread whose rows were deleted."""
        self.blob_cache.forget_thread(thread_key)
        self.message_encoder.forget_thread(thread_key)
        self.threads.forget(thread_key)


def upgrade(conn: Connection, tables: Tables) -> None:
    """Run the migrations that a database lacks."""
    from langgraph_session_saver.migrate import upgrade_within  # noqa: PLC0415 - imports Alembic

    upgrade_within(conn, tables)
