"""What one step changes in the rows that it projects, worked out before a connection is taken.

What a process last projected of a thread is remembered (`View`), so that a step says only what is
new: the rows and bytes that it writes do not grow with the state.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Table

from langgraph_session_saver.codec import hash_key
from langgraph_session_saver.plain import OverBudgetError, clean_text, shorten, to_json
from langgraph_session_saver.projections import (
    GraphState,
    MessageRows,
    PageVersions,
    Problem,
    Projection,
    Step,
    problem_with,
)

GRAPH_STATE_BYTES = 16 << 10
"""What `sessions.graph_state` may hold in all."""

GRAPH_STATE_VALUE_BYTES = 2 << 10
"""What one channel's value may hold there before it becomes a reference."""

Pricing = Callable[[str, int, int], float]
"""From model, input tokens and output tokens to US dollars."""

Seen = tuple[str | None, int]
"""A message's role, None for one that gets no row, and a hash of its text."""


@dataclass(frozen=True, slots=True)
class View:
    """What this process knows to be projected of a thread."""

    checkpoint_id: str
    messages: Mapping[tuple[str, str], Seen]
    graph_parts: Mapping[str, Any]
    graph_state: str | None

    def weight(self) -> int:
        """Messages, roughly, that it takes the memory of."""
        return 16 + len(self.messages)


