"""What sessions and their rows look like to a caller: frozen, and tied to no connection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Generic, TypedDict, TypeVar, overload

from langgraph_session_saver.projection.schemas import AestheticScore, BuildInfo, BuildStatus

T = TypeVar("T")

DELETED = "deleted"
"""The status of a session that was deleted softly."""


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One row of `sessions`, but for its `graph_state`, which `saver.state` loads."""

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
    """The checkpoint whose step was the last to write these columns; None: set by hand since."""
    owner_id: str | None
    scope_type: str | None
    scope_id: str | None
    status: str | None
    """The application's own word for it, or "deleted"."""
    round_sequence: int

    @property
    def is_deleted(self) -> bool:
        """Whether it was deleted softly."""
        return self.status == DELETED


class SessionChanges(TypedDict, total=False):
    """The columns that an application sets; None clears one, back to its default if it has one."""

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
class MessageRecord:
    """One row of `messages`."""

    id: int
    session_id: str
    role: str
    content: str
    timestamp: datetime
    message_id: str | None
    """LangChain's id of a message that a graph's state holds."""
    removed_at: datetime | None
    """When a reducer or a fork dropped it."""


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One row of `versions`: a page."""

    session_id: str
    version: int
    html: str
    description: str | None
    created_at: datetime
    checkpoint_id: str | None
    pinned: bool


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One row of `token_usage`."""

    id: int
    session_id: str
    timestamp: datetime
    agent_type: str
    model: str
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """Tokens and cost of all calls that share what was summed up by; the rest of these is None."""

    agent_type: str | None
    model: str | None
    day: date | None
    """A day of UTC."""
    calls: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """One row of `session_errors`: a task that failed, or a value that did not validate."""

    id: int
    session_id: str
    thread_id: str
    checkpoint_id: str | None
    checkpoint_ns: str
    run_id: str | None
    task_id: str | None
    kind: str
    """`error` for a task's, `projection` for a value's."""
    node: str | None
    step: int | None
    channel: str | None
    type: str | None
    message: str
    stack: str | None
    recovered_at: datetime | None
    """When the thread went on from the step that failed."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Page(Sequence[T], Generic[T]):
    """A page of a listing: a sequence of its items."""

    items: tuple[T, ...]
    next: str | None
    """Pass it as `after=` for the page that follows; None: this is the last one."""

    @overload
    def __getitem__(self, at: int) -> T: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...

    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        return self.items[at]

    def __len__(self) -> int:
        return len(self.items)
