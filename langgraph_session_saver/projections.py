"""Projections: rules that turn what a step changed into columns and rows. Pure.

A projection sees a step and says what should be stored; the saver stores it, in the step's own
transaction. The built-in ones are on by channel name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy import Table

from langgraph_session_saver.errors import InvalidConfigError, ProjectionError
from langgraph_session_saver.plain import clean_text, shorten, to_json
from langgraph_session_saver.schemas import (
    AestheticScore,
    BuildInfo,
    BuildStatus,
    ModelUsage,
    RoutingMetadata,
)

Columns = Mapping[str, Any]
Policy = Literal["record", "raise"]


class Step(NamedTuple):
    """What a projection sees of one saved super-step of a thread's root namespace."""

    session_id: str
    """The session as the call names it, else the thread's id; rows get the stored one."""
    thread_id: str
    checkpoint_id: str
    run_id: str | None
    metadata: Mapping[str, Any]
    values: Mapping[str, Any]
    """Every channel's value after the step."""
    changed: frozenset[str]
    """The channels that the step changed; one that it emptied is not in `values`."""
    versions: Mapping[str, Any]

    def changes(self, channel: str) -> bool:
        """Whether the step gave this channel a value."""
        return channel in self.changed and channel in self.values


class Projection:
    """A rule of your own. Override `rows`, `columns` or both.

    Rows are upserted by the table's primary key, and none is deleted. Derive the key from what you
    project (a message id, the thread and an index): a step that is saved twice then changes
    nothing. A row's `session_id`, where the table has that column and the row leaves it out, is
    filled in.
    """

    channels: Sequence[str] = ()
    """Runs when a step changes one of these; none means at every step."""

    table: Table | None = None
    """Where `rows` go: a table of the same database."""

    def rows(self, step: Step) -> Iterable[Mapping[str, Any]]:
        """Rows for `table`."""
        del step
        return ()

    def columns(self, step: Step) -> Columns:
        """Values for columns of the session's row."""
        del step
        return {}

    def check(self, channel: str, value: Any) -> None:
        """Raise what `columns` would raise if this were the channel's value."""
        del channel, value

    def applies(self, step: Step) -> bool:
        """Whether the step concerns this projection."""
        return not self.channels or any(step.changes(channel) for channel in self.channels)


class SessionColumns(Projection):
    """One channel's value as columns of its session's row.

    Args:
        channel: The channel.
        read: Turns its value into columns, or raises `ValueError`. `None` clears them.
        expected: What the value should be, for the error.
        reduced: Whether the channel has a reducer: its writes are not its value, so they are
            not checked.
    """

    def __init__(
        self,
        channel: str,
        read: Callable[[Any], Columns],
        *,
        expected: str = "a value that its function accepts",
        reduced: bool = False,
    ) -> None:
        self.channels = (channel,)
        self.expected = expected
        self.read = read
        self._reduced = reduced

    def columns(self, step: Step) -> Columns:
        """The columns for the channel's new value."""
        return self.read(step.values[self.channels[0]])

    def check(self, channel: str, value: Any) -> None:
        """Validate a write to the channel."""
        if not self._reduced and channel == self.channels[0]:
            self.read(value)


class MessageRows(Projection):
    """A channel of messages as `messages` rows, and their `usage_metadata` as `token_usage`.

    Args:
        channel: The channel.
        roles: Message types to project and the role each gets.
        usage: Whether to write `token_usage` rows.
    """

    def __init__(
        self,
        channel: str = "messages",
        *,
        roles: Mapping[str, str] | None = None,
        usage: bool = True,
    ) -> None:
        self.channels = (channel,)
        self.roles = dict(roles or {"human": "user", "ai": "assistant"})
        self.usage = usage


class PageVersions(Projection):
    """A channel of HTML (text, or a mapping with `html` and `description`) as `versions` rows."""

    def __init__(self, channel: str = "html") -> None:
        self.channels = (channel,)

    def page(self, value: Any) -> tuple[str, str | None]:
        """The HTML and its description.

        Raises:
            ValueError: The value is neither text nor such a mapping.
        """
        if isinstance(value, Mapping) and isinstance(value.get("html"), str):
            return value["html"], value.get("description")
        if isinstance(value, str):
            return value, None
        raise ValueError("neither text nor a mapping with text under 'html'")

    def check(self, channel: str, value: Any) -> None:
        """Validate a write to the channel."""
        if channel == self.channels[0] and value is not None:
            self.page(value)


