"""What one step changes in projected rows, worked out before a connection is taken.

A process remembers what it last projected of a thread (`ProjectedState`), so that the rows and
bytes that a step writes do not grow with the state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Table, UpdateBase

from langgraph_session_saver.encoding.keys import hash_key
from langgraph_session_saver.projection import graph_state, rules
from langgraph_session_saver.projection.content import kind_of, text_of
from langgraph_session_saver.projection.plain_json import clean_text, title_of, to_json
from langgraph_session_saver.projection.pricing import Pricing
from langgraph_session_saver.projection.reduce import reduce_writes
from langgraph_session_saver.projection.transcript import (
    Entry,
    Parent,
    Shown,
    appended,
    brought,
    differences,
    read,
)
from langgraph_session_saver.projection.usage import UsageRows
from langgraph_session_saver.redaction import SecretKeys
from langgraph_session_saver.schema.column_types import JsonText


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
    messages: dict[bytes, Shown]
    message_blobs: Mapping[str, bytes]
    """For each channel of messages, the blob that they were read from."""
    members: Mapping[str, str]
    """For each channel in `graph_state`, its member of that object, in JSON."""
    graph_state: str | None
    not_messages: frozenset[str] = frozenset()
    """The channels of messages that hold something else, for which a problem was recorded."""

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
    all_messages: list[list[Entry]] | None = None
    """All messages of each channel, if they have to be compared with the stored rows."""
    brought: list[Entry] = field(default_factory=list)
    """The messages that the step's parent does not have."""
    usage: list[dict[str, Any]] = field(default_factory=list)
    rows: list[tuple[Table, list[dict[str, Any]]]] = field(default_factory=list)
    statements: list[UpdateBase] = field(default_factory=list)
    problems: list[rules.Problem] = field(default_factory=list)
    state: ProjectedState | None = None
    """What the rows show after the step."""

    def note_messages(self, shown: dict[bytes, Shown]) -> None:
        """Note what the rows of messages show after the step."""
        if self.state is not None:
            self.state = self.state._replace(messages=shown)

    @property
    def only_adds(self) -> bool:
        """Whether these are columns, messages and usage, which are stored without a read.

        If `all_messages` are set, that holds for a thread without messages.
        """
        others = (self.removed_messages, self.pages, self.rows, self.statements, self.problems)
        return not (self.is_whole or any(others))


_NOTHING = ProjectedState("", {}, {}, {}, None)
"""What the rows show as far as is known, where it is unknown."""

_NO_PARENT = Parent()

_SHARED = (rules.MessageRows, rules.GraphState, rules.ErrorRows)
"""Projections without `columns` and `rows`: all of one kind are projected together."""


_PURE_REDUCERS = (rules.Projection.reduce, rules.MessageRows.reduce)
"""Reducers that leave a value as it was; an application's may change it."""


