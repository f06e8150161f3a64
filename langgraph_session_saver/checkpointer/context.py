"""What one saver and its clones share: statements, projections and caches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from langgraph.checkpoint.base import ChannelVersions
from sqlalchemy import Connection

from langgraph_session_saver.encoding.caches import BlobCache, LRUCache, Whole
from langgraph_session_saver.encoding.keys import CheckpointKey, ThreadRef
from langgraph_session_saver.encoding.message_decoder import MessageListDecoder
from langgraph_session_saver.encoding.messages import MessageListEncoder
from langgraph_session_saver.errors import InvalidConfigError, SchemaError, ValueTooLargeError
from langgraph_session_saver.projection.project import Pricing, Projector, View
from langgraph_session_saver.projection.rows import ProjectedRows
from langgraph_session_saver.projection.rules import ErrorRows, Policy, Projection
from langgraph_session_saver.retention.contents import Contents
from langgraph_session_saver.retention.lineage import Origin
from langgraph_session_saver.schema.setup import is_current, set_up, verify
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.dialects import dialect_for
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.storage.checkpoints import Operations
from langgraph_session_saver.storage.threads import Head

REMEMBERED = 4_096
"""Threads, and checkpoints, about which small facts are remembered."""

ATTEMPTS = 5
"""Times a call is worked out anew because others deleted or projected meanwhile."""

REMEMBERED_MESSAGES = 200_000
"""Messages, of all threads, that are remembered to be projected: about 40 MB."""

REMEMBERED_WHOLE = 8 << 20
"""Bytes of small checkpoints that are remembered as a whole, for who reads the same one again."""

REMEMBERED_ROWS = 200_000
"""Checkpoints and blobs, of all threads under `keep_last`, that are remembered to be stored."""


class Known(NamedTuple):
    """What this process knows of a thread's row, until another writes to the thread."""

    thread: ThreadRef
    """The session and owner that the thread was found to agree with."""
    head: Head

    def suits(self, thread: ThreadRef) -> bool:
        """Whether a call names nothing that the thread has not been checked against."""
        return not thread.is_named or thread == self.thread


class Noted(NamedTuple):
    """What the writes of a checkpoint's tasks, and the checkpoint that follows, say of it."""

    sends: tuple[str, ...]
    """The nodes of its `Send` tasks."""
    step: int | None
    origin: Origin | None
    """None for a subgraph's."""
    versions: ChannelVersions
    """Of the channels that have a value."""


class Context:
    """Statements, projections, and what this process remembers of the database."""

    def __init__(
        self,
        operations: Operations,
        projections: tuple[Projection, ...],
        *,
        policy: Policy,
        pricing: Pricing | None,
        auto_setup: bool,
        keep_last: int | None = None,
        keep_versions: int | None = None,
    ) -> None:
        self.operations = operations
        self.tables = tables = operations.tables
        self.dialect = operations.dialect
        self.projected = ProjectedRows(operations, keep_versions)
        self.keep_last = keep_last
        self.contents: LRUCache[bytes, Contents] = LRUCache(REMEMBERED_ROWS, Contents.weight)
        self.projector = Projector(projections, pricing, tables.sessions)
        self.policy: Policy = policy
        self.records_errors = any(isinstance(p, ErrorRows) for p in projections)
        self.auto_setup = auto_setup
        self.value_limit: int | None = None
        self.cache = BlobCache()
        self.message_encoder = MessageListEncoder()
        self.message_decoder = MessageListDecoder()
        self.wholes: LRUCache[CheckpointKey, Whole] = LRUCache(REMEMBERED_WHOLE, Whole.weight)
        self.views: LRUCache[bytes, View] = LRUCache(REMEMBERED_MESSAGES, View.weight)
        self.known: LRUCache[bytes, Known] = LRUCache(REMEMBERED)
        self.noted: LRUCache[CheckpointKey, Noted] = LRUCache(REMEMBERED)
        self.written: LRUCache[CheckpointKey, frozenset[str]] = LRUCache(REMEMBERED)
        # False for a checkpoint that was seen or saved here, and may since be gone.
        self.not_found: LRUCache[CheckpointKey, bool] = LRUCache(REMEMBERED)
        self.doubtful: LRUCache[CheckpointKey, str] = LRUCache(REMEMBERED)

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
            InvalidConfigError: It leads to another kind of database.
            SchemaError: The tables are missing; they are not created in a caller's transaction.
        """
        if type(dialect_for(conn.dialect)) is not type(self.dialect):
            raise InvalidConfigError(
                f"connection leads to a {conn.dialect.name} database, which is not the saver's"
            )
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

    def learn(
        self, thread: ThreadRef, head: Head, was: int, contents: Contents | None = None
    ) -> None:
        """Remember a thread's row after it was changed here.

        Args:
            thread: What the call named.
            head: The row now.
            was: The revision before.
            contents: What the thread stores now; without it, what it did before if that is known.
        """
        known = self.known.get(thread.key)
        if known is not None and not thread.is_named and known.head.session_id == head.session_id:
            thread = known.thread
        self.known.put(thread.key, Known(thread, head))
        if contents is None:
            before = self.contents.get(thread.key)
            if before is None or before.revision != was:
                return
            contents = replace(before, revision=head.revision)
        self.contents.put(thread.key, contents)

    def forget_thread(self, thread_key: bytes) -> None:
        """Drop what is remembered of a thread whose rows are gone."""
        self.cache.forget_thread(thread_key)
        self.message_encoder.forget_thread(thread_key)
        self.wholes.forget_where(lambda key: key[0] == thread_key)
        self.views.forget(thread_key)
        self.forget_row(thread_key)

    def forget_row(self, thread_key: bytes) -> None:
        """Drop what is remembered of a thread's row: another process has changed it."""
        self.known.forget(thread_key)
        self.contents.forget(thread_key)


def upgrade(conn: Connection, tables: Tables) -> None:
    """Run the migrations that a database lacks."""
    from langgraph_session_saver.migrate import upgrade_within  # noqa: PLC0415 - imports Alembic

    upgrade_within(conn, tables)
