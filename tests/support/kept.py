"""A saver that prunes beside one that keeps everything, and what must hold between the two."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    CheckpointTuple,
    DeltaChannelHistory,
)

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.encoding.keys import blob_key, namespace_key
from tests.support.backends import Sql
from tests.support.compare import comparable, ids
from tests.support.forwarding import ForwardingSaver

T = TypeVar("T")

SLACK_BLOBS = 16
SLACK_ROWS = 32


class Beside(ForwardingSaver):
    """Writes to a saver that prunes and to one that keeps all; both must answer a read alike.

    So a run takes the course that it would take with the saver that keeps all, or its read fails.

    Args:
        pruned: The saver under test.
        everything: Keeps all; called synchronously.
        checks: Whether reads are compared; not while somebody else writes.
    """

    def __init__(
        self,
        pruned: BaseCheckpointSaver[Any],
        everything: BaseCheckpointSaver[Any],
        *,
        checks: bool = True,
    ) -> None:
        super().__init__(pruned)
        self.everything = everything
        self._checks = checks
        self._lock = threading.Lock()
        self._under_way: set[asyncio.Task[Any]] = set()

    def put(self, *arguments: Any, **options: Any) -> Any:
        with self._lock:
            self.everything.put(*arguments, **options)
        return super().put(*arguments, **options)

    async def aput(self, *arguments: Any, **options: Any) -> Any:
        self.everything.put(*arguments, **options)
        return await self._to_its_end(super().aput(*arguments, **options))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        with self._lock:
            self.everything.put_writes(config, writes, task_id, task_path)
        super().put_writes(config, writes, task_id, task_path)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        self.everything.put_writes(config, writes, task_id, task_path)
        await self._to_its_end(super().aput_writes(config, writes, task_id, task_path))

    async def _to_its_end(self, call: Coroutine[Any, Any, T]) -> T:
        """Await a call; if LangGraph cancels it, as it does when a node fails, it goes on."""
        under_way = asyncio.create_task(call)
        self._under_way.add(under_way)
        under_way.add_done_callback(self._under_way.discard)
        return await asyncio.shield(under_way)

    async def settled(self) -> None:
        """Wait for what was cancelled and goes on, and for what waits for that."""
        while self._under_way:
            await asyncio.gather(*self._under_way)
            await asyncio.sleep(0)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._checked(config, super().get_tuple(config))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        await self.settled()
        return self._checked(config, await super().aget_tuple(config))

    def _checked(
        self, config: RunnableConfig, found: CheckpointTuple | None
    ) -> CheckpointTuple | None:
        if self._checks:
            with self._lock:
                expected = self.everything.get_tuple(config)
            assert comparable(found) == comparable(expected)
        return found

    def list(self, config: RunnableConfig | None, **options: Any) -> Iterator[CheckpointTuple]:
        found = list(super().list(config, **options))
        self._check_list(config, found, options)
        return iter(found)

    async def alist(
        self, config: RunnableConfig | None, **options: Any
    ) -> AsyncIterator[CheckpointTuple]:
        found = [item async for item in super().alist(config, **options)]
        self._check_list(config, found, options)
        for item in found:
            yield item

    def _check_list(
        self, config: RunnableConfig | None, found: Sequence[CheckpointTuple], options: Any
    ) -> None:
        """A replay asks for the newest checkpoint before another: that is never pruned."""
        if self._checks and options.get("limit") == 1:
            with self._lock:
                expected = list(self.everything.list(config, **options))
            assert [comparable(item) for item in found] == [comparable(item) for item in expected]

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        found = super().get_delta_channel_history(config=config, channels=channels)
        return self._checked_history(config, channels, found)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        found = await super().aget_delta_channel_history(config=config, channels=channels)
        return self._checked_history(config, channels, found)

    def _checked_history(
        self,
        config: RunnableConfig,
        channels: Sequence[str],
        found: Mapping[str, DeltaChannelHistory],
    ) -> Mapping[str, DeltaChannelHistory]:
        if self._checks:
            with self._lock:
                expected = self.everything.get_delta_channel_history(
                    config=config, channels=channels
                )
            assert plain_history(found) == plain_history(expected)
        return found


def plain_history(history: Mapping[str, DeltaChannelHistory]) -> Any:
    """What a `DeltaChannel` replays, without what savers may say differently."""
    return {
        channel: (repr(found.get("seed")), [write[1:] for write in found["writes"]])
        for channel, found in history.items()
    }


class Kept(NamedTuple):
    """What a thread's tables hold."""

    roots: list[str]
    """Newest first."""
    listed: set[tuple[str, str]]
    """Namespaces and ids of what is listed."""
    hidden: set[tuple[str, str]]


