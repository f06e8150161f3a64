"""What a saver and its clones share: statements, projections, options and caches."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

from sqlalchemy import Connection

from langgraph_session_saver.checkpointer.known import KnownCheckpoints, KnownThreads
from langgraph_session_saver.encoding.caches import BlobCache
from langgraph_session_saver.encoding.messages import MessageListDecoder, MessageListEncoder
from langgraph_session_saver.errors import SchemaError, ValueTooLargeError
from langgraph_session_saver.projection.project import Pricing, Projector
from langgraph_session_saver.projection.rows import ProjectedRows
from langgraph_session_saver.projection.rules import ErrorRows, Policy, Projection
from langgraph_session_saver.schema.setup import is_current, set_up, verify
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.storage.storage import Storage

ATTEMPTS = 5
"""Attempts at an operation while others keep deleting or projecting what it depends on."""


class Context:
    """What all scripts of a saver use: statements, projections, options and caches."""

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
        self.known_threads = KnownThreads()
        self.known_checkpoints = KnownCheckpoints()

    @property
    def is_ready(self) -> bool:
        """Whether the tables are known to be of this version."""
        return self.value_limit is not None

    def prepare(self) -> Script[None]:
        """Before the first use, create missing tables, or verify them if `auto_setup` is False."""
        if self.auto_setup:
            yield from self.set_up()
        else:
            self.value_limit = yield Request.read(self._verify)

    def set_up(self) -> Script[None]:
        """Create missing tables."""
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
        """Verify that the database of a caller's connection has the saver's tables.

        Raises:
            SchemaError: Tables are missing, which are never created in a caller's transaction.
        """
        if self.is_ready:
            return
        if not is_current(conn, self.tables):
            raise SchemaError(
                "the database does not have the tables of this version, and a call in your own "
                "transaction does not create them: call saver.setup() first"
            )
        self.value_limit = self.dialect.value_limit(conn)

    def check_size(self, data: bytes, what: Callable[[], str]) -> bytes:
        """Check that the database takes a value of this size, and return the value.

        Raises:
            ValueTooLargeError: It does not.
        """
        if self.value_limit is not None and len(data) > self.value_limit:
            raise ValueTooLargeError(
                f"{what()} takes {len(data):,} bytes, and this database takes at most "
                f"{self.value_limit:,}. Nothing was written: store such values elsewhere and a "
                "link in the state, or raise the server's limit (MySQL: max_allowed_packet)"
            )
        return data

    def without_pruning(self) -> Context:
        """A context with the same caches in which a put does not apply `keep_last`."""
        context = copy(self)
        context.keep_last = None
        return context

    def forget_thread(self, thread_key: bytes) -> None:
        """Forget a thread whose rows were deleted."""
        self.blob_cache.forget_thread(thread_key)
        self.message_encoder.forget_thread(thread_key)
        self.known_threads.forget(thread_key)


def upgrade(conn: Connection, tables: Tables) -> None:
    """Run the migrations that the database has not run."""
    from langgraph_session_saver.migrate import upgrade_within  # noqa: PLC0415 - imports Alembic

    upgrade_within(conn, tables)
