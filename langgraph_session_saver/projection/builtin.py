"""The built-in projections, which are on by channel name, and an application's changes to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter

from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.projection.plain_json import to_json
from langgraph_session_saver.projection.rules import (
    Columns,
    ErrorRows,
    GraphState,
    MessageRows,
    PageVersions,
    Projection,
    SessionColumns,
)
from langgraph_session_saver.projection.schemas import (
    AestheticScore,
    BuildInfo,
    BuildStatus,
    ModelUsage,
    RoutingMetadata,
)


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


def _read_model_usage(value: Any) -> Columns:
    return {f"model_{role}": model for role, model in _named_fields(ModelUsage, value).items()}


def _named_fields(model: type[BaseModel], value: Any) -> Columns:
    """The fields that a value sets; the others keep their values. None clears all."""
    if value is None:
        return dict.fromkeys(model.model_fields)
    found = model.model_validate(_cleaned(value), from_attributes=True)
    return dict(to_json(found.model_dump(exclude_unset=True)))


def _cleaned(value: Any) -> Any:
    """A mapping as plain JSON: Pydantic refuses text with lone surrogates."""
    return to_json(value) if isinstance(value, Mapping) else value


_TEXT: TypeAdapter[str | None] = TypeAdapter(str | None)


def _read_text(column: str, limit: int, value: Any) -> Columns:
    text = _TEXT.validate_python(to_json(value))
    if text is not None and len(text) > limit:
        raise ValueError(f"{len(text)} characters: at most {limit} fit")
    return {column: text}


def _read_title(value: Any) -> Columns:
    return {"title": _read_text("title", _TITLE_LENGTH, value)["title"] or "Untitled session"}


def _text(column: str, limit: int) -> SessionColumns:
    read = partial(_read_text, column, limit)
    return SessionColumns(column, read, expected=f"text of at most {limit} characters")


_TITLE_LENGTH = 512

_TEXT_LENGTHS = {
    "product_type": 50,
    "complexity": 20,
    "skill_id": 100,
    "doc_tier": 20,
    "style_reference_mode": 50,
}


def _built_in() -> dict[str, Projection]:
    """New objects for all built-in projections, by name."""
    columns = [
        SessionColumns(
            "title", _read_title, expected=f"text of at most {_TITLE_LENGTH} characters"
        ),
        SessionColumns(
            "routing", partial(_named_fields, RoutingMetadata), expected="RoutingMetadata"
        ),
        *(_text(column, limit) for column, limit in _TEXT_LENGTHS.items()),
        SessionColumns("model_usage", _read_model_usage, expected="ModelUsage"),
        SessionColumns(
            "build_status",
            _read_build_status,
            expected=f"a BuildInfo or one of {', '.join(BuildStatus)}",
        ),
        SessionColumns("build_artifacts", _read_build_artifacts, expected="a mapping or a model"),
        SessionColumns("aesthetic_scores", _read_aesthetic_scores, expected="an AestheticScore"),
    ]
    return {
        **{projection.channels[0]: projection for projection in columns},
        "messages": MessageRows(),
        "html": PageVersions(),
        "errors": ErrorRows(),
        "graph_state": GraphState(),
    }


@cache
def built_in_columns() -> Mapping[str, SessionColumns]:
    """The built-in projections to columns of a session, by name."""
    found = _built_in().items()
    return {name: rule for name, rule in found if isinstance(rule, SessionColumns)}


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