class ErrorRows(Projection):
    """Errors that tasks end with, and values that do not validate, as `session_errors` rows."""

    channels = ("__error__",)

    def applies(self, step: Step) -> bool:
        """Never at a checkpoint: errors arrive with a task's writes."""
        del step
        return False


class GraphState(Projection):
    """The latest values as JSON in `sessions.graph_state`, for readers.

    Args:
        include: Only these channels; default all but LangGraph's own.
        exclude: Not these.
    """

    def __init__(self, include: Iterable[str] | None = None, exclude: Iterable[str] = ()) -> None:
        self.include = None if include is None else frozenset(include)
        self.exclude = frozenset(exclude)

    def shows(self, channel: str) -> bool:
        """Whether the channel is part of the snapshot."""
        if channel.startswith(("__", "branch:", "join:")) or channel in self.exclude:
            return False
        return self.include is None or channel in self.include


@dataclass(frozen=True, slots=True)
class Problem:
    """A value that a projection could not use."""

    channel: str
    value: str
    expected: str
    found: str

    def __str__(self) -> str:
        return (
            f"channel {self.channel!r} holds {self.value}, which is not {self.expected}: "
            f"{self.found}"
        )


def problem_with(projection: Projection, channel: str, value: Any, exc: Exception) -> Problem:
    """Describe a failed projection in a line."""
    expected = getattr(projection, "expected", f"what {type(projection).__name__} takes")
    if isinstance(exc, ValidationError):
        first = exc.errors(include_url=False, include_input=False)[0]
        found = f"{'.'.join(map(str, first['loc'])) or 'value'}: {first['msg']}"
    else:
        found = f"{type(exc).__name__}: {exc}"
    held = clean_text(shorten(repr(value), 200))
    return Problem(channel, held, expected, clean_text(shorten(found, 500)))


def check_writes(projections: Sequence[Projection], writes: Sequence[tuple[str, Any]]) -> None:
    """Validate writes before they are stored (policy "raise").

    Raises:
        ProjectionError: A write is not what its channel's projection takes.
    """
    for channel, written in writes:
        for projection in projections:
            if channel in projection.channels:
                value = _overwritten(written)
                try:
                    projection.check(channel, value)
                except Exception as exc:
                    raise ProjectionError(
                        f"{problem_with(projection, channel, value, exc)}. The write was not "
                        "stored: mend the node and run the thread again"
                    ) from exc


def _overwritten(value: Any) -> Any:
    """The value inside LangGraph's `Overwrite`, which replaces what a reducer made."""
    return value.value if type(value).__name__ == "Overwrite" else value


# -- the built-in ones ------------------------------------------------------------------------


def _text(column: str, limit: int) -> SessionColumns:
    adapter: TypeAdapter[str | None] = TypeAdapter(str | None)

    def read(value: Any) -> Columns:
        text = adapter.validate_python(to_json(value))
        if text is not None and len(text) > limit:
            raise ValueError(f"{len(text)} characters: at most {limit} fit")
        return {column: text}

    return SessionColumns(column, read, expected=f"text of at most {limit} characters")


def _title() -> SessionColumns:
    text = _text("title", 512)

    def read(value: Any) -> Columns:
        columns = text.read(value)
        return {"title": columns["title"] or "Untitled session"}

    return SessionColumns("title", read, expected=text.expected)


def _cleaned(value: Any) -> Any:
    """A mapping as plain JSON: Pydantic refuses text with lone surrogates."""
    return to_json(value) if isinstance(value, Mapping) else value


def _read_build_status(value: Any) -> Columns:
    if value is None:
        return {"build_status": BuildStatus.PENDING.value}
    if isinstance(value, str):
        return {"build_status": BuildStatus(value).value}
    info = BuildInfo.model_validate(_cleaned(value), from_attributes=True)
    artifacts = info.model_dump(mode="json", exclude={"status"}, exclude_defaults=True)
    return {"build_status": info.status.value, "build_artifacts": to_json(artifacts)}


