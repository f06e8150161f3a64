"""Projections: rules that turn what a step changed into columns and rows. Pure.

A projection sees a step and says what should be stored; the saver stores it, in the step's own
transaction. The built-in ones are on by channel name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

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
    _cleaned,
    _text,
    _title,
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
