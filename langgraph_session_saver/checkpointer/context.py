"""What a saver and its clones share: statements, projections, options and caches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import replace
from typing import NamedTuple

from langgraph.checkpoint.base import ChannelVersions, Checkpoint
from sqlalchemy import Connection

from langgraph_session_saver.checkpointer.known_deltas import KnownDeltas
from langgraph_session_saver.encoding.caches import CACHE_BYTES, BlobCache, LRUCache
from langgraph_session_saver.encoding.keys import CheckpointKey, ThreadRef, check_owner
from langgraph_session_saver.encoding.messages import MessageListDecoder, MessageListEncoder
from langgraph_session_saver.encoding.pieces import PIECE_BYTES, most_bytes
from langgraph_session_saver.errors import AccessDeniedError, SchemaError, ValueTooLargeError
from langgraph_session_saver.projection.pricing import Pricing
from langgraph_session_saver.projection.project import ProjectedState, Projector
from langgraph_session_saver.projection.rows import ProjectedRows
from langgraph_session_saver.projection.rules import ErrorRows, Policy, Projection
from langgraph_session_saver.projection.status import send_nodes
from langgraph_session_saver.redaction import SECRET_KEYS, SecretKeys
from langgraph_session_saver.retention.lineage import Origin
from langgraph_session_saver.retention.policy import Contents
from langgraph_session_saver.schema.setup import is_current, set_up, verify
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.storage.storage import Storage
from langgraph_session_saver.storage.threads import Head

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
        single_writer: bool = False,
        cache_bytes: int = CACHE_BYTES,
        redact: Iterable[str] = SECRET_KEYS,
        shows_state: bool = True,
    ) -> None:
        self.owner_id: str | None = None
        """The owner whose threads and sessions are all that there is; None for everyone's."""
        self.storage = storage
        self.tables = storage.tables
        self.dialect = storage.dialect
        self.secret_keys = SecretKeys(redact)
        self.projector = Projector(projections, pricing, self.tables.sessions, self.secret_keys)
        self.projected = ProjectedRows(storage, keep_versions)
        self.policy: Policy = policy
        self.records_errors = any(isinstance(p, ErrorRows) for p in projections)
        self.shows_state = shows_state
        """Whether columns may show, in clear, what belongs to a graph's state."""
        self.keep_last = keep_last
        self.single_writer = single_writer
        self.checks_clock = True
        self.auto_setup = auto_setup
        self.value_limit: int | None = None
        """Bytes that the database takes in one row; None until the tables were checked."""
        self.blob_cache = BlobCache(cache_bytes // 2)
        self.message_encoder = MessageListEncoder(cache_bytes // 4)
        self.message_decoder = MessageListDecoder()
        self.known_threads = KnownThreads()
        self.known_checkpoints = KnownCheckpoints()
        self.known_deltas = KnownDeltas(self.projector.reads, cache_bytes // 4)

    def prepare(self) -> Script[None]:
        """Before the first use, create missing tables, or verify them if `auto_setup` is False."""
        if self.value_limit is not None:
            return
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
        if self.value_limit is not None:
            return
        if not is_current(conn, self.tables):
            raise SchemaError(
                "the database does not have the tables of this version, and a call in your own "
                "transaction does not create them: call saver.setup() first"
            )
        self.value_limit = self.dialect.value_limit(conn)

    @property
    def piece_bytes(self) -> int:
        """The bytes of a row, of which larger values take several."""
        return PIECE_BYTES if self.value_limit is None else min(self.value_limit, PIECE_BYTES)

    def check_size(self, data: bytes, what: Callable[[], str], *, in_pieces: bool = False) -> bytes:
        """Check that the database takes a value of this size, and return the value.

        Args:
            data: The value.
            what: Its name in the error.
            in_pieces: Whether it can be stored in pieces.

        Raises:
            ValueTooLargeError: It does not.
        """
        limit = most_bytes(self.piece_bytes) if in_pieces else self.value_limit
        if limit is not None and len(data) > limit:
            raise ValueTooLargeError(
                f"{what()} takes {len(data):,} bytes, and this database takes at most "
                f"{limit:,}. Nothing was written: store such values elsewhere and a "
                "link in the state, or raise the server's limit (MySQL: max_allowed_packet)"
            )
        return data

    def for_import(self) -> Context:
        """A context with the same caches, for checkpoints as another saver has them.

        A put does not apply `keep_last`, and takes ids and branches in whatever order they are.
        """
        context = copy(self)
        context.keep_last, context.checks_clock, context.single_writer = None, False, False
        return context

    def for_owner(self, owner_id: str) -> Context:
        """A context with the same caches for which only an owner's threads and sessions exist.

        Raises:
            AccessDeniedError: This one is for another owner.
        """
        context = copy(self)
        context.owner_id = check_owner(owner_id, self.owner_id)
        return context

    def check_unlimited(self, what: str) -> None:
        """Refuse what cannot be limited to an owner.

        Raises:
            AccessDeniedError: The saver is for one owner.
        """
        if self.owner_id is not None:
            raise AccessDeniedError(
                f"{what} is about the rows of all owners: call it on the saver that for_owner was "
                "called on"
            )

    def forget_thread(self, thread_key: bytes) -> None:
        """Forget a thread whose rows were deleted."""
        self.blob_cache.forget_thread(thread_key)
        self.message_encoder.forget_thread(thread_key)
        self.known_threads.forget(thread_key)
        self.known_deltas.forget_thread(thread_key)


def upgrade(conn: Connection, tables: Tables) -> None:
    """Run the migrations that the database has not run."""
    from langgraph_session_saver.migrate import upgrade_within  # noqa: PLC0415 - imports Alembic

    upgrade_within(conn, tables)


# -- what this process knows; it may be missing or outdated: the database decides ---------------

CACHED_ENTRIES = 4_096
"""Threads, and checkpoints, in the caches of small facts."""

CACHED_MESSAGES = 200_000
"""Messages, over all threads, in the cache of projected state: about 40 MB."""

CACHED_ROWS = 200_000
"""Checkpoints and blobs, over all threads, in the cache of what threads store."""


class KnownThreads:
    """Threads by key, as of the last revision of their rows that this process made or saw."""

    def __init__(self) -> None:
        self._rows = LRUCache[bytes, Head](CACHED_ENTRIES)
        self.projected = LRUCache[bytes, ProjectedState](CACHED_MESSAGES, ProjectedState.weight)
        self.contents = LRUCache[bytes, Contents](CACHED_ROWS, Contents.weight)
        """What each thread stores; used under `keep_last` only."""

    def head(self, thread: ThreadRef) -> Head | None:
        """A thread's row, if it has the session and the owner that a call names."""
        head = self._rows.get(thread.key)
        return head if head is not None and head.agrees_with(thread) else None

    def learn(self, thread: ThreadRef, head: Head) -> None:
        """Remember a thread's row after this process changed it."""
        self._rows.put(thread.key, head)

    def keep_contents(self, thread_key: bytes, before: int, after: int) -> None:
        """Note that a thread stores the same after a change of its row's revision."""
        contents = self.contents.get(thread_key)
        if contents is not None and contents.revision == before:
            self.contents.put(thread_key, replace(contents, revision=after))

    def forget_row(self, thread_key: bytes) -> None:
        """Forget a thread's row: another process has changed it."""
        self._rows.forget(thread_key)
        self.contents.forget(thread_key)

    def forget(self, thread_key: bytes) -> None:
        """Forget a thread whose rows were deleted."""
        self.projected.forget(thread_key)
        self.forget_row(thread_key)


class CheckpointFacts(NamedTuple):
    """What later puts and writes ask about a checkpoint."""

    send_nodes: tuple[str, ...]
    """The nodes of its `Send` tasks."""
    origin: Origin | None
    """None in a subgraph's namespace."""
    versions: ChannelVersions
    """The versions of the channels that have a value."""


def facts_of(checkpoint: Checkpoint, origin: Origin | None) -> CheckpointFacts:
    """The facts about a checkpoint that is being put or was read."""
    values = checkpoint["channel_values"]
    versions = {
        channel: version
        for channel, version in checkpoint["channel_versions"].items()
        if channel in values
    }
    return CheckpointFacts(send_nodes(values), origin, versions)


class KnownCheckpoints:
    """Facts about checkpoints, by key."""

    def __init__(self) -> None:
        self.facts = LRUCache[CheckpointKey, CheckpointFacts](CACHED_ENTRIES)
        self._found = LRUCache[CheckpointKey, bool](CACHED_ENTRIES)
        self.missing_ancestor = LRUCache[CheckpointKey, CheckpointKey](CACHED_ENTRIES)
        """For a checkpoint whose put may have been refused: the ancestor that was not found."""
        self.behind = LRUCache[CheckpointKey, float](CACHED_ENTRIES)
        """Checkpoints that were refused: by how many seconds the host's clock is behind."""
        self.checked_channels = LRUCache[CheckpointKey, frozenset[str]](CACHED_ENTRIES)
        """Channels whose writes passed their projections' checks (policy "raise")."""

    def note_found(self, key: CheckpointKey) -> None:
        """Note that a checkpoint was seen or saved; others may delete it later."""
        self._found.put(key, True)  # noqa: FBT003

    def note_missing(self, key: CheckpointKey) -> None:
        """Note that a read did not find a checkpoint, unless it was seen or saved before."""
        if self._found.get(key) is None:
            self._found.put(key, False)  # noqa: FBT003

    def was_missing(self, key: CheckpointKey) -> bool:
        """Whether a read did not find a checkpoint that was never seen nor saved."""
        return self._found.get(key) is False
