"""What differs between two checkpoints, channel by channel: plain data that prints, and as HTML."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, Literal, TypeAlias

from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.inspection.compare import Change, compare
from langgraph_session_saver.inspection.decode import Undecodable
from langgraph_session_saver.inspection.text import (
    STYLE,
    WIDTH,
    amount,
    brief,
    escape,
    is_internal,
    printable,
)
from langgraph_session_saver.inspection.timeline import place_in
from langgraph_session_saver.inspection.values import NOTHING, TOO_LARGE, Side, Values
from langgraph_session_saver.projection.plain_json import OverBudgetError, to_json
from langgraph_session_saver.sql.scripts import Script

ChannelKind: TypeAlias = Literal["added", "removed", "changed"]

SIGNS = {
    "added": "+", "appended": "+", "inserted": "+", "removed": "-", "dropped": "-",
    "changed": "~", "edited": "~", "reordered": "~",
}  # fmt: skip

MOST_PLAIN = 10_000
"""Characters of a value that `to_dict` keeps."""


@dataclass(frozen=True, slots=True)
class ChannelDiff:
    """One channel whose value differs.

    Attributes:
        channel: Its name.
        kind: Whether it came, went or changed.
        before: Its size in the first checkpoint, in serialised bytes; None where it had no value.
        after: Its size in the second.
        value: What came or went, decoded.
        changes: What changed in it, path by path.
        more: Changes that are not listed.
        note: What to know about it: that it cannot be decoded, or is too large to be compared.
    """

    channel: str
    kind: ChannelKind
    before: int | None
    after: int | None
    value: Any = None
    changes: tuple[Change, ...] = ()
    more: int = 0
    note: str | None = None

    @property
    def is_internal(self) -> bool:
        """Whether the channel is LangGraph's own, and not the application's."""
        return is_internal(self.channel)


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs between two checkpoints of a thread.

    Attributes:
        thread_id: The thread.
        checkpoint_ns: The namespace.
        a: The first checkpoint.
        b: The second.
        channels: The channels whose values differ, by name.
        same: The channels whose values are the same.
    """

    thread_id: str
    checkpoint_ns: str
    a: str
    b: str
    channels: tuple[ChannelDiff, ...]
    same: tuple[str, ...]

    def __iter__(self) -> Iterator[ChannelDiff]:
        return iter(self.channels)

    def __len__(self) -> int:
        return len(self.channels)

    def __getitem__(self, channel: str) -> ChannelDiff:
        for found in self.channels:
            if found.channel == channel:
                return found
        raise KeyError(channel)

    def to_dict(self) -> dict[str, Any]:
        """Everything as dicts, lists, text and numbers; large values as their beginning."""
        return {
            "thread_id": self.thread_id,
            "checkpoint_ns": self.checkpoint_ns,
            "a": self.a,
            "b": self.b,
            "channels": [_channel_dict(found) for found in self.channels],
            "same": list(self.same),
        }

    @property
    def _shown(self) -> list[ChannelDiff]:
        return [found for found in self.channels if not found.is_internal]

    def _title(self) -> str:
        where = f", namespace {self.checkpoint_ns!r}" if self.checkpoint_ns else ""
        return printable(f"thread {self.thread_id!r}{where}\n--- {self.a}\n+++ {self.b}", keep="\n")

    def _footer(self) -> str:
        same = [channel for channel in self.same if not is_internal(channel)]
        parts = []
        if same:
            parts.append(f"unchanged: {', '.join(same)}")
        if not self._shown:
            parts.insert(0, "no value of the application's differs")
        if hidden := len(self.channels) - len(self._shown):
            parts.append(f"{hidden} of LangGraph's own channels not shown")
        return printable("; ".join(parts))

    def __str__(self) -> str:
        lines = [self._title()]
        for found in self._shown:
            lines += ["", _heading(found), *(f"  {line}" for line in _lines(found))]
        return "\n".join([*lines, "", *([self._footer()] if self._footer() else [])]).rstrip()

    def _repr_html_(self) -> str:
        rows = []
        for found in self._shown:
            lines = escape("\n".join(_lines(found)))
            sizes = f"{amount(found.before)} → {amount(found.after)}"
            rows.append(
                f"<tr><td>{escape(found.channel)}</td><td>{found.kind}</td>"
                f'<td class="n">{sizes if found.kind == "changed" else amount(_size(found))}</td>'
                f"<td><pre>{lines}</pre></td></tr>"
            )
        heads = "<th>channel</th><th></th><th class='n'>size</th><th>what differs</th>"
        return (
            f'{STYLE}<div class="lgss"><pre>{escape(self._title())}</pre>'
            f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
            f'<p class="quiet">{escape(self._footer())}</p></div>'
        )


def _size(found: ChannelDiff) -> int | None:
    return found.before if found.kind == "removed" else found.after


def _heading(found: ChannelDiff) -> str:
    sizes = amount(_size(found))
    if found.kind == "changed":
        sizes = f"{amount(found.before)} → {amount(found.after)}"
    return printable(f"{SIGNS[found.kind]} {found.channel}  {found.kind}, {sizes}")


