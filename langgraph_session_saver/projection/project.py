"""What one step changes in projected rows, worked out before a connection is taken.

A process remembers what it last projected of a thread (`ProjectedState`), so that the rows and
bytes that a step writes do not grow with the state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Table

from langgraph_session_saver.encoding.keys import hash_key
from langgraph_session_saver.projection import graph_state, rules
from langgraph_session_saver.projection.plain_json import clean_text, title_of, to_json
from langgraph_session_saver.projection.pricing import Pricing
from langgraph_session_saver.projection.reduce import reduce_writes
from langgraph_session_saver.projection.usage import UsageRows, field_of
from langgraph_session_saver.schema.column_types import JsonText

MessageKey = tuple[str, str]
"""A channel of messages, and a message's id, or `#` and its index if it has none."""

SeenMessage = tuple[str | None, int]
"""A message's role (None for one that gets no row) and a hash of its text."""


class SharedPrefix(NamedTuple):
    """How many items a channel's list has in common with the front of an earlier list."""

    key: bytes
    """The blob of the list."""
    base: bytes | None
    """The blob of the earlier list."""
    items: int


class ProjectedState(NamedTuple):
    """What the projected rows of a thread show, as this process knows it."""

    checkpoint_id: str
    messages: Mapping[MessageKey, SeenMessage]
    message_blobs: Mapping[str, bytes]
    """For each channel of messages, the blob that they were read from."""
    members: Mapping[str, str]
    """For each channel in `graph_state`, its member of that object, in JSON."""
    graph_state: str | None

    def weight(self) -> int:
        """Memory that it takes, roughly, in messages."""
        return 16 + len(self.messages)


@dataclass(slots=True)
class Changes:
    """Everything that one step changes in projected rows."""

    checkpoint_id: str
    time: datetime
    """When the checkpoint was made: the time of new rows."""
    base: str | None
    """The checkpoint that the rows show before the step."""
    is_whole: bool
    """Whether these describe the whole state, whatever the rows show before."""
    columns: dict[str, Any] = field(default_factory=dict)
    first_title: str | None = None
    """The session's title, unless one is set."""
    pages: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    removed_messages: list[bytes] = field(default_factory=list)
    compare_messages: bool = False
    """Whether `messages` are all of the thread's, to be compared with the stored rows."""
    usage: list[dict[str, Any]] = field(default_factory=list)
    rows: list[tuple[Table, list[dict[str, Any]]]] = field(default_factory=list)
    problems: list[rules.Problem] = field(default_factory=list)
    state: ProjectedState | None = None
    """What the rows show after the step."""

    @property
    def only_adds(self) -> bool:
        """Whether these are columns, messages and usage, which are stored without a read.

        If `compare_messages` is set, that holds for a thread without messages.
        """
        return not (
            self.is_whole or self.removed_messages or self.pages or self.rows or self.problems
        )


_NOTHING = ProjectedState("", {}, {}, {}, None)
"""What the rows show as far as is known, where it is unknown."""

_SHARED = (rules.MessageRows, rules.GraphState, rules.ErrorRows)
"""Projections without `columns` and `rows`: all of one kind are projected together."""