def everything_of(saver: BaseCheckpointSaver[Any], thread_id: str) -> list[CheckpointTuple]:
    """All checkpoints of a thread, in all its namespaces, from a saver that is called so."""
    everywhere: Any = {"configurable": {"thread_id": thread_id}}
    return list(saver.list(everywhere))


def needed(
    all_of_it: Sequence[CheckpointTuple], count: int, gone: Collection[tuple[str, str]] = ()
) -> set[tuple[str, str]]:
    """Namespaces and ids of what `keep_last` keeps of a thread, read from its whole history.

    Args:
        all_of_it: All checkpoints that the thread ever had.
        count: How many root checkpoints are kept.
        gone: Namespaces and ids of those that were deleted, and only tell where others come from.
    """
    by_key = {ids(found.config)[1:]: found for found in all_of_it}
    there = by_key.keys() - set(gone)
    parents = {key: found.metadata.get("parents") or {} for key, found in by_key.items()}
    kept_roots = sorted((name for ns, name in there if not ns), reverse=True)[:count]
    oldest = kept_roots[-1] if kept_roots else ""
    bounds = {bound for name in kept_roots for bound in _replayed_before(by_key, name)}
    kept = {("", name) for name in kept_roots}
    namespaces = {ns for ns, _ in there} - {""}
    for ns in sorted(namespaces, key=lambda ns: (":" in ns, ns.count("|"))):
        newest_first = sorted((name for each, name in there if each == ns), reverse=True)
        rooted = [name for name in newest_first if "" in parents[ns, name]]
        kept |= {(ns, n) for n in [n for n in newest_first if n not in rooted][:count]}
        kept |= {(ns, name) for name in rooted if parents[ns, name][""] >= oldest}
        if ":" in ns:
            kept |= {(ns, name) for name in rooted if _caller(parents[ns, name]) in kept}
        else:
            kept |= {(ns, name) for name in rooted if name >= oldest}
            for bound in bounds:
                kept |= {(ns, name) for name in [n for n in rooted if n < bound][:1]}
    return kept


def _caller(parents: Mapping[str, str]) -> tuple[str, str]:
    """The checkpoint that a subgraph's was called from, of those that are its ancestors."""
    return max(parents.items(), key=lambda item: len(item[0]))


def _replayed_before(by_key: Mapping[tuple[str, str], CheckpointTuple], name: str) -> set[str]:
    """Before which root checkpoints a memory is looked up, by a replay of a root and by its run.

    LangGraph asks for the newest before the checkpoint that is replayed, or, where that is a fork
    or was made by hand, before its parent.
    """

    def parent_of(name: str) -> str | None:
        config = by_key["", name].parent_config
        return None if config is None else ids(config)[2]

    def source_of(name: str) -> str | None:
        return by_key["", name].metadata.get("source")

    def replay_of(name: str) -> str:
        parent = parent_of(name) if source_of(name) in {"update", "fork"} else None
        return parent or name

    bounds = {name, parent_of(name)}
    while source_of(name) == "loop" and (parent := parent_of(name)):
        name = parent
    parent = parent_of(name)
    if parent is not None and source_of(name) in {"update", "fork"}:
        steps = [by_key["", each].metadata.get("step", -2) for each in (parent, name)]
        is_copy = steps[1] != steps[0] + 1
        bounds.add(parent if source_of(name) == "update" or is_copy else replay_of(parent))
    return {bound for bound in bounds if bound is not None}


