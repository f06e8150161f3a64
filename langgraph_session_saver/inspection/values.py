"""The scripts that find checkpoints of a thread and read their values, decoded structurally."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.base import writes_sort_key
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Row

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.checkpointer.get import ANCESTORS
from langgraph_session_saver.encoding.chains import Value, of_thread, resolve
from langgraph_session_saver.encoding.keys import Place
from langgraph_session_saver.encoding.task_writes import held_keys
from langgraph_session_saver.errors import (
    AmbiguousIdError,
    CheckpointNotFoundError,
    CorruptBlobError,
    HistoryLostError,
    InvalidConfigError,
)
from langgraph_session_saver.inspection.decode import Undecodable, plain_write
from langgraph_session_saver.inspection.facts import Facts, facts_of
from langgraph_session_saver.inspection.queries import Lookups
from langgraph_session_saver.inspection.replaying import replay
from langgraph_session_saver.inspection.text import amount
from langgraph_session_saver.inspection.timeline import Sizes, place_in, refuse_missing, value_of
from langgraph_session_saver.sql.scripts import Request, Script

LARGEST_READ = 16 << 20
"""Serialised bytes of a value that is read; a larger one is said to be too large."""

MOST_REPLAYED = 4 * ANCESTORS
"""Checkpoints that a `DeltaChannel`'s writes are collected over."""

FULL_ID = 32
"""Characters from which a name is a whole checkpoint id, and is looked for in other threads."""

REPLAYED = (
    "a DeltaChannel: its last snapshot and the writes since, in order; the graph's reducer may "
    "make something else of them"
)


@dataclass(frozen=True, slots=True)
class Side:
    """A channel in one checkpoint."""

    value: Any
    size: int | None
    note: str | None = None


NOTHING = Side(None, None)
TOO_LARGE = Undecodable(amount(LARGEST_READ), LARGEST_READ)