class Projector:
    """Applies projections to steps."""

    def __init__(
        self, projections: Sequence[rules.Projection], pricing: Pricing | None, sessions: Table
    ) -> None:
        self.projections = tuple(projections)
        self._sessions = sessions
        self._usage = UsageRows(pricing)
        self._rules = [p for p in projections if type(p) not in _SHARED]
        self._messages = [p for p in projections if isinstance(p, rules.MessageRows)]
        self.message_channels = frozenset(c for p in self._messages for c in p.channels)
        readers = [*self._messages, *self._rules]
        self._readers = {c: p for p in reversed(readers) for c in p.channels}
        self._reads_all = next((p for p in self._rules if not p.channels), None)
        self._graph_state = next((p for p in projections if isinstance(p, rules.GraphState)), None)
        with_rows = (rules.MessageRows, rules.PageVersions)
        self._shown_as_rows = {
            c for p in projections if isinstance(p, with_rows) for c in p.channels
        }

    def reads(self, channel: str) -> bool:
        """Whether a projection is given a channel's value; not one that shows the whole state."""
        return self._rule_for(channel) is not None

    def reduce(self, channel: str, value: Any, writes: Sequence[Any]) -> Any:
        """A `DeltaChannel`'s value after writes, as the projection that reads it says."""
        rule = self._rule_for(channel)
        if rule is None or type(rule).reduce is rules.Projection.reduce:
            return reduce_writes(value, writes)
        return rule.reduce(channel, copy(value), writes)

    def _rule_for(self, channel: str) -> rules.Projection | None:
        """The projection that names a channel, or one that runs at every step."""
        return self._readers.get(channel) or self._reads_all

    def project(
        self,
        step: rules.Step,
        parent_id: str | None,
        before: ProjectedState | None,
        *,
        whole: bool = False,
        sizes: Mapping[str, int] | None = None,
        prefixes: Mapping[str, SharedPrefix] | None = None,
    ) -> Changes:
        """Work out what a step changes.

        Args:
            step: The step; with `whole`, all its channels count as changed.
            parent_id: The checkpoint that the step follows.
            before: What the rows show before the step, if this process knows.
            whole: Whether the rows may show another branch than the step's parent.
            sizes: The serialised bytes of channels' values, where they are known.
            prefixes: For channels of messages, what is known to be unchanged in front.
        """
        if whole or before is None or before.checkpoint_id != parent_id:
            before = _NOTHING
        changes = Changes(step.checkpoint_id, step.time, base=parent_id, is_whole=whole)
        self._apply_rules(step, changes)
        prefixes = prefixes or {}
        messages = self._project_messages(step, before, changes, prefixes)
        changes.first_title = self._first_title(step, changes)
        blobs = {**before.message_blobs, **{name: prefixes[name].key for name in prefixes}}
        members, state = self._project_graph_state(step, before, changes, sizes or {})
        changes.state = ProjectedState(step.checkpoint_id, messages, blobs, members, state)
        return changes

    def show_all_columns(self, step: rules.Step, changes: Changes) -> None:
        """Add the columns of the channels that the step did not change: others were set by hand.

        All channels of `step` count as changed.
        """
        shown = Changes(step.checkpoint_id, step.time, base=None, is_whole=True)
        self._apply_rules(step, shown)
        if changes.state is not None and changes.state.graph_state is not None:
            shown.columns["graph_state"] = JsonText(changes.state.graph_state)
        columns = {name: value for name, value in shown.columns.items() if name in rules.FROM_STATE}
        changes.columns = columns | changes.columns

    def _apply_rules(self, step: rules.Step, changes: Changes) -> None:
        for projection in self._rules:
            channels = projection.channels
            if (not channels or not step.changed.isdisjoint(channels)) and projection.applies(step):
                self._apply(projection, step, changes)

    def _apply(self, projection: rules.Projection, step: rules.Step, changes: Changes) -> None:
        """Add the columns, rows and pages of one projection, or the problem with its value."""
        try:
            if isinstance(projection, rules.PageVersions):
                changes.pages += _pages(projection, step)
                return
            columns = {name: _storable(item) for name, item in projection.columns(step).items()}
            rows = [
                {name: clean_text(item) if isinstance(item, str) else item
                 for name, item in row.items()}
                for row in projection.rows(step)
            ]  # fmt: skip
            _check_fit(self._sessions, columns)
            if projection.table is not None:
                for row in rows:
                    _check_fit(projection.table, row)
        except Exception as exc:  # noqa: BLE001 - an application's rule may raise anything
            channel = projection.channels[0] if projection.channels else ""
            value = step.values.get(channel)
            changes.problems.append(rules.problem_with(channel, value, projection, exc))
            return
        changes.columns |= columns
        if rows and projection.table is not None:
            changes.rows.append((projection.table, rows))

    # -- messages ---------------------------------------------------------------------------

    def _project_messages(
        self,
        step: rules.Step,
        before: ProjectedState,
        changes: Changes,
        prefixes: Mapping[str, SharedPrefix],
    ) -> Mapping[MessageKey, SeenMessage]:
        """Add the messages and the usage that are new; returns all messages after the step."""
        known = before.messages
        if before is not _NOTHING and self.message_channels.isdisjoint(step.changed):
            return known
        unchanged = self._unchanged_in_front(before, prefixes)
        found = [(p, _messages_in(p, step, changes, unchanged)) for p in self._messages]
        if any(messages is None for _, messages in found):
            return known  # a problem is recorded, and the rows stay as they are
        now: dict[MessageKey, SeenMessage] = dict(known) if unchanged else {}
        for projection, messages in found:
            for index, message in enumerate(messages or (), start=unchanged):
                name = str(field_of(message, "id") or f"#{index}")
                key = (projection.channels[0], name)
                role, text = projection.roles.get(_kind(message)), _text_of(message)
                now[key] = (role, hash(text))
                if known.get(key) == now[key]:
                    continue
                if role is not None:
                    row = {
                        "row_key": _message_key(key),
                        "message_id": clean_text(name),
                        "role": role,
                        "content": clean_text(text),
                        "timestamp": step.time,
                        "removed_at": None,
                    }
                    changes.messages.append(row)
                if projection.usage and key not in known:
                    usage, problem = self._usage.row(message, key[0], step.time)
                    if usage is not None:
                        changes.usage.append({"row_key": _message_key(key), **usage})
                    changes.problems += [problem] if problem else []
        changes.compare_messages = before is _NOTHING and bool(self._messages)
        if not unchanged:
            changes.removed_messages = [_message_key(key) for key in known if key not in now]
        return now

    def _first_title(self, step: rules.Step, changes: Changes) -> str | None:
        """The title that the first human message makes; None if the step brings no such message."""
        rows = [p for p in self._messages if p.title]
        roles = {projection.roles.get("human") for projection in rows}
        if roles.isdisjoint(row["role"] for row in changes.messages):
            return None
        messages = (one for p in rows for one in step.values.get(p.channels[0]) or ())
        titles = (title_of(_text_of(one)) for one in messages if _kind(one) == "human")
        return next(filter(None, titles), None)

    def _unchanged_in_front(
        self, before: ProjectedState, prefixes: Mapping[str, SharedPrefix]
    ) -> int:
        """How many messages in front are as projected; 0 with several channels of messages."""
        if len(self.message_channels) != 1:
            return 0
        (channel,) = self.message_channels
        prefix = prefixes.get(channel)
        if prefix is None or before.message_blobs.get(channel) != prefix.base:
            return 0
        return prefix.items

    # -- graph state ------------------------------------------------------------------------

    def shows(self, channel: str) -> bool:
        """Whether a channel is a member of `graph_state`."""
        rule = self._graph_state
        return rule is not None and rule.shows(channel) and channel not in self._shown_as_rows

    def _project_graph_state(
        self,
        step: rules.Step,
        before: ProjectedState,
        changes: Changes,
        sizes: Mapping[str, int],
    ) -> tuple[Mapping[str, str], str | None]:
        """Set `graph_state` if the step changes it; returns its members, and the whole in JSON."""
        if self._graph_state is None:
            return {}, None
        known = before.members
        members = {
            channel: known[channel]
            if channel in known and channel not in step.changed
            else graph_state.member_of(step, channel, sizes.get(channel, math.inf))
            for channel in step.values.keys() | (step.delta_channels & step.versions.keys())
            if self.shows(channel)
        }
        state = graph_state.assemble(members, step)
        if before.graph_state != state:
            changes.columns["graph_state"] = JsonText(state)
        return members, state


