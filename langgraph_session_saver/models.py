"""ORM models of the session tables, for an application's own queries.

They map the tables that this package declares, in the default schema and without a prefix: where
the tables are in a schema, `engine.execution_options(schema_translate_map={None: "name"})` finds
them. Rows that they read and write are the same that graphs' steps and `saver.sessions` do.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy.orm import DeclarativeBase, Mapped, relationship

from langgraph_session_saver.schema.tables import build_tables

_TABLES = build_tables()


class Base(DeclarativeBase):
    """The base of these models; its `metadata` holds all of this package's tables."""

    metadata = _TABLES.metadata


class Session(Base):
    """A session, with all that belongs to it."""

    __table__ = _TABLES.sessions

    if TYPE_CHECKING:
        id: Mapped[str]
        title: Mapped[str]
        created_at: Mapped[datetime]
        updated_at: Mapped[datetime]
        current_version: Mapped[int]
        product_type: Mapped[str | None]
        complexity: Mapped[str | None]
        skill_id: Mapped[str | None]
        doc_tier: Mapped[str | None]
        style_reference_mode: Mapped[str | None]
        model_classifier: Mapped[str | None]
        model_writer: Mapped[str | None]
        model_expander: Mapped[str | None]
        model_validator: Mapped[str | None]
        model_style_refiner: Mapped[str | None]
        graph_state: Mapped[dict[str, Any] | None]
        build_status: Mapped[str]
        build_artifacts: Mapped[dict[str, Any] | None]
        aesthetic_scores: Mapped[dict[str, Any] | None]
        checkpoint_id: Mapped[str | None]
        owner_id: Mapped[str | None]
        scope_type: Mapped[str | None]
        scope_id: Mapped[str | None]
        status: Mapped[str | None]
        round_sequence: Mapped[int]
        made_by_saver: Mapped[bool]

    messages: Mapped[list[Message]] = relationship(
        back_populates="session", cascade="all, delete-orphan", passive_deletes=True,
        order_by=_TABLES.messages.c.id,
    )  # fmt: skip
    versions: Mapped[list[Version]] = relationship(
        back_populates="session", cascade="all, delete-orphan", passive_deletes=True,
        order_by=_TABLES.versions.c.version,
    )  # fmt: skip
    token_usage: Mapped[list[TokenUsage]] = relationship(
        back_populates="session", cascade="all, delete-orphan", passive_deletes=True,
        order_by=_TABLES.token_usage.c.id,
    )  # fmt: skip
    errors: Mapped[list[SessionError]] = relationship(
        back_populates="session", cascade="all, delete-orphan", passive_deletes=True,
        order_by=_TABLES.errors.c.id,
    )  # fmt: skip
    # Only savers write these.
    threads: Mapped[list[Thread]] = relationship(
        back_populates="session", viewonly=True, order_by=_TABLES.threads.c.created_at
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**{"id": str(uuid4()), **values})

    def __repr__(self) -> str:
        return f"<Session {self.id!r} {self.title!r}>"


class Message(Base):
    """A message of a session's transcript."""

    __table__ = _TABLES.messages
    __mapper_args__ = {"exclude_properties": ["thread_key", "row_key"]}  # noqa: RUF012

    if TYPE_CHECKING:
        id: Mapped[int]
        session_id: Mapped[str]
        role: Mapped[str]
        content: Mapped[str]
        timestamp: Mapped[datetime]
        message_id: Mapped[str | None]
        removed_at: Mapped[datetime | None]

    session: Mapped[Session] = relationship(back_populates="messages")

    def __repr__(self) -> str:
        return f"<Message {self.id} of {self.session_id!r}: {self.role}>"


class Version(Base):
    """A page of a session, under its number."""

    __table__ = _TABLES.versions
    __mapper_args__ = {"exclude_properties": ["thread_key", "row_key"]}  # noqa: RUF012

    if TYPE_CHECKING:
        id: Mapped[int]
        session_id: Mapped[str]
        version: Mapped[int]
        html: Mapped[str]
        description: Mapped[str | None]
        created_at: Mapped[datetime]
        checkpoint_id: Mapped[str | None]
        pinned: Mapped[bool]

    session: Mapped[Session] = relationship(back_populates="versions")

    def __repr__(self) -> str:
        return f"<Version {self.version} of {self.session_id!r}>"


class TokenUsage(Base):
    """A call of a model: its tokens, and what they cost."""

    __table__ = _TABLES.token_usage
    __mapper_args__ = {"exclude_properties": ["thread_key", "row_key"]}  # noqa: RUF012

    if TYPE_CHECKING:
        id: Mapped[int]
        session_id: Mapped[str]
        timestamp: Mapped[datetime]
        agent_type: Mapped[str]
        model: Mapped[str]
        input_tokens: Mapped[int]
        output_tokens: Mapped[int]
        total_tokens: Mapped[int]
        cost_usd: Mapped[float]

    session: Mapped[Session] = relationship(back_populates="token_usage")

    def __repr__(self) -> str:
        return f"<TokenUsage {self.id} of {self.session_id!r}: {self.model} {self.total_tokens}>"


class SessionError(Base):
    """A task that failed, or a value that did not validate."""

    __table__ = _TABLES.errors
    __mapper_args__ = {"exclude_properties": ["thread_key", "row_key"]}  # noqa: RUF012

    if TYPE_CHECKING:
        id: Mapped[int]
        session_id: Mapped[str]
        thread_id: Mapped[str]
        checkpoint_id: Mapped[str | None]
        checkpoint_ns: Mapped[str]
        run_id: Mapped[str | None]
        task_id: Mapped[str | None]
        kind: Mapped[str]
        node: Mapped[str | None]
        step: Mapped[int | None]
        channel: Mapped[str | None]
        type: Mapped[str | None]
        message: Mapped[str]
        stack: Mapped[str | None]
        recovered_at: Mapped[datetime | None]
        created_at: Mapped[datetime]

    session: Mapped[Session] = relationship(back_populates="errors")

    def __repr__(self) -> str:
        return f"<SessionError {self.id} of {self.session_id!r}: {self.kind} {self.type}>"


class Thread(Base):
    """A LangGraph thread, and what it is doing."""

    __table__ = _TABLES.threads
    __mapper_args__ = {"exclude_properties": ["revision", "session_named", "is_first"]}  # noqa: RUF012

    if TYPE_CHECKING:
        thread_key: Mapped[bytes]
        thread_id: Mapped[str]
        session_id: Mapped[str]
        owner_id: Mapped[str | None]
        checkpoint_id: Mapped[str | None]
        status: Mapped[str | None]
        status_node: Mapped[str | None]
        status_step: Mapped[int | None]
        status_since: Mapped[datetime | None]
        created_at: Mapped[datetime]
        updated_at: Mapped[datetime]

    session: Mapped[Session] = relationship(back_populates="threads", viewonly=True)

    def __repr__(self) -> str:
        return f"<Thread {self.thread_id!r} of {self.session_id!r}: {self.status}>"
