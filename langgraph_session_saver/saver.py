"""`SessionSaver`: the checkpointer's methods, sync and async, over one set of scripts."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from datetime import timedelta
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Self

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from sqlalchemy import URL, Engine

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.checkpointer.get import CheckpointReader
from langgraph_session_saver.checkpointer.listing import Listing
from langgraph_session_saver.checkpointer.maintenance import Counts, ThreadMaintenance
from langgraph_session_saver.checkpointer.put import CheckpointWriter
from langgraph_session_saver.checkpointer.put_writes import TaskWritesWriter
from langgraph_session_saver.encoding.caches import CACHE_BYTES
from langgraph_session_saver.encoding.keys import next_version
from langgraph_session_saver.encoding.serde import EncryptedOnly
from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.inspection.methods import InspectionMethods
from langgraph_session_saver.projection.pricing import Pricing
from langgraph_session_saver.projection.rules import Policy, ProjectionOption, resolve_projections
from langgraph_session_saver.redaction import SECRET_KEYS
from langgraph_session_saver.sessions.repository import SessionRepository
from langgraph_session_saver.sessions.state import SessionState
from langgraph_session_saver.sessions.threads import ThreadRepository
from langgraph_session_saver.sql.runner import RETRY_SECONDS, Runner, translated
from langgraph_session_saver.sql.scripts import ScriptRunner, awaited
from langgraph_session_saver.sql.urls import make_engine, parse_url
from langgraph_session_saver.storage.storage import storage_on
from langgraph_session_saver.transfer.methods import TransferMethods
from langgraph_session_saver.validation import check_count, check_id, check_number, check_seconds

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


class SessionSaver(InspectionMethods, TransferMethods, BaseCheckpointSaver[str]):
    """A LangGraph checkpointer in the application's own SQL database.

    One instance serves `invoke` and `ainvoke`, from any thread. Over an `AsyncEngine`, sync calls
    work from threads other than the event loop's own.

    Args:
        engine: Your `Engine` or `AsyncEngine`. It is never reconfigured, and never disposed of.
        serde: Serialiser; default LangGraph's.
        projections: Changes to the built-in projections, by channel: the name of a built-in one
            that is to read the channel, a function from its value to columns of `sessions`, a
            `Projection`, or None to switch one off. False switches all of them off, and so does an
            encrypting serde unless projections are given.
        on_projection_error: What to do about a value that does not validate: "record" saves the
            checkpoint, leaves the columns unchanged and adds a row to `session_errors`; "raise"
            raises `ProjectionError`.
        pricing: What model calls cost: a mapping from a model's name, or the start of it, to its
            `Rates`, as such or as a mapping, or a function from model, input tokens and output
            tokens to US dollars.
        schema: Schema (PostgreSQL) or database (MySQL) of the tables.
        table_prefix: Prefix of all tables' names.
        keep_last: Number of root checkpoints that each thread keeps, with all that they need;
            default all.
        keep_versions: Number of pages that each session keeps, besides pinned ones; default all.
        single_writer: Whether of runs that overlap on a thread only one goes on: a step that does
            not follow the thread's newest checkpoint raises `ThreadConflictError`. By default all
            go on, as forks.
        auto_setup: Whether the first use creates missing tables; if False, it only verifies them.
        retry_for: Seconds that a transient failure is retried for, such as a failover or a
            restart of the server; 0 is no retry.
        cache_bytes: Byte limit of the values and messages that are kept in memory, so that a step
            stores and serialises what changed without a read.
        redact: Keys of `configurable` and of metadata that are not stored, such as `api_key`, which
            stands for `apiKey` and `openai_api_key` too. The texts of errors do not show their
            values. Add keys with `[*SECRET_KEYS, "account"]`.
        require_encryption: Whether to refuse a serde that does not encrypt, and stored values that
            are not encrypted. Without it, an encrypting serde also reads what is stored in clear.

    Raises:
        InvalidConfigError: An option, or the engine's database, cannot be used.
    """

    def __init__(
        self,
        engine: Engine | AsyncEngine,
        *,
        serde: SerializerProtocol | None = None,
        projections: ProjectionOption | Literal[False] | None = None,
        on_projection_error: Policy = "record",
        pricing: Pricing | None = None,
        schema: str | None = None,
        table_prefix: str = "",
        keep_last: int | None = None,
        keep_versions: int | None = None,
        single_writer: bool = False,
        auto_setup: bool = True,
        retry_for: float = RETRY_SECONDS,
        cache_bytes: int = CACHE_BYTES,
        redact: Iterable[str] = SECRET_KEYS,
        require_encryption: bool = False,
    ) -> None:
        BaseCheckpointSaver.__init__(self, serde=serde)
        if require_encryption:
            self.serde = EncryptedOnly(self.serde)
        if on_projection_error not in {"record", "raise"}:
            raise InvalidConfigError(
                f"on_projection_error is {on_projection_error!r}: use 'record' or 'raise'"
            )
        if not isinstance(getattr(engine, "sync_engine", engine), Engine):
            raise InvalidConfigError(
                f"SessionSaver takes an Engine or AsyncEngine, not a {type(engine).__name__}: for "
                "a URL or a file path use SessionSaver.from_conn_string"
            )
        encrypts = isinstance(self.serde, EncryptedSerializer)
        if projections is None and encrypts:
            projections = False  # they would store in clear what the serde encrypts
        self._runner = Runner(engine, retry_for=check_seconds("retry_for", retry_for))
        sync_engine = self._runner.sync_engine
        dialect_class: Any = type(sync_engine.dialect)
        context = Context(
            storage_on(dialect_class, translated(sync_engine, schema), table_prefix),
            resolve_projections(projections),
            policy=on_projection_error,
            pricing=pricing,
            auto_setup=auto_setup,
            keep_last=check_count("keep_last", keep_last),
            keep_versions=check_count("keep_versions", keep_versions),
            single_writer=single_writer,
            cache_bytes=check_number("cache_bytes", cache_bytes, sys.maxsize),
            redact=redact,
            shows_state=projections is not False or not encrypts,
        )
        self._work_in(context)

    def _work_in(self, context: Context) -> None:
        """Run all methods in a context."""
        self._context = context
        self._script_runner = ScriptRunner(self._runner, context.prepare, context.check_borrowed)
        self._writer = CheckpointWriter(context)
        self._task_writes = TaskWritesWriter(context)
        self._reader = CheckpointReader(context)
        self._maintenance = ThreadMaintenance(context)

    def for_owner(self, owner_id: str) -> Self:
        """Make a saver that sees and changes only one owner's threads and sessions.

        It shares the engine and the caches of this one, and is cheap to make: make one for
        each request. What it reads is as if nothing else existed, a thread or session without an
        owner included; to change anything else raises `AccessDeniedError`. New threads and
        sessions belong to the owner. `backup`, `restore` and `health`, which are about all rows,
        are refused. Close this saver, not the new one.

        Raises:
            InvalidConfigError: The id is not text, too long or not storable.
            AccessDeniedError: This saver is for another owner.
        """
        limited = copy(self)
        context = self._context.for_owner(check_id("owner_id", owner_id))
        limited._work_in(context)  # noqa: SLF001 - it is one of this class
        return limited

    @classmethod
    def from_conn_string(cls, url: str | URL | PathLike[str] | None = None, **options: Any) -> Self:
        """Make a saver with an engine of its own; closing the saver disposes of the engine.

        Args:
            url: A SQLAlchemy URL, a plain `postgresql://` or `mysql://` one, `:memory:` or a file
                path. None is the environment's `LANGGRAPH_SESSION_SAVER_URL`, else a file in the
                user's data directory.
            **options: The options of `SessionSaver`.

        Raises:
            InvalidConfigError: The URL or an option cannot be used.
            DriverNotInstalledError: The database's driver is not installed.
            StoragePermissionError: A database file's directory cannot be created or written.
        """
        saver = cls(make_engine(parse_url(url)), **options)
        saver._runner.own()
        return saver

    # -- life -------------------------------------------------------------------------------

    def setup(self) -> None:
        """Create missing tables; safe when many processes start at once."""
        self._script_runner.probe(self._context.set_up())

    async def asetup(self) -> None:
        """As `setup`."""
        await self._script_runner.aprobe(self._context.set_up())

    def close(self) -> None:
        """Dispose of the engine, if `from_conn_string` made it."""
        self._runner.close()

    async def aclose(self) -> None:
        """As `close`."""
        await self._runner.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    # -- saving -----------------------------------------------------------------------------

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint, and in the same transaction the rows that its step projects.

        Args:
            config: Names the thread, the namespace and the parent checkpoint. `session_id` and
                `owner_id` in its `configurable` assign the thread to a session and an owner.
            checkpoint: The checkpoint with the values of all its channels.
            metadata: Its metadata; `run_id` is indexed.
            new_versions: The channels that changed since the parent, and their versions.

        Returns:
            A config that names the checkpoint.

        Raises:
            InvalidConfigError: An id is missing, too long or not storable.
            SessionConflictError: The thread belongs to another session or owner.
            SessionDeletedError: The thread's session is soft-deleted.
            CheckpointNotFoundError: The run was started from a checkpoint that does not exist.
            ThreadConflictError: Another run has continued the thread, with `single_writer`.
            ClockError: The id sorts before the parent's: the host's clock is behind.
            SerializationError: The serde cannot serialise a channel's value.
            ValueTooLargeError: A channel's value exceeds the database's limit.
            ProjectionError: A value does not validate, with `on_projection_error="raise"`.
        """
        return self._run(self._writer.put(self.serde, config, checkpoint, metadata, new_versions))

    aput = awaited(put)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Save the writes of a task; errors and interrupts set the thread's status.

        Args:
            config: Names the thread, the namespace and the checkpoint that the task ran after.
            writes: Channels and values, in the task's order.
            task_id: The task.
            task_path: Its path, which orders the writes of one super-step.

        Raises:
            InvalidConfigError: An id or a channel name is missing, too long or not storable.
            SessionConflictError: The thread belongs to another session or owner.
            SessionDeletedError: The thread's session is soft-deleted.
            SerializationError: The serde cannot serialise a value.
            ProjectionError: A value does not validate, with `on_projection_error="raise"`.
        """
        return self._run(
            self._task_writes.put_writes(self.serde, config, writes, task_id, task_path)
        )

    aput_writes = awaited(put_writes)

    # -- reading ----------------------------------------------------------------------------

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Read the checkpoint that a config names, or the newest of its namespace.

        Raises:
            InvalidConfigError: The config names no thread.
            HistoryLostError: Rows that the checkpoint needs were deleted.
            CorruptBlobError: Stored bytes are damaged, or the serde has another key.
            SerializationError: A type is not allowed to be rebuilt.
        """
        return self._run(self._reader.get_tuple(self.serde, config))

    aget_tuple = awaited(get_tuple)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """List checkpoints, newest first; no connection is held between them.

        A damaged checkpoint is left out, with a warning in the log that names it; `get_tuple`
        raises its error.

        Args:
            config: Names a thread, and optionally a namespace and a checkpoint; None lists all
                threads.
            filter: Metadata that must be equal, by top-level key.
            before: List only checkpoints older than this one.
            limit: The maximal number of checkpoints.

        Raises:
            InvalidConfigError: The config names no thread, or a filter key is not text.
            SerializationError: A type is not allowed to be rebuilt.
            CorruptBlobError: No checkpoint can be read: they are damaged, or the serde has another
                key.
        """
        return self._pages(Listing(self._context, config, filter, before, limit))

    def _pages(self, listing: Listing) -> Iterator[CheckpointTuple]:
        while found := self._script_runner.run(listing.next(self.serde)):
            yield from found

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `list`."""
        listing = Listing(self._context, config, filter, before, limit)
        while found := await self._script_runner.arun(listing.next(self.serde)):
            for item in found:
                yield item

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Read the writes, oldest first, that `DeltaChannel`s replay to rebuild their values."""
        return self._run(self._reader.get_delta_history(self.serde, config, channels))

    aget_delta_channel_history = awaited(get_delta_channel_history)

    # -- sessions ---------------------------------------------------------------------------

    @property
    def sessions(self) -> SessionRepository:
        """Read and change sessions, and their messages, pages, usage and errors."""
        return SessionRepository(self._script_runner, self._context)

    @property
    def threads(self) -> ThreadRepository:
        """List, copy and delete threads."""
        return ThreadRepository(self._script_runner, self._context, self._maintenance, self.serde)

    @property
    def state(self) -> SessionState:
        """Read and change the columns of sessions that show their graphs' state."""
        return SessionState(self._script_runner, self._context, self.serde)

    # -- deleting, pruning, copying ---------------------------------------------------------

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread, its projected rows, and the session if it was made for the thread."""
        return self._run(self._maintenance.delete_thread(thread_id))

    adelete_thread = awaited(delete_thread)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of these runs and their writes, in every thread."""
        return self._run(self._maintenance.delete_for_runs(self.serde, run_ids))

    adelete_for_runs = awaited(delete_for_runs)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread, with its history, its pending writes and its times.

        A copy is one transaction: if it is cut off, there is none. A missing source copies nothing.
        """
        return self._run(
            self._maintenance.copy_thread(self.serde, source_thread_id, target_thread_id)
        )

    acopy_thread = awaited(copy_thread)

    def prune(
        self,
        thread_ids: Sequence[str],
        *,
        strategy: str = "keep_latest",
        keep_last: int | None = None,
    ) -> None:
        """Delete old checkpoints of threads.

        Args:
            thread_ids: The threads.
            strategy: "keep_latest" keeps the newest checkpoint of each namespace, with its
                pending writes and all that its `DeltaChannel`s replay; "keep_last" keeps the newest
                root checkpoints with all that they need; "delete" (or "delete_all", as the server
                calls it) deletes the threads.
            keep_last: The number of root checkpoints for "keep_last"; default the saver's.

        Raises:
            InvalidConfigError: The strategy is unknown, or the number missing or invalid.
        """
        self._run(self._maintenance.prune(self.serde, thread_ids, strategy, keep_last))

    async def aprune(
        self,
        thread_ids: Sequence[str],
        *,
        strategy: str = "keep_latest",
        keep_last: int | None = None,
    ) -> None:
        """As `prune`."""
        script = self._maintenance.prune(self.serde, thread_ids, strategy, keep_last)
        await self._script_runner.arun(script)

    def sweep(
        self,
        *,
        older_than: timedelta | None = None,
        idle_for: timedelta | None = None,
        dry_run: bool = False,
    ) -> Counts:
        """Apply age and idle limits to all threads.

        Args:
            older_than: Delete root checkpoints that are older, with all that only they need; each
                thread keeps at least its newest.
            idle_for: Delete threads that were not written to for longer, with their projected rows
                and the sessions that were made for them.
            dry_run: Whether to count only.

        Raises:
            InvalidConfigError: There is no limit, or one is not a positive `timedelta`.
        """
        return self._run(self._maintenance.sweep(self.serde, older_than, idle_for, dry_run=dry_run))

    asweep = awaited(sweep)

    # -- serialising ------------------------------------------------------------------------

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> Self:
        """Make a clone that may also rebuild these types, as LangGraph does for a graph's own."""
        clone: Self = super().with_allowlist(extra_allowlist)  # type: ignore[assignment]
        if isinstance(self.serde, EncryptedOnly) and clone is not self:
            clone.serde = EncryptedOnly(clone.serde)
        return clone

    # -- versions ---------------------------------------------------------------------------

    def get_next_version(self, current: str | None, channel: None) -> str:
        """The version after a channel's current one: a sortable counter and random digits.

        The random digits keep forks of one parent from giving different values the same version.
        """
        del channel
        return next_version(current)
