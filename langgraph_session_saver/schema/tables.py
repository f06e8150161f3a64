"""The declared tables; `build_tables` makes them for a schema and a name prefix.

The applications this package serves named `sessions`, `messages`, `versions` and `token_usage`,
and their columns. Storage tables key their rows by fixed-size hashes, because a thread id, a
namespace and a channel name together can be longer than a database's index entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, Integer, MetaData, String, Table, false

from langgraph_session_saver.schema.column_types import (
    Bytes,
    Id,
    Json,
    Key,
    LongText,
    RowId,
    UTCDateTime,
    microseconds,
    utc_now,
)
from langgraph_session_saver.validation import (
    CHANNEL_LENGTH,
    CHECKPOINT_ID_LENGTH,
    MODEL_LENGTH,
    THREAD_ID_LENGTH,
)

SCHEMA_VERSION = "0006"
"""The revision with these tables."""


PIECE_DEPTH = -1
"""The depth of a blob's piece: pieces are added before blobs, and deleted after them."""

UNTITLED = "Untitled session"
"""The title of a session that has none."""

DELETED = "deleted"
"""The status of a soft-deleted session."""


class TableFactory:
    """Declares tables in one schema, with a prefix in the names of tables, indexes and keys."""

    session_id_type: Any = Id(THREAD_ID_LENGTH)
    row_id_type: Any = RowId()

    def __init__(self, schema: str | None, prefix: str) -> None:
        self.metadata = MetaData(schema=schema)
        self.prefix = prefix

    def table(self, name: str, *items: sa.schema.SchemaItem, **options: Any) -> Table:
        """Declare a table."""
        for system in ("mysql", "mariadb"):
            options |= {f"{system}_engine": "InnoDB", f"{system}_charset": "utf8mb4"}
        return Table(self.prefix + name, self.metadata, *items, **options)

    def rows(self, name: str, *items: sa.schema.SchemaItem) -> Table:
        """Declare a table of a session's rows, which have ids that are never used again."""
        row_id = Column("id", self.row_id_type, primary_key=True, autoincrement=True)
        return self.table(name, row_id, self.session_id(), *items, sqlite_autoincrement=True)

    def index(self, name: str, *columns: str, where: str | None = None) -> sa.Index:
        """Declare an index, of the rows that a condition holds for; MySQL indexes all rows."""
        condition = None if where is None else sa.text(where)
        return sa.Index(
            self.prefix + name, *columns, sqlite_where=condition, postgresql_where=condition
        )

    def unique(self, name: str, *columns: str) -> sa.UniqueConstraint:
        """Declare a unique constraint."""
        return sa.UniqueConstraint(*columns, name=self.prefix + name)

    def projected_from(self, table: str) -> tuple[Column[Any], Column[Any], sa.UniqueConstraint]:
        """Declare the key of what a row was projected from; NULL for a row added by hand."""
        unique = self.unique(f"uq_{table}_row", "thread_key", "row_key")
        return Column("thread_key", Key()), Column("row_key", Key()), unique

    def reference(self, table: str, column: str) -> str:
        """A column, as a foreign key names it."""
        schema = f"{self.metadata.schema}." if self.metadata.schema else ""
        return f"{schema}{self.prefix}{table}.{column}"

    def session_id(self) -> Column[Any]:
        """Declare the reference to a session, with which the database deletes the row."""
        key = sa.ForeignKey(self.reference("sessions", "id"), ondelete="CASCADE")
        return Column("session_id", self.session_id_type, key, nullable=False)

    def thread_key(self) -> Column[Any]:
        """Declare the reference to a thread, with which the database deletes the row."""
        key = sa.ForeignKey(self.reference("session_threads", "thread_key"), ondelete="CASCADE")
        return Column("thread_key", Key(), key, primary_key=True)


@dataclass(frozen=True)
class Tables:
    """The tables of one schema and prefix, under one `MetaData`."""

    metadata: MetaData
    prefix: str
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

    def __iter__(self) -> Iterator[Table]:
        return (value for value in vars(self).values() if isinstance(value, Table))


def _created(name: str = "created_at") -> Column[Any]:
    return Column(name, UTCDateTime(), default=utc_now, nullable=False)


def _updated() -> Column[Any]:
    return Column("updated_at", UTCDateTime(), default=utc_now, onupdate=utc_now, nullable=False)


def _position_now() -> int:
    return microseconds(utc_now())


def _defaulting(name: str, type_: sa.types.TypeEngine[Any], default: str | int) -> Column[Any]:
    """Declare a column with the same default in Python and in the database."""
    return Column(name, type_, nullable=False, default=default, server_default=str(default))


