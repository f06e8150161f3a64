"""The tables: novels, their flows, the stages of a flow, the sessions of a stage, and events.

They refer to the package's `sessions`, which knows nothing of stages. What must hold whoever
writes, as one flow to a novel and one primary session to a stage, is a constraint of the database.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Index, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from examples.web.models import NAMES, ON_MYSQL, TYPES, CreatedAt, Key, UpdatedAt, owned_by
from langgraph_session_saver.models import Id, Session


class GenesisStatus(StrEnum):
    """Where a flow as a whole stands."""

    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    ABANDONED = "ABANDONED"
    PAUSED = "PAUSED"


class GenesisStage(StrEnum):
    """The stages of a flow, in their order."""

    INITIAL_PROMPT = "INITIAL_PROMPT"
    WORLDVIEW = "WORLDVIEW"
    CHARACTERS = "CHARACTERS"
    PLOT_OUTLINE = "PLOT_OUTLINE"
    FINISHED = "FINISHED"

    @property
    def position(self) -> int:
        """How many stages are before this one."""
        return [*GenesisStage].index(self)


class StageStatus(StrEnum):
    """Where the work on a stage stands."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    PAUSED = "PAUSED"


class BindingStatus(StrEnum):
    """Where a session stands in its stage."""

    ACTIVE = "ACTIVE"
    ARCHIVED = "ARCHIVED"
    CLOSED = "CLOSED"


class SessionKind(StrEnum):
    """Who does the work in a session of a stage."""

    USER_INTERACTION = "user_interaction"
    REVIEW = "review"
    AGENT_AUTONOMOUS = "agent_autonomous"


class Base(DeclarativeBase):
    """The base of the models, with the column type of each annotation."""

    metadata = sa.MetaData(naming_convention=NAMES)
    type_annotation_map = TYPES
    __table_args__: Any = ON_MYSQL
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - SQLAlchemy's own declaration


class Novel(Base):
    """A novel, which one user owns."""

    __tablename__ = "novels"

    id: Mapped[Key]
    owner_id: Mapped[str] = mapped_column(index=True)
    title: Mapped[str] = mapped_column(String(200))
    premise: Mapped[str] = mapped_column(sa.Text, default="")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class GenesisFlow(Base):
    """The way of a novel through the stages.

    `state` has the config and result of each completed stage. `version` is SQLAlchemy's: an UPDATE
    of a flow that was changed meanwhile fails.
    """

    __tablename__ = "genesis_flows"

    id: Mapped[Key]
    novel_id: Mapped[str] = owned_by("novels.id")
    status: Mapped[GenesisStatus] = mapped_column(default=GenesisStatus.IN_PROGRESS)
    current_stage: Mapped[GenesisStage] = mapped_column(
        default=GenesisStage.INITIAL_PROMPT, index=True
    )
    version: Mapped[int] = mapped_column()
    state: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    novel: Mapped[Novel] = relationship(lazy="joined", innerjoin=True)

    __table_args__ = (UniqueConstraint("novel_id"), Index(None, "novel_id", "status"), ON_MYSQL)
    __mapper_args__ = {"eager_defaults": True, "version_id_col": version}  # noqa: RUF012


class GenesisStageRecord(Base):
    """One pass of a flow through a stage; a flow that went back has several of the same stage."""

    __tablename__ = "genesis_stage_records"

    id: Mapped[Key]
    flow_id: Mapped[str] = owned_by("genesis_flows.id")
    stage: Mapped[GenesisStage]
    status: Mapped[StageStatus] = mapped_column(default=StageStatus.RUNNING)
    config: Mapped[dict[str, Any]] = mapped_column(default=dict)
    result: Mapped[dict[str, Any] | None]
    iteration_count: Mapped[int] = mapped_column(default=0)
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    started_at: Mapped[CreatedAt]
    completed_at: Mapped[datetime | None]
    updated_at: Mapped[UpdatedAt]

    flow: Mapped[GenesisFlow] = relationship(lazy="joined", innerjoin=True)

    __table_args__ = (Index(None, "flow_id", "stage"), ON_MYSQL)


class GenesisStageSession(Base):
    """A session that is bound to a stage.

    `is_primary` is true or NULL: a unique constraint allows a stage one of them, and many NULLs.
    """

    __tablename__ = "genesis_stage_sessions"

    id: Mapped[Key]
    stage_id: Mapped[str] = owned_by("genesis_stage_records.id", index=True)
    session_id: Mapped[str] = owned_by(Session.__table__.c.id, index=True)
    status: Mapped[BindingStatus] = mapped_column(default=BindingStatus.ACTIVE)
    is_primary: Mapped[bool | None]
    session_kind: Mapped[SessionKind] = mapped_column(default=SessionKind.USER_INTERACTION)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    session: Mapped[Session] = relationship(lazy="joined", innerjoin=True)

    __table_args__ = (
        UniqueConstraint("stage_id", "session_id"),
        UniqueConstraint("stage_id", "is_primary"),
        ON_MYSQL,
    )


class GenesisEvent(Base):
    """What a committed transaction did to a flow, for whoever watches it.

    The position is its number in the flow. A step's event has an id that is derived from the step,
    so that a step which is saved twice adds no second one.
    """

    __tablename__ = "genesis_events"

    id: Mapped[str] = mapped_column(primary_key=True)
    flow_id: Mapped[str] = owned_by("genesis_flows.id")
    position: Mapped[int]
    stage_id: Mapped[str | None] = mapped_column(Id(36))
    session_id: Mapped[str | None]
    type: Mapped[str] = mapped_column(String(50))
    data: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]

    __table_args__ = (UniqueConstraint("flow_id", "position"), ON_MYSQL)