def _lines(found: ChannelDiff) -> Iterator[str]:
    """What differs in a channel, in lines that fit."""
    if found.note:
        yield from wrap(printable(found.note), WIDTH - 2)
    if found.kind != "changed" and not isinstance(found.value, Undecodable):
        yield from wrap(brief(found.value, WIDTH * 3), WIDTH - 2)
    for change in found.changes:
        yield from _change_lines(change)
    if found.more:
        yield f"… and {found.more:,} more changes"


def _change_lines(change: Change) -> Iterator[str]:
    start = f"{SIGNS[change.kind]} {change.path or 'value'}"
    if change.text is not None:
        yield printable(f"{start}  {change.kind}:")
        yield from (f"    {printable(line)}" for line in change.text)
    elif change.kind == "reordered":
        yield printable(f"{start}  reordered")
    elif change.kind in {"changed", "edited"}:
        by = "" if change.by is None else f" ({change.by:+.12g})"
        room = max(30, (WIDTH - len(start) - len(by) - 7) // 2)
        values = f"{brief(change.before, room)} → {brief(change.after, room)}"
        yield printable(f"{start}  {values}{by}")
    else:
        value = change.before if change.kind in {"removed", "dropped"} else change.after
        start += f"  {change.kind}: "
        yield printable(f"{start}{brief(value, max(40, WIDTH - 2 - len(start)))}")


# -- plain data -----------------------------------------------------------------------------------


def _channel_dict(found: ChannelDiff) -> dict[str, Any]:
    return {
        "channel": found.channel,
        "kind": found.kind,
        "before": found.before,
        "after": found.after,
        "value": plain(found.value),
        "changes": [
            {
                "path": change.path,
                "kind": change.kind,
                "before": plain(change.before),
                "after": plain(change.after),
                "text": None if change.text is None else list(change.text),
                "by": change.by,
            }
            for change in found.changes
        ],
        "more": found.more,
        "note": found.note,
    }


def plain(value: Any) -> Any:
    """A decoded value as JSON has it; one that is too large as its beginning in text."""
    try:
        return to_json(value, budget=MOST_PLAIN)
    except OverBudgetError:
        return {"$beginning": brief(value, MOST_PLAIN)}


class Diffing:
    """Compares two checkpoints of a thread."""

    def __init__(self, context: Context) -> None:
        self._values = Values(context)

    def diff(
        self, serde: SerializerProtocol, thread_id: Any, a: Any, b: Any, checkpoint_ns: Any
    ) -> Script[Diff]:
        """Compare two checkpoints, value by value."""
        place = place_in(thread_id, checkpoint_ns)
        if a is None:
            raise InvalidConfigError("a is None: pass a checkpoint id, or the start of one")
        old = yield from self._values.find(serde, place, "a", a)
        new = yield from self._values.find(serde, place, "b", b)
        differing = sorted(
            channel
            for channel in old.versions.keys() | new.versions.keys()
            if old.versions.get(channel) != new.versions.get(channel)
        )
        values = yield from self._values.of(serde, place, (old, new), differing)
        compared = (_channel(channel, *sides) for channel, sides in values)
        found = tuple(channel for channel in compared if channel is not None)
        names = {one.channel for one in found}
        valued = (set(old.valued()) & set(new.valued())) | {
            c for c in old.versions.keys() & new.versions.keys() if new.replays(c)
        }
        return Diff(
            place.thread.thread_id,
            place.checkpoint_ns,
            old.id,
            new.id,
            found,
            tuple(sorted(valued - names)),
        )


def _channel(channel: str, old: Side, new: Side) -> ChannelDiff | None:
    """What differs in a channel; None where its value is the same."""
    if old is NOTHING and new is NOTHING:
        return None
    if old is NOTHING:
        return _one_sided(channel, "added", new)
    if new is NOTHING:
        return _one_sided(channel, "removed", old)
    note = old.note or new.note
    problems = [
        f"{when}: {_said(side)}"
        for when, side in (("before", old), ("after", new))
        if isinstance(side.value, Undecodable)
    ]
    if problems:
        notes = "; ".join([*problems, *([note] if note else [])])
        return ChannelDiff(channel, "changed", old.size, new.size, note=notes)
    found = compare(old.value, new.value)
    if not found.changes:
        return None
    return ChannelDiff(
        channel, "changed", old.size, new.size, changes=found.changes, more=found.more, note=note
    )


def _said(side: Side) -> str:
    if side.value is TOO_LARGE:
        return f"too large to be read for this: {amount(side.size)}, over {TOO_LARGE.reason}"
    return str(side.value)


def _one_sided(channel: str, kind: ChannelKind, side: Side) -> ChannelDiff:
    before, after = (None, side.size) if kind == "added" else (side.size, None)
    note = _said(side) if isinstance(side.value, Undecodable) else side.note
    return ChannelDiff(channel, kind, before, after, value=side.value, note=note)
