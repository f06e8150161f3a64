"""Validation of the columns of `sessions` that an application sets, as for a graph step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.projection.builtin import built_in_columns
from langgraph_session_saver.projection.plain_json import shorten
from langgraph_session_saver.sessions.records import SessionChanges
from langgraph_session_saver.validation import check_number, check_optional_id, check_text

LARGEST_INTEGER = (1 << 31) - 1
"""The largest number of an INTEGER column."""

_TEXT_LENGTHS = {"scope_type": 50, "status": 20}


def validated_columns(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Validate what an application sets, and convert it to columns.

    Raises:
        InvalidConfigError: A name is not a column that can be set, or a value is invalid.
    """
    unknown = sorted(changes.keys() - SessionChanges.__annotations__.keys())
    if unknown:
        raise InvalidConfigError(
            f"a session has no column {', '.join(map(repr, unknown))} to set: use one of "
            f"{', '.join(SessionChanges.__annotations__)}"
        )
    columns: dict[str, Any] = {}
    # In this order, a given `build_artifacts` overrides that of a `BuildInfo`.
    for name in SessionChanges.__annotations__:
        if name in changes:
            columns |= _validated(name, changes[name])
    return columns


def _validated(name: str, value: Any) -> dict[str, Any]:
    if name in {"owner_id", "scope_id"}:
        return {name: check_optional_id(name, value)}
    if name in _TEXT_LENGTHS:
        return {name: None if value is None else check_text(name, value, _TEXT_LENGTHS[name])}
    if name == "round_sequence":
        return {name: 0 if value is None else check_number(name, value, LARGEST_INTEGER)}
    if name.startswith("model_"):
        return projected_columns("model_usage", {name.removeprefix("model_"): value})
    return projected_columns(name, value)


def projected_columns(rule: str, value: Any) -> dict[str, Any]:
    """Convert a value to columns by a built-in projection's rule.

    Raises:
        InvalidConfigError: The value is invalid.
    """
    column = built_in_columns()[rule]
    try:
        return dict(column.read(value))
    except ValueError as exc:
        raise InvalidConfigError(
            f"{rule} is {shorten(repr(value), 200)}, which is not {column.expected}: {exc}"
        ) from exc
