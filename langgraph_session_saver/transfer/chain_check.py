"""The check of stored values that come from a file or another database."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

from langgraph_session_saver.encoding.chains import LONGEST
from langgraph_session_saver.encoding.framing import most_unpacked, unpacked_size
from langgraph_session_saver.encoding.pieces import is_piece, length_of, missing_from
from langgraph_session_saver.errors import CorruptBlobError
from langgraph_session_saver.transfer.records import Records, Values


class ChainCheck:
    """Checks, row by row, that each stored value leads to a whole one, and unpacks to what it may.

    Changes come after their bases, so that no cycle passes, and values after their pieces.
    """

    def __init__(self) -> None:
        self._ids: dict[Any, str] = {}
        """Ids of threads, by key."""
        self._thread: Any = None
        self._links: dict[Any, int] = {}
        """By key, the changes that lead to the thread's whole values."""
        self._pieces: Counter[Any] = Counter()
        """By key, the bytes in the pieces of the thread's values."""

    def problem(self, records: Records, values: Values) -> str | None:
        """What is wrong with a row."""
        if records.name == "session_threads":
            key, thread_id = records.key_of(values, ("thread_key", "thread_id"))
            self._ids[key] = thread_id
        problem = self._claim(records, values) or self._end(records, values)
        if problem is None:
            return None
        thread_id = self._ids.get(records.get(values, "thread_key"), "")
        named = records.name_of(values)
        return f"a row of {records.name} of thread {thread_id!r} ({named}) {problem}"

    @staticmethod
    def _claim(records: Records, values: Values) -> str | None:
        for framed in (records.get(values, name) for name in records.columns if name in _FRAMES):
            with suppress(CorruptBlobError):  # harmless: only who reads it gets an error
                stored = length_of(framed)
                if (size := unpacked_size(framed)) > most_unpacked(stored):
                    return f"claims to unpack {stored:,} bytes to {size:,}"
        return None

    def _end(self, records: Records, values: Values) -> str | None:
        if records.name != "session_blobs":
            return None
        thread, key, base = records.key_of(values, ("thread_key", "blob_key", "base_key"))
        if thread != self._thread:
            self._thread, self._links, self._pieces = thread, {}, Counter()
        data = records.get(values, "data")
        if is_piece(data):
            self._pieces[base] += len(data) - 1
            return None
        if missing_from(data) > self._pieces[key]:
            return "is in pieces that are not all before it"
        before = -1 if base is None else self._links.get(base)
        if before is None:
            return "is a change of a value that is not before it"
        if before >= LONGEST:
            return f"ends a chain of more than {LONGEST} changes"
        self._links[key] = before + 1
        return None


_FRAMES = {"data", "metadata_data"}
"""The columns that hold frames."""
