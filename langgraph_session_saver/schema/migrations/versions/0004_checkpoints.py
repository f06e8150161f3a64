"""Checkpoint storage; datetimes, ids and counters that mean the same on every database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    String,
    Table,
    UniqueConstraint,
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
)
from langgraph_session_saver.schema.migrations import seeds
from langgraph_session_saver.schema.migrations.steps import Place, Steps

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
    """Add columns to the seed tables, convert them, and create the storage."""
    place = steps.place()
    tables = _sessions(place), _messages(place), _versions(place), _token_usage(place)
    for name, more in _added(steps.place()).items():
        steps.extend(name, *more)
    sessions, _, versions, _ = tables
    steps.fill(
        sessions, current_version=0, round_sequence=0, build_status="pending", made_by_saver=False
    )
    steps.fill(versions, pinned=False)
    for table in tables:
        for column in table.c:
            if isinstance(column.type, UTCDateTime) and not column.nullable:
                steps.fill(table, **{column.name: steps.utc_now(table, column.name)})
    steps.convert(*tables)
    for table in _storage(place):
        steps.create(table)


def downgrade(steps: Steps) -> None:
    """Drop the storage, and give the seed tables back their first form."""
    for name in LOSES:
        if name.startswith("session_"):
            steps.drop(name)
    place, gone = steps.place(), steps.place()
    steps.convert(
        seeds.sessions(place, *seeds.routing(place), *seeds.state(place)),
        seeds.messages(place),
        seeds.versions(place),
        seeds.token_usage(place),
        without=[gone.table(name, *columns) for name, columns in _added(gone).items()],
    )


# -- the seed tables ---------------------------------------------------------------------------


def _added(place: Place) -> dict[str, list[Any]]:
    """What the seed tables gain."""
    return {
        "sessions": [
            Column("checkpoint_id", Id(255)),
            Column("owner_id", Id(255)),
            Column("scope_type", String(50)),
            Column("scope_id", Id(255)),
            Column("status", String(20)),
            Column("round_sequence", Integer, nullable=False, server_default="0"),
            Column("made_by_saver", Boolean, nullable=False, server_default=false()),
            place.index("idx_sessions_owner", "owner_id"),
        ],
        "messages": [
            *_projected(),
            Column("message_id", LongText()),
            Column("removed_at", UTCDateTime()),
            _row_key(place, "messages"),
        ],
        "versions": [
            *_projected(),
            Column("checkpoint_id", Id(255)),
            Column("pinned", Boolean, nullable=False),
            _row_key(place, "versions"),
        ],
        "token_usage": [*_projected(), _row_key(place, "token_usage")],
    }


def _sessions(place: Place) -> Table:
    return place.table(
        "sessions",
        Column("id", Id(255), primary_key=True),
        Column("title", String(512), nullable=False, server_default="Untitled session"),
        _instant("created_at"),
        _instant("updated_at"),
        Column("current_version", Integer, nullable=False, server_default="0"),
        Column("product_type", String(50)),
        Column("complexity", String(20)),
        Column("skill_id", String(100)),
        Column("doc_tier", String(20)),
        Column("style_reference_mode", String(50)),
        *(Column(f"model_{role}", String(2048)) for role in seeds.ROLES),
        Column("graph_state", Json()),
        Column("build_status", String(20), nullable=False, server_default="pending"),
        Column("build_artifacts", Json()),
        Column("aesthetic_scores", Json()),
        place.index("idx_sessions_updated", "updated_at"),
        place.index("idx_sessions_product_type", "product_type"),
        place.index("idx_sessions_complexity", "complexity"),
        place.index("idx_sessions_build_status", "build_status"),
        *_added(place)["sessions"],
    )


def _messages(place: Place) -> Table:
    return place.table(
        "messages",
        _row_id(),
        _session_id(place),
        Column("role", String(20), nullable=False),
        Column("content", LongText(), nullable=False),
        _instant("timestamp"),
        place.index("idx_messages_session", "session_id"),
        place.index("idx_messages_timestamp", "timestamp"),
        *_added(place)["messages"],
        sqlite_autoincrement=True,
    )


def _versions(place: Place) -> Table:
    return place.table(
        "versions",
        _row_id(),
        _session_id(place),
        Column("version", Integer, nullable=False),
        Column("html", LongText(), nullable=False),
        Column("description", LongText()),
        _instant("created_at"),
        UniqueConstraint("session_id", "version", name=place.name("uq_versions_version")),
        place.index("idx_versions_session", "session_id"),
        *_added(place)["versions"],
        sqlite_autoincrement=True,
    )


def _token_usage(place: Place) -> Table:
    return place.table(
        "token_usage",
        _row_id(),
        _session_id(place),
        _instant("timestamp"),
        Column("agent_type", String(255), nullable=False),
        Column("model", String(2048), nullable=False),
        Column("input_tokens", RowId(), nullable=False),
        Column("output_tokens", RowId(), nullable=False),
        Column("total_tokens", RowId(), nullable=False),
        Column("cost_usd", Float(53), nullable=False),
        place.index("idx_token_usage_session", "session_id"),
        place.index("idx_token_usage_timestamp", "timestamp"),
        *_added(place)["token_usage"],
        sqlite_autoincrement=True,
    )


# -- the storage -------------------------------------------------------------------------------


def _storage(place: Place) -> list[Table]:
    return [_threads(place), _checkpoints(place), _blobs(place), _writes(place), _errors(place)]


def _threads(place: Place) -> Table:
    return place.table(
        "session_threads",
        Column("thread_key", Key(), primary_key=True),
        Column("thread_id", Id(255), nullable=False),
        _session_id(place),
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
        _instant("created_at"),
        _instant("updated_at"),
        place.index("idx_session_threads_session", "session_id"),
        place.index("idx_session_threads_thread", "thread_id"),
    )


def _checkpoints(place: Place) -> Table:
    return place.table(
        "session_checkpoints",
        _thread_key(place),
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
        place.index("idx_session_checkpoints_run", "run_id"),
    )


def _blobs(place: Place) -> Table:
    return place.table(
        "session_blobs",
        _thread_key(place),
        Column("blob_key", Key(), primary_key=True),
        Column("base_key", Key()),
        Column("depth", Integer, nullable=False),
        Column("level", Integer, nullable=False),
        Column("channel", Id(255), nullable=False),
        Column("type", String(64), nullable=False),
        Column("data", Bytes(), nullable=False),
        ForeignKeyConstraint(
            ["thread_key", "base_key"],
            [
                place.column("session_blobs", "thread_key"),
                place.column("session_blobs", "blob_key"),
            ],
            name=place.name("fk_session_blobs_base"),
        ),
        place.index(
            "idx_session_blobs_base",
            "thread_key",
            "base_key",
            sqlite_where=text("base_key IS NOT NULL"),
            postgresql_where=text("base_key IS NOT NULL"),
        ),
    )


def _writes(place: Place) -> Table:
    return place.table(
        "session_writes",
        _thread_key(place),
        Column("ns_key", Key(), primary_key=True),
        Column("checkpoint_id", Id(255), primary_key=True),
        Column("task_id", Id(128), primary_key=True),
        Column("idx", Integer, primary_key=True, autoincrement=False),
        Column("task_path", LongText(), nullable=False),
        Column("channel", Id(255), nullable=False),
        Column("type", String(64), nullable=False),
        Column("data", Bytes(), nullable=False),
    )


def _errors(place: Place) -> Table:
    return place.table(
        "session_errors",
        _row_id(),
        _session_id(place),
        *_projected(),
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
        _instant("created_at"),
        _row_key(place, "session_errors"),
        place.index("idx_session_errors_session", "session_id"),
        place.index("idx_session_errors_created", "created_at"),
        sqlite_autoincrement=True,
    )


def _row_id() -> Column[Any]:
    return Column("id", RowId(), primary_key=True, autoincrement=True)


def _instant(name: str) -> Column[Any]:
    return Column(name, UTCDateTime(), nullable=False)


def _session_id(place: Place) -> Column[Any]:
    key = ForeignKey(place.column("sessions", "id"), ondelete="CASCADE")
    return Column("session_id", Id(255), key, nullable=False)


def _thread_key(place: Place) -> Column[Any]:
    key = ForeignKey(place.column("session_threads", "thread_key"), ondelete="CASCADE")
    return Column("thread_key", Key(), key, primary_key=True)


def _projected() -> tuple[Column[Any], Column[Any]]:
    return Column("thread_key", Key()), Column("row_key", Key())


def _row_key(place: Place, name: str) -> UniqueConstraint:
    return UniqueConstraint("thread_key", "row_key", name=place.name(f"uq_{name}_row"))
