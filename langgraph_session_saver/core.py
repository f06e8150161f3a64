"""What one saver and its clones share, and the form in which both faces run its work.

Work is written once, as a script: a generator that yields requests (an operation, and whether it
writes) and gets their results back. Each face has one driver that runs requests its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias, TypeVar

from langgraph.checkpoint.base import ChannelVersions
from sqlalchemy import Connection

from langgraph_session_saver.cache import BlobCache, Whole
from langgraph_session_saver.changes import Pricing, Projector, View
from langgraph_session_saver.engine import Kind
from langgraph_session_saver.errors import ValueTooLargeError
from langgraph_session_saver.gates import CheckpointKey
from langgraph_session_saver.messages import MessageReader, MessageWriter
from langgraph_session_saver.operations import Operations
from langgraph_session_saver.projected import ProjectedRows
from langgraph_session_saver.projections import ErrorRows, Policy, Projection
from langgraph_session_saver.recent import Recent, Weighed
from langgraph_session_saver.retention import Contents, Origin
from langgraph_session_saver.schema import is_current, set_up, verify
from langgraph_session_saver.threads import Head, ThreadRef

T = TypeVar("T")

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


class Request(NamedTuple):
    """One operation that a script wants run."""

    operation: Callable[[Connection], Any]
    kind: Kind


class Aside(NamedTuple):
    """Work that needs no connection of ours: reading a file, asking another saver."""

    call: Callable[[], Any]
    """On the async face it is awaited if it is a coroutine function, else run in a thread."""


Script: TypeAlias = Generator[Request | Aside, Any, T]


def looking_up(operation: Callable[[Connection], Any]) -> Request:
    """Ask for an operation that only reads, with compiled statements."""
    return Request(operation, "lookup")


def reading(operation: Callable[[Connection], Any]) -> Request:
    """Ask for an operation that only reads."""
    return Request(operation, "read")


def probing(operation: Callable[[Connection], Any]) -> Request:
    """Ask for an operation that only reads, and that fails at once where it fails."""
    return Request(operation, "probe")


def writing(operation: Callable[[Connection], Any]) -> Request:
    """Ask for an operation in a transaction of its own."""
    return Request(operation, "write")


def stepping(operation: Callable[[Connection], Any]) -> Request:
    """Ask for an operation of one step, in a transaction that others may share."""
    return Request(operation, "step")


def aside(call: Callable[[], Any]) -> Aside:
    """Ask for work that needs no connection."""
    return Aside(call)


def storing(operation: Callable[[Connection], Any], *, is_one_insert: bool = False) -> Request:
    """Ask for an operation that runs one batch: a transaction only where that is several."""
    return Request(operation, "statement" if is_one_insert else "batch")


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


class Core:
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
        self.contents: Weighed[bytes, Contents] = Weighed(REMEMBERED_ROWS, Contents.weight)
        self.projector = Projector(projections, pricing, tables.sessions)
        self.policy: Policy = policy
        self.records_errors = any(isinstance(p, ErrorRows) for p in projections)
        self.auto_setup = auto_setup
        self.value_limit: int | None = None
        self.cache = BlobCache()
        self.message_writer = MessageWriter()
        self.message_reader = MessageReader()
        self.wholes: Weighed[CheckpointKey, Whole] = Weighed(REMEMBERED_WHOLE, Whole.weight)
        self.views: Weighed[bytes, View] = Weighed(REMEMBERED_MESSAGES, View.weight)
        self.known: Recent[bytes, Known] = Recent(REMEMBERED)
        self.noted: Recent[CheckpointKey, Noted] = Recent(REMEMBERED)
        self.written: Recent[CheckpointKey, frozenset[str]] = Recent(REMEMBERED)
        # False for a checkpoint that was seen or saved here, and may since be gone.
        self.not_found: Recent[CheckpointKey, bool] = Recent(REMEMBERED)
        self.doubtful: Recent[CheckpointKey, str] = Recent(REMEMBERED)

    @property
    def is_ready(self) -> bool:
        """Whether the schema has been seen to be this code's."""
        return self.value_limit is not None

    def prepare(self) -> Script[None]:
        """Before the first use: set the database up, or with `auto_setup` off verify it."""
        if self.auto_setup:
            yield from self.set_up()
        else:
            self.value_limit = yield reading(self._verify)

    def set_up(self) -> Script[None]:
        """Create what is missing in the database."""
        self.value_limit = yield reading(self._already_current)
        if self.value_limit is None:
            self.value_limit = yield Request(self._set_up, "schema")

    def _already_current(self, conn: Connection) -> int | None:
        return self.dialect.value_limit(conn) if is_current(conn, self.tables) else None

    def _set_up(self, conn: Connection) -> int:
        set_up(conn, self.tables, self.dialect)
        return self.dialect.value_limit(conn)

    def _verify(self, conn: Connection) -> int:
        verify(conn, self.tables)
        return self.dialect.value_limit(conn)

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
        self.message_writer.forget_thread(thread_key)
        self.wholes.forget_where(lambda key: key[0] == thread_key)
        self.views.forget(thread_key)
        self.forget_row(thread_key)

    def forget_row(self, thread_key: bytes) -> None:
        """Drop what is remembered of a thread's row: another process has changed it."""
        self.known.forget(thread_key)
        self.contents.forget(thread_key)
