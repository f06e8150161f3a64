"""Projections: rules that turn what a step changed into columns and rows. Pure.

A projection sees a step and returns what is to be stored; the saver stores it in the step's own
transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ValidationError
from sqlalchemy import Table, UpdateBase

from langgraph_session_saver.errors import InvalidConfigError, ProjectionError
from langgraph_session_saver.projection import schemas
from langgraph_session_saver.projection.plain_json import clean_text, field_names, shorten, to_json
from langgraph_session_saver.projection.reduce import is_overwrite, reduce_messages, reduce_writes
from langgraph_session_saver.redaction import SecretKeys
from langgraph_session_saver.schema.tables import UNTITLED

Columns = Mapping[str, Any]

Policy = Literal["record", "raise"]

FROM_STATE = frozenset(
    ("graph_state", "build_status", "build_artifacts", "aesthetic_scores",
     *schemas.RoutingMetadata.model_fields,
     *(f"model_{role}" for role in schemas.ModelUsage.model_fields))
)  # fmt: skip
"""Columns of a session that show its graph's state at its `checkpoint_id`."""


class Step(NamedTuple):
    """One saved super-step of a thread's root namespace, as projections see it."""

    session_id: str
    """The session that the call names, else the thread's id; rows get the stored session."""
    thread_id: str
    checkpoint_id: str
    time: datetime
    """When the checkpoint was made."""
    run_id: str | None
    metadata: Mapping[str, Any]
    values: Mapping[str, Any]
    """Every channel's value after the step; of `DeltaChannel`s, those that a projection reads."""
    changed: frozenset[str]
    """The channels that the step changed; one that it emptied is not in `values`."""
    versions: Mapping[str, Any]
    delta_channels: frozenset[str] = frozenset()
    """The graph's `DeltaChannel`s."""

    def changes(self, channel: str) -> bool:
        """Whether the step gave this channel a value."""
        return channel in self.changed and channel in self.values


class Projection:
    """A rule of your own. Override one or more of `rows`, `statements` and `columns`.

    Rows are upserted by the table's primary key and never deleted. Derive the key from what you
    project (a message id, or the thread and an index), so that a step that is saved twice changes
    nothing. If the table has a column `session_id` and a row lacks it, the saver adds it.
    """

    channels: Sequence[str] = ()
    """The projection runs when a step changes one of these channels; if empty, at every step."""

    table: Table | None = None
    """The table for `rows`, in the same database."""

    def rows(self, step: Step) -> Iterable[Mapping[str, Any]]:
        """The rows to upsert into `table`."""
        del step
        return ()

    def statements(self, step: Step) -> Iterable[UpdateBase]:
        """INSERT, UPDATE and DELETE statements on the application's tables, run after all rows.

        They may run twice, so the second time must change nothing more. Those of a checkpoint that
        is older than its thread's newest do not run.
        """
        del step
        return ()

    def columns(self, step: Step) -> Columns:
        """The columns of the session's row to set."""
        del step
        return {}

    def check(self, channel: str, value: Any) -> None:
        """Raise the exception that `columns` would raise if this were the channel's value."""
        del channel, value

    def reduce(self, channel: str, value: Any, writes: Sequence[Any]) -> Any:
        """A `DeltaChannel`'s value after a step's writes; the value is None if it has none yet.

        LangGraph does not tell a saver a channel's reducer. Override this if the channel's does
        something else than join lists, replace and remove messages by id, and unite mappings.
        """
        del channel
        return reduce_writes(value, writes)

    def applies(self, step: Step) -> bool:
        """Whether the projection runs for the step."""
        return not self.channels or any(step.changes(channel) for channel in self.channels)


class SessionColumns(Projection):
    """One channel's value as columns of its session's row.

    Args:
        channel: The channel.
        read: Turns its value into columns, or raises `ValueError`. `None` clears them.
        expected: What the value should be, for error messages.
        reduced: Whether the channel has a reducer. Its writes, which are not its value, are then
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
        """The columns of the channel's new value."""
        return self.read(step.values[self.channels[0]])

    def check(self, channel: str, value: Any) -> None:
        """Validate a write to the channel."""
        if not self._reduced and channel == self.channels[0]:
            self.read(value)


_ROLES = {"human": "user", "ai": "assistant"}


