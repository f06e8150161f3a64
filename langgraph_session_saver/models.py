"""ORM models of the session tables, for an application's own queries.

They map the package's tables in the default schema and without a prefix. For tables in another
schema use `engine.execution_options(schema_translate_map={None: "name"})`. The rows are those that
graph steps and `saver.sessions` read and write. SQLAlchemy takes each column from the declared
table; the annotations give it a type for type checkers, and one without a column is refused.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy.orm import DeclarativeBase, Mapped, relationship

from langgraph_session_saver.schema.tables import build_tables

_TABLES = build_tables()

_OWNED: dict[str, Any] = {
    "back_populates": "session",
    "cascade": "all, delete-orphan",
    "passive_deletes": True,
}

_WITHOUT_KEYS = {"exclude_properties": ["thread_key", "row_key"]}
"""The keys of projected rows are the saver's own."""


class Base(DeclarativeBase):
    """The base of the models; its `metadata` holds all of the package's tables."""

    metadata = _TABLES.metadata


class Session(Base):
    """A session, with the rows that belong to it."""

    __table__ = _TABLES.sessions

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

    messages: Mapped[list[Message]] = relationship(order_by=_TABLES.messages.c.id, **_OWNED)
    versions: Mapped[list[Version]] = relationship(order_by=_TABLES.versions.c.version, **_OWNED)
    token_usage: Mapped[list[TokenUsage]] = relationship(
        order_by=_TABLES.token_usage.c.id, **_OWNED
    )
    errors: Mapped[list[SessionError]] = relationship(order_by=_TABLES.errors.c.id, **_OWNED)
    # Only the saver writes threads.
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
    __mapper_args__ = _WITHOUT_KEYS

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
    """A numbered page version of a session."""

    __table__ = _TABLES.versions
    __mapper_args__ = _WITHOUT_KEYS

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
    """A model call: its tokens and their cost."""

    __table__ = _TABLES.token_usage
    __mapper_args__ = _WITHOUT_KEYS

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
    """A failed task, or a value that did not validate."""

    __table__ = _TABLES.errors
    __mapper_args__ = _WITHOUT_KEYS

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
    """A LangGraph thread and its status."""

    __table__ = _TABLES.threads
    __mapper_args__ = {"exclude_properties": ["revision", "session_named", "is_first"]}  # noqa: RUF012

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
