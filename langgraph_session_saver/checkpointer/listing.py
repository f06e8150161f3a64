"""Listing checkpoints, newest first, a page at a time.

A page holds rows, decoded chains of changes and cached values, about `PAGE_BYTES` in all. A value
is rebuilt and deserialised only when its checkpoint is asked for: a page of whole checkpoints
would hold every version of a long chat in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple, get_checkpoint_id
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Connection, Row

from langgraph_session_saver.checkpointer.config import configurable_of, place_of
from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.checkpointer.get import (
    CheckpointReader,
    DecodedCheckpoint,
    Values,
    decode,
    load_metadata,
)
from langgraph_session_saver.encoding.chains import Part, follow, of_thread, part_of
from langgraph_session_saver.encoding.keys import CheckpointKey, Place, ThreadRef
from langgraph_session_saver.encoding.task_writes import held_keys
from langgraph_session_saver.errors import HistoryLostError
from langgraph_session_saver.sql.scripts import Aside, Request, Script
from langgraph_session_saver.storage.checkpoints import BlobKey
from langgraph_session_saver.validation import check_filter

LARGEST_PAGE = 128
"""Checkpoints on a page."""

FIRST_PAGE = 4
"""Checkpoints on the first page without a limit: the caller may take only one."""

FIRST_PAGE_OF_LIMIT = 16
"""Checkpoints on the first page with a limit: the caller wants them all."""

PAGE_BYTES = 4 << 20
"""Bytes that a page should hold, estimated from the pages before."""

ASSEMBLED_BYTES = 1 << 15
"""Serialised bytes to assemble in one go: on asyncio, each go is a trip to a worker thread."""

Writes = Mapping[CheckpointKey, Sequence[Row[Any]]]


@dataclass(slots=True)
class Listing:
    """The position of a listing, and its current page."""

    wanted: dict[str, Any]
    """Parameters of `Checkpoints.get_page`."""
    filter: Mapping[str, Any]
    left: int | None
    """Checkpoints that may still be listed; None without a limit."""
    page_size: int
    """Checkpoints on the next page; 0 after the last one."""
    waiting: deque[DecodedCheckpoint] = field(default_factory=deque)
    writes: Writes = field(default_factory=dict)
    parts: dict[BlobKey, Part] = field(default_factory=dict)
    cached: Values = field(default_factory=dict)
    last: Values = field(default_factory=dict)
    """The values of the checkpoint assembled last: the next one shares most of them."""

    @property
    def has_room(self) -> bool:
        """Whether the limit allows for more checkpoints."""
        return self.left is None or self.left > 0

    def values_of(self, decoded: DecodedCheckpoint, writes: Sequence[Row[Any]]) -> Values:
        """Rebuild the values that a checkpoint and its writes refer to."""
        thread_key = decoded.place.thread.key
        found: Values = {}
        for key in {*decoded.blobs.values(), *held_keys(row.data for row in writes)}:
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
        """Bytes that the page holds."""
        rows = sum(len(item.row.data) + len(item.row.metadata_data) for item in self.waiting)
        writes = sum(len(row.data) for rows in self.writes.values() for row in rows)
        parts = sum(part.content.size for part in self.parts.values())
        return rows + writes + parts + sum(value.size for value in self.cached.values())


class CheckpointLister:
    """Lists checkpoints."""

    def __init__(self, context: Context, reader: CheckpointReader) -> None:
        self._context = context
        self._reader = reader

    def start(
        self,
        config: RunnableConfig | None,
        filter: Mapping[str, Any] | None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Listing:
        """Check the arguments of `SessionSaver.list` and start a listing."""
        check_filter(filter)
        wanted: dict[str, Any] = {}
        if config is not None:
            place = place_of(config)
            wanted["thread"] = place.thread.key
            if configurable_of(config).get("checkpoint_ns") is not None:
                wanted["ns"] = place.ns_key
            if place.checkpoint_id is not None:
                wanted["checkpoint"] = place.checkpoint_id
        if before is not None and (before_id := get_checkpoint_id(before)):
            wanted["before"] = before_id
        first_page = FIRST_PAGE if limit is None else FIRST_PAGE_OF_LIMIT
        return Listing(wanted, filter or {}, limit, first_page)

    def next(self, serde: SerializerProtocol, listing: Listing) -> Script[list[CheckpointTuple]]:
        """Assemble the next checkpoint, or several small ones; an empty list is the end.

        Values that are read stay out of the cache: a long history would push out the values of
        running threads.
        """
        while not listing.waiting and listing.page_size and listing.has_room:
            try:
                yield from self._read_page(serde, listing)
            except HistoryLostError:
                # Most likely pruned between two queries: the next one no longer finds it.
                yield from self._read_page(serde, listing)
        if not listing.waiting:
            return []
        assembled: list[CheckpointTuple] = yield Aside(partial(self._assemble, listing))
        return assembled

    def _read_page(self, serde: SerializerProtocol, listing: Listing) -> Script[None]:
        """Read the next page."""
        size = listing.page_size
        if listing.left is not None and not listing.filter:
            size = min(size, listing.left)
        get_page = self._context.storage.checkpoints.get_page
        rows = yield Request.read(get_page, listing.wanted, size)
        matching = [row for row in rows if _matches(serde, row, listing.filter)]
        page = [decode(serde, _place_of(row), row) for row in matching[: listing.left]]
        yield from self._fill(listing, page)
        if listing.left is not None:
            listing.left -= len(page)
        if len(rows) < size:
            listing.page_size = 0
            return
        last = rows[-1]
        listing.wanted |= {
            "after": last.checkpoint_id, "after_thread": last.thread_key, "after_ns": last.ns_key
        }  # fmt: skip
        fitting = PAGE_BYTES * len(rows) // (listing.weight or 1)
        listing.page_size = max(1, min(2 * listing.page_size, fitting, LARGEST_PAGE))

    def _fill(self, listing: Listing, page: Sequence[DecodedCheckpoint]) -> Script[None]:
        """Read the writes and the blobs that a page needs, in one request."""
        wanted, cache = self._reader.blobs_of(page), self._context.blob_cache
        cached = {at: value for at in wanted if (value := cache.get(*at)) is not None}
        missing = wanted.keys() - cached.keys()
        rows = [decoded.row for decoded in page]
        blobs, writes = yield Request.read(self._blobs_and_writes, missing, rows)
        for at in missing - blobs.keys():
            self._reader.note_empty(*wanted[at])
        # A checkpoint that was put again has writes that are changes of its former values.
        bases = {
            (key.thread_key, base)
            for key, found in writes.items()
            for base in held_keys(row.data for row in found)
        }
        if former := bases - wanted.keys():
            blobs |= yield Request.read(self._context.storage.checkpoints.get_chains, former)
        listing.waiting.extend(page)
        listing.writes, listing.cached, listing.last = writes, cached, {}
        listing.parts = {at: part_of(row) for at, row in blobs.items()}

    def _blobs_and_writes(
        self, conn: Connection, keys: Iterable[BlobKey], checkpoints: Iterable[Row[Any]]
    ) -> tuple[dict[BlobKey, Row[Any]], Writes]:
        statements = self._context.storage.checkpoints
        return statements.get_chains(conn, keys), statements.get_writes(conn, checkpoints)

    def _assemble(self, listing: Listing) -> list[CheckpointTuple]:
        """Assemble checkpoints of the page until they are `ASSEMBLED_BYTES`."""
        assembled: list[CheckpointTuple] = []
        taken = 0
        while listing.waiting and taken < ASSEMBLED_BYTES:
            decoded = listing.waiting.popleft()
            row = decoded.row
            writes = listing.writes.get(decoded.place.key_of(row.checkpoint_id), ())
            values = listing.values_of(decoded, writes)
            assembled.append(self._reader.assemble(decoded, values, writes))
            taken += len(row.data) + sum(value.size for value in values.values())
            taken += sum(len(write.data) for write in writes)
        return assembled


def _matches(serde: SerializerProtocol, row: Row[Any], wanted: Mapping[str, Any]) -> bool:
    """Whether metadata equals a filter, compared in Python as `InMemorySaver` does."""
    if not wanted:
        return True
    metadata = load_metadata(serde, f"checkpoint {row.checkpoint_id!r}", row)
    return all(value == metadata.get(key) for key, value in wanted.items())


def _place_of(row: Row[Any]) -> Place:
    thread = ThreadRef(row.thread_key, row.thread_id)
    return Place(thread, row.checkpoint_ns, row.ns_key, row.checkpoint_id)
