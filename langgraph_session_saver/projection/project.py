"""What one step changes in the rows that it projects, worked out before a connection is taken.

What a process last projected of a thread is remembered (`View`), so that a step says only what is
new: the rows and bytes that it writes do not grow with the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Table

from langgraph_session_saver.encoding.caches import LRUCache
from langgraph_session_saver.encoding.keys import hash_key
from langgraph_session_saver.projection import graph_state
from langgraph_session_saver.projection.plain_json import clean_text, shorten, to_json
from langgraph_session_saver.projection.rules import (
    FROM_STATE,
    ErrorRows,
    GraphState,
    MessageRows,
    PageVersions,
    Problem,
    Projection,
    Step,
    problem_with,
)
from langgraph_session_saver.schema.column_types import JsonText, utc_now

Pricing = Callable[[str, int, int], float]
"""From model, input tokens and output tokens to US dollars."""

Seen = tuple[str | None, int]
"""A message's role, None for one that gets no row, and a hash of its text."""


class Kept(NamedTuple):
    """How much of a channel's list is that of an earlier one."""

    key: bytes
    """The blob that holds the list."""
    base: bytes | None
    """The blob that it was compared with."""
    items: int
    """Items in front that are all of the earlier one's."""


class View(NamedTuple):
    """What this process knows to be projected of a thread."""

    checkpoint_id: str
    messages: Mapping[tuple[str, str], Seen]
    message_lists: Mapping[str, bytes]
    """Channels of messages, and the keys of the blobs that they were read from."""
    graph_parts: Mapping[str, str]
    """Channels as members of a JSON object."""
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

    @property
    def only_adds(self) -> bool:
        """Whether these are columns, messages and usage that nothing stored has to be read for.

        But for messages to compare, where there are some already.
        """
        return not (
            self.is_whole or self.removed_messages or self.pages or self.rows or self.problems
        )


_TOGETHER = (MessageRows, GraphState, ErrorRows)
"""Projections that have no columns or rows of their own: what they say is worked out at once."""


