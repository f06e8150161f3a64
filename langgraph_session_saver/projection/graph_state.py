"""The column `sessions.graph_state`: a thread's values as one JSON object of bounded size.

Each channel is a member. A value that is too large becomes a reference to the channel's version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from langgraph_session_saver.projection.plain_json import clean_text, quick_json, to_json
from langgraph_session_saver.projection.rules import Step

GRAPH_STATE_BYTES = 16 << 10
"""Characters that the whole object may take."""

GRAPH_STATE_VALUE_BYTES = 2 << 10
"""Characters that one value may take before it becomes a reference."""

OMITTED = "$omitted"
"""The member that says how many channels did not fit."""

_REFERENCE = "$ref"

IN_CHECKPOINT = (f'"{_REFERENCE}": {{"channel": ', f'"{OMITTED}": ')
"""What the object's text contains where some of its values are only in the checkpoint."""

_DELTA = "$delta"
"""The value of a `DeltaChannel`, which LangGraph does not hand to a saver at every step."""


def member_of(step: Step, channel: str, size: float) -> str:
    """A channel as a member of the object, in JSON; its value takes `size` serialised bytes."""
    name = clean_text(channel)
    if channel in step.delta_channels:
        version = str(step.versions.get(channel))
        return _member(name, {_DELTA: {"channel": name, "version": version}})
    value = step.values[channel]
    if size <= GRAPH_STATE_VALUE_BYTES:
        text = quick_json(value, GRAPH_STATE_VALUE_BYTES)
        if text is not None:
            return f"{json.dumps(name)}: {text}"
    try:
        return _member(name, to_json(value, GRAPH_STATE_VALUE_BYTES))
    except (ValueError, RecursionError):  # over the budget, or an int too long for JSON
        return _reference(step, channel)


def assemble(members: Mapping[str, str], step: Step) -> str:
    """The object of all members; the largest become references, and the last ones are left out."""
    state = {channel: members[channel] for channel in sorted(members)}
    size = sum(map(len, state.values())) + 2 * len(state)
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
    """Whether a member's value is a reference."""
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
