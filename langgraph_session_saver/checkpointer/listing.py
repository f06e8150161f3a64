"""Listing checkpoints, newest first: a page of rows at a time, each made when it is asked for.

A page holds rows, decoded chains of changes and what the cache had: about `PAGE_BYTES`. A value is
rebuilt and deserialised only for the checkpoint that is asked for. The 16 to 128 checkpoints of a
page, made at once, took 362 MB for a chat of 800 messages, and the garbage collector that walked
them a quarter of the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple, get_checkpoint_id
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Row

from langgraph_session_saver.checkpointer.config import configurable_of, place_of
from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.checkpointer.get import GetScripts, Saved, decode, ordered
from langgraph_session_saver.encoding.chains import Part, Value, follow, of_thread, part_of
from langgraph_session_saver.encoding.keys import CheckpointKey, Place, ThreadRef
from langgraph_session_saver.encoding.task_writes import held_keys
from langgraph_session_saver.errors import HistoryLostError
from langgraph_session_saver.sql.scripts import Aside, Request, Script

MOST = 128
"""Checkpoints on a page."""

FIRST, FIRST_OF_FEW = 4, 16
"""Checkpoints on the first page: who gives no limit may take one, who does wants them all."""

PAGE_BYTES = 4 << 20
"""What a page may hold, as far as the pages before can tell."""

TOGETHER = 1 << 15
"""Serialised bytes made at once: a trip to a worker thread takes 50 µs, as 2 KB of messages do."""

At: TypeAlias = tuple[bytes, bytes]
"""A thread's key and a value's."""


@dataclass(slots=True)
class Listing:
    """Where a listing stands, and the page that it is on."""

    wanted: dict[str, Any]
    filter: Mapping[str, Any]
    left: int | None
    size: int
    waiting: deque[Saved] = field(default_factory=deque)
    writes: Mapping[CheckpointKey, Sequence[Row[Any]]] = field(default_factory=dict)
    parts: dict[At, Part] = field(default_factory=dict)
    cached: dict[At, Value] = field(default_factory=dict)
    last: dict[At, Value] = field(default_factory=dict)
    """The values of the checkpoint made last: its neighbour has most of them too."""

    def values_of(self, one: Saved, writes: Sequence[Row[Any]]) -> dict[At, Value]:
        """Rebuild what a checkpoint and its writes refer to; no value for an empty channel."""
        thread_key = one.place.thread.key
        found: dict[At, Value] = {}
        for key in {*one.keys.values(), *_held(writes)}:
            at = (thread_key, key)
            value = self.last.get(at) or self.cached.get(at)
            if value is None and at in self.parts:
                value = follow(key, of_thread(self.parts, thread_key), lambda _key: None)
            if value is not None:
                found[at] = value
        self.last = found
        return found

    @property
    def weight(self) -> int:
        """Bytes of what the page holds."""
        rows = sum(len(one.row.data) + len(one.row.metadata_data) for one in self.waiting)
        writes = sum(len(row.data) for rows in self.writes.values() for row in rows)
        parts = sum(part.content.size for part in self.parts.values())
        return rows + writes + parts + sum(value.size for value in self.cached.values())


class ListScripts:
    """The scripts of `list`."""

    def __init__(self, context: Context, reading: GetScripts) -> None:
        self._context = context
        self._get_scripts = reading

    def start(
        self,
        config: RunnableConfig | None,
        filter: Mapping[str, Any] | None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Listing:
        """Say which checkpoints to list."""
        wanted: dict[str, Any] = {}
        if config is not None:
            place = place_of(config)
            wanted["thread"] = place.thread.key
            if configurable_of(config).get("checkpoint_ns") is not None:
                wanted["ns"] = place.ns_key
            if place.checkpoint_id is not None:
                wanted["checkpoint"] = place.checkpoint_id
        if before is not None and (last := get_checkpoint_id(before)):
            wanted["before"] = last
        return Listing(wanted, filter or {}, limit, FIRST if limit is None else FIRST_OF_FEW)

    def next(self, serde: SerializerProtocol, listing: Listing) -> Script[list[CheckpointTuple]]:
        """Make the next checkpoint, or the next few small ones; none is the end.

        Values are not remembered beyond the listing: reading a long history would push out what
        running threads need.
        """
        while not listing.waiting and listing.size and (listing.left is None or listing.left > 0):
            try:
                yield from self._turn(serde, listing)
            except HistoryLostError:
                # Pruned between two statements, most likely: then it is not listed again.
                yield from self._turn(serde, listing)
        if not listing.waiting:
            return []
        made: list[CheckpointTuple] = yield Aside(partial(self._make, serde, listing))
        return made

    def _turn(self, serde: SerializerProtocol, listing: Listing) -> Script[None]:
        """Go on to the next page."""
        context, size = self._context, listing.size
        if listing.left is not None and not listing.filter:
            size = min(size, listing.left)
        rows = yield Request.lookup(
            lambda conn: context.operations.list_checkpoints(conn, listing.wanted, size)
        )
        matching = [row for row in rows if self._matches(serde, row, listing.filter)]
        saved = [decode(serde, _place_of(row), row) for row in matching[: listing.left]]
        yield from self._fill(listing, saved)
        if listing.left is not None:
            listing.left -= len(saved)
        if len(rows) < size:
            listing.size = 0
            return
        last = rows[-1]
        listing.wanted |= {
            "after": last.checkpoint_id, "after_thread": last.thread_key, "after_ns": last.ns_key
        }  # fmt: skip
        fitting = PAGE_BYTES * len(rows) // (listing.weight or 1)
        listing.size = max(1, min(2 * listing.size, fitting, MOST))

    def _fill(self, listing: Listing, saved: Sequence[Saved]) -> Script[None]:
        """Read what checkpoints need, in one request."""
        context, operations = self._context, self._context.operations
        cached: dict[At, Value] = {}
        missing: dict[At, tuple[Saved, str]] = {}
        for one in saved:
            for channel, key in one.keys.items():
                at = (one.place.thread.key, key)
                value = context.cache.get(*at)
                if value is not None:
                    cached[at] = value
                elif not context.cache.is_empty(*at):
                    missing[at] = (one, channel)
        heads = [one.row for one in saved]
        blobs, writes = yield Request.lookup(
            lambda conn: (
                operations.get_chains(conn, missing), operations.get_writes(conn, heads)
            )
        )  # fmt: skip
        for at, (one, channel) in missing.items():
            if at not in blobs:
                self._get_scripts.check_empty(one, channel)
        # Of checkpoints that were put again with other values.
        former = {(at[0], key) for at, rows in writes.items() for key in _held(rows)}
        if former := former - cached.keys() - missing.keys():
            blobs |= yield Request.lookup(lambda conn: operations.get_chains(conn, former))
        listing.waiting.extend(saved)
        listing.writes, listing.cached, listing.last = writes, cached, {}
        listing.parts = {at: part_of(row) for at, row in blobs.items()}

    def _make(self, serde: SerializerProtocol, listing: Listing) -> list[CheckpointTuple]:
        made: list[CheckpointTuple] = []
        taken = 0
        while listing.waiting and taken < TOGETHER:
            one = listing.waiting.popleft()
            row = one.row
            writes = listing.writes.get((row.thread_key, row.ns_key, row.checkpoint_id), ())
            values = listing.values_of(one, writes)
            made.append(self._get_scripts.assemble(serde, one, values, ordered(writes), ""))
            taken += len(row.data) + sum(value.size for value in values.values())
            taken += sum(len(write.data) for write in writes)
        return made

    def _matches(self, serde: SerializerProtocol, row: Row[Any], wanted: Mapping[str, Any]) -> bool:
        """Compare metadata as `InMemorySaver` does: in Python, value by value."""
        if not wanted:
            return True
        metadata = self._get_scripts.metadata(serde, f"checkpoint {row.checkpoint_id!r}", row)
        return all(value == metadata.get(key) for key, value in wanted.items())


def _held(writes: Sequence[Row[Any]]) -> set[bytes]:
    return held_keys(row.data for row in writes)


def _place_of(row: Row[Any]) -> Place:
    thread = ThreadRef(row.thread_key, row.thread_id)
    return Place(thread, row.checkpoint_ns, row.ns_key, row.checkpoint_id)
