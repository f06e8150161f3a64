"""The difference of two checkpoints, channel by channel: its data, the script, how it prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, Literal

from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.inspection import text
from langgraph_session_saver.inspection.compare import Change, compare
from langgraph_session_saver.inspection.decode import Undecodable
from langgraph_session_saver.inspection.values import ChannelValue, NamespaceReader
from langgraph_session_saver.log import printable
from langgraph_session_saver.sql.scripts import Script

SIGNS = {
    "added": "+", "appended": "+", "inserted": "+", "removed": "-", "dropped": "-",
    "changed": "~", "edited": "~", "reordered": "~",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ChannelDiff:
    """A channel whose value differs.

    Attributes:
        channel: The channel's name.
        kind: Whether the value was added, removed or changed.
        before: Serialised bytes in the first checkpoint; None if it has no value or is unknown.
        after: Serialised bytes in the second checkpoint, likewise.
        value: The value that was added or removed, decoded.
        changes: The changes of a changed value, by path.
        more: The number of changes that are not listed.
        note: Why the value cannot be compared, or how it was put together.
    """

    channel: str
    kind: Literal["added", "removed", "changed"]
    before: int | None
    after: int | None
    value: Any = None
    changes: tuple[Change, ...] = ()
    more: int = 0
    note: str | None = None

    @property
    def is_internal(self) -> bool:
        """Whether the channel is LangGraph's own, and not the application's."""
        return text.is_internal(self.channel)


@dataclass(frozen=True, slots=True)
class Diff:
    """The differences between two checkpoints of a thread.

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
        return {found.channel: found for found in self.channels}[channel]

    def to_dict(self) -> dict[str, Any]:
        """The differences as JSON data; of large values only their start."""
        return text.record_to_dict(self)

    @property
    def _shown(self) -> list[ChannelDiff]:
        return [found for found in self.channels if not found.is_internal]

    def _title(self) -> str:
        where = f", namespace {self.checkpoint_ns!r}" if self.checkpoint_ns else ""
        title = f"thread {self.thread_id!r}{where}\n--- {self.a}\n+++ {self.b}"
        return printable(title, keep="\n")

    def _footer(self) -> str:
        parts = []
        if not self._shown:
            parts.append("no channel of the application differs")
        if same := [channel for channel in self.same if not text.is_internal(channel)]:
            parts.append(f"unchanged: {', '.join(same)}")
        if hidden := len(self.channels) - len(self._shown):
            parts.append(f"{text.quantity(hidden, 'internal channel')} not shown")
        return printable("; ".join(parts))

    def __str__(self) -> str:
        lines = [self._title()]
        for found in self._shown:
            heading = f"{SIGNS[found.kind]} {found.channel}  {found.kind}, {_sizes(found)}"
            lines += ["", printable(heading), *(f"  {line}" for line in _lines(found))]
        return "\n".join([*lines, "", self._footer()]).rstrip()

    def _repr_html_(self) -> str:
        rows = []
        for found in self._shown:
            lines = text.escape("\n".join(_lines(found)))
            name, sizes = text.escape(found.channel), _sizes(found)
            rows.append((name, found.kind, sizes, f"<pre>{lines}</pre>"))
        heads = ("channel", "", "size", "difference")
        return text.html_table(self._title(), heads, rows, self._footer())


def _sizes(found: ChannelDiff) -> str:
    before, after = text.format_bytes(found.before), text.format_bytes(found.after)
    return {"added": after, "removed": before, "changed": f"{before} → {after}"}[found.kind]


def _lines(found: ChannelDiff) -> Iterator[str]:
    """The differences of a channel, one a line."""
    if found.note:
        yield from wrap(printable(found.note), text.WIDTH - 2)
    if found.kind != "changed" and not isinstance(found.value, Undecodable):
        yield from wrap(text.brief(found.value, text.WIDTH * 3), text.WIDTH - 2)
    for change in found.changes:
        yield from _change_lines(change)
    if found.more:
        yield f"… and {found.more:,} more changes"


def _change_lines(change: Change) -> Iterator[str]:
    start = printable(f"{SIGNS[change.kind]} {change.path or 'value'}  ")
    if change.text is not None:
        yield f"{start}{change.kind}:"
        yield from (f"    {printable(line)}" for line in change.text)
    elif change.kind == "reordered":
        yield f"{start}reordered"
    elif change.kind in {"changed", "edited"}:
        by = "" if change.by is None else f" ({change.by:+.12g})"
        room = max(30, (text.WIDTH - len(start) - len(by) - 5) // 2)
        yield f"{start}{text.brief(change.before, room)} → {text.brief(change.after, room)}{by}"
    else:
        value = change.before if change.kind in {"removed", "dropped"} else change.after
        start += f"{change.kind}: "
        yield f"{start}{text.brief(value, max(40, text.WIDTH - 2 - len(start)))}"


def read_diff(reader: NamespaceReader, a: Any, b: Any) -> Script[Diff]:
    """Compare two checkpoints of a namespace."""
    if a is None:
        raise InvalidConfigError("a is None: pass a checkpoint id, or the start of one")
    old = yield from reader.find("a", a)
    new = yield from reader.find("b", b)
    differing = sorted(
        channel
        for channel in old.versions.keys() | new.versions.keys()
        if old.versions.get(channel) != new.versions.get(channel)
    )
    values = yield from reader.read_values((old, new), differing)
    found = [_channel_diff(before, after) for before, after in values]
    channels = tuple(one for one in found if one is not None)
    same = {c for c in old.valued if c in new.valued}
    same |= {c for c in old.versions if c in new.versions and new.is_replayed(c)}
    return Diff(
        reader.place.thread.thread_id,
        reader.place.checkpoint_ns,
        old.id,
        new.id,
        channels,
        tuple(sorted(same - {one.channel for one in channels})),
    )


def _channel_diff(old: ChannelValue | None, new: ChannelValue | None) -> ChannelDiff | None:
    """The difference of a channel; None if its value is the same."""
    if old is None or new is None:
        one = old or new
        if one is None:
            return None
        note = str(one.value) if isinstance(one.value, Undecodable) else one.note
        if old is None:
            return ChannelDiff(one.channel, "added", None, one.size, one.value, note=note)
        return ChannelDiff(one.channel, "removed", one.size, None, one.value, note=note)
    notes = [
        f"{when}: {one.value}"
        for when, one in (("before", old), ("after", new))
        if isinstance(one.value, Undecodable)
    ]
    changes, more = ((), 0) if notes else compare(old.value, new.value)
    if not notes and not changes:
        return None
    if replayed := old.note or new.note:
        notes.append(replayed)
    return ChannelDiff(
        old.channel, "changed", old.size, new.size,
        changes=changes, more=more, note="; ".join(notes) or None,
    )  # fmt: skip
