"""What an application sets by hand, checked as a step's values are. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.projection.builtin import built_in_columns
from langgraph_session_saver.projection.plain_json import shorten
from langgraph_session_saver.sessions.records import SessionChanges
from langgraph_session_saver.validation import check_optional_id, check_text

_LONGEST = {"scope_type": 50, "status": 20}
_LARGEST_NUMBER = (1 << 31) - 1


def columns_of(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of `sessions` for what an application sets.

    Raises:
        InvalidConfigError: A name is no such column, or a value is not what its column takes.
    """
    unknown = sorted(changes.keys() - SessionChanges.__annotations__.keys())
    if unknown:
        raise InvalidConfigError(
            f"a session has no column {', '.join(map(repr, unknown))} to set: use one of "
            f"{', '.join(SessionChanges.__annotations__)}"
        )
    found: dict[str, Any] = {}
    for name in SessionChanges.__annotations__:  # in this order: artifacts override a build's own
        if name in changes:
            found |= _columns(name, changes[name])
    return found


def _columns(name: str, value: Any) -> dict[str, Any]:
    if name in {"owner_id", "scope_id"}:
        return {name: check_optional_id(name, value)}
    if name in _LONGEST:
        return {name: None if value is None else check_text(name, value, _LONGEST[name])}
    if name == "round_sequence":
        return {name: _number(name, value)}
    if name.startswith("model_"):
        return read("model_usage", {name.removeprefix("model_"): value})
    return read(name, value)


def read(rule: str, value: Any) -> dict[str, Any]:
    """The columns of a value, by the built-in projection's rule.

    Raises:
        InvalidConfigError: The value does not validate.
    """
    column = built_in_columns()[rule]
    try:
        return dict(column.read(value))
    except ValueError as exc:
        raise InvalidConfigError(
            f"{rule} is {shorten(repr(value), 200)}, which is not {column.expected}: {exc}"
        ) from exc


def _number(name: str, value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST_NUMBER:
        raise InvalidConfigError(f"{name} is {value!r:.80}: pass a whole number from 0 on")
    return value
