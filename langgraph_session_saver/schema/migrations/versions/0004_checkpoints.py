"""Checkpoint storage; datetimes, ids and counters that mean the same on every database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Integer,
    String,
    Table,
    false,
)

from langgraph_session_saver.schema.column_types import (
    Bytes,
    Id,
    Json,
    Key,
    LongText,
    RowId,
    UTCDateTime,
)
from langgraph_session_saver.schema.migrations.original_tables import (
    ROLES,
    OriginalTables,
    routing,
    state,
)
from langgraph_session_saver.schema.migrations.steps import Steps
from langgraph_session_saver.schema.tables import TableFactory

revision = "0004"
down_revision = "0003"

LOSES: dict[str, dict[str, Any]] = {
    "session_errors": {},
    "session_writes": {},
    "session_blobs": {},
    "session_checkpoints": {},
    "session_threads": {},
    "sessions": {
        "owner_id": None,
        "scope_type": None,
        "scope_id": None,
        "status": None,
        "round_sequence": 0,
    },
    "messages": {"message_id": None, "removed_at": None},
    "versions": {"pinned": False},
}


def upgrade(steps: Steps) -> None:
    """Add columns to the applications' tables, convert them, and create the storage."""
    converted = ConvertedTables(steps.schema, steps.prefix)
    sessions, versions = converted.sessions(), converted.versions()
    tables = sessions, converted.messages(), versions, converted.token_usage()
    for name, items in _added(steps.factory()).items():
        steps.extend(name, *items)
    steps.fill(
        sessions, current_version=0, round_sequence=0, build_status="pending", made_by_saver=False
    )
    steps.fill(versions, pinned=False)
    for table in tables:
        for column in table.c:
            if isinstance(column.type, UTCDateTime) and not column.nullable:
                steps.fill(table, **{column.name: steps.utc_now(table, column.name)})
    steps.convert(*tables)
    for table in _storage(converted):
        steps.create(table)


def downgrade(steps: Steps) -> None:
    """Drop the storage, and convert the applications' tables back."""
    for name in LOSES:
        if name.startswith("session_"):
            steps.drop(name)
    original, gone = OriginalTables(steps.schema, steps.prefix), steps.factory()
    steps.convert(
        original.sessions(*routing(original), *state(original)),
        original.messages(),
        original.versions(),
        original.token_usage(),
        without=[gone.table(name, *items) for name, items in _added(gone).items()],
    )


# -- the applications' tables ------------------------------------------------------------------


def _added(factory: TableFactory) -> dict[str, list[Any]]:
    """The columns, indexes and constraints that each table gains."""
    return {
        "sessions": [
            Column("checkpoint_id", Id(255)),
            Column("owner_id", Id(255)),
            Column("scope_type", String(50)),
            Column("scope_id", Id(255)),
            Column("status", String(20)),
            Column("round_sequence", Integer, nullable=False, server_default="0"),
            Column("made_by_saver", Boolean, nullable=False, server_default=false()),
            factory.index("idx_sessions_owner", "owner_id"),
        ],
        "messages": [
            *_projected_from(),
            Column("message_id", LongText()),
            Column("removed_at", UTCDateTime()),
            factory.row_key("messages"),
        ],
        "versions": [
            *_projected_from(),
            Column("checkpoint_id", Id(255)),
            Column("pinned", Boolean, nullable=False),
            factory.row_key("versions"),
        ],
        "token_usage": [*_projected_from(), factory.row_key("token_usage")],
    }


class ConvertedTables(OriginalTables):
    """The tables with types that mean the same on every database, and the added columns."""

    session_id_type = Id(255)
    row_id_type = token_count_type = RowId()
    cost_type = Float(53)

    def datetime(self, name: str) -> Column[Any]:
        """Declare a column of datetimes."""
        return Column(name, UTCDateTime(), nullable=False)

    def sessions(self, *more: Any) -> Table:
        """Declare `sessions`."""
        return self.table(
            "sessions",
            Column("id", Id(255), primary_key=True),
            Column("title", String(512), nullable=False, server_default="Untitled session"),
            self.datetime("created_at"),
            self.datetime("updated_at"),
            Column("current_version", Integer, nullable=False, server_default="0"),
            Column("product_type", String(50)),
            Column("complexity", String(20)),
            Column("skill_id", String(100)),
            Column("doc_tier", String(20)),
            Column("style_reference_mode", String(50)),
            *(Column(f"model_{role}", String(2048)) for role in ROLES),
            Column("graph_state", Json()),
            Column("build_status", String(20), nullable=False, server_default="pending"),
            Column("build_artifacts", Json()),
            Column("aesthetic_scores", Json()),
            self.index("idx_sessions_updated", "updated_at"),
            self.index("idx_sessions_product_type", "product_type"),
            self.index("idx_sessions_complexity", "complexity"),
            self.index("idx_sessions_build_status", "build_status"),
            *_added(self)["sessions"],
            *more,
        )

    def messages(self, *more: Any) -> Table:
        """Declare `messages`."""
        return super().messages(*_added(self)["messages"], *more)

    def versions(self, *more: Any) -> Table:
        """Declare `versions`."""
        return super().versions(*_added(self)["versions"], *more)

    def token_usage(self, *more: Any) -> Table:
        """Declare `token_usage`."""
        return super().token_usage(*_added(self)["token_usage"], *more)


