"""Frozen records of sessions and their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any, Generic, NamedTuple, Self, TypedDict, TypeVar, overload

from sqlalchemy import ColumnElement, Connection, Select, Table, select

from langgraph_session_saver.projection.schemas import AestheticScore, BuildInfo, BuildStatus
from langgraph_session_saver.schema.tables import DELETED

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A row of `sessions` without `graph_state`, which `saver.state` loads."""

    id: str
    title: str
    created_at: datetime
    updated_at: datetime
    current_version: int
    product_type: str | None
    complexity: str | None
    skill_id: str | None
    doc_tier: str | None
    style_reference_mode: str | None
    model_classifier: str | None
    model_writer: str | None
    model_expander: str | None
    model_validator: str | None
    model_style_refiner: str | None
    build_status: str
    build_artifacts: dict[str, Any] | None
    aesthetic_scores: dict[str, Any] | None
    checkpoint_id: str | None
    """The checkpoint whose step wrote these columns; None if the application has set them since."""
    owner_id: str | None
    scope_type: str | None
    scope_id: str | None
    status: str | None
    """Set by the application, or "deleted"."""
    round_sequence: int
    thread_status: str | None
    """The most urgent status of the session's threads; None if none has a status."""

    @property
    def is_deleted(self) -> bool:
        """Whether the session is soft-deleted."""
        return self.status == DELETED


class SessionChanges(TypedDict, total=False):
    """The columns that an application can set; None resets one to its default or NULL."""

    title: str | None
    product_type: str | None
    complexity: str | None
    skill_id: str | None
    doc_tier: str | None
    style_reference_mode: str | None
    model_classifier: str | None
    model_writer: str | None
    model_expander: str | None
    model_validator: str | None
    model_style_refiner: str | None
    build_status: BuildInfo | BuildStatus | str | None
    build_artifacts: dict[str, Any] | None
    aesthetic_scores: AestheticScore | dict[str, Any] | None
    owner_id: str | None
    scope_type: str | None
    scope_id: str | None
    status: str | None
    round_sequence: int | None


@dataclass(frozen=True, slots=True)
class ThreadRecord:
    """A row of `session_threads`, with what its session says."""

    thread_id: str
    session_id: str
    title: str
    """The session's title."""
    owner_id: str | None
    """The thread's owner; if no call has named one, its session's."""
    status: str | None
    """`pending`, `running`, `interrupted`, `error` or `done`; None before the first checkpoint."""
    status_node: str | None
    """The nodes that run next, wait for an answer or failed."""
    status_step: int | None
    status_since: datetime | None
    checkpoint_id: str | None
    """The newest checkpoint of the root namespace."""
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """A row of `messages`."""

    id: int
    session_id: str
    role: str
    content: str
    timestamp: datetime
    message_id: str | None
    """LangChain's id of the message in a graph's state, or the application's own."""
    removed_at: datetime | None = None
    """When a reducer or a fork dropped the message, or a run that was overtaken brought it."""
    position: int | None = None
    """Ascends in the order of the conversation; the numbers mean nothing else."""
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    """What a model's message calls: objects with `name`, `args` and `id`."""
    tool_call_id: str | None = None
    """The call that a tool's message answers."""


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A row of `versions`: a version of the session's page."""

    session_id: str
    version: int
    html: str
    description: str | None
    created_at: datetime
    checkpoint_id: str | None = None
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """A row of `token_usage`: a model call."""

    id: int
    session_id: str
    timestamp: datetime
    agent_type: str
    model: str
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost_usd: float
    cache_read_tokens: int | None = None
    """Of the input tokens, those read from the provider's cache; None where it is not known."""
    cache_creation_tokens: int | None = None
    """Of the input tokens, those written to the provider's cache."""
    reasoning_tokens: int | None = None
    """Of the output tokens, those of the model's reasoning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSummary:
    """Totals of the calls in a group; what they were not grouped by is None."""

    agent_type: str | None = None
    model: str | None = None
    day: date | None = None
    """A day in UTC."""
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cost_usd: float = 0.0
    cache_read_tokens: int = 0
    """As of `UsageRecord`; a call whose number is not known counts as 0."""
    cache_creation_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """A row of `session_errors`: a failed task, or a value that did not validate."""

    id: int
    session_id: str
    thread_id: str
    checkpoint_id: str | None
    checkpoint_ns: str
    run_id: str | None
    task_id: str | None
    kind: str
    """`error` for a task, `projection` for a value."""
    node: str | None
    step: int | None
    channel: str | None
    type: str | None
    message: str
    stack: str | None
    recovered_at: datetime | None
    """When the thread continued after the failed step."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Page(Sequence[T], Generic[T]):
    """One page of a listing: a sequence of its items."""

    items: tuple[T, ...]
    next: str | None
    """The cursor to pass as `after=` for the next page; None on the last page."""

    @overload
    def __getitem__(self, at: int) -> T: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...

    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        return self.items[at]

    def __len__(self) -> int:
        return len(self.items)


class View(NamedTuple):
    """The rows of a table that may be read, with columns that are computed or replace its own."""

    c: Mapping[str, ColumnElement[Any]]
    where: tuple[ColumnElement[bool], ...] = ()
    """The conditions that the rows meet."""

    @classmethod
    def of(cls, table: Table, **computed: ColumnElement[Any]) -> Self:
        """Add columns to a table's."""
        return cls(dict(table.c.items()) | {k: v.label(k) for k, v in computed.items()})


def select_records(view: View, record: type[Any], *where: ColumnElement[bool]) -> Select[Any]:
    """Select the columns that a record has as fields."""
    columns = (view.c[name] for name in field_names(record))
    return select(*columns).where(*view.where, *where)


def field_names(record: type[Any]) -> list[str]:
    """The names of a record's fields."""
    return [field.name for field in fields(record)]


def first(conn: Connection, view: View, record: type[T], *where: ColumnElement[bool]) -> T | None:
    """Read the first row that meets the conditions, as a record."""
    row = conn.execute(select_records(view, record, *where)).mappings().first()
    return None if row is None else record(**row)