@dataclass(slots=True)
class Changes:
    """Everything that one step changes in projected rows."""

    checkpoint_id: str
    base: str | None
    """The newest projected checkpoint that these are changes of."""
    is_whole: bool
    """Whether they describe all of the state, whatever was projected before."""
    columns: dict[str, Any] = field(default_factory=dict)
    pages: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    removed_messages: list[bytes] = field(default_factory=list)
    compare_messages: bool = False
    """Whether `messages` are all there are, to be compared with the rows."""
    usage: list[dict[str, Any]] = field(default_factory=list)
    rows: list[tuple[Table, list[dict[str, Any]]]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    view: View | None = None


class Projector:
    """Applies projections to steps."""

    def __init__(
        self, projections: Sequence[Projection], pricing: Pricing | None, sessions: Table
    ) -> None:
        self.projections = tuple(projections)
        self._sessions = sessions
        self._pricing = pricing or _free
        self._messages = [p for p in projections if isinstance(p, MessageRows)]
        self._graph_state = next((p for p in projections if isinstance(p, GraphState)), None)
        shown_elsewhere = [p for p in projections if isinstance(p, MessageRows | PageVersions)]
        self._elsewhere = {channel for p in shown_elsewhere for channel in p.channels}

    def project(
        self, step: Step, parent_id: str | None, view: View | None, *, whole: bool = False
    ) -> Changes:
        """Work out what a step changes.

        Args:
            step: The step; with `whole`, all its channels count as changed.
            parent_id: The checkpoint it follows.
            view: What is projected already, if this process knows.
            whole: Whether rows may show another branch than the step's parent.
        """
        if whole or (view is not None and view.checkpoint_id != parent_id):
            view = None
        changes = Changes(step.checkpoint_id, base=parent_id, is_whole=whole)
        for projection in self.projections:
            if projection.applies(step):
                self._apply(projection, step, changes)
        messages = self._project_messages(step, view, changes)
        parts, state = self._project_graph_state(step, view, changes)
        changes.view = View(step.checkpoint_id, messages, parts, state)
        return changes

    def _apply(self, projection: Projection, step: Step, changes: Changes) -> None:
        channel = projection.channels[0] if projection.channels else ""
        try:
            if isinstance(projection, PageVersions):
                changes.pages += _pages(projection, step)
                return
            columns = {name: _storable(item) for name, item in projection.columns(step).items()}
            rows = [
                {name: clean_text(item) if isinstance(item, str) else item
                 for name, item in row.items()}
                for row in projection.rows(step)
            ]  # fmt: skip
            _refuse_misfits(self._sessions, columns)
            if projection.table is not None:
                for row in rows:
                    _refuse_misfits(projection.table, row)
        except Exception as exc:  # noqa: BLE001 - whatever a rule raises is the value's problem
            value = step.values.get(channel)
            changes.problems.append(problem_with(projection, channel, value, exc))
            return
        changes.columns |= columns
        if rows and projection.table is not None:
            changes.rows.append((projection.table, rows))

    # -- messages ---------------------------------------------------------------------------

    def _project_messages(
        self, step: Step, view: View | None, changes: Changes
    ) -> Mapping[tuple[str, str], Seen]:
        channels = {channel for p in self._messages for channel in p.channels}
        known = view.messages if view is not None else {}
        if view is not None and not channels & step.changed:
            return known
        found = [(p, _messages_in(p, step, changes)) for p in self._messages]
        if any(messages is None for _, messages in found):
            return known  # the rows stay as they are
        now: dict[tuple[str, str], Seen] = {}
        for projection, messages in found:
            for index, message in enumerate(messages or ()):
                name = str(_get(message, "id") or f"#{index}")
                key = (projection.channels[0], name)
                role, text = projection.roles.get(_kind(message)), _text_of(message)
                now[key] = (role, hash(text))
                if known.get(key) == now[key]:
                    continue
                if role is not None:
                    changes.messages.append(_message_row(key, role, text))
                if projection.usage and key not in known:
                    changes.usage += self._usage_rows(message, key, changes)
        changes.compare_messages = view is None and bool(self._messages)
        changes.removed_messages = [_message_key(key) for key in known if key not in now]
        return now

    def _usage_rows(
        self, message: Any, key: tuple[str, str], changes: Changes
    ) -> list[dict[str, Any]]:
        usage = _get(message, "usage_metadata")
        if not usage:
            return []
        about = _get(message, "response_metadata")
        named = _get(about, "model_name") or _get(about, "model")
        model = clean_text(str(named or "unknown"))
        try:
            tokens_in, tokens_out = int(usage["input_tokens"]), int(usage["output_tokens"])
        except (KeyError, TypeError, ValueError) as exc:
            expected = "usage_metadata with input_tokens and output_tokens"
            found = f"{type(exc).__name__}: {exc}"
            changes.problems.append(Problem(key[0], shorten(repr(usage), 200), expected, found))
            return []
        try:
            cost = float(self._pricing(model, tokens_in, tokens_out))
        except Exception as exc:  # noqa: BLE001 - an application's function
            cost = 0.0
            found = f"pricing raised {type(exc).__name__}: {exc}"
            changes.problems.append(Problem(key[0], repr(model), "a model with a price", found))
        return [
            {
                "row_key": _message_key(key),
                "agent_type": clean_text(str(_get(message, "name") or "unknown"))[:255],
                "model": model[:2048],
                "input_tokens": tokens_in,
                "output_tokens": tokens_out,
                "total_tokens": tokens_in + tokens_out,
                "cost_usd": cost,
            }
        ]

    # -- graph state ------------------------------------------------------------------------

    def _project_graph_state(
        self, step: Step, view: View | None, changes: Changes
    ) -> tuple[Mapping[str, Any], str | None]:
        rule = self._graph_state
        if rule is None:
            return {}, None
        known = view.graph_parts if view is not None else {}
        parts = {
            channel: known[channel]
            if channel in known and channel not in step.changed
            else _graph_part(step, channel)
            for channel in step.values
            if rule.shows(channel) and channel not in self._elsewhere
        }
        state = _within_limit(parts, step)
        text = json.dumps(state, sort_keys=True)
        if view is None or view.graph_state != text:
            changes.columns["graph_state"] = state
        return parts, text


def _storable(value: Any) -> Any:
    """A column's value without the characters that databases refuse."""
    return to_json(value) if isinstance(value, str | Mapping | list | tuple) else value


def _refuse_misfits(table: Table, values: Mapping[str, Any]) -> None:
    """Refuse, before anything is written, what the database would refuse in the transaction.

    Raises:
        ValueError: The table lacks a column, or a text is too long for it.
    """
    for name, value in values.items():
        column = table.c.get(name)
        if column is None:
            raise ValueError(f"table {table.name!r} has no column {name!r}")
        length = getattr(column.type, "length", None)
        if isinstance(value, str) and length is not None and len(value) > length:
            raise ValueError(f"column {name!r} takes {length} characters, not {len(value)}")


def _free(_model: str, _input: int, _output: int) -> float:
    return 0.0


def _reference(step: Step, channel: str) -> dict[str, Any]:
    return {"$ref": {"channel": clean_text(channel), "version": str(step.versions.get(channel))}}


def _graph_part(step: Step, channel: str) -> Any:
    try:
        return to_json(step.values[channel], GRAPH_STATE_VALUE_BYTES)
    except (OverBudgetError, RecursionError):
        return _reference(step, channel)


def _within_limit(parts: Mapping[str, Any], step: Step) -> dict[str, Any]:
    """All parts, the largest of them as references until they fit; then as many as fit."""
    sizes = {channel: len(json.dumps(part)) + len(channel) + 6 for channel, part in parts.items()}
    state = {clean_text(channel): part for channel, part in parts.items()}
    for channel in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if sum(sizes.values()) <= GRAPH_STATE_BYTES:
            return state
        reference = _reference(step, channel)
        size = len(json.dumps(reference)) + len(channel) + 6
        if size < sizes[channel]:
            state[clean_text(channel)], sizes[channel] = reference, size
    while sum(sizes.values()) > GRAPH_STATE_BYTES - 64:
        channel, _ = sizes.popitem()
        state.pop(clean_text(channel), None)
        state["$omitted"] = len(parts) - len(sizes)
    return state


def _pages(projection: PageVersions, step: Step) -> Iterable[dict[str, Any]]:
    channel = projection.channels[0]
    value = step.values[channel]
    if value is None:
        return []
    html, description = projection.page(value)
    return [
        {
            "row_key": hash_key("page", channel, str(step.versions.get(channel))),
            "html": clean_text(html),
            "description": None if description is None else clean_text(description),
            "checkpoint_id": step.checkpoint_id,
        }
    ]


def _messages_in(projection: MessageRows, step: Step, changes: Changes) -> Sequence[Any] | None:
    """The messages in a channel; None, and a problem, if it holds something else."""
    channel = projection.channels[0]
    value = step.values.get(channel) or ()
    if isinstance(value, list | tuple) and all(map(_kind, value)):
        return value
    if channel in step.changed:
        exc = ValueError("not a list of messages: something in it has no type or role")
        changes.problems.append(problem_with(projection, channel, value, exc))
    return None


def _get(message: Any, name: str) -> Any:
    return message.get(name) if isinstance(message, dict) else getattr(message, name, None)


_KINDS = {"user": "human", "assistant": "ai"}


def _kind(message: Any) -> str:
    """A message's type in LangChain's words: human, ai, system, tool and so on."""
    kind = str(_get(message, "type") or _get(message, "role") or "")
    return _KINDS.get(kind, kind)


def _text_of(message: Any) -> str:
    """The text of a message; of one in blocks, its text blocks."""
    content = _get(message, "content")
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list | tuple) else []
    return "".join(
        block if isinstance(block, str) else str(block.get("text", ""))
        for block in blocks
        if isinstance(block, str) or (isinstance(block, Mapping) and block.get("type") == "text")
    )


def _message_key(key: tuple[str, str]) -> bytes:
    return hash_key("message", *key)


def _message_row(key: tuple[str, str], role: str, text: str) -> dict[str, Any]:
    return {
        "row_key": _message_key(key),
        "message_id": clean_text(key[1]),
        "role": role,
        "content": clean_text(text),
        "removed_at": None,
    }
