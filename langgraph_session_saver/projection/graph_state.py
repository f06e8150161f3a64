"""`sessions.graph_state`: what a thread's channels hold, as one JSON object of bounded size.

Each channel is a member of it; the largest become references to where their values are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from langgraph_session_saver.encoding.serde import is_small
from langgraph_session_saver.projection.plain_json import (
    OverBudgetError,
    clean_text,
    quick_json,
    to_json,
)
from langgraph_session_saver.projection.rules import Step

GRAPH_STATE_BYTES = 16 << 10
"""What `sessions.graph_state` may hold in all."""

GRAPH_STATE_VALUE_BYTES = 2 << 10
"""What one channel's value may hold there before it becomes a reference."""

LARGEST_SHOWN = 16 * GRAPH_STATE_VALUE_BYTES
"""Serialised bytes from which a value becomes a reference unseen: it would at its first 2 KB."""

_REFERENCE = "$ref"

OMITTED = "$omitted"
"""Under this name `graph_state` holds how many channels did not fit."""


def part_of(step: Step, channel: str, size: int | None) -> str:
    """A channel as a member of `graph_state`.

    Args:
        step: The step.
        channel: The channel.
        size: Its value's serialised bytes, if they are known: they bound what C may be given.
    """
    value = step.values[channel]
    if size is not None and size > LARGEST_SHOWN:
        return _reference(step, channel)
    if size is not None or is_small(value):
        text = quick_json(value, GRAPH_STATE_VALUE_BYTES)
        if text is not None:
            return f"{_quoted(channel)}: {text}"
    try:
        value = to_json(value, GRAPH_STATE_VALUE_BYTES)
    except (OverBudgetError, RecursionError):
        return _reference(step, channel)
    return _member(clean_text(channel), value)


def within_limit(parts: Mapping[str, str], step: Step) -> str:
    """All parts, the largest of them as references until they fit; then as many as fit."""
    state = {channel: parts[channel] for channel in sorted(parts)}
    size = sum(map(len, state.values())) + 2 * len(state)
    if size <= GRAPH_STATE_BYTES:
        return f"{{{', '.join(state.values())}}}"
    for channel in sorted(state, key=lambda name: len(state[name]), reverse=True):
        if size <= GRAPH_STATE_BYTES:
            break
        reference = _reference(step, channel)
        if len(reference) < len(state[channel]):
            size += len(reference) - len(state[channel])
            state[channel] = reference
    if size > GRAPH_STATE_BYTES:
        state = _as_many_as_fit(state)
    return f"{{{', '.join(state.values())}}}"


def is_reference(value: Any) -> bool:
    """Whether a value of `graph_state` only refers to a channel's value."""
    if not isinstance(value, dict) or value.keys() != {_REFERENCE}:
        return False
    refers_to = value[_REFERENCE]
    return isinstance(refers_to, dict) and refers_to.keys() == {"channel", "version"}


def _as_many_as_fit(members: Mapping[str, str]) -> dict[str, str]:
    fitting: dict[str, str] = {}
    left = GRAPH_STATE_BYTES - 64
    for channel, member in members.items():
        left -= len(member) + 2
        if left < 0:
            break
        fitting[channel] = member
    omitted = len(members) - len(fitting)
    return {**fitting, OMITTED: _member(OMITTED, omitted)}


def _reference(step: Step, channel: str) -> str:
    name, version = clean_text(channel), str(step.versions.get(channel))
    return _member(name, {_REFERENCE: {"channel": name, "version": version}})


def _member(name: str, value: Any) -> str:
    return f"{json.dumps(name)}: {json.dumps(value)}"


@lru_cache(maxsize=1_024)
def _quoted(channel: str) -> str:
    return json.dumps(clean_text(channel))