class Projector:
    """Applies projections to steps."""

    def __init__(
        self, projections: Sequence[Projection], pricing: Pricing | None, sessions: Table
    ) -> None:
        self.projections = tuple(projections)
        self._sessions = sessions
        self._pricing = pricing or _free
        self._messages = [p for p in projections if isinstance(p, MessageRows)]
        self.message_channels = frozenset(c for p in self._messages for c in p.channels)
        self._of_channel: dict[str, list[int]] = {}
        self._of_all: set[int] = set()
        for number, projection in enumerate(self.projections):
            if type(projection) in _TOGETHER:
                continue
            for channel in projection.channels:
                self._of_channel.setdefault(channel, []).append(number)
            if not projection.channels:
                self._of_all.add(number)
        self._graph_state = next((p for p in projections if isinstance(p, GraphState)), None)
        shown_elsewhere = [p for p in projections if isinstance(p, MessageRows | PageVersions)]
        self._elsewhere = {channel for p in shown_elsewhere for channel in p.channels}
        self._shown: LRUCache[str, bool] = LRUCache(1_024)

    def project(
        self,
        step: Step,
        parent_id: str | None,
        view: View | None,
        *,
        whole: bool = False,
        kept: Mapping[str, Kept] | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> Changes:
        """Work out what a step changes.

        Args:
            step: The step; with `whole`, all its channels count as changed.
            parent_id: The checkpoint it follows.
            view: What is projected already, if this process knows.
            whole: Whether rows may show another branch than the step's parent.
            kept: Per channel of messages, how many in front are those of an earlier list.
            sizes: Serialised bytes of the channels for which they are known.
        """
        if whole or (view is not None and view.checkpoint_id != parent_id):
            view = None
        changes = Changes(step.checkpoint_id, base=parent_id, is_whole=whole)
        if view is not None and not self._concern(step.changed):
            changes.view = View(step.checkpoint_id, *view[1:])
            return changes
        concerned = self._of_all.union(*(self._of_channel.get(c, ()) for c in step.changed))
        for number in sorted(concerned):
            if self.projections[number].applies(step):
                self._apply(self.projections[number], step, changes)
        kept = kept or {}
        messages = self._project_messages(step, view, changes, kept)
        lists = dict(view.message_lists) if view is not None else {}
        lists |= {channel: found.key for channel, found in kept.items()}
        parts, state = self._project_graph_state(step, view, changes, sizes or {})
        changes.view = View(step.checkpoint_id, messages, lists, parts, state)
        return changes

    def _concern(self, channels: Iterable[str]) -> bool:
        """Whether any of some channels is projected."""
        return bool(self._of_all) or any(
            channel in self._of_channel or channel in self.message_channels or self.shows(channel)
            for channel in channels
        )

    def show_all_columns(self, step: Step, changes: Changes) -> None:
        """Add the columns that show what a step did not change: others have set them by hand.

        Args:
            step: The step, with all its channels as changed.
            changes: What it changes in fact.
        """
        shown = Changes(step.checkpoint_id, base=None, is_whole=True)
        for projection in self.projections:
            if projection.applies(step):
                self._apply(projection, step, shown)
        if changes.view is not None and changes.view.graph_state is not None:
            shown.columns["graph_state"] = JsonText(changes.view.graph_state)
        columns = {name: value for name, value in shown.columns.items() if name in FROM_STATE}
        changes.columns = columns | changes.columns

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
        self,
        step: Step,
        view: View | None,
        changes: Changes,
        kept: Mapping[str, Kept],
    ) -> Mapping[tuple[str, str], Seen]:
        known = view.messages if view is not None else {}
        if view is not None and not self.message_channels & step.changed:
            return known
        same = self._same_in_front(view, step, kept)
        found = [(p, _messages_in(p, step, changes, same)) for p in self._messages]
        if any(messages is None for _, messages in found):
            return known  # the rows stay as they are
        now: dict[tuple[str, str], Seen] = dict(known) if same else {}
        for projection, messages in found:
            for index, message in enumerate(messages or (), start=same):
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
        if not same:
            changes.removed_messages = [_message_key(key) for key in known if key not in now]
        return now

    def _same_in_front(self, view: View | None, step: Step, kept: Mapping[str, Kept]) -> int:
        """How many messages in front are as they were projected, where that is one list."""
        if view is None or len(self.message_channels) != 1:
            return 0
        (channel,) = self.message_channels
        found = kept.get(channel)
        if found is None or channel not in step.values or not found.items:
            return 0
        return found.items if view.message_lists.get(channel) == found.base else 0

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
                "timestamp": utc_now(),
                "agent_type": clean_text(str(_get(message, "name") or "unknown"))[:255],
                "model": model[:2048],
                "input_tokens": tokens_in,
                "output_tokens": tokens_out,
                "total_tokens": tokens_in + tokens_out,
                "cost_usd": cost,
            }
        ]

    # -- graph state ------------------------------------------------------------------------

    def shows(self, channel: str) -> bool:
        """Whether a channel is part of `graph_state`."""
        shown = self._shown.get(channel)
        if shown is None:
            rule = self._graph_state
            shown = rule is not None and rule.shows(channel) and channel not in self._elsewhere
            self._shown.put(channel, shown)
        return shown

    def _project_graph_state(
        self, step: Step, view: View | None, changes: Changes, sizes: Mapping[str, int]
    ) -> tuple[Mapping[str, str], str | None]:
        if self._graph_state is None:
            return {}, None
        known = view.graph_parts if view is not None else {}
        parts = {
            channel: known[channel]
            if channel in known and channel not in step.changed
            else graph_state.part_of(step, channel, sizes.get(channel))
            for channel in step.values
            if self.shows(channel)
        }
        state = graph_state.within_limit(parts, step)
        if view is None or view.graph_state != state:
            changes.columns["graph_state"] = JsonText(state)
        return parts, state


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


def _messages_in(
    projection: MessageRows, step: Step, changes: Changes, start: int
) -> Sequence[Any] | None:
    """The messages in a channel from one on; None, and a problem, if it holds something else."""
    channel = projection.channels[0]
    value = step.values.get(channel) or ()
    if isinstance(value, list | tuple) and all(map(_kind, value[start:])):
        return value[start:]
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
        "timestamp": utc_now(),
        "removed_at": None,
    }
