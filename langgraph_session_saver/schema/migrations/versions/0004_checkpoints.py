"""Checkpoint storage; datetimes, ids and counters that mean the same on every database."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from langgraph_session_saver.schema.column_types import (
    Bytes,
    Id,
    Json,
    Key,
    LongText,
    RowId,
    UTCDateTime,
)
from langgraph_session_saver.schema.migrations.past_tables import (
    OriginalTables,
    bound_blobs,
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
    declare = _ConvertedTables(steps.schema, steps.prefix)
    sessions, _, versions, _ = tables = declare.converted()
    for name, items in _added(steps.factory()).items():
        steps.extend(name, *items)
    steps.fill(
        sessions, current_version=0, round_sequence=0, build_status="pending", made_by_saver=False
    )
    steps.fill(versions, pinned=False)
    for table in tables:
        for column in table.c:
            if isinstance(column.type, UTCDateTime) and not column.nullable:
                steps.fill(table, **{column.name: steps.utc_now(column)})
    steps.convert(*tables)
    for table in _storage(declare):
        steps.create(table)


def downgrade(steps: Steps) -> None:
    """Drop the storage, and convert the applications' tables back."""
    for name in LOSES:
        if name.startswith("session_"):
            steps.drop(name)
    original, gone = OriginalTables(steps.schema, steps.prefix), steps.factory()
    steps.convert(
        *original.applications({"sessions": [*routing(original), *state(original)]}),
        without=[gone.table(name, *items) for name, items in _added(gone).items()],
    )


# -- the applications' tables ------------------------------------------------------------------


def _added(factory: TableFactory) -> dict[str, list[Any]]:
    """The columns, indexes and constraints that each table gains."""
    return {
        "sessions": [
            sa.Column("checkpoint_id", Id(255)),
            sa.Column("owner_id", Id(255)),
            sa.Column("scope_type", sa.String(50)),
            sa.Column("scope_id", Id(255)),
            sa.Column("status", sa.String(20)),
            sa.Column("round_sequence", sa.Integer, nullable=False, server_default="0"),
            sa.Column("made_by_saver", sa.Boolean, nullable=False, server_default=sa.false()),
            factory.index("idx_sessions_owner", "owner_id"),
        ],
        "messages": [
            *factory.projected_from("messages"),
            sa.Column("message_id", LongText()),
            sa.Column("removed_at", UTCDateTime()),
        ],
        "versions": [
            *factory.projected_from("versions"),
            sa.Column("checkpoint_id", Id(255)),
            sa.Column("pinned", sa.Boolean, nullable=False),
        ],
        "token_usage": [*factory.projected_from("token_usage")],
    }


class _ConvertedTables(OriginalTables):
    """The tables with types that mean the same on every database, and the added columns."""

    session_id_type = Id(255)
    row_id_type = token_count_type = RowId()
    cost_type = sa.Float(53)

    def datetime(self, name: str) -> sa.Column[Any]:
        """Declare a column of datetimes."""
        return sa.Column(name, UTCDateTime(), nullable=False)

    def converted(self) -> list[sa.Table]:
        """Declare the tables of 0003, convert the types of `sessions`, and add the columns."""
        added = _added(self)
        added["sessions"] = [*routing(self), *state(self), *added["sessions"]]
        tables = self.applications(added)
        columns = tables[0].c
        for column in columns:
            if isinstance(column.type, sa.JSON):
                column.type = Json()
            elif column.name.startswith("model_"):
                column.type = sa.String(2048)
        columns.title.server_default = sa.DefaultClause("Untitled session")
        columns.current_version.nullable = columns.build_status.nullable = False
        return tables


# -- the storage -------------------------------------------------------------------------------


def _storage(declare: _ConvertedTables) -> list[sa.Table]:
    return [
        declare.table(
            "session_threads",
            sa.Column("thread_key", Key(), primary_key=True),
            sa.Column("thread_id", Id(255), nullable=False),
            declare.session_id(),
            sa.Column("session_named", sa.Boolean, nullable=False),
            sa.Column("owner_id", Id(255)),
            sa.Column("is_first", sa.Boolean, nullable=False),
            sa.Column("checkpoint_id", Id(255)),
            sa.Column("revision", sa.BigInteger, nullable=False),
            sa.Column("status", sa.String(20)),
            sa.Column("status_node", LongText()),
            sa.Column("status_step", sa.Integer),
            sa.Column("status_since", UTCDateTime()),
            sa.Column("status_checkpoint_id", Id(255)),
            declare.datetime("created_at"),
            declare.datetime("updated_at"),
            declare.index("idx_session_threads_session", "session_id"),
            declare.index("idx_session_threads_thread", "thread_id"),
        ),
        declare.table(
            "session_checkpoints",
            declare.thread_key(),
            sa.Column("ns_key", Key(), primary_key=True),
            sa.Column("checkpoint_id", Id(255), primary_key=True),
            sa.Column("checkpoint_ns", LongText(), nullable=False),
            sa.Column("parent_checkpoint_id", Id(255)),
            sa.Column("root_checkpoint_id", Id(255)),
            sa.Column("run_id", Id(255)),
            sa.Column("hidden", sa.Boolean, nullable=False),
            sa.Column("refs", Bytes(), nullable=False),
            sa.Column("type", sa.String(64), nullable=False),
            sa.Column("data", Bytes(), nullable=False),
            sa.Column("metadata_type", sa.String(64), nullable=False),
            sa.Column("metadata_data", Bytes(), nullable=False),
            declare.index("idx_session_checkpoints_run", "run_id"),
        ),
        bound_blobs(declare),
        declare.table(
            "session_writes",
            declare.thread_key(),
            sa.Column("ns_key", Key(), primary_key=True),
            sa.Column("checkpoint_id", Id(255), primary_key=True),
            sa.Column("task_id", Id(128), primary_key=True),
            sa.Column("idx", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("task_path", LongText(), nullable=False),
            sa.Column("channel", Id(255), nullable=False),
            sa.Column("type", sa.String(64), nullable=False),
            sa.Column("data", Bytes(), nullable=False),
        ),
        declare.rows(
            "session_errors",
            *declare.projected_from("session_errors"),
            sa.Column("thread_id", Id(255), nullable=False),
            sa.Column("checkpoint_id", Id(255)),
            sa.Column("checkpoint_ns", LongText(), nullable=False),
            sa.Column("run_id", Id(255)),
            sa.Column("task_id", Id(128)),
            sa.Column("kind", sa.String(20), nullable=False),
            sa.Column("node", LongText()),
            sa.Column("step", sa.Integer),
            sa.Column("channel", Id(255)),
            sa.Column("type", LongText()),
            sa.Column("message", LongText(), nullable=False),
            sa.Column("stack", LongText()),
            sa.Column("recovered_at", UTCDateTime()),
            declare.datetime("created_at"),
            declare.index("idx_session_errors_session", "session_id"),
            declare.index("idx_session_errors_created", "created_at"),
        ),
    ]
