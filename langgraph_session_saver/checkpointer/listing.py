"""Listing checkpoints, newest first, a page at a time.

A page holds rows, decoded chains of changes and cached values, about `PAGE_BYTES` in all. A value
is rebuilt and deserialised only when its checkpoint is asked for: a page of whole checkpoints
would hold every version of a long chat in memory.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple, get_checkpoint_id
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Row

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.checkpointer.get import (
    CheckpointReader,
    DecodedCheckpoint,
    Values,
    decode,
    load_metadata,
)
from langgraph_session_saver.encoding.chains import Part, held_keys, of_thread, part_of, resolve
from langgraph_session_saver.encoding.keys import CheckpointKey, Place, ThreadRef
from langgraph_session_saver.errors import HistoryLostError
from langgraph_session_saver.sql.scripts import Aside, Request, Script
from langgraph_session_saver.storage.checkpoints import BlobKey
from langgraph_session_saver.storage.threads import owner_params, params_of
from langgraph_session_saver.validation import check_checkpoint_id, check_filter

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


class Listing:
    """The position of a listing, and its current page."""

    def __init__(
        self,
        context: Context,
        config: RunnableConfig | None,
        filter: Mapping[str, Any] | None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None,
        limit: int | None,
    ) -> None:
        check_filter(filter)
        self._context, self._reader = context, CheckpointReader(context)
        self._filter = filter or {}
        self._left = sys.maxsize if limit is None else limit
        self._page_size = FIRST_PAGE if limit is None else FIRST_PAGE_OF_LIMIT
        """Checkpoints on the next page; 0 after the last one."""
        self._wanted: dict[str, Any] = {}
        """Parameters of `Checkpoints.get_page`."""
        if config is not None:
            place = Place.of(config, context.owner_id)
            self._wanted |= {"thread": place.thread.key, **params_of(place.thread)}
            if config["configurable"].get("checkpoint_ns") is not None:
                self._wanted["ns"] = place.ns_key
            if place.checkpoint_id is not None:
                self._wanted["checkpoint"] = place.checkpoint_id
        else:
            self._wanted |= owner_params(context.owner_id, is_limited=True)
        if before is not None and (before_id := get_checkpoint_id(before)):
            self._wanted["before"] = check_checkpoint_id("checkpoint_id of before", before_id)
        self.waiting: deque[DecodedCheckpoint] = deque()
        self._writes: dict[CheckpointKey, Sequence[Row[Any]]] = {}
        self._parts: dict[BlobKey, Part] = {}
        self._cached: Values = {}
        self._last: Values = {}
        """The values of the checkpoint assembled last: the next one shares most of them."""

    def next(self, serde: SerializerProtocol) -> Script[list[CheckpointTuple]]:
        """Assemble the next checkpoint, or several small ones; an empty list is the end.

        Values that are read stay out of the cache: a long history would push out the values of
        running threads.
        """
        while not self.waiting and self._page_size and self._left > 0:
            try:
                yield from self._read_page(serde)
            except HistoryLostError:
                # Most likely pruned between two queries: the next one no longer finds it.
                yield from self._read_page(serde)
        if not self.waiting:
            return []
        assembled: list[CheckpointTuple] = yield Aside(self._assemble)
        return assembled

    def _read_page(self, serde: SerializerProtocol) -> Script[None]:
        """Read the next page."""
        size = self._page_size if self._filter else min(self._page_size, self._left)
        get_page = self._context.storage.checkpoints.get_page
        rows = yield Request.read(get_page, self._wanted, size)
        matching = [row for row in rows if matches(serde, row, self._filter)]
        page = [decode(serde, _place_of(row), row) for row in matching[: self._left]]
        yield from self._fill(page)
        self._left -= len(page)
        if len(rows) < size:
            self._page_size = 0
            return
        last = rows[-1]
        self._wanted |= {
            "after": last.checkpoint_id, "after_thread": last.thread_key, "after_ns": last.ns_key
        }  # fmt: skip
        fitting = PAGE_BYTES * len(rows) // (self.weight or 1)
        self._page_size = max(1, min(2 * self._page_size, fitting, LARGEST_PAGE))

    def _fill(self, page: Sequence[DecodedCheckpoint]) -> Script[None]:
        """Read the writes and the blobs that a page needs, in one request."""
        statements, cache = self._context.storage.checkpoints, self._context.blob_cache
        wanted = self._reader.blobs_of(page)
        cached = {at: value for at in wanted if (value := cache.get(*at)) is not None}
        missing = wanted.keys() - cached.keys()
        rows = [decoded.row for decoded in page]
        blobs, writes = yield Request.read(
            lambda conn: (statements.get_chains(conn, missing), statements.get_writes(conn, rows))
        )
        for at in missing - blobs.keys():
            self._reader.note_empty(*wanted[at])
        # A checkpoint that was put again has writes that are changes of its former values.
        bases = {
            (key.thread_key, base)
            for key, found in writes.items()
            for base in held_keys(row.write_data for row in found)
        }
        if former := bases - wanted.keys():
            blobs |= yield Request.read(statements.get_chains, former)
        self.waiting.extend(page)
        self._writes, self._cached, self._last = writes, cached, {}
        self._parts = {at: part_of(row) for at, row in blobs.items()}

    @property
    def weight(self) -> int:
        """Bytes that the page holds."""
        rows = sum(len(item.row.data) + len(item.row.metadata_data) for item in self.waiting)
        writes = sum(len(row.write_data) for rows in self._writes.values() for row in rows)
        parts = sum(part.content.size for part in self._parts.values())
        return rows + writes + parts + sum(value.size for value in self._cached.values())

    def _assemble(self) -> list[CheckpointTuple]:
        """Assemble checkpoints of the page until they are `ASSEMBLED_BYTES`."""
        assembled: list[CheckpointTuple] = []
        taken = 0
        while self.waiting and taken < ASSEMBLED_BYTES:
            decoded = self.waiting.popleft()
            row = decoded.row
            writes = self._writes.get(decoded.place.key_of(row.checkpoint_id), ())
            self._last = self._values_of(decoded, writes)
            assembled.append(self._reader.assemble(decoded, self._last, writes))
            taken += len(row.data) + sum(value.size for value in self._last.values())
            taken += sum(len(write.write_data) for write in writes)
        return assembled

    def _values_of(self, decoded: DecodedCheckpoint, writes: Sequence[Row[Any]]) -> Values:
        """Rebuild the values that a checkpoint and its writes refer to."""
        thread_key = decoded.place.thread.key
        found: Values = {}
        for key in {*decoded.blobs.values(), *held_keys(row.write_data for row in writes)}:
            at = (thread_key, key)
            value = self._last.get(at) or self._cached.get(at)
            if value is None and at in self._parts:
                value = resolve(key, of_thread(self._parts, thread_key))
            if value is not None:
                found[at] = value
        return found


def matches(serde: SerializerProtocol, row: Row[Any], wanted: Mapping[str, Any]) -> bool:
    """Whether metadata equals a filter, compared in Python as `InMemorySaver` does."""
    if not wanted:
        return True
    metadata = load_metadata(serde, f"checkpoint {row.checkpoint_id!r}", row)
    return all(value == metadata.get(key) for key, value in wanted.items())


def _place_of(row: Row[Any]) -> Place:
    thread = ThreadRef(row.thread_key, row.thread_id)
    key = CheckpointKey(row.thread_key, row.ns_key, row.checkpoint_id)
    return Place(thread, row.checkpoint_ns, row.ns_key, row.checkpoint_id, key)