# -- the storage -------------------------------------------------------------------------------


def _storage(declare: ConvertedTables) -> list[Table]:
    storage = (_threads, _checkpoints, _blobs, _writes, _errors)
    return [table(declare) for table in storage]


def _threads(declare: ConvertedTables) -> Table:
    return declare.table(
        "session_threads",
        Column("thread_key", Key(), primary_key=True),
        Column("thread_id", Id(255), nullable=False),
        declare.session_id(declare.session_id_type),
        Column("session_named", Boolean, nullable=False),
        Column("owner_id", Id(255)),
        Column("is_first", Boolean, nullable=False),
        Column("checkpoint_id", Id(255)),
        Column("revision", BigInteger, nullable=False),
        Column("status", String(20)),
        Column("status_node", LongText()),
        Column("status_step", Integer),
        Column("status_since", UTCDateTime()),
        Column("status_checkpoint_id", Id(255)),
        declare.datetime("created_at"),
        declare.datetime("updated_at"),
        declare.index("idx_session_threads_session", "session_id"),
        declare.index("idx_session_threads_thread", "thread_id"),
    )


def _checkpoints(declare: ConvertedTables) -> Table:
    return declare.table(
        "session_checkpoints",
        declare.thread_key(),
        Column("ns_key", Key(), primary_key=True),
        Column("checkpoint_id", Id(255), primary_key=True),
        Column("checkpoint_ns", LongText(), nullable=False),
        Column("parent_checkpoint_id", Id(255)),
        Column("root_checkpoint_id", Id(255)),
        Column("run_id", Id(255)),
        Column("hidden", Boolean, nullable=False),
        Column("refs", Bytes(), nullable=False),
        Column("type", String(64), nullable=False),
        Column("data", Bytes(), nullable=False),
        Column("metadata_type", String(64), nullable=False),
        Column("metadata_data", Bytes(), nullable=False),
        declare.index("idx_session_checkpoints_run", "run_id"),
    )


def _blobs(declare: ConvertedTables) -> Table:
    return declare.table(
        "session_blobs",
        declare.thread_key(),
        Column("blob_key", Key(), primary_key=True),
        Column("base_key", Key()),
        Column("depth", Integer, nullable=False),
        Column("level", Integer, nullable=False),
        Column("channel", Id(255), nullable=False),
        Column("type", String(64), nullable=False),
        Column("data", Bytes(), nullable=False),
        ForeignKeyConstraint(
            ["thread_key", "base_key"],
            [declare.reference("session_blobs", name) for name in ("thread_key", "blob_key")],
            name=declare.prefix + "fk_session_blobs_base",
        ),
        declare.index(
            "idx_session_blobs_base", "thread_key", "base_key", where="base_key IS NOT NULL"
        ),
    )


def _writes(declare: ConvertedTables) -> Table:
    return declare.table(
        "session_writes",
        declare.thread_key(),
        Column("ns_key", Key(), primary_key=True),
        Column("checkpoint_id", Id(255), primary_key=True),
        Column("task_id", Id(128), primary_key=True),
        Column("idx", Integer, primary_key=True, autoincrement=False),
        Column("task_path", LongText(), nullable=False),
        Column("channel", Id(255), nullable=False),
        Column("type", String(64), nullable=False),
        Column("data", Bytes(), nullable=False),
    )


def _errors(declare: ConvertedTables) -> Table:
    return declare.table(
        "session_errors",
        declare.row_id(),
        declare.session_id(declare.session_id_type),
        *_projected_from(),
        Column("thread_id", Id(255), nullable=False),
        Column("checkpoint_id", Id(255)),
        Column("checkpoint_ns", LongText(), nullable=False),
        Column("run_id", Id(255)),
        Column("task_id", Id(128)),
        Column("kind", String(20), nullable=False),
        Column("node", LongText()),
        Column("step", Integer),
        Column("channel", Id(255)),
        Column("type", LongText()),
        Column("message", LongText(), nullable=False),
        Column("stack", LongText()),
        Column("recovered_at", UTCDateTime()),
        declare.datetime("created_at"),
        declare.row_key("session_errors"),
        declare.index("idx_session_errors_session", "session_id"),
        declare.index("idx_session_errors_created", "created_at"),
        sqlite_autoincrement=True,
    )


def _projected_from() -> tuple[Column[Any], Column[Any]]:
    return Column("thread_key", Key()), Column("row_key", Key())