class Projector:
    """Applies projections to steps."""

    def __init__(
        self,
        projections: Sequence[rules.Projection],
        pricing: Pricing | None,
        sessions: Table,
        keys: SecretKeys,
    ) -> None:
        self.projections = tuple(projections)
        self._sessions = sessions
        self._keys = keys
        self._usage = UsageRows(pricing, keys)
        self._rules = [p for p in projections if type(p) not in _SHARED]
        self._messages = [p for p in projections if isinstance(p, rules.MessageRows)]
        self.message_channels = frozenset(c for p in self._messages for c in p.channels)
        self.subgraph_channels = frozenset(
            c for p in self._messages for c in p.channels if p.subgraph_usage
        )
        readers = [*self._messages, *self._rules]
        self._readers = {c: p for p in reversed(readers) for c in p.channels}
        self._reads_all = next((p for p in self._rules if not p.channels), None)
        self._graph_state = next((p for p in projections if isinstance(p, rules.GraphState)), None)
        with_rows = (rules.MessageRows, rules.PageVersions)
        self._shown_as_rows = {
            c for p in projections if isinstance(p, with_rows) for c in p.channels
        }

    def reads(self, channel: str, *, is_root: bool = True) -> bool:
        """Whether a projection is given a channel's value; not one that shows the whole state."""
        if not is_root:
            return channel in self.subgraph_channels
        return self._rule_for(channel) is not None

    def reduce(self, channel: str, value: Any, writes: Sequence[Any]) -> Any:
        """A `DeltaChannel`'s value after writes, as the projection that reads it says."""
        rule = self._rule_for(channel)
        if rule is None:
            return reduce_writes(value, writes)
        if type(rule).reduce not in _PURE_REDUCERS:
            value = copy(value)
        return rule.reduce(channel, value, writes)

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
        parents: Mapping[str, Parent] | None = None,
    ) -> Changes:
        """Work out what a step changes.

        Args:
            step: The step; with `whole`, all its channels count as changed.
            parent_id: The checkpoint that the step follows.
            before: What the rows show before the step, if this process knows.
            whole: Whether the rows may show another branch than the step's parent.
            sizes: The serialised bytes of channels' values, where they are known.
            prefixes: For channels of messages, what is known to be unchanged in front.
            parents: The messages of the step's parent, by channel.
        """
        if whole or before is None or before.checkpoint_id != parent_id:
            before = _NOTHING
        changes = Changes(step.checkpoint_id, step.time, base=parent_id, is_whole=whole)
        self._apply_rules(step, changes)
        prefixes = prefixes or {}
        blobs = {**before.message_blobs, **{name: prefixes[name].key for name in prefixes}}
        messages, odd = self._project_messages(step, before, changes, prefixes, parents or {})
        changes.first_title = self._first_title(step, changes)
        members, state = self._project_graph_state(step, before, changes, sizes or {})
        changes.state = ProjectedState(step.checkpoint_id, messages, blobs, members, state, odd)
        return changes

    def project_usage(self, step: rules.Step, parents: Mapping[str, Parent]) -> Changes:
        """The usage of a subgraph's step, for those projections that count it."""
        changes = Changes(step.checkpoint_id, step.time, base=None, is_whole=False)
        for rule in self._messages:
            if rule.subgraph_usage and step.changes(rule.channels[0]):
                parent = parents.get(rule.channels[0], _NO_PARENT)
                messages = _messages_in(rule, step, parent.shared) or ()
                entries = read(rule, messages, step.time, start=parent.shared)
                self._add_brought(rule, entries, parent.shared, parent, changes)
        return changes

    def show_all_columns(self, step: rules.Step, changes: Changes) -> None:
        """Add what the session shows of channels that the step did not change.

        The rows may show what another thread or the application has set. All channels of `step`
        count as changed.
        """
        shown = Changes(step.checkpoint_id, step.time, base=None, is_whole=True)
        self._apply_rules(step, shown)
        if changes.state is not None and changes.state.graph_state is not None:
            shown.columns["graph_state"] = JsonText(changes.state.graph_state)
        columns = {name: value for name, value in shown.columns.items() if name in rules.FROM_STATE}
        changes.columns = columns | changes.columns
        changes.first_title = self._title_of(step)

    def _apply_rules(self, step: rules.Step, changes: Changes) -> None:
        for projection in self._rules:
            channels = projection.channels
            if (not channels or not step.changed.isdisjoint(channels)) and projection.applies(step):
                self._apply(projection, step, changes)

    def _apply(self, projection: rules.Projection, step: rules.Step, changes: Changes) -> None:
        """Add what one projection changes, or the problem with its value."""
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
            statements = list(projection.statements(step))
            _check_statements(statements)
            _check_fit(self._sessions, columns)
            if projection.table is not None:
                for row in rows:
                    _check_fit(projection.table, row)
        except Exception as exc:  # noqa: BLE001 - an application's rule may raise anything
            channel = projection.channels[0] if projection.channels else ""
            value = step.values.get(channel)
            problem = rules.problem_with(channel, value, projection, exc, self._keys)
            changes.problems.append(problem)
            return
        changes.columns |= columns
        if rows and projection.table is not None:
            changes.rows.append((projection.table, rows))
        changes.statements += statements

    # -- messages ---------------------------------------------------------------------------

    def _project_messages(
        self,
        step: rules.Step,
        before: ProjectedState,
        changes: Changes,
        prefixes: Mapping[str, SharedPrefix],
        parents: Mapping[str, Parent],
    ) -> tuple[dict[bytes, Shown], frozenset[str]]:
        """Add the messages that changed, those that are gone, and the usage of new ones.

        Returns:
            What the rows show then, and the channels that hold something else than messages.
        """
        if before is not _NOTHING and self.message_channels.isdisjoint(step.changed):
            return before.messages, before.not_messages
        unchanged = self._unchanged_in_front(before, prefixes)
        channels: list[list[Entry]] = []
        for rule in self._messages:
            (channel,) = rule.channels
            parent = parents.get(channel, _NO_PARENT)
            start = min(unchanged, parent.shared)
            messages = _messages_in(rule, step, start)
            if messages is None:
                if channel in step.changed and channel not in before.not_messages:
                    changes.problems.append(_no_messages(step, channel, self._keys))
                # The rows stay as they are.
                return before.messages, before.not_messages | {channel}
            taken = before.messages if start else ()
            entries = read(rule, messages, step.time, start=start, taken=taken)
            self._add_brought(rule, entries, start, parent, changes)
            channels.append(entries[unchanged - start :])
        if unchanged:
            found = appended(channels[0], before.messages, step.time)
        else:
            found = differences(channels, before.messages, step.time)
        changes.messages, changes.removed_messages = found.rows, found.removed
        if before is _NOTHING and self._messages:
            changes.all_messages = channels
        return found.shown, before.not_messages

    def _add_brought(
        self,
        rule: rules.MessageRows,
        entries: Sequence[Entry],
        start: int,
        parent: Parent,
        changes: Changes,
    ) -> None:
        """Add the messages that a step's parent does not have, and their usage."""
        found = brought(rule, entries, start, parent, changes.time)
        changes.brought += found.entries
        for key, entry in found.calls:
            usage, problem = self._usage.row(entry.message, rule.channels[0], changes.time)
            if usage is not None:
                changes.usage.append({"row_key": key, **usage})
            changes.problems += [problem] if problem else []

    def _first_title(self, step: rules.Step, changes: Changes) -> str | None:
        """The title that the first human message makes; None if the step brings no such message."""
        rows = [p for p in self._messages if p.title]
        roles = {projection.role_of("human") for projection in rows}
        if roles.isdisjoint(row["role"] for row in changes.messages):
            return None
        return self._title_of(step)

    def _title_of(self, step: rules.Step) -> str | None:
        """The title that the first human message of a state makes."""
        rows = [p for p in self._messages if p.title]
        messages = (one for p in rows for one in step.values.get(p.channels[0]) or ())
        titles = (title_of(text_of(one)) for one in messages if kind_of(one) == "human")
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


def _check_statements(statements: Sequence[Any]) -> None:
    """Refuse, before the transaction, what changes no rows."""
    for statement in statements:
        if not isinstance(statement, UpdateBase):
            raise TypeError(
                f"statements() gave a {type(statement).__name__}: give SQLAlchemy's insert(), "
                "update() and delete()"
            )


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


def _no_messages(step: rules.Step, channel: str, keys: SecretKeys) -> rules.Problem:
    """The problem, recorded once, with a channel that holds something else than messages."""
    exc, value = ValueError("something in it has no type or role"), step.values.get(channel)
    problem = rules.problem_with(channel, value, "a list of messages", exc, keys)
    return replace(problem, once=True)


def _messages_in(
    projection: rules.MessageRows, step: rules.Step, start: int
) -> Sequence[Any] | None:
    """The messages of a channel from an index on; None for any other value."""
    value = step.values.get(projection.channels[0]) or ()
    if isinstance(value, list | tuple) and all(map(kind_of, value[start:])):
        return value[start:]
    return None
