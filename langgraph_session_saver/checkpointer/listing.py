"""Listing checkpoints, newest first, a page at a time.

A page holds rows, decoded chains of changes and cached values, about `PAGE_BYTES` in all. A value
is rebuilt and deserialised only when its checkpoint is asked for: a page of whole checkpoints
would hold every version of a long chat in memory.

A damaged checkpoint does not hide the others: it is left out, with a warning that names it. If
none of the first `GIVING_UP` can be read, as with a wrong key, the first one's error is raised.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    naming,
)
from langgraph_session_saver.encoding.caches import LRUCache
from langgraph_session_saver.encoding.chains import Part, held_keys, part_of, resolve
from langgraph_session_saver.encoding.framing import unpacked_size
from langgraph_session_saver.encoding.keys import CheckpointKey, Place, ThreadRef
from langgraph_session_saver.encoding.pieces import missing_from
from langgraph_session_saver.errors import CorruptBlobError, HistoryLostError
from langgraph_session_saver.log import logger
from langgraph_session_saver.sql.scripts import Aside, Request, Script
from langgraph_session_saver.storage.checkpoints import BlobKey
from langgraph_session_saver.storage.threads import owner_params, params_of
from langgraph_session_saver.validation import check_checkpoint_id, check_filter

GIVING_UP = 64
"""Damaged checkpoints after which a listing ends, if it has found no other."""

LARGEST_PAGE = 128
"""Checkpoints on a page."""

FIRST_PAGE = 4
"""Checkpoints on the first page without a limit: the caller may take only one."""

FIRST_PAGE_OF_LIMIT = 16
"""Checkpoints on the first page with a limit: the caller wants them all."""

PAGE_BYTES = 4 << 20
"""Bytes that a page should hold, estimated from the pages before."""

DECODED_BYTES = 16 * PAGE_BYTES
"""Bytes of a page's chains that stay decoded while its checkpoints are assembled."""

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
        self._blobs: Mapping[BlobKey, Row[Any]] = {}
        self._parts = LRUCache[BlobKey, Part](DECODED_BYTES, lambda part: part.content.size)
        """Blobs, decoded: neighbours share most of their chains."""
        self._cached: Values = {}
        self._last: Values = {}
        """The values of the checkpoint assembled last: the next one shares most of them."""
        self._error: Exception | None = None
        """That of the first checkpoint, if it and all up to now were left out."""
        self._failed = 0
        """How many those are: their errors would hold what they were decoded from."""
        self._has_listed = False

    def next(self, serde: SerializerProtocol) -> Script[list[CheckpointTuple]]:
        """Assemble the next checkpoint, or several small ones; an empty list is the end.

        Values that are read stay out of the cache: a long history would push out the values of
        running threads.
        """
        while True:
            while not self.waiting and self._page_size and self._left > 0:
                yield from self._read_page(serde)
            if self._error and (not self.waiting or self._failed >= GIVING_UP):
                raise self._error
            if not self.waiting:
                return []
            assembled: list[CheckpointTuple] = yield Aside(self._assemble)
            if assembled:
                self._has_listed, self._error = True, None
                return assembled

    def _read_page(self, serde: SerializerProtocol) -> Script[None]:
        """Read the next page."""
        size = self._page_size if self._filter else min(self._page_size, self._left)
        get_page = self._context.storage.checkpoints.get_page
        rows = yield Request.read(get_page, self._wanted, size)
        page, read = self._decode(serde, rows)
        if not (yield from self._fill(page)):
            # Most likely pruned between two queries: the next one no longer finds it.
            rows = yield Request.read(get_page, self._wanted, size)
            page, read = self._decode(serde, rows)
            yield from self._fill(page)
        self.waiting.extend(page)
        self._left -= len(page)
        if len(rows) < size and read == len(rows):
            self._page_size = 0
            return
        last = rows[read - 1]
        self._wanted |= {
            "after": last.checkpoint_id, "after_thread": last.thread_key, "after_ns": last.ns_key
        }  # fmt: skip
        fitting = PAGE_BYTES * len(rows) // (self.weight or 1)
        self._page_size = max(1, min(2 * self._page_size, fitting, LARGEST_PAGE))

    def _decode(
        self, serde: SerializerProtocol, rows: Sequence[Row[Any]]
    ) -> tuple[list[DecodedCheckpoint], int]:
        """The checkpoints that are wanted, and the number of rows up to the last of them."""
        page: list[DecodedCheckpoint] = []
        for read, row in enumerate(rows):
            if len(page) == self._left:
                return page, read
            with self._leaving_out_damage():
                if matches(serde, row, self._filter):
                    page.append(decode(serde, _place_of(row), row))
        return page, len(rows)

    @contextmanager
    def _leaving_out_damage(self) -> Iterator[None]:
        """Log the error of a damaged checkpoint, and go on without it."""
        try:
            yield
        except (CorruptBlobError, HistoryLostError) as exc:
            logger.warning("not listed: %s. get_tuple raises this; `doctor` looks for more", exc)
            if not self._has_listed:
                self._error = self._error or exc
                self._failed += 1

    def _fill(self, page: Sequence[DecodedCheckpoint]) -> Script[bool]:
        """Read the writes and the blobs that a page needs, in one request.

        Returns whether all blobs are there, with all their pieces.
        """
        statements, cache = self._context.storage.checkpoints, self._context.blob_cache
        wanted = self._reader.blobs_of(page)
        cached = {at: value for at in wanted if (value := cache.get(*at)) is not None}
        missing = wanted.keys() - cached.keys()
        rows = [decoded.row for decoded in page]
        blobs, writes = yield Request.read(
            lambda conn: (statements.get_chains(conn, missing), statements.get_writes(conn, rows))
        )
        # A checkpoint that was put again has writes that are changes of its former values.
        bases = {
            (key.thread_key, base)
            for key, found in writes.items()
            for base in held_keys(row.write_data for row in found)
        }
        if former := bases - wanted.keys():
            blobs |= yield Request.read(statements.get_chains, former)
        self._writes, self._cached, self._last = writes, cached, {}
        self._blobs = blobs
        self._parts.reset()
        lost = (wanted[at] for at in missing - blobs.keys())
        return all(channel in decoded.empty_channels for decoded, channel in lost) and not any(
            missing_from(row.data) for row in blobs.values()
        )

    @property
    def weight(self) -> int:
        """Bytes that the page holds."""
        rows = sum(len(item.row.data) + len(item.row.metadata_data) for item in self.waiting)
        writes = sum(len(row.write_data) for rows in self._writes.values() for row in rows)
        blobs = sum(_size_of(row) for row in self._blobs.values())
        return rows + writes + blobs + sum(value.size for value in self._cached.values())

    def _assemble(self) -> list[CheckpointTuple]:
        """Assemble checkpoints of the page until they are `ASSEMBLED_BYTES`."""
        assembled: list[CheckpointTuple] = []
        taken = 0
        while self.waiting and taken < ASSEMBLED_BYTES:
            decoded = self.waiting.popleft()
            row = decoded.row
            writes = self._writes.get(decoded.place.key_of(row.checkpoint_id), ())
            self._left += 1
            with self._leaving_out_damage():
                self._last = self._values_of(decoded, writes)
                assembled.append(self._reader.assemble(decoded, self._last, writes))
                self._left -= 1
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
            if value is None and at in self._blobs:
                with naming(decoded.name):
                    value = resolve(key, lambda base: self._part(thread_key, base))
            if value is not None:
                found[at] = value
        needed = self._reader.blobs_of([decoded])
        for at in needed.keys() - found.keys():
            self._reader.note_empty(*needed[at])
        return found

    def _part(self, thread_key: bytes, key: bytes) -> Part | None:
        """A blob of the page, decoded."""
        at = (thread_key, key)
        part = self._parts.get(at)
        if part is None and at in self._blobs:
            part = part_of(self._blobs[at])
            self._parts.put(at, part)
        return part


def _size_of(row: Row[Any]) -> int:
    """Bytes of a blob, decoded; stored bytes if it is damaged."""
    try:
        return unpacked_size(row.data)
    except CorruptBlobError:
        return len(row.data)


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
