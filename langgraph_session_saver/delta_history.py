"""What a `DeltaChannel` replays: the value that an ancestor holds, and the writes since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import DeltaChannelHistory, PendingWrite
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Row

from langgraph_session_saver.chains import Value, of_thread
from langgraph_session_saver.codec import load
from langgraph_session_saver.configs import Place, place_of
from langgraph_session_saver.core import Core, Script, reading
from langgraph_session_saver.errors import HistoryLostError
from langgraph_session_saver.reading import Reading, Saved, decode, ordered, pending_of
from langgraph_session_saver.written import held_keys

ANCESTORS = 512
"""Checkpoints on a path that one query walks."""


class DeltaHistory:
    """The script of `get_delta_channel_history`."""

    def __init__(self, core: Core, reads: Reading) -> None:
        self._core = core
        self._reads = reads

    def read(
        self, serde: SerializerProtocol, config: RunnableConfig, channels: Sequence[str]
    ) -> Script[dict[str, DeltaChannelHistory]]:
        """Walk up from a checkpoint until each channel has a stored value.

        Four queries for every `ANCESTORS` checkpoints walked, however many channels.
        """
        place = place_of(config)
        collected: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
        seeds: dict[str, Any] = {}
        walk = yield from self._ancestors(serde, place, place.checkpoint_id, is_target=True)
        while walk and len(seeds) < len(collected):
            yield from self._collect(serde, walk, collected, seeds)
            parent = walk[-1].row.parent_checkpoint_id
            if parent is None:
                break
            walk = yield from self._ancestors(serde, place, parent, is_target=False)
        history: dict[str, DeltaChannelHistory] = {}
        for channel, writes in collected.items():
            history[channel] = {"writes": writes[::-1]}
            if channel in seeds:
                history[channel]["seed"] = seeds[channel]
        return history

    def _ancestors(
        self, serde: SerializerProtocol, place: Place, start: str | None, *, is_target: bool
    ) -> Script[list[Saved]]:
        core = self._core
        rows = yield reading(
            lambda conn: core.operations.get_ancestors(
                conn, place.thread.key, place.ns_key, start, ANCESTORS
            )
        )
        return [decode(serde, place, row) for row in (rows[1:] if is_target else rows)]

    def _collect(
        self,
        serde: SerializerProtocol,
        walk: Sequence[Saved],
        collected: dict[str, list[PendingWrite]],
        seeds: dict[str, Any],
    ) -> Script[None]:
        """Take each channel's writes, newest first, down to the ancestor that holds its value."""
        core = self._core
        open_channels = [channel for channel in collected if channel not in seeds]
        keys = {
            (one.place.thread.key, one.keys[channel])
            for one in walk
            for channel in open_channels
            if channel in one.keys
        }
        stored = yield reading(lambda conn: core.operations.existing_blobs(conn, keys))
        writes = yield reading(
            lambda conn: core.operations.get_writes(conn, [one.row for one in walk])
        )
        for channel in open_channels:
            for one in walk:
                at = (one.row.thread_key, one.row.ns_key, one.row.checkpoint_id)
                mine = [row for row in writes.get(at, []) if row.channel == channel]
                collected[channel] += (yield from self._written(serde, at[0], mine))[::-1]
                if channel in one.inline:
                    seeds[channel] = one.inline[channel]
                    break
                if channel not in one.versions:
                    continue
                key = (at[0], one.keys[channel])
                if key in stored:
                    value = yield from self._value(one, channel, key)
                    seeds[channel] = load(serde, value.typed, one.channel_name(channel))
                    break

    def _written(
        self, serde: SerializerProtocol, thread_key: bytes, rows: Sequence[Row[Any]]
    ) -> Script[list[PendingWrite]]:
        held: dict[tuple[bytes, bytes], Value] = {}
        yield from self._reads.add_values(thread_key, held_keys(row.data for row in rows), held)
        return pending_of(serde, ordered(rows), "", of_thread(held, thread_key))

    def _value(self, one: Saved, channel: str, at: tuple[bytes, bytes]) -> Script[Value]:
        found: dict[tuple[bytes, bytes], Value] = {}
        yield from self._reads.add_values(at[0], at[1:], found)
        if at not in found:
            raise HistoryLostError(f"{one.channel_name(channel)} is not in the database")
        return found[at]
