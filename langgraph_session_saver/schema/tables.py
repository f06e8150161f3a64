"""The tables, declared once: `build_tables` makes them for a schema and a name prefix.

Names and columns of `sessions`, `messages`, `versions` and `token_usage` come from the
applications this package serves. Storage tables key their rows by fixed-size hashes, because
thread ids, namespaces and channel names together are longer than any database's index rows.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    event,
    false,
    text,
)

from langgraph_session_saver.schema.column_types import (
    Bytes,
    Id,
    Json,
    Key,
    LongText,
    RowId,
    UTCDateTime,
    utc_now,
)
from langgraph_session_saver.validation import (
    CHANNEL_LENGTH,
    CHECKPOINT_ID_LENGTH,
    MODEL_LENGTH,
    THREAD_ID_LENGTH,
)

SCHEMA_VERSION = "0005"
"""The revision that these declarations amount to."""

_OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mariadb_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mariadb_charset": "utf8mb4",
}


@dataclass(frozen=True)
class Tables:
    """Every table of one installation, under one `MetaData`."""

    metadata: MetaData
    version: Table
    sessions: Table
    threads: Table
    checkpoints: Table
    blobs: Table
    writes: Table
    errors: Table
    messages: Table
    versions: Table
    token_usage: Table

    def __iter__(self) -> Any:
        return (getattr(self, f.name) for f in fields(self) if f.name != "metadata")


@lru_cache(maxsize=64)
def shared_tables(schema: str | None = None, prefix: str = "") -> Tables:
    """As `build_tables`, once for all savers of a process: a saver is made in half the time."""
    return build_tables(schema, prefix)


def build_tables(schema: str | None = None, prefix: str = "") -> Tables:
    """Declare the tables, in a named schema or the default one.

    Args:
        schema: Schema (PostgreSQL) or database (MySQL) that holds the tables.
        prefix: Put before every table, index and constraint name.
    """
    metadata = MetaData(schema=schema)
    build = _Builder(metadata, prefix)
    sessions = build.sessions()
    threads = build.threads(sessions)
    return Tables(
        metadata=metadata,
        version=build.table(
            "session_saver_alembic_version", Column("version_num", String(32), primary_key=True)
        ),
        sessions=sessions,
        threads=threads,
        checkpoints=build.checkpoints(threads),
        blobs=build.blobs(threads),
        writes=build.writes(threads),
        errors=build.errors(sessions),
        messages=build.messages(sessions),
        versions=build.versions(sessions),
        token_usage=build.token_usage(sessions),
    )


def _created(name: str = "created_at") -> Column[Any]:
    return Column(name, UTCDateTime(), default=utc_now, nullable=False)


@dataclass(frozen=True)
class _Builder:
    metadata: MetaData
    prefix: str

    def table(self, name: str, *items: Any, **options: Any) -> Table:
        return Table(self.prefix + name, self.metadata, *items, **_OPTIONS, **options)

    def index(self, name: str, *columns: Any, **options: Any) -> Index:
        return Index(self.prefix + name, *columns, **options)

    def session_id(self, sessions: Table) -> Column[Any]:
        return Column(
            "session_id",
            Id(THREAD_ID_LENGTH),
            ForeignKey(sessions.c.id, ondelete="CASCADE"),
            nullable=False,
        )

    def thread_key(self, threads: Table) -> Column[Any]:
        return Column(
            "thread_key",
            Key(),
            ForeignKey(threads.c.thread_key, ondelete="CASCADE"),
            primary_key=True,
        )

    def sessions(self) -> Table:
        models = [
            Column(f"model_{role}", String(MODEL_LENGTH))
            for role in ("classifier", "writer", "expander", "validator", "style_refiner")
        ]
        made = self.table(
            "sessions",
            Column("id", Id(THREAD_ID_LENGTH), primary_key=True),
            Column(
                "title", String(512), nullable=False, default="Untitled session",
                server_default="Untitled session",
            ),
            _created(),
            Column("updated_at", UTCDateTime(), default=utc_now, onupdate=utc_now, nullable=False),
            Column("current_version", Integer, nullable=False, default=0, server_default="0"),
            Column("product_type", String(50)),
            Column("complexity", String(20)),
            Column("skill_id", String(100)),
            Column("doc_tier", String(20)),
            Column("style_reference_mode", String(50)),
            *models,
            Column("graph_state", Json()),
            Column(
                "build_status", String(20), nullable=False, default="pending",
                server_default="pending",
            ),
            Column("build_artifacts", Json()),
            Column("aesthetic_scores", Json()),
            # The checkpoint whose step wrote these columns; NULL when they were set by hand.
            Column("checkpoint_id", Id(CHECKPOINT_ID_LENGTH)),
            Column("owner_id", Id(THREAD_ID_LENGTH)),
            Column("scope_type", String(50)),
            Column("scope_id", Id(THREAD_ID_LENGTH)),
            Column("status", String(20)),
            Column("round_sequence", Integer, nullable=False, default=0, server_default="0"),
            Column(
                "made_by_saver", Boolean, nullable=False, default=False, server_default=false()
            ),
            self.index("idx_sessions_updated", "updated_at"),
            self.index("idx_sessions_product_type", "product_type"),
            self.index("idx_sessions_complexity", "complexity"),
            self.index("idx_sessions_build_status", "build_status"),
            self.index("idx_sessions_owner", "owner_id"),
        )  # fmt: skip
        # Two to a page: else PostgreSQL compresses and moves what makes a row 2 KB, each step.
        # Not as an option of the table, which SQLAlchemy takes from 2.1 on.
        whole = DDL("ALTER TABLE %(fullname)s SET (toast_tuple_target = 4080)")  # type: ignore[no-untyped-call]
        event.listen(made, "after_create", whole.execute_if(dialect="postgresql"))
        return made

    def threads(self, sessions: Table) -> Table:
        return self.table(
            "session_threads",
            Column("thread_key", Key(), primary_key=True),
            Column("thread_id", Id(THREAD_ID_LENGTH), nullable=False),
            self.session_id(sessions),
            Column("session_named", Boolean, nullable=False),
            Column("owner_id", Id(THREAD_ID_LENGTH)),
            Column("is_first", Boolean, nullable=False),
            # The newest checkpoint of the root namespace.
            Column("checkpoint_id", Id(CHECKPOINT_ID_LENGTH)),
            # Another number after every change of what is stored: what a process remembers of the
            # thread holds while this is the same.
            Column("revision", BigInteger, nullable=False),
            Column("status", String(20)),
            Column("status_node", LongText()),
            Column("status_step", Integer),
            Column("status_since", UTCDateTime()),
            Column("status_checkpoint_id", Id(CHECKPOINT_ID_LENGTH)),
            _created(),
            Column("updated_at", UTCDateTime(), default=utc_now, onupdate=utc_now, nullable=False),
            self.index("idx_session_threads_session", "session_id"),
            self.index("idx_session_threads_thread", "thread_id"),
        )

    def checkpoints(self, threads: Table) -> Table:
        return self.table(
            "session_checkpoints",
            self.thread_key(threads),
            Column("ns_key", Key(), primary_key=True),
            Column("checkpoint_id", Id(CHECKPOINT_ID_LENGTH), primary_key=True),
            Column("checkpoint_ns", LongText(), nullable=False),
            Column("parent_checkpoint_id", Id(CHECKPOINT_ID_LENGTH)),
            # The root namespace's checkpoint that a subgraph's call started from, or, for one of
            # the root namespace itself, its run.
            Column("root_checkpoint_id", Id(CHECKPOINT_ID_LENGTH)),
            Column("run_id", Id(THREAD_ID_LENGTH)),
            # Kept only because a DeltaChannel replays from it: not listed.
            Column("hidden", Boolean, nullable=False, default=False),
            # What retention needs to know of it: `references.pack`.
            Column("refs", Bytes(), nullable=False),
            Column("type", String(64), nullable=False),
            Column("data", Bytes(), nullable=False),
            Column("metadata_type", String(64), nullable=False),
            Column("metadata_data", Bytes(), nullable=False),
            # Most have none: a page less for each step to write.
            self.index(
                "idx_session_checkpoints_run",
                "run_id",
                sqlite_where=text("run_id IS NOT NULL"),
                postgresql_where=text("run_id IS NOT NULL"),
            ),
        )

    def blobs(self, threads: Table) -> Table:
        return self.table(
            "session_blobs",
            self.thread_key(threads),
            # BLAKE2b of namespace, channel and version.
            Column("blob_key", Key(), primary_key=True),
            # The blob that this one is a change of; NULL for a whole value. No foreign key says
            # so: whoever stores a change holds the thread's row and looks for its base, whoever
            # deletes blobs holds it too, and deletes changes before, or with, what they change.
            Column("base_key", Key()),
            # Links from the whole value to this one: bases are always shallower.
            Column("depth", Integer, nullable=False, default=0),
            # How many merges of earlier links this link stands for.
            Column("level", Integer, nullable=False, default=0),
            Column("channel", Id(CHANNEL_LENGTH), nullable=False),
            Column("type", String(64), nullable=False),
            Column("data", Bytes(), nullable=False),
        )

    def writes(self, threads: Table) -> Table:
        return self.table(
            "session_writes",
            self.thread_key(threads),
            Column("ns_key", Key(), primary_key=True),
            Column("checkpoint_id", Id(CHECKPOINT_ID_LENGTH), primary_key=True),
            Column("task_id", Id(128), primary_key=True),
            Column("idx", Integer, primary_key=True, autoincrement=False),
            Column("task_path", LongText(), nullable=False),
            Column("channel", Id(CHANNEL_LENGTH), nullable=False),
            Column("type", String(64), nullable=False),
            Column("data", Bytes(), nullable=False),
        )

    def projected(self) -> tuple[Column[Any], Column[Any]]:
        """What ties a child row to what it was projected from; both NULL for a row made by hand."""
        return Column("thread_key", Key()), Column("row_key", Key())

    def errors(self, sessions: Table) -> Table:
        return self.table(
            "session_errors",
            Column("id", RowId(), primary_key=True, autoincrement=True),
            self.session_id(sessions),
            *self.projected(),
            Column("thread_id", Id(THREAD_ID_LENGTH), nullable=False),
            Column("checkpoint_id", Id(CHECKPOINT_ID_LENGTH)),
            Column("checkpoint_ns", LongText(), nullable=False),
            Column("run_id", Id(THREAD_ID_LENGTH)),
            Column("task_id", Id(128)),
            Column("kind", String(20), nullable=False),
            Column("node", LongText()),
            Column("step", Integer),
            Column("channel", Id(CHANNEL_LENGTH)),
            Column("type", LongText()),
            Column("message", LongText(), nullable=False),
            Column("stack", LongText()),
            # When the thread went on from the step that failed.
            Column("recovered_at", UTCDateTime()),
            _created(),
            UniqueConstraint("thread_key", "row_key", name=f"{self.prefix}uq_session_errors_row"),
            self.index("idx_session_errors_session", "session_id"),
            self.index("idx_session_errors_created", "created_at"),
            sqlite_autoincrement=True,
        )

    def messages(self, sessions: Table) -> Table:
        return self.table(
            "messages",
            Column("id", RowId(), primary_key=True, autoincrement=True),
            self.session_id(sessions),
            Column("role", String(20), nullable=False),
            Column("content", LongText(), nullable=False),
            _created("timestamp"),
            *self.projected(),
            Column("message_id", LongText()),
            Column("removed_at", UTCDateTime()),
            UniqueConstraint("thread_key", "row_key", name=f"{self.prefix}uq_messages_row"),
            self.index("idx_messages_session", "session_id"),
            self.index("idx_messages_timestamp", "timestamp"),
            sqlite_autoincrement=True,
        )

    def versions(self, sessions: Table) -> Table:
        return self.table(
            "versions",
            Column("id", RowId(), primary_key=True, autoincrement=True),
            self.session_id(sessions),
            Column("version", Integer, nullable=False),
            Column("html", LongText(), nullable=False),
            Column("description", LongText()),
            _created(),
            *self.projected(),
            Column("checkpoint_id", Id(CHECKPOINT_ID_LENGTH)),
            Column("pinned", Boolean, nullable=False, default=False),
            UniqueConstraint("thread_key", "row_key", name=f"{self.prefix}uq_versions_row"),
            UniqueConstraint("session_id", "version", name=f"{self.prefix}uq_versions_version"),
            self.index("idx_versions_session", "session_id"),
            sqlite_autoincrement=True,
        )

    def token_usage(self, sessions: Table) -> Table:
        return self.table(
            "token_usage",
            Column("id", RowId(), primary_key=True, autoincrement=True),
            self.session_id(sessions),
            _created("timestamp"),
            Column("agent_type", String(255), nullable=False),
            Column("model", String(MODEL_LENGTH), nullable=False),
            Column("input_tokens", RowId(), nullable=False),
            Column("output_tokens", RowId(), nullable=False),
            Column("total_tokens", RowId(), nullable=False),
            Column("cost_usd", Float(53), nullable=False),
            *self.projected(),
            UniqueConstraint("thread_key", "row_key", name=f"{self.prefix}uq_token_usage_row"),
            self.index("idx_token_usage_session", "session_id"),
            self.index("idx_token_usage_timestamp", "timestamp"),
            sqlite_autoincrement=True,
        )