def _read_build_artifacts(value: Any) -> Columns:
    artifacts = to_json(value)
    if artifacts is not None and (not isinstance(artifacts, dict) or "$type" in artifacts):
        raise ValueError(f"a {type(value).__name__}: neither a mapping nor a model")
    return {"build_artifacts": artifacts}


def _read_aesthetic_scores(value: Any) -> Columns:
    if value is None:
        return {"aesthetic_scores": None}
    score = AestheticScore.model_validate(_cleaned(value), from_attributes=True)
    return {"aesthetic_scores": to_json(score.model_dump(mode="json", exclude_none=True))}


def _read_routing(value: Any) -> Columns:
    return _named_fields(RoutingMetadata, value)


def _read_model_usage(value: Any) -> Columns:
    return {f"model_{role}": model for role, model in _named_fields(ModelUsage, value).items()}


def _named_fields(model: type[BaseModel], value: Any) -> Columns:
    """The fields that a value names, for the others to keep theirs; None clears them all."""
    if value is None:
        return dict.fromkeys(model.model_fields)
    found = model.model_validate(_cleaned(value), from_attributes=True)
    return dict(to_json(found.model_dump(exclude_unset=True)))


_STATUSES = ", ".join(BuildStatus)


def _built_in() -> dict[str, Projection]:
    limits = {"product_type": 50, "complexity": 20, "skill_id": 100, "doc_tier": 20,
              "style_reference_mode": 50}  # fmt: skip
    return {
        "title": _title(),
        "routing": SessionColumns("routing", _read_routing, expected="RoutingMetadata"),
        **{column: _text(column, limit) for column, limit in limits.items()},
        "model_usage": SessionColumns("model_usage", _read_model_usage, expected="ModelUsage"),
        "build_status": SessionColumns(
            "build_status", _read_build_status,
            expected=f"a BuildInfo or one of {_STATUSES}",
        ),
        "build_artifacts": SessionColumns(
            "build_artifacts", _read_build_artifacts,
            expected="a mapping or a model",
        ),
        "aesthetic_scores": SessionColumns(
            "aesthetic_scores", _read_aesthetic_scores,
            expected="an AestheticScore",
        ),
        "messages": MessageRows(),
        "html": PageVersions(),
        "errors": ErrorRows(),
        "graph_state": GraphState(),
    }  # fmt: skip


@cache
def built_in_columns() -> Mapping[str, SessionColumns]:
    """The built-in rules for columns of a session, by name."""
    found = _built_in().items()
    return {name: rule for name, rule in found if isinstance(rule, SessionColumns)}


ProjectionOption = Mapping[str, "str | Callable[[Any], Columns] | Projection | None"]


def resolve_projections(option: ProjectionOption | None) -> tuple[Projection, ...]:
    """The built-in projections with an application's own changes.

    Args:
        option: Per channel: the name of the built-in projection that reads it, a function from
            its value to columns, or None to switch off the built-in of that name. A `Projection`
            says itself which channels it reads; the key is its name.

    Raises:
        InvalidConfigError: A name is no built-in projection's, or a value is none of these.
    """
    chosen = _built_in()
    for channel, rule in (option or {}).items():
        if rule is None:
            chosen.pop(channel, None)
        elif isinstance(rule, Projection):
            chosen[channel] = rule
        elif isinstance(rule, str):
            chosen[channel] = _renamed(rule, channel)
            if rule not in option or option[rule] is None:  # type: ignore[operator, index]
                chosen.pop(rule, None)
        elif callable(rule):
            chosen[channel] = SessionColumns(channel, rule)
        else:
            raise InvalidConfigError(
                f"projections[{channel!r}] is {rule!r}: use the name of a built-in projection, a "
                "function, a Projection, or None to switch it off"
            )
    return tuple(chosen.values())


def _renamed(name: str, channel: str) -> Projection:
    built_in = _built_in()
    if name not in built_in:
        raise InvalidConfigError(
            f"projections[{channel!r}] names {name!r}: the built-in ones are {', '.join(built_in)}"
        )
    projection = built_in[name]
    projection.channels = (channel,)
    return projection
