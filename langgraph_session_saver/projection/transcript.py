"""A state's messages as rows: what each row shows, in which order, and what a step changes.

A message that is appended gets the microseconds of its step as its position, at least. So the
messages of a session's threads, in the order of their positions, are in that of time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple

from langgraph_session_saver.encoding.keys import hash_key
from langgraph_session_saver.projection.content import (
    content_of,
    field_of,
    json_text,
    kind_of,
    optional_text,
    text_of,
    tool_calls_of,
)
from langgraph_session_saver.projection.plain_json import clean_text, to_json
from langgraph_session_saver.projection.positions import place
from langgraph_session_saver.projection.rules import MessageRows
from langgraph_session_saver.schema.column_types import microseconds

SHOWN = ("role", "name", "content", "tool_calls", "tool_call_id")
"""The columns of `messages` that show a message."""


class Entry(NamedTuple):
    """A message of a state."""

    key: bytes
    """The `row_key` of its row."""
    name: str
    """Its id, or `#` and its index if it has none."""
    message: Any
    row: dict[str, Any] | None
    """Its row without a position; None for a message that gets none."""


class Shown(NamedTuple):
    """What is known of a message's row."""

    digest: int | None
    """A hash of what it shows; None if it is marked as removed, or there is no row."""
    position: int


class Parent(NamedTuple):
    """The messages of a channel at a step's parent."""

    shared: int = 0
    """How many messages in front of the step's list are all that the parent has."""
    messages: Sequence[Any] = ()
    """The parent's messages, where `shared` is 0."""


class Differences(NamedTuple):
    """What makes rows show a state."""

    rows: list[dict[str, Any]]
    """The rows to insert or update."""
    removed: list[bytes]
    """The keys of the rows to mark as removed."""
    shown: dict[bytes, Shown]
    """All rows then, by key, in the state's order."""

    def add(
        self,
        entries: Sequence[Entry],
        positions: Sequence[int],
        known: Mapping[bytes, Shown] = MappingProxyType({}),
    ) -> None:
        """Add messages at positions; those whose rows are known to show the same need no row."""
        for entry, position in zip(entries, positions, strict=True):
            now = Shown(None if entry.row is None else digest_of(entry.row), position)
            self.shown[entry.key] = now
            if entry.row is not None and known.get(entry.key) != now:
                self.rows.append({**entry.row, "position": position})


# -- reading a state ----------------------------------------------------------------------------


def read(
    rule: MessageRows,
    messages: Iterable[Any],
    time: datetime,
    *,
    start: int = 0,
    taken: Container[bytes] = (),
) -> list[Entry]:
    """Read a channel's messages.

    Args:
        rule: The projection of the channel.
        messages: The channel's messages from the index `start` on.
        time: The time of new rows.
        start: The index of the first of the messages.
        taken: The keys of the messages before.
    """
    keys: set[bytes] = set()
    found: list[Entry] = []
    for index, message in enumerate(messages, start):
        name = str(field_of(message, "id") or f"#{index}")
        key, count = hash_key("message", rule.channels[0], name), 1
        # LangGraph keeps two messages with one id that come at once.
        while key in keys or key in taken:
            count += 1
            key = hash_key("message", rule.channels[0], name, str(count))
        keys.add(key)
        role = rule.role_of(kind_of(message))
        row = None if role is None else _row(key, name, role, message, time)
        found.append(Entry(key, name, message, row))
    return found


def _row(key: bytes, name: str, role: str, message: Any, time: datetime) -> dict[str, Any]:
    return {
        "row_key": key,
        "message_id": clean_text(name),
        "role": role,
        "name": optional_text(field_of(message, "name")),
        "content": clean_text(content_of(message)),
        "tool_calls": tool_calls_of(message),
        "tool_call_id": optional_text(field_of(message, "tool_call_id")),
        "timestamp": time,
        "removed_at": None,
    }


# -- what a step changes ------------------------------------------------------------------------


def digest_of(row: Mapping[str, Any]) -> int:
    """A hash of what a row shows."""
    return hash(tuple(row[name] for name in SHOWN))


def stored(row: Mapping[str, Any]) -> Shown:
    """What a row of the database shows."""
    position = row["position"] or 0
    if row["removed_at"] is not None:
        return Shown(None, position)
    calls = row["tool_calls"]
    return Shown(
        digest_of({**row, "tool_calls": None if calls is None else json_text(calls)}), position
    )


def differences(
    channels: Iterable[Sequence[Entry]], known: Mapping[bytes, Shown], time: datetime
) -> Differences:
    """Compare a state's messages with the rows; those that are dropped are marked as removed."""
    found = Differences([], [], {})
    for entries in channels:
        positions = [known[one.key].position if one.key in known else None for one in entries]
        found.add(entries, place(positions, microseconds(time)), known)
    found.removed.extend(
        key for key, was in known.items() if was.digest is not None and key not in found.shown
    )
    return found


def appended(entries: Sequence[Entry], known: dict[bytes, Shown], time: datetime) -> Differences:
    """Add messages behind those that the rows show."""
    last = [one.position for one in islice(reversed(known.values()), 1)]
    found = Differences([], [], dict(known))
    positions = place([*last, *(None for _ in entries)], microseconds(time))
    found.add(entries, positions[len(last) :])
    return found


# -- what a step brings -------------------------------------------------------------------------


class Brought(NamedTuple):
    """The messages of a step that its parent does not have."""

    entries: list[Entry]
    calls: list[tuple[bytes, Entry]]
    """Messages with usage, each with a key that tells its model call from others."""


def brought(
    rule: MessageRows, entries: Sequence[Entry], start: int, parent: Parent, time: datetime
) -> Brought:
    """Find what a step brings.

    Args:
        rule: The projection of the channel.
        entries: The messages of the channel from the index `start` on, which is at most
            `parent.shared`.
        start: The index of the first of them.
        parent: The parent's messages.
        time: The time of new rows.
    """
    before = read(rule, parent.messages, time)
    keys = {one.key for one in before}
    new = entries[parent.shared - start :]
    known = Counter(_call(one) for one in before)
    calls: list[tuple[bytes, Entry]] = []
    for entry in new:
        if not (rule.usage and field_of(entry.message, "usage_metadata")):
            continue
        call = _call(entry)
        if known[call]:
            known[call] -= 1
        else:
            text = text_of(entry.message)
            calls.append((hash_key("call", entry.key.hex(), call[1], text), entry))
    return Brought([one for one in new if one.key not in keys], calls)


def _call(entry: Entry) -> tuple[str, str]:
    """What tells a model call from others, also after its message was edited or has moved."""
    usage = json_text(to_json(field_of(entry.message, "usage_metadata")))
    if entry.name.startswith("#"):  # the index of a message without an id, which may change
        return f"# {text_of(entry.message)}", usage
    return entry.name, usage