def build_tables(schema: str | None = None, prefix: str = "") -> Tables:
    """Declare the tables, in a named schema or the default one.

    Args:
        schema: Schema (PostgreSQL) or database (MySQL) that holds the tables.
        prefix: Prefix of every table, index and constraint name.
    """
    declare = TableFactory(schema, prefix)
    tables = Tables(
        metadata=declare.metadata,
        prefix=prefix,
        version=declare.table(
            "session_saver_alembic_version", Column("version_num", String(32), primary_key=True)
        ),
        sessions=declare.table(
            "sessions",
            Column("id", Id(THREAD_ID_LENGTH), primary_key=True),
            _defaulting("title", String(512), UNTITLED),
            _created(),
            _updated(),
            _defaulting("current_version", Integer(), 0),
            Column("product_type", String(50)),
            Column("complexity", String(20)),
            Column("skill_id", String(100)),
            Column("doc_tier", String(20)),
            Column("style_reference_mode", String(50)),
            Column("model_classifier", String(MODEL_LENGTH)),
            Column("model_writer", String(MODEL_LENGTH)),
            Column("model_expander", String(MODEL_LENGTH)),
            Column("model_validator", String(MODEL_LENGTH)),
            Column("model_style_refiner", String(MODEL_LENGTH)),
            Column("graph_state", Json()),
            _defaulting("build_status", String(20), "pending"),
            Column("build_artifacts", Json()),
            Column("aesthetic_scores", Json()),
            # The checkpoint whose step wrote these columns; NULL if the application set them.
            Column("checkpoint_id", Id(CHECKPOINT_ID_LENGTH)),
            Column("owner_id", Id(THREAD_ID_LENGTH)),
            Column("scope_type", String(50)),
            Column("scope_id", Id(THREAD_ID_LENGTH)),
            Column("status", String(20)),
            _defaulting("round_sequence", Integer(), 0),
            Column("made_by_saver", Boolean, nullable=False, default=False, server_default=false()),
            declare.index("idx_sessions_updated", "updated_at"),
            declare.index("idx_sessions_product_type", "product_type"),
            declare.index("idx_sessions_complexity", "complexity"),
            declare.index("idx_sessions_build_status", "build_status"),
            declare.index("idx_sessions_owner", "owner_id"),
        ),
        threads=declare.table(
            "session_threads",
            Column("thread_key", Key(), primary_key=True),
            Column("thread_id", Id(THREAD_ID_LENGTH), nullable=False),
            declare.session_id(),
            Column("session_named", Boolean, nullable=False),
            Column("owner_id", Id(THREAD_ID_LENGTH)),
            Column("is_first", Boolean, nullable=False),
            # The newest checkpoint of the root namespace.
            Column("checkpoint_id", Id(CHECKPOINT_ID_LENGTH)),
            # Changes with every change of the thread's rows: a process's caches of the thread are
            # valid while it is the same.
            Column("revision", sa.BigInteger, nullable=False),
            Column("status", String(20)),
            Column("status_node", LongText()),
            Column("status_step", Integer),
            Column("status_since", UTCDateTime()),
            Column("status_checkpoint_id", Id(CHECKPOINT_ID_LENGTH)),
            _created(),
            _updated(),
            declare.index("idx_session_threads_session", "session_id"),
            declare.index("idx_session_threads_thread", "thread_id"),
            declare.index("idx_session_threads_owner", "owner_id"),
        ),
        checkpoints=declare.table(
            "session_checkpoints",
            declare.thread_key(),
            Column("ns_key", Key(), primary_key=True),
            Column("checkpoint_id", Id(CHECKPOINT_ID_LENGTH), primary_key=True),
            Column("checkpoint_ns", LongText(), nullable=False),
            Column("parent_checkpoint_id", Id(CHECKPOINT_ID_LENGTH)),
            # In a subgraph, the root checkpoint that it was called from; else the run.
            Column("root_checkpoint_id", Id(CHECKPOINT_ID_LENGTH)),
            Column("run_id", Id(THREAD_ID_LENGTH)),
            # Kept only for a DeltaChannel to replay from, and not listed.
            Column("hidden", Boolean, nullable=False, default=False),
            # What retention reads, made by `references.pack`.
            Column("refs", Bytes(), nullable=False),
            Column("type", String(64), nullable=False),
            Column("data", Bytes(), nullable=False),
            Column("metadata_type", String(64), nullable=False),
            Column("metadata_data", Bytes(), nullable=False),
            # A partial index: most checkpoints have no run.
            declare.index("idx_session_checkpoints_run", "run_id", where="run_id IS NOT NULL"),
        ),
        blobs=declare.table(
            "session_blobs",
            declare.thread_key(),
            # BLAKE2b of namespace, channel and version.
            Column("blob_key", Key(), primary_key=True),
            # The blob that this one is a delta of; NULL for a whole value. Instead of a foreign
            # key, the thread's row is locked to store a delta, which checks its base, and to
            # delete blobs, deltas before or with their bases. Of a piece, the blob that it is of.
            Column("base_key", Key()),
            # The number of deltas from the whole value to this one; of a piece, PIECE_DEPTH.
            Column("depth", Integer, nullable=False, default=0),
            # How often earlier deltas were merged into this one.
            Column("level", Integer, nullable=False, default=0),
            Column("channel", Id(CHANNEL_LENGTH), nullable=False),
            Column("type", String(64), nullable=False),
            Column("data", Bytes(), nullable=False),
        ),
        writes=declare.table(
            "session_writes",
            declare.thread_key(),
            Column("ns_key", Key(), primary_key=True),
            Column("checkpoint_id", Id(CHECKPOINT_ID_LENGTH), primary_key=True),
            Column("task_id", Id(128), primary_key=True),
            Column("idx", Integer, primary_key=True, autoincrement=False),
            Column("task_path", LongText(), nullable=False),
            Column("channel", Id(CHANNEL_LENGTH), nullable=False),
            Column("type", String(64), nullable=False),
            Column("data", Bytes(), nullable=False),
        ),
        errors=declare.rows(
            "session_errors",
            *declare.projected_from("session_errors"),
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
            # When the thread continued after the failed step.
            Column("recovered_at", UTCDateTime()),
            _created(),
            declare.index("idx_session_errors_session", "session_id"),
            declare.index("idx_session_errors_created", "created_at"),
        ),
        messages=declare.rows(
            "messages",
            Column("role", String(20), nullable=False),
            Column("content", LongText(), nullable=False),
            _created("timestamp"),
            *declare.projected_from("messages"),
            Column("message_id", LongText()),
            # When a reducer or a fork dropped the message, or a run that was overtaken brought it.
            Column("removed_at", UTCDateTime()),
            # Ascends in the order of the latest state. A message that is added by hand comes last,
            # or first where SQL adds it without a position.
            Column("position", sa.BigInteger, default=_position_now, server_default="0"),
            Column("name", LongText()),
            # What a model's message calls: a list of objects with name, args and id.
            Column("tool_calls", Json()),
            # The call that a tool's message answers.
            Column("tool_call_id", LongText()),
            declare.index("idx_messages_session", "session_id", "position"),
            declare.index("idx_messages_timestamp", "timestamp"),
        ),
        versions=declare.rows(
            "versions",
            Column("version", Integer, nullable=False),
            Column("html", LongText(), nullable=False),
            Column("description", LongText()),
            _created(),
            *declare.projected_from("versions"),
            Column("checkpoint_id", Id(CHECKPOINT_ID_LENGTH)),
            Column("pinned", Boolean, nullable=False, default=False),
            declare.unique("uq_versions_version", "session_id", "version"),
            declare.index("idx_versions_session", "session_id"),
        ),
        token_usage=declare.rows(
            "token_usage",
            _created("timestamp"),
            Column("agent_type", String(255), nullable=False),
            Column("model", String(MODEL_LENGTH), nullable=False),
            Column("input_tokens", RowId(), nullable=False),
            Column("output_tokens", RowId(), nullable=False),
            Column("total_tokens", RowId(), nullable=False),
            Column("cost_usd", sa.Float(53), nullable=False),
            *declare.projected_from("token_usage"),
            # Of the input tokens; NULL where the model did not say.
            Column("cache_read_tokens", RowId()),
            Column("cache_creation_tokens", RowId()),
            # Of the output tokens.
            Column("reasoning_tokens", RowId()),
            declare.index("idx_token_usage_session", "session_id"),
            declare.index("idx_token_usage_timestamp", "timestamp"),
        ),
    )
    # By default PostgreSQL compresses and moves values of a row over 2 KB, at every step.
    # SQLAlchemy has an option for this only since 2.1.
    whole = sa.DDL("ALTER TABLE %(fullname)s SET (toast_tuple_target = 4080)")  # type: ignore[no-untyped-call]
    sa.event.listen(tables.sessions, "after_create", whole.execute_if(dialect="postgresql"))
    return tables


shared_tables = lru_cache(maxsize=64)(build_tables)
"""The same tables for all savers of a process, which share the statements compiled for them."""
