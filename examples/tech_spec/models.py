"""The tables: the agent's own, and those in which an upstream agent has left its designs.

A session of the agent is one job: its id is also LangGraph's thread and the package's session. All
tables but the design agent's are projections of the graph's steps; other systems read them.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from examples.web.models import (
    NAMES,
    ON_MYSQL,
    TYPES,
    CreatedAt,
    Key,
    LongText,
    UpdatedAt,
    owned_by,
)
from langgraph_session_saver.models import Id

SHARED = "shared"
"""The schema of the design agent's tables."""

IN_SHARED = {"schema": SHARED, **ON_MYSQL}


class JobStatus(StrEnum):
    """Where a job stands."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"


class Stage(StrEnum):
    """What a job is at: the values of `current_stage`."""

    LOAD_DESIGN = "load_design"
    ANALYZE_GAPS = "analyze_gaps"
    RESEARCH = "research"
    AWAIT_DECISIONS = "await_decisions"
    WRITE_DOCUMENT = "write_document"
    VALIDATE_DOCUMENT = "validate_document"
    COMPLETED = "completed"
    FAILED = "failed"


class Role(StrEnum):
    """Who speaks in a conversation."""

    USER = "user"
    AGENT = "agent"
    SYSTEM = "system"


def derived_id(session_id: str, *parts: object) -> str:
    """The id of a row that a step projects: the same one when the step is saved again."""
    return str(uuid5(NAMESPACE_URL, "/".join(map(str, (session_id, *parts)))))


class Base(DeclarativeBase):
    """The base of the models, with the column type of each annotation."""

    metadata = sa.MetaData(naming_convention={**NAMES, "ix": "ix_%(table_name)s_%(column_0_name)s"})
    type_annotation_map = TYPES


def _of(back: str) -> Any:
    return relationship(back_populates=back, lazy="raise_on_sql")


def _owned(order: str, back: str | None = "session") -> Any:
    return relationship(
        back_populates=back,
        order_by=order,
        cascade="all, delete-orphan",
        passive_deletes=True,
        lazy="raise_on_sql",
    )


# -- the design agent's, in the schema `shared` ----------------------------------------------------


class DesignJob(Base):
    """A product that the design agent designs."""

    __tablename__ = "design_jobs"

    id: Mapped[Key]
    project_id: Mapped[str] = mapped_column(Id(36))
    status: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[CreatedAt]
    completed_at: Mapped[datetime | None]

    outputs: Mapped[list["DesignOutput"]] = _owned("DesignOutput.created_at", None)
    decisions: Mapped[list["DesignDecision"]] = _owned("DesignDecision.created_at", None)
    progress: Mapped[list["DesignProgress"]] = _owned("DesignProgress.updated_at", None)
    sessions: Mapped[list["TechSpecSession"]] = _owned("TechSpecSession.created_at", "design_job")

    __table_args__ = IN_SHARED


class DesignOutput(Base):
    """A document of a design."""

    __tablename__ = "design_outputs"

    id: Mapped[Key]
    design_job_id: Mapped[str] = owned_by(f"{SHARED}.design_jobs.id", index=True)
    document_type: Mapped[str] = mapped_column(String(50))
    content: Mapped[str] = mapped_column(LongText)
    file_path: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[CreatedAt]

    __table_args__ = IN_SHARED


class DesignDecision(Base):
    """What a user has decided about a design."""

    __tablename__ = "design_decisions"

    id: Mapped[Key]
    design_job_id: Mapped[str] = owned_by(f"{SHARED}.design_jobs.id", index=True)
    decision_type: Mapped[str] = mapped_column(String(50))
    value: Mapped[str] = mapped_column(sa.Text)
    reasoning: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[CreatedAt]

    __table_args__ = IN_SHARED


class DesignProgress(Base):
    """How far the design agent was with a design, and when."""

    __tablename__ = "design_progress"

    id: Mapped[Key]
    design_job_id: Mapped[str] = owned_by(f"{SHARED}.design_jobs.id", index=True)
    stage: Mapped[str] = mapped_column(String(50))
    progress_percentage: Mapped[float]
    updated_at: Mapped[CreatedAt]

    __table_args__ = IN_SHARED


# -- the agent's own -------------------------------------------------------------------------------


class TechSpecSession(Base):
    """A job of the agent: one document for one design."""

    __tablename__ = "tech_spec_sessions"

    id: Mapped[Key]
    project_id: Mapped[str] = mapped_column(Id(36), index=True)
    design_job_id: Mapped[str] = owned_by(f"{SHARED}.design_jobs.id", index=True)
    user_id: Mapped[str | None]
    status: Mapped[JobStatus] = mapped_column(default=JobStatus.PENDING, index=True)
    current_stage: Mapped[str | None] = mapped_column(String(50))
    progress_percentage: Mapped[float] = mapped_column(default=0)
    session_data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    websocket_url: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[CreatedAt] = mapped_column(index=True)
    updated_at: Mapped[UpdatedAt]
    completed_at: Mapped[datetime | None]

    design_job: Mapped[DesignJob] = _of("sessions")
    research: Mapped[list["TechResearch"]] = _owned("TechResearch.technology_category")
    conversation: Mapped[list["TechConversation"]] = _owned("TechConversation.timestamp")
    documents: Mapped[list["GeneratedTRDDocument"]] = _owned("GeneratedTRDDocument.version")
    errors: Mapped[list["AgentErrorLog"]] = _owned("AgentErrorLog.created_at")

    __table_args__ = (
        CheckConstraint("progress_percentage BETWEEN 0 AND 100", name="progress"),
        Index("idx_session_status_created", "status", sa.desc("created_at")),
        ON_MYSQL,
    )


class TechResearch(Base):
    """A gap in a design's technology: the options that were found, and the one that was chosen."""

    __tablename__ = "tech_research"

    id: Mapped[Key]
    session_id: Mapped[str] = owned_by("tech_spec_sessions.id", index=True)
    technology_category: Mapped[str] = mapped_column(String(50), index=True)
    gap_description: Mapped[str] = mapped_column(sa.Text)
    researched_options: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    selected_technology: Mapped[str | None] = mapped_column(String(100))
    selection_reasoning: Mapped[str | None] = mapped_column(sa.Text)
    decision_timestamp: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]

    session: Mapped[TechSpecSession] = _of("research")

    __table_args__ = (
        Index("idx_research_session_category", "session_id", "technology_category"),
        ON_MYSQL,
    )