def in_tables(sql: Sql, thread_id: str) -> Kept:
    """Read what a thread's tables hold."""
    rows = sql(
        "SELECT c.checkpoint_ns, c.checkpoint_id, c.hidden FROM session_checkpoints c "
        "JOIN session_threads t ON t.thread_key = c.thread_key WHERE t.thread_id = :thread",
        thread=thread_id,
    )
    listed = {(row["checkpoint_ns"], row["checkpoint_id"]) for row in rows if not row["hidden"]}
    hidden = {(row["checkpoint_ns"], row["checkpoint_id"]) for row in rows if row["hidden"]}
    return Kept(sorted((name for ns, name in listed if not ns), reverse=True), listed, hidden)


async def check_kept(
    saver: SessionSaver,
    everything: BaseCheckpointSaver[Any],
    sql: Sql,
    thread_id: str,
    count: int,
) -> Kept:
    """Assert that exactly what `keep_last` keeps is there, each as it was, and nothing more.

    Args:
        saver: On the database that was pruned; an `a…` face.
        everything: Keeps all that the thread ever had.
        sql: Plain SQL.
        thread_id: The thread.
        count: How many root checkpoints are kept.
    """
    whole = {ids(found.config)[1:]: found for found in everything_of(everything, thread_id)}
    expected = needed(list(whole.values()), count)
    kept = in_tables(sql, thread_id)
    wanted_roots = sorted((name for ns, name in whole if not ns), reverse=True)[:count]
    assert kept.roots == wanted_roots
    assert expected <= kept.listed, f"gone though needed: {sorted(expected - kept.listed)}"

    everywhere: Any = {"configurable": {"thread_id": thread_id}}
    listed = [found async for found in saver.alist(everywhere)]
    assert {ids(found.config)[1:] for found in listed} == kept.listed
    for found in listed:
        assert comparable(found) == comparable(whole[ids(found.config)[1:]])

    orphans = await orphan_blobs(saver, sql, thread_id, kept)
    late = orphan_writes(sql, thread_id, kept)
    assert len(orphans) <= SLACK_BLOBS
    assert len(kept.listed - expected) + len(orphans) + len(late) <= SLACK_ROWS
    return kept


async def orphan_blobs(
    saver: SessionSaver, sql: Sql, thread_id: str, kept: Kept
) -> Collection[bytes]:
    """The blobs of a thread that no stored checkpoint's channel, or a base of it, is."""
    used: set[bytes] = set()
    for ns, name in kept.listed | kept.hidden:
        named: Any = {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": name}
        found = await saver.aget_tuple({"configurable": named})
        assert found is not None
        for channel, version in found.checkpoint["channel_versions"].items():
            used.add(blob_key(ns, channel, version))
    rows = sql(
        "SELECT b.blob_key, b.base_key FROM session_blobs b "
        "JOIN session_threads t ON t.thread_key = b.thread_key WHERE t.thread_id = :thread",
        thread=thread_id,
    )
    bases = {bytes(row["blob_key"]): row["base_key"] for row in rows}
    reached: set[bytes] = set()
    for key in used:
        at: bytes | None = key
        while at is not None and at not in reached and at in bases:
            reached.add(at)
            base = bases[at]
            at = None if base is None else bytes(base)
    return bases.keys() - reached


def orphan_writes(sql: Sql, thread_id: str, kept: Kept) -> list[str]:
    """The writes of a thread whose checkpoint is not there: young ones, or such as crossed with
    the step that pruned it and go with the next.
    """
    rows = sql(
        "SELECT w.ns_key, w.checkpoint_id FROM session_writes w "
        "JOIN session_threads t ON t.thread_key = w.thread_key WHERE t.thread_id = :thread",
        thread=thread_id,
    )
    there = {(namespace_key(ns), name) for ns, name in kept.listed | kept.hidden}
    return [
        row["checkpoint_id"]
        for row in rows
        if (bytes(row["ns_key"]), row["checkpoint_id"]) not in there
    ]
