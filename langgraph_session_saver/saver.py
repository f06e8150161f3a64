"""`SessionSaver`: the public face, sync and async, over one set of scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import timedelta
from os import PathLike
from types import TracebackType
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
from langgraph_session_saver.checkpointer.get import CheckpointReader, DeltaHistoryReader
from langgraph_session_saver.checkpointer.listing import CheckpointLister, Listing
from langgraph_session_saver.checkpointer.maintenance import Counts, ThreadMaintenance
from langgraph_session_saver.checkpointer.put import CheckpointWriter
from langgraph_session_saver.checkpointer.put_writes import TaskWritesWriter
from langgraph_session_saver.encoding.keys import next_version
from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.inspection.methods import InspectionMethods
from langgraph_session_saver.projection.builtin import ProjectionOption, resolve_projections
from langgraph_session_saver.projection.project import Pricing
from langgraph_session_saver.projection.rules import Policy, Projection
from langgraph_session_saver.sessions.repository import SessionRepository
from langgraph_session_saver.sessions.state import SessionState
from langgraph_session_saver.sql.runner import Runner
from langgraph_session_saver.sql.scripts import ScriptRunner
from langgraph_session_saver.sql.urls import make_engine, parse_url
from langgraph_session_saver.storage.checkpoints import operations_on
from langgraph_session_saver.transfer.methods import TransferMethods
from langgraph_session_saver.validation import check_count

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
        on_projection_error: What a value that does not validate does: "record" saves the
            checkpoint, keeps the columns and adds a `session_errors` row; "raise" refuses it.
        pricing: From model, input tokens and output tokens to US dollars.
        schema: Schema (PostgreSQL) or database (MySQL) that holds the tables.
        table_prefix: Put before every table's name.
        keep_last: How many root checkpoints each thread keeps, with what they need; default all.
        keep_versions: How many pages each session keeps, beside pinned ones; default all.
        auto_setup: Whether the first use creates missing tables; else it verifies them.

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
        auto_setup: bool = True,
    ) -> None:
        super().__init__(serde=serde)
        if on_projection_error not in {"record", "raise"}:
            raise InvalidConfigError(
                f"on_projection_error is {on_projection_error!r}: use 'record' or 'raise'"
            )
        if not isinstance(getattr(engine, "sync_engine", engine), Engine):
            raise InvalidConfigError(
                f"SessionSaver takes an Engine or AsyncEngine, not a {type(engine).__name__}: for "
                "a URL or a file path use SessionSaver.from_conn_string"
            )
        self._runner = Runner(engine)
        self._context = Context(
            operations_on(self._runner.sync_engine.dialect, schema, table_prefix),
            self._projections(projections),
            policy=on_projection_error,
            pricing=pricing,
            auto_setup=auto_setup,
            keep_last=check_count("keep_last", keep_last),
            keep_versions=check_count("keep_versions", keep_versions),
        )
        self._script_runner = ScriptRunner(self._runner, self._context)
        self._writer = CheckpointWriter(self._context)
        self._task_writes = TaskWritesWriter(self._context)
        self._reader = CheckpointReader(self._context)
        self._delta_history = DeltaHistoryReader(self._context, self._reader)
        self._lister = CheckpointLister(self._context, self._reader)
        self._maintenance = ThreadMaintenance(self._context, self._reader)

    def _projections(
        self, option: ProjectionOption | Literal[False] | None
    ) -> tuple[Projection, ...]:
        encrypts = isinstance(self.serde, EncryptedSerializer)
        if option is False or (option is None and encrypts):
            return ()
        if option is not None and not isinstance(option, Mapping):
            raise InvalidConfigError(
                "projections maps channels to rules, for example {'chat': 'messages'}, or is False"
            )
        return resolve_projections(option)

    @classmethod
    def from_conn_string(cls, url: str | URL | PathLike[str] | None = None, **options: Any) -> Self:
        """Make a saver with an engine of its own, to be closed with it.

        Args:
            url: A SQLAlchemy URL, a plain `postgresql://` or `mysql://` one, `:memory:` or a file
                path. None is the environment's `LANGGRAPH_SESSION_SAVER_URL`, else a file in the
                user's data directory.
            **options: As for the class.

        Raises:
            InvalidConfigError: The URL or an option cannot be used.
            DriverNotInstalledError: Names the extra to install.
            StoragePermissionError: A database file's directory cannot be made or written.
        """
        saver = cls(make_engine(parse_url(url)), **options)
        saver._runner.own()
        return saver

    # -- life -------------------------------------------------------------------------------

    def setup(self) -> None:
        """Create the tables that are missing; safe when many processes start at once."""
        self._script_runner.set_up()

    async def asetup(self) -> None:
        """As `setup`."""
        await self._script_runner.aset_up()

    def close(self) -> None:
        """Give up the engine, if `from_conn_string` made it."""
        self._runner.close()

    async def aclose(self) -> None:
        """As `close`."""
        await self._runner.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    # -- saving -----------------------------------------------------------------------------

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint, and in the same transaction what its step projects.

        Args:
            config: Names the thread, the namespace and the parent checkpoint. `session_id` and
                `owner_id` in its `configurable` say whose the thread is.
            checkpoint: The checkpoint with all its channel values.
            metadata: Its metadata; `run_id` is indexed.
            new_versions: The channels that changed since the parent.

        Raises:
            InvalidConfigError: An id is missing, too long or not storable.
            SessionConflictError: The thread has another session or owner.
            CheckpointNotFoundError: The run was started from a checkpoint that does not exist.
            SerializationError: The serde refuses a channel's value.
            ValueTooLargeError: A channel's value is more than the database takes.
            ProjectionError: Under "raise", a value does not validate.
        """
        return self._script_runner.run(
            self._writer.put(self.serde, config, checkpoint, metadata, new_versions)
        )

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As `put`."""
        return await self._script_runner.arun(
            self._writer.put(self.serde, config, checkpoint, metadata, new_versions)
        )

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Save what a task wrote after a checkpoint; errors and interrupts set the status.

        Args:
            config: Names the thread, the namespace and the checkpoint.
            writes: Channels and values, in the task's order.
            task_id: The task.
            task_path: Its path, which orders the writes of one super-step.

        Raises:
            InvalidConfigError: An id or a channel name is missing, too long or not storable.
            SerializationError: The serde refuses a value.
            ProjectionError: Under "raise", a write does not validate as its channel's value.
        """
        self._script_runner.run(
            self._task_writes.put_writes(self.serde, config, writes, task_id, task_path)
        )

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """As `put_writes`."""
        await self._script_runner.arun(
            self._task_writes.put_writes(self.serde, config, writes, task_id, task_path)
        )

    # -- reading ----------------------------------------------------------------------------

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Read the checkpoint that a config names, or the newest of its namespace.

        Raises:
            InvalidConfigError: The config names no thread.
            HistoryLostError: Rows that the checkpoint needs are gone.
            SerializationError: A value's type may not be rebuilt, or its key is another.
        """
        return self._script_runner.run(self._reader.get_tuple(self.serde, config))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `get_tuple`."""
        return await self._script_runner.arun(self._reader.get_tuple(self.serde, config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """List checkpoints, newest first; no connection is held between them.

        Args:
            config: A thread, and a namespace or checkpoint of it; None for all threads.
            filter: Metadata that must be equal, by top-level key.
            before: Only checkpoints older than this one.
            limit: At most so many.

        Raises:
            InvalidConfigError: The config names no thread, or a filter key is not text.
        """
        return self._pages(self._lister.start(config, filter, before, limit))

    def _pages(self, listing: Listing) -> Iterator[CheckpointTuple]:
        while found := self._script_runner.run(self._lister.next(self.serde, listing)):
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
        listing = self._lister.start(config, filter, before, limit)
        while found := await self._script_runner.arun(self._lister.next(self.serde, listing)):
            for item in found:
                yield item

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What `DeltaChannel`s replay to get their value at a checkpoint, oldest first."""
        return self._script_runner.run(self._delta_history.read(self.serde, config, channels))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As `get_delta_channel_history`."""
        return await self._script_runner.arun(
            self._delta_history.read(self.serde, config, channels)
        )

    # -- sessions ---------------------------------------------------------------------------

    @property
    def sessions(self) -> SessionRepository:
        """The sessions of the database, and what belongs to them."""
        return SessionRepository(self._script_runner, self._context, self._maintenance)

    @property
    def state(self) -> SessionState:
        """What sessions show of their graphs' state."""
        return SessionState(self._script_runner, self._context, self._reader, self.serde)

    # -- deleting, pruning, copying ---------------------------------------------------------

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread, what it projected, and the session that was made for it."""
        self._script_runner.run(self._maintenance.delete_thread(thread_id))

    async def adelete_thread(self, thread_id: str) -> None:
        """As `delete_thread`."""
        await self._script_runner.arun(self._maintenance.delete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of these runs and their writes, in every thread."""
        self._script_runner.run(self._maintenance.delete_for_runs(self.serde, run_ids))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `delete_for_runs`."""
        await self._script_runner.arun(self._maintenance.delete_for_runs(self.serde, run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread, history and pending writes included; a missing source copies nothing."""
        self._script_runner.run(
            self._maintenance.copy_thread(self.serde, source_thread_id, target_thread_id)
        )

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `copy_thread`."""
        await self._script_runner.arun(
            self._maintenance.copy_thread(self.serde, source_thread_id, target_thread_id)
        )

    def prune(
        self,
        thread_ids: Sequence[str],
        *,
        strategy: str = "keep_latest",
        keep_last: int | None = None,
    ) -> None:
        """Thin out threads.

        Args:
            thread_ids: The threads.
            strategy: "keep_latest" keeps the newest checkpoint of each namespace, with its
                pending writes and whatever its `DeltaChannel`s replay; "keep_last" the newest
                root checkpoints with what they need; "delete" (or the server's word, "delete_all")
                nothing.
            keep_last: How many, for "keep_last"; default the saver's.

        Raises:
            InvalidConfigError: There is no such strategy, or the number is missing or no number.
        """
        self._script_runner.run(
            self._maintenance.prune(self.serde, thread_ids, strategy, keep_last)
        )

    async def aprune(
        self,
        thread_ids: Sequence[str],
        *,
        strategy: str = "keep_latest",
        keep_last: int | None = None,
    ) -> None:
        """As `prune`."""
        await self._script_runner.arun(
            self._maintenance.prune(self.serde, thread_ids, strategy, keep_last)
        )

    def sweep(
        self,
        *,
        older_than: timedelta | None = None,
        idle_for: timedelta | None = None,
        dry_run: bool = False,
    ) -> Counts:
        """Apply age and idle limits to all threads, each in a transaction of its own.

        Args:
            older_than: Root checkpoints of a greater age go, with what only they need; each
                thread keeps at least its newest.
            idle_for: Threads that nothing was written to for longer go altogether, with what they
                projected and the sessions that were made for them.
            dry_run: Whether to count only.

        Raises:
            InvalidConfigError: There is no limit, or one is not a positive `timedelta`.
        """
        return self._script_runner.run(
            self._maintenance.sweep(self.serde, older_than, idle_for, dry_run=dry_run)
        )

    async def asweep(
        self,
        *,
        older_than: timedelta | None = None,
        idle_for: timedelta | None = None,
        dry_run: bool = False,
    ) -> Counts:
        """As `sweep`."""
        return await self._script_runner.arun(
            self._maintenance.sweep(self.serde, older_than, idle_for, dry_run=dry_run)
        )

    # -- versions ---------------------------------------------------------------------------

    def get_next_version(self, current: str | None, channel: None) -> str:
        """The version after a channel's current one.

        A counter that sorts as text, and random digits, so that two forks of one parent never
        give different values the same version. An imported thread's own width is kept.
        """
        del channel
        return next_version(current)