class TechConversation(Base):
    """What was said in a job."""

    __tablename__ = "tech_conversations"

    id: Mapped[Key]
    session_id: Mapped[str] = owned_by("tech_spec_sessions.id", index=True)
    research_id: Mapped[str | None] = mapped_column(
        ForeignKey("tech_research.id", ondelete="SET NULL")
    )
    role: Mapped[Role]
    message: Mapped[str] = mapped_column(LongText)
    message_type: Mapped[str | None] = mapped_column(String(50))
    details: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    timestamp: Mapped[CreatedAt] = mapped_column(index=True)

    session: Mapped[TechSpecSession] = _of("conversation")
    research: Mapped[TechResearch | None] = relationship(lazy="raise_on_sql")

    __table_args__ = (
        Index("idx_conversation_session_timestamp", "session_id", "timestamp"),
        ON_MYSQL,
    )


class GeneratedTRDDocument(Base):
    """A version of a job's document, from 1 on."""

    __tablename__ = "generated_trd_documents"

    id: Mapped[Key]
    session_id: Mapped[str] = owned_by("tech_spec_sessions.id", index=True)
    trd_content: Mapped[str] = mapped_column(LongText)
    api_specification: Mapped[str | None] = mapped_column(LongText)
    database_schema: Mapped[str | None] = mapped_column(LongText)
    architecture_diagram: Mapped[str | None] = mapped_column(LongText)
    tech_stack_document: Mapped[str | None] = mapped_column(LongText)
    quality_score: Mapped[float | None] = mapped_column(index=True)
    validation_report: Mapped[dict[str, Any] | None]
    version: Mapped[int]
    created_at: Mapped[CreatedAt]

    session: Mapped[TechSpecSession] = _of("documents")

    __table_args__ = (
        UniqueConstraint("session_id", "version"),
        CheckConstraint("quality_score BETWEEN 0 AND 100", name="score"),
        ON_MYSQL,
    )


class AgentErrorLog(Base):
    """A node of the graph that failed: how often it was tried again, and what came of it."""

    __tablename__ = "agent_error_logs"

    id: Mapped[Key]
    session_id: Mapped[str] = owned_by("tech_spec_sessions.id", index=True)
    node: Mapped[str] = mapped_column(String(100), index=True)
    error_type: Mapped[str] = mapped_column(String(50))
    message: Mapped[str] = mapped_column(LongText)
    stack_trace: Mapped[str | None] = mapped_column(LongText)
    retry_count: Mapped[int] = mapped_column(default=0)
    recovered: Mapped[bool] = mapped_column(default=False, index=True)
    recovery_strategy: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[CreatedAt]

    session: Mapped[TechSpecSession] = _of("errors")

    __table_args__ = (
        CheckConstraint("retry_count >= 0", name="retries"),
        Index("idx_error_node_recovered", "node", "recovered"),
        ON_MYSQL,
    )
