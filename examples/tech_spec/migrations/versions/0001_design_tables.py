"""The design agent's tables, where that agent has not made them; they stay when all is undone."""

from functools import partial

import sqlalchemy as sa
from alembic import op

from examples.tech_spec.database import place_of_designs
from examples.web.migrations import create_table, owned_by, time
from examples.web.models import LongText
from langgraph_session_saver.models import Id, UTCDateTime

revision = "0001"
down_revision = None
branch_labels = ("tech_spec",)
depends_on = None


def upgrade() -> None:
    schema, inspector = place_of_designs(op.get_bind()), sa.inspect(op.get_bind())
    if inspector.has_table("design_jobs", schema=schema):
        return
    if schema is not None and not inspector.has_schema(schema):
        op.execute(sa.schema.CreateSchema(schema))
    create = partial(create_table, schema=schema)
    # Not by the map: SQLite's compiler leaves out references to another declared schema.
    jobs = "design_jobs" if schema is None else f"{schema}.design_jobs"
    create(
        "design_jobs",
        sa.Column("project_id", Id(36), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        time("created_at"),
        sa.Column("completed_at", UTCDateTime()),
    )
    create(
        "design_outputs",
        owned_by(jobs, "design_job_id"),
        sa.Column("document_type", sa.String(50), nullable=False),
        sa.Column("content", LongText, nullable=False),
        sa.Column("file_path", sa.Text),
        time("created_at"),
    )
    create(
        "design_decisions",
        owned_by(jobs, "design_job_id"),
        sa.Column("decision_type", sa.String(50), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("reasoning", sa.Text),
        time("created_at"),
    )
    create(
        "design_progress",
        owned_by(jobs, "design_job_id"),
        sa.Column("stage", sa.String(50), nullable=False),
        sa.Column("progress_percentage", sa.Double, nullable=False),
        time("updated_at"),
    )
    for name in ("design_outputs", "design_decisions", "design_progress"):
        op.create_index(None, name, ["design_job_id"], schema=schema)


def downgrade() -> None:
    pass