def _storable(value: Any) -> Any:
    """A column's value without characters that databases refuse."""
    return to_json(value) if isinstance(value, str | Mapping | list | tuple) else value


def _check_fit(table: Table, values: Mapping[str, Any]) -> None:
    """Refuse, before the transaction, columns that the table lacks and text that is too long."""
    for name, value in values.items():
        column = table.c.get(name)
        if column is None:
            raise ValueError(f"table {table.name!r} has no column {name!r}")
        length = getattr(column.type, "length", None)
        if isinstance(value, str) and length is not None and len(value) > length:
            raise ValueError(f"column {name!r} takes {length} characters, not {len(value)}")


def _pages(projection: rules.PageVersions, step: rules.Step) -> list[dict[str, Any]]:
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
            "created_at": step.time,
        }
    ]


def _messages_in(
    projection: rules.MessageRows, step: rules.Step, changes: Changes, start: int
) -> Sequence[Any] | None:
    """The messages of a channel from an index on; None, and a problem, for any other value."""
    channel = projection.channels[0]
    value = step.values.get(channel) or ()
    if isinstance(value, list | tuple) and all(map(_kind, value[start:])):
        return value[start:]
    if channel in step.changed:
        exc = ValueError("something in it has no type or role")
        changes.problems.append(rules.problem_with(channel, value, "a list of messages", exc))
    return None


_KINDS = {"user": "human", "assistant": "ai"}


def _kind(message: Any) -> str:
    """A message's type in LangChain's words: human, ai, system, tool and so on."""
    kind = str(field_of(message, "type") or field_of(message, "role") or "")
    return _KINDS.get(kind, kind)


def _text_of(message: Any) -> str:
    """The text of a message; of one in blocks, its text blocks."""
    content = field_of(message, "content")
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list | tuple) else []
    return "".join(
        block if isinstance(block, str) else str(block.get("text", ""))
        for block in blocks
        if isinstance(block, str) or (isinstance(block, Mapping) and block.get("type") == "text")
    )


def _message_key(key: MessageKey) -> bytes:
    return hash_key("message", *key)