class MessageRows(Projection):
    """A channel of messages as `messages` rows, and their `usage_metadata` as `token_usage`.

    Args:
        channel: The channel.
        roles: The types of messages that get rows, and the role of each. By default all get rows:
            `human` is `user`, `ai` is `assistant`, and others keep their names.
        usage: Whether to write `token_usage` rows.
        subgraph_usage: Whether the messages in the subgraphs' channels of this name have
            `token_usage` rows, too: those of a sub-agent that returns only its last message.
        title: Whether a session's title is the first human message, shortened, until one is set.
    """

    def __init__(
        self,
        channel: str = "messages",
        *,
        roles: Mapping[str, str] | None = None,
        usage: bool = True,
        subgraph_usage: bool = False,
        title: bool = True,
    ) -> None:
        self.channels = (channel,)
        self.usage = usage
        self.subgraph_usage = subgraph_usage
        self.title = title
        self._roles = None if roles is None else dict(roles)

    def role_of(self, kind: str) -> str | None:
        """The role of a type of message; None if it gets no row."""
        if self._roles is not None:
            return self._roles.get(kind)
        return _ROLES.get(kind, kind)[:20]

    def reduce(self, channel: str, value: Any, writes: Sequence[Any]) -> Any:
        """A `DeltaChannel`'s messages after a step's writes."""
        del channel
        return reduce_messages(value, writes)


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
    """Errors of tasks, and values that do not validate, as `session_errors` rows."""

    channels = ("__error__",)


class GraphState(Projection):
    """The latest values as JSON in the column `sessions.graph_state`.

    Args:
        include: The channels to show; default all but LangGraph's own.
        exclude: Channels not to show.
    """

    def __init__(self, include: Iterable[str] | None = None, exclude: Iterable[str] = ()) -> None:
        self.include = None if include is None else frozenset(include)
        self.exclude = frozenset(exclude)

    def shows(self, channel: str) -> bool:
        """Whether the channel is shown."""
        if channel.startswith(("__", "branch:", "join:")) or channel in self.exclude:
            return False
        return self.include is None or channel in self.include


def is_snapshot(value: Any) -> bool:
    """Whether this is LangGraph's wrapper of a `DeltaChannel`'s value."""
    return type(value).__name__ == "_DeltaSnapshot"


def without_snapshot(value: Any) -> Any:
    """The value in LangGraph's wrapper of a `DeltaChannel`'s value, or the value itself."""
    return value.value if is_snapshot(value) else value


@dataclass(frozen=True, slots=True)
class Problem:
    """A value that a projection does not accept."""

    channel: str
    value: str
    expected: str
    found: str
    once: bool = False
    """Whether it is recorded once in a thread, and not at each step."""

    def __str__(self) -> str:
        return (
            f"channel {self.channel!r} holds {self.value}, which is not {self.expected}: "
            f"{self.found}"
        )


def problem_with(
    channel: str, value: Any, expected: str | Projection, exc: Exception, keys: SecretKeys
) -> Problem:
    """Describe a value without secrets, and the error of what does not accept it."""
    if isinstance(expected, Projection):
        kind = type(expected).__name__
        expected = getattr(expected, "expected", f"a value that {kind} accepts")
    found = f"{type(exc).__name__}: {exc}"
    if isinstance(exc, ValidationError):
        first = exc.errors(include_url=False, include_input=False)[0]
        found = f"{'.'.join(map(str, first['loc'])) or 'value'}: {first['msg']}"
    held = clean_text(shorten(keys.redacted(repr(value)), 200))
    found = clean_text(shorten(keys.redacted(found), 500))
    return Problem(channel, held, expected, found)


def check_writes(
    projections: Sequence[Projection], writes: Sequence[tuple[str, Any]], keys: SecretKeys
) -> None:
    """Validate writes before they are stored (policy "raise").

    Raises:
        ProjectionError: A write is not what its channel's projection accepts.
    """
    for channel, written in writes:
        for projection in projections:
            if channel in projection.channels:
                value = written.value if is_overwrite(written) else written
                try:
                    projection.check(channel, value)
                except Exception as exc:
                    problem = problem_with(channel, value, projection, exc, keys)
                    raise ProjectionError(
                        f"{problem}. The write was not stored: correct the node and run the "
                        "thread again"
                    ) from exc


# -- the built-in projections ----------------------------------------------------------------------


def _read_build_status(value: Any) -> Columns:
    if value is None:
        return {"build_status": schemas.BuildStatus.PENDING.value}
    if isinstance(value, str):
        return {"build_status": schemas.BuildStatus(value).value}
    info = schemas.BuildInfo.model_validate(_read_object(value))
    artifacts = info.model_dump(mode="json", exclude={"status"}, exclude_defaults=True)
    return {"build_status": info.status.value, "build_artifacts": to_json(artifacts)}


def _read_build_artifacts(value: Any) -> Columns:
    return {"build_artifacts": None if value is None else _read_object(value)}


