"""Sessions, research, conversations, documents and errors."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from examples.tech_spec.database import place_of_designs
from examples.web.migrations import create_table, one_of, owned_by, time
from examples.web.models import LongText
from langgraph_session_saver.models import Id, Json, UTCDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INDEXED = {
    "tech_spec_sessions": ("design_job_id", "project_id", "status", "created_at"),
    "tech_research": ("session_id", "technology_category"),
    "tech_conversations": ("session_id", "timestamp"),
    "generated_trd_documents": ("session_id", "quality_score"),
    "agent_error_logs": ("session_id", "node", "recovered"),
}
"""The tables, and the columns that have an index of their own."""

COMPOSITE: dict[tuple[str, str], list[Any]] = {
    ("tech_spec_sessions", "session_status_created"): ["status", sa.text("created_at DESC")],
    ("tech_research", "research_session_category"): ["session_id", "technology_category"],
    ("tech_conversations", "conversation_session_timestamp"): ["session_id", "timestamp"],
    ("agent_error_logs", "error_node_recovered"): ["node", "recovered"],
}


def upgrade() -> None:
    place = place_of_designs(op.get_bind())
    create_table(
        "tech_spec_sessions",
        sa.Column("project_id", Id(36), nullable=False),
        owned_by("design_jobs" if place is None else f"{place}.design_jobs", "design_job_id"),
        sa.Column("user_id", Id(255)),
        one_of("status", "jobstatus", "pending", "in_progress", "paused", "completed", "failed"),
        sa.Column("current_stage", sa.String(50)),
        sa.Column("progress_percentage", sa.Double, nullable=False),
        sa.Column("session_data", Json(), nullable=False),
        sa.Column("websocket_url", sa.Text),
        time("created_at"),
        time("updated_at"),
        sa.Column("completed_at", UTCDateTime()),
        sa.CheckConstraint("progress_percentage BETWEEN 0 AND 100", name="progress"),
    )
    create_table(
        "tech_research",
        owned_by("tech_spec_sessions", "session_id"),
        sa.Column("technology_category", sa.String(50), nullable=False),
        sa.Column("gap_description", sa.Text, nullable=False),
        sa.Column("researched_options", Json(), nullable=False),
        sa.Column("selected_technology", sa.String(100)),
        sa.Column("selection_reasoning", sa.Text),
        sa.Column("decision_timestamp", UTCDateTime()),
        time("created_at"),
    )
    create_table(
        "tech_conversations",
        owned_by("tech_spec_sessions", "session_id"),
        sa.Column("research_id", Id(36), sa.ForeignKey("tech_research.id", ondelete="SET NULL")),
        one_of("role", "role", "user", "agent", "system"),
        sa.Column("message", LongText, nullable=False),
        sa.Column("message_type", sa.String(50)),
        sa.Column("metadata", Json()),
        time("timestamp"),
    )
    create_table(
        "generated_trd_documents",
        owned_by("tech_spec_sessions", "session_id"),
        sa.Column("trd_content", LongText, nullable=False),
        sa.Column("api_specification", LongText),
        sa.Column("database_schema", LongText),
        sa.Column("architecture_diagram", LongText),
        sa.Column("tech_stack_document", LongText),
        sa.Column("quality_score", sa.Double),
        sa.Column("validation_report", Json()),
        sa.Column("version", sa.Integer, nullable=False),
        time("created_at"),
        sa.UniqueConstraint("session_id", "version"),
        sa.CheckConstraint("quality_score BETWEEN 0 AND 100", name="score"),
    )
    create_table(
        "agent_error_logs",
        owned_by("tech_spec_sessions", "session_id"),
        sa.Column("node", sa.String(100), nullable=False),
        sa.Column("error_type", sa.String(50), nullable=False),
        sa.Column("message", LongText, nullable=False),
        sa.Column("stack_trace", LongText),
        sa.Column("retry_count", sa.Integer, nullable=False),
        sa.Column("recovered", sa.Boolean, nullable=False),
        sa.Column("recovery_strategy", sa.String(100)),
        time("created_at"),
        sa.CheckConstraint("retry_count >= 0", name="retries"),
    )
    for table, columns in INDEXED.items():
        for column in columns:
            op.create_index(f"ix_{table}_{column}", table, [column])
    for (table, name), several in COMPOSITE.items():
        op.create_index(f"idx_{name}", table, several)


def downgrade() -> None:
    for name in reversed(INDEXED):
        op.drop_table(name)