class Values:
    """Finds checkpoints by the starts of their ids, and reads their values."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lookups = Lookups(context.tables)

    def find(self, serde: SerializerProtocol, place: Place, what: str, name: Any) -> Script[Facts]:
        """The checkpoint that an id, the start of one, or None for the newest, stands for."""
        at, look = (place.thread.key, place.ns_key), self._lookups
        if name is None:
            rows = yield Request.read(lambda conn: look.page(conn, *at, None, 1))
        elif isinstance(name, str) and name:
            place_in(place.thread.thread_id, place.checkpoint_ns, name)
            rows = yield Request.read(lambda conn: look.starting_with(conn, *at, name, 4))
        else:
            raise InvalidConfigError(
                f"{what} is a {type(name).__name__} ({name!r:.80}): pass a checkpoint id, or the "
                "start of one"
            )
        if not rows:
            yield from refuse_missing(look, place, is_first=name is None)
            yield from self._refuse_unknown(place, what, name)
        if len(rows) > 1 and rows[0].checkpoint_id != name:
            ids = ", ".join(row.checkpoint_id for row in rows[:3])
            raise AmbiguousIdError(
                f"{what} is {name!r}, and several checkpoints of thread {place.thread.thread_id!r} "
                f"start so ({ids}{', …' if len(rows) > 3 else ''}): pass more of the id"
            )
        facts = facts_of(serde, rows[0])
        if not facts.versions and facts.problem:
            raise CorruptBlobError(
                f"checkpoint {facts.id!r} of thread {place.thread.thread_id!r} {facts.problem}"
            )
        return facts

    def _refuse_unknown(self, place: Place, what: str, name: str) -> Script[None]:
        """Say where a checkpoint is that is not in the thread, if it is anywhere."""
        found = None
        if len(name) >= FULL_ID:
            found = yield Request.read(lambda conn: self._lookups.elsewhere(conn, name))
        thread = f"thread {place.thread.thread_id!r}"
        if found is None:
            problem = f"{thread} has no checkpoint {name!r}: take one from history()"
        elif found.thread_key != place.thread.key:
            problem = (
                f"checkpoint {name!r} is of another thread than {thread}: compare one thread's"
            )
        elif found.checkpoint_ns != place.checkpoint_ns:
            problem = (
                f"checkpoint {name!r} of {thread} is in namespace {found.checkpoint_ns!r}: pass "
                "checkpoint_ns="
            )
        else:
            problem = f"checkpoint {name!r} of {thread} was pruned"
        raise CheckpointNotFoundError(f"{what}: {problem}")

    # -- their values ---------------------------------------------------------------------------

    def of(
        self,
        serde: SerializerProtocol,
        place: Place,
        checkpoints: Sequence[Facts],
        channels: Sequence[str],
    ) -> Script[list[tuple[str, list[Side]]]]:
        """The values of each channel, one for each checkpoint."""
        thread_key, ops = place.thread.key, self._context.operations
        keys = {key for one in checkpoints for c, key in one.keys().items() if c in channels}
        sizes: Sizes = yield Request.read(lambda conn: self._lookups.sizes(conn, thread_key, keys))
        small = {key for key in keys if (sizes.get(key, (0, 0))[0] or 0) <= LARGEST_READ}
        rows = yield Request.read(
            lambda conn: ops.get_chains(conn, [(thread_key, k) for k in small])
        )
        found: list[tuple[str, list[Side]]] = []
        for channel in channels:
            sides: list[Side] = []
            for one in checkpoints:
                key = one.keys().get(channel)
                if channel in one.inline:
                    sides.append(Side(one.inline[channel], one.inline_size(channel)))
                elif key is not None:
                    size = sizes.get(key, (None, 0))[0]
                    value = value_of(serde, thread_key, key, rows) if key in small else TOO_LARGE
                    sides.append(Side(value, size))
                elif one.replays(channel):
                    sides.append((yield from self._replayed(serde, place, one, channel)))
                else:
                    sides.append(NOTHING)
            found.append((channel, sides))
        return found

    def _replayed(
        self, serde: SerializerProtocol, place: Place, one: Facts, channel: str
    ) -> Script[Side]:
        """What a `DeltaChannel` was last snapshot as, and all that was written to it since."""
        ops, at = self._context.operations, (place.thread.key, place.ns_key)
        path: list[Facts] = []
        start: str | None = one.parent_id
        while start is not None and len(path) < MOST_REPLAYED:
            rows = yield Request.read(
                lambda conn, start=start: ops.get_ancestors(conn, *at, start, ANCESTORS)  # type: ignore[misc]
            )
            found = [facts_of(serde, row) for row in rows]
            seeds = [n for n, ancestor in enumerate(found) if ancestor.has_value(channel)]
            path += found[: seeds[0] + 1] if seeds else found
            start = found[-1].parent_id if found and not seeds else None
        if start is not None:
            reason = f"its last snapshot is over {MOST_REPLAYED:,} checkpoints away"
            return Side(Undecodable(reason, 0), None, REPLAYED)
        ids = [ancestor.id for ancestor in path]
        writes: Sequence[Row[Any]] = yield Request.read(
            lambda conn: self._lookups.writes_to(conn, *at, ids, [channel])
        )
        seed = None
        if path and channel in path[-1].inline:
            seed = path[-1].inline[channel]
        elif path and path[-1].has_value(channel):
            key = path[-1].key(channel)
            chain = yield Request.read(lambda conn: ops.get_chains(conn, [(at[0], key)]))
            seed = value_of(serde, at[0], key, chain)
        held = yield from self.held(at[0], writes)
        return Side(replay(seed, in_order(serde, ids, writes, held)), None, REPLAYED)

    def held(self, thread_key: bytes, writes: Sequence[Row[Any]]) -> Script[dict[bytes, Value]]:
        """The values that writes are stored as changes of, as far as they can be read."""
        keys = held_keys(row.data for row in writes)
        found: dict[bytes, Value] = {}
        if not keys:
            return found
        operations, wanted = self._context.operations, [(thread_key, key) for key in keys]
        rows = yield Request.read(lambda conn: operations.get_chains(conn, wanted))
        for key in keys:
            with suppress(HistoryLostError, CorruptBlobError):
                found[key] = resolve(key, of_thread(rows, thread_key), lambda _: None)
        return found


def in_order(
    serde: SerializerProtocol,
    newest_first: Sequence[str],
    writes: Sequence[Row[Any]],
    held: Mapping[bytes, Value],
) -> list[Any]:
    """Written values, decoded, as a graph applies them: oldest checkpoint first, then by task."""
    age = {checkpoint_id: -n for n, checkpoint_id in enumerate(newest_first)}
    writes = sorted(
        (row for row in writes if row.idx >= 0),
        key=lambda row: (
            age[row.checkpoint_id],
            *writes_sort_key(row.task_path, row.task_id, row.idx),
        ),
    )
    return [plain_write(serde, row, held) for row in writes]