def _read_aesthetic_scores(value: Any) -> Columns:
    """The object as it is; the older form gets its total."""
    if value is None:
        return {"aesthetic_scores": None}
    if isinstance(value, schemas.AestheticScore):
        value = value.model_dump(exclude_none=True)
    scores = _read_object(value)
    given = value.get("overall") if isinstance(value, Mapping) else getattr(value, "overall", None)
    if isinstance(given, int | float) and not 0 <= given <= 100:
        raise ValueError(f"overall is {given}: it is a number from 0 to 100")
    with suppress(ValidationError):
        total = schemas.AestheticScore.model_validate(scores).total
        if total is not None:
            scores.setdefault("total", total)
    return {"aesthetic_scores": scores}


def _read_object(value: Any) -> dict[str, Any]:
    """A mapping, a model or a dataclass as a JSON object."""
    if not isinstance(value, Mapping) and field_names(value) is None:
        raise ValueError(f"a {type(value).__name__}: neither a mapping nor a model")
    found: dict[str, Any] = to_json(value)
    return found


def _read_fields(model: type[BaseModel], value: Any, prefix: str = "") -> Columns:
    """The columns that a value sets; the others keep their values. None clears all."""
    if value is None:
        fields = dict.fromkeys(model.model_fields)
    else:
        found = model.model_validate(_cleaned(value), from_attributes=True)
        fields = to_json(found.model_dump(exclude_unset=True))
    return {f"{prefix}{name}": item for name, item in fields.items()}


def _cleaned(value: Any) -> Any:
    """A mapping as plain JSON: Pydantic refuses text with lone surrogates."""
    return to_json(value) if isinstance(value, Mapping) else value


def _read_routing_column(name: str, value: Any) -> Columns:
    routing = schemas.RoutingMetadata.model_validate({name: to_json(value)})
    return {name: getattr(routing, name)}


def _read_title(value: Any) -> Columns:
    title = "" if value is None else to_json(value)
    if not isinstance(title, str):
        raise ValueError(f"a {type(value).__name__}, not text")  # noqa: TRY004 - as of Pydantic
    if len(title) > _TITLE_LENGTH:
        raise ValueError(f"{len(title)} characters: at most {_TITLE_LENGTH} fit")
    return {"title": title or UNTITLED}


_TITLE_LENGTH = 512

BUILT_IN_COLUMNS: Mapping[str, tuple[Callable[[Any], Columns], str]] = {
    "title": (_read_title, f"text of at most {_TITLE_LENGTH} characters"),
    "routing": (partial(_read_fields, schemas.RoutingMetadata), "RoutingMetadata"),
    **{
        name: (partial(_read_routing_column, name), "text that fits")
        for name in schemas.RoutingMetadata.model_fields
    },
    "model_usage": (partial(_read_fields, schemas.ModelUsage, prefix="model_"), "ModelUsage"),
    "build_status": (_read_build_status, f"a BuildInfo or one of {', '.join(schemas.BuildStatus)}"),
    "build_artifacts": (_read_build_artifacts, "a mapping or a model"),
    "aesthetic_scores": (_read_aesthetic_scores, "a mapping or a model"),
}
"""Channels that are columns of a session: what reads the value, and what it should be."""


def _built_in() -> dict[str, Projection]:
    """New objects for all built-in projections, by name."""
    return {
        **{
            name: SessionColumns(name, read, expected=expected)
            for name, (read, expected) in BUILT_IN_COLUMNS.items()
        },
        "messages": MessageRows(),
        "html": PageVersions(),
        "errors": ErrorRows(),
        "graph_state": GraphState(),
    }


ProjectionOption = Mapping[str, "str | Callable[[Any], Columns] | Projection | None"]


def resolve_projections(option: ProjectionOption | Literal[False] | None) -> tuple[Projection, ...]:
    """The built-in projections with an application's changes.

    Args:
        option: By channel: the name of the built-in projection that is to read it, a function from
            its value to columns, None to switch off the built-in projection of that name, or a
            `Projection`, which has channels of its own. False is no projection at all.

    Raises:
        InvalidConfigError: There is no such built-in projection, or a value is none of these.
    """
    if option is False:
        return ()
    if option is not None and not isinstance(option, Mapping):
        raise InvalidConfigError(
            "projections maps channels to rules, for example {'chat': 'messages'}, or is False"
        )
    chosen = _built_in()
    for channel, rule in (option or {}).items():
        if rule is None:
            chosen.pop(channel, None)
        elif isinstance(rule, Projection):
            chosen[channel] = rule
        elif isinstance(rule, str):
            built_in = _built_in()
            if rule not in built_in:
                raise InvalidConfigError(
                    f"projections[{channel!r}] names {rule!r}: the built-in ones are "
                    f"{', '.join(built_in)}"
                )
            chosen[channel] = built_in[rule]
            chosen[channel].channels = (channel,)
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
