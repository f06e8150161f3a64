"""ORM models of the session tables, for an application's own queries.

`Session` and the others map the package's tables in the default schema and without a prefix;
`models_for` gives the models of another schema or prefix. The rows are those that graph steps and
`saver.sessions` read and write. SQLAlchemy takes each column from the declared table; the
annotations give it a type for type checkers.

`Id`, `Json` and `UTCDateTime` are the tables' column types, for tables of an application's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, relationship

from langgraph_session_saver.schema.column_types import Id, Json, UTCDateTime
from langgraph_session_saver.schema.tables import Tables, build_tables

if TYPE_CHECKING:
    from langgraph_session_saver import models  # noqa: PLW0406 - for fields named like models

__all__ = [
    "Base",
    "Id",
    "Json",
    "Message",
    "Models",
    "Session",
    "SessionError",
    "Thread",
    "TokenUsage",
    "UTCDateTime",
    "Version",
    "models_for",
]

_WITHOUT_KEYS = {"exclude_properties": ["thread_key", "row_key"]}
"""The keys of projected rows are the saver's own."""


def _related(model: str, **options: Any) -> Any:
    """Declare a relationship to the model that has this name and the same base."""
    return declared_attr(lambda _: relationship(model, **options))


def _owned(model: str, *order: str) -> Any:
    """Declare the rows that belong to a session."""
    return _related(
        model,
        back_populates="session",
        order_by=", ".join(f"{model}.{column}" for column in order),
        cascade="all, delete-orphan",
        passive_deletes=True,
    )


# -- what the models of each schema and prefix have in common --------------------------------------


class _Session:
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

    messages: Mapped[list[Message]] = _owned("Message", "position", "id")
    versions: Mapped[list[Version]] = _owned("Version", "version")
    token_usage: Mapped[list[TokenUsage]] = _owned("TokenUsage", "id")
    errors: Mapped[list[SessionError]] = _owned("SessionError", "id")
    # Only the saver writes threads.
    threads: Mapped[list[Thread]] = _related(
        "Thread", back_populates="session", viewonly=True, order_by="Thread.created_at"
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**{"id": str(uuid4()), **values})

    def __repr__(self) -> str:
        return f"<Session {self.id!r} {self.title!r}>"


class _Message:
    __mapper_args__ = _WITHOUT_KEYS

    id: Mapped[int]
    session_id: Mapped[str]
    role: Mapped[str]
    content: Mapped[str]
    timestamp: Mapped[datetime]
    message_id: Mapped[str | None]
    removed_at: Mapped[datetime | None]
    position: Mapped[int | None]
    name: Mapped[str | None]
    tool_calls: Mapped[list[dict[str, Any]] | None]
    tool_call_id: Mapped[str | None]

    session: Mapped[Session] = _related("Session", back_populates="messages")

    def __repr__(self) -> str:
        return f"<Message {self.id} of {self.session_id!r}: {self.role}>"


class _Version:
    __mapper_args__ = _WITHOUT_KEYS

    id: Mapped[int]
    session_id: Mapped[str]
    version: Mapped[int]
    html: Mapped[str]
    description: Mapped[str | None]
    created_at: Mapped[datetime]
    checkpoint_id: Mapped[str | None]
    pinned: Mapped[bool]

    session: Mapped[Session] = _related("Session", back_populates="versions")

    def __repr__(self) -> str:
        return f"<Version {self.version} of {self.session_id!r}>"


class _TokenUsage:
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
    cache_read_tokens: Mapped[int | None]
    cache_creation_tokens: Mapped[int | None]
    reasoning_tokens: Mapped[int | None]

    session: Mapped[Session] = _related("Session", back_populates="token_usage")

    def __repr__(self) -> str:
        return f"<TokenUsage {self.id} of {self.session_id!r}: {self.model} {self.total_tokens}>"


class _SessionError:
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

    session: Mapped[Session] = _related("Session", back_populates="errors")

    def __repr__(self) -> str:
        return f"<SessionError {self.id} of {self.session_id!r}: {self.kind} {self.type}>"


class _Thread:
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

    session: Mapped[Session] = _related("Session", back_populates="threads", viewonly=True)

    def __repr__(self) -> str:
        return f"<Thread {self.thread_id!r} of {self.session_id!r}: {self.status}>"


# -- the models of a schema and prefix ----------------------------------------------------------

_TABLES = build_tables()


class Base(DeclarativeBase):
    """The base of the models; its `metadata` holds all of the package's tables."""

    metadata = _TABLES.metadata


class Session(_Session, Base):
    """A session, with the rows that belong to it."""

    __table__ = _TABLES.sessions


class Message(_Message, Base):
    """A message of a session's transcript."""

    __table__ = _TABLES.messages


class Version(_Version, Base):
    """A numbered page version of a session."""

    __table__ = _TABLES.versions


class TokenUsage(_TokenUsage, Base):
    """A model call: its tokens and their cost."""

    __table__ = _TABLES.token_usage


class SessionError(_SessionError, Base):
    """A failed task, or a value that did not validate."""

    __table__ = _TABLES.errors


class Thread(_Thread, Base):
    """A LangGraph thread and its status."""

    __table__ = _TABLES.threads


@dataclass(frozen=True)
class Models:
    """The models of the tables of one schema and prefix, with the base that they share."""

    Base: type[DeclarativeBase]
    Session: type[models.Session]
    Message: type[models.Message]
    Version: type[models.Version]
    TokenUsage: type[models.TokenUsage]
    SessionError: type[models.SessionError]
    Thread: type[models.Thread]


_MODELS: dict[type[Any], type[Any]] = {
    _Session: Session,
    _Message: Message,
    _Version: Version,
    _TokenUsage: TokenUsage,
    _SessionError: SessionError,
    _Thread: Thread,
}

_known: dict[tuple[str | None, str], Models] = {(None, ""): Models(Base, *_MODELS.values())}
_lock = Lock()


def models_for(*, schema: str | None = None, table_prefix: str = "") -> Models:
    """The models of the tables of a saver that was made with these options.

    Equal arguments give the same classes; the defaults give those of this module.

    Args:
        schema: Schema (PostgreSQL) or database (MySQL) that holds the tables.
        table_prefix: Prefix of all tables' names.
    """
    named = schema, table_prefix
    with _lock:
        if named not in _known:
            _known[named] = _models_of(build_tables(*named))
        return _known[named]


def _models_of(tables: Tables) -> Models:
    table_of = dict(zip(_TABLES, tables, strict=True))
    about = {"__module__": __name__, "__doc__": Base.__doc__}
    base = type("Base", (DeclarativeBase,), {**about, "metadata": tables.metadata})
    models = []
    for columns, model in _MODELS.items():
        about = {"__module__": __name__, "__doc__": model.__doc__}
        table = table_of[inspect(model).local_table]
        models.append(type(model.__name__, (columns, base), {**about, "__table__": table}))
    return Models(base, *models)
