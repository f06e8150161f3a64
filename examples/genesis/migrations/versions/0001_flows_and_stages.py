"""Novels, flows, stages, the sessions of stages, and events."""

import sqlalchemy as sa
from alembic import op

from examples.web.migrations import create_table, one_of, owned_by, time
from langgraph_session_saver.models import Id, Json, UTCDateTime

revision = "0001"
down_revision = None
branch_labels = ("genesis",)
depends_on = None

STAGES = ("INITIAL_PROMPT", "WORLDVIEW", "CHARACTERS", "PLOT_OUTLINE", "FINISHED")


def upgrade() -> None:
    create_table(
        "novels",
        sa.Column("owner_id", Id(255), nullable=False, index=True),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("premise", sa.Text, nullable=False),
        time("created_at"),
        time("updated_at"),
    )
    create_table(
        "genesis_flows",
        owned_by("novels", "novel_id"),
        one_of("status", "genesisstatus", "IN_PROGRESS", "COMPLETED", "ABANDONED", "PAUSED"),
        one_of("current_stage", "genesisstage", *STAGES),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("state", Json(), nullable=False),
        time("created_at"),
        time("updated_at"),
        sa.UniqueConstraint("novel_id"),
        sa.Index(None, "novel_id", "status"),
        sa.Index(None, "current_stage"),
    )
    create_table(
        "genesis_stage_records",
        owned_by("genesis_flows", "flow_id"),
        one_of("stage", "genesisstage", *STAGES),
        one_of("status", "stagestatus", "RUNNING", "COMPLETED", "FAILED", "PAUSED"),
        sa.Column("config", Json(), nullable=False),
        sa.Column("result", Json()),
        sa.Column("iteration_count", sa.Integer, nullable=False),
        sa.Column("metrics", Json(), nullable=False),
        time("started_at"),
        sa.Column("completed_at", UTCDateTime()),
        time("updated_at"),
        sa.Index(None, "flow_id", "stage"),
    )
    create_table(
        "genesis_stage_sessions",
        owned_by("genesis_stage_records", "stage_id"),
        owned_by("sessions", "session_id", 255),
        one_of("status", "bindingstatus", "ACTIVE", "ARCHIVED", "CLOSED"),
        sa.Column("is_primary", sa.Boolean),
        one_of("session_kind", "sessionkind", "user_interaction", "review", "agent_autonomous"),
        time("created_at"),
        time("updated_at"),
        sa.UniqueConstraint("stage_id", "session_id"),
        sa.UniqueConstraint("stage_id", "is_primary"),
        sa.Index(None, "stage_id"),
        sa.Index(None, "session_id"),
    )
    create_table(
        "genesis_events",
        owned_by("genesis_flows", "flow_id"),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("stage_id", Id(36)),
        sa.Column("session_id", Id(255)),
        sa.Column("type", sa.String(50), nullable=False),
        sa.Column("data", Json(), nullable=False),
        time("created_at"),
        sa.UniqueConstraint("flow_id", "position"),
        id_length=255,
    )


def downgrade() -> None:
    for name in ("events", "stage_sessions", "stage_records", "flows"):
        op.drop_table(f"genesis_{name}")
    op.drop_table("novels")
