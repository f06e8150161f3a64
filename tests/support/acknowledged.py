"""Which checkpoints a saver has acknowledged, and whether they are in the database as they were."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal, TypeAlias

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from langgraph_session_saver import SessionSaver
from tests.support.telling import as_saved, digest
from tests.support.watched import WatchedSaver
from tests.support.workloads import asked, build_graph, on
from tests.support.zygote import Child

EngineKind: TypeAlias = Literal["own", "callers", "observed"]

NEWEST = """
SELECT t.thread_id,
       (SELECT max(c.checkpoint_id) FROM session_checkpoints c
        WHERE c.thread_key = t.thread_key AND c.checkpoint_ns = '') AS newest,
       s.checkpoint_id AS current,
       (SELECT v.html FROM versions v
        WHERE v.session_id = s.id AND v.version = s.current_version) AS html
FROM session_threads t JOIN sessions s ON s.id = t.session_id
"""
"""Each thread's newest checkpoint and current page, as one statement sees them."""


class Acknowledged:
    """The checkpoints of which a put has returned, and how to wait until there are so many."""

    def __init__(self) -> None:
        self.saved: list[dict[str, Any]] = []
        self._more = threading.Condition()

    def add(self, checkpoint: Checkpoint, saved: RunnableConfig) -> None:
        """Note a checkpoint, and wake who waits for it."""
        with self._more:
            self.saved.append(as_saved(checkpoint, saved))
            self._more.notify_all()

    def wait_for(self, count: int) -> None:
        """Wait until so many checkpoints were saved."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.saved) >= count, 60)

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more checkpoints were saved."""
        self.wait_for(len(self.saved) + count)


class NotingSaver(WatchedSaver):
    """Notes each checkpoint that it has saved."""

    acknowledged: Acknowledged
    is_async: bool
    """Whether it is over an `AsyncEngine`."""

    def has_saved(self, checkpoint: Checkpoint, saved: RunnableConfig) -> None:
        """Note it."""
        self.acknowledged.add(checkpoint, saved)


@asynccontextmanager
async def noting_savers(
    urls: Sequence[str], *, engine: EngineKind = "own", **options: Any
) -> AsyncIterator[list[NotingSaver]]:
    """A saver for each URL, with notes that they share.

    Args:
        urls: The databases.
        engine: The saver's own; or a caller's with SQLAlchemy's defaults; or one of these that
            has a listener for statements.
        options: Of each saver.
    """
    acknowledged = Acknowledged()
    async with AsyncExitStack() as stack:
        savers = []
        for url in urls:
            is_async = make_url(url).get_dialect().is_async
            if engine == "own":
                saver = NotingSaver.from_conn_string(url, **options)
            else:
                made: Any = create_async_engine(url) if is_async else create_engine(url)
                if engine == "observed":
                    listened = getattr(made, "sync_engine", made)
                    event.listen(listened, "before_cursor_execute", lambda *_: None)
                stack.push_async_callback(_dispose, made)
                saver = NotingSaver(made, **options)
            stack.push_async_callback(saver.aclose)
            saver.acknowledged, saver.is_async = acknowledged, is_async
            savers.append(saver)
        yield savers


async def _dispose(engine: Engine | AsyncEngine) -> None:
    if isinstance(engine, AsyncEngine):
        await engine.dispose()
    else:
        engine.dispose()


async def run_graphs(runs: Sequence[tuple[NotingSaver, str]], during: Callable[[], object]) -> None:
    """Run a graph turn after turn over each saver, on the thread beside it, until `during` is over.

    Raises:
        Exception: One of the runs or `during` has failed.
    """
    with ThreadPoolExecutor(len(runs) + 1) as executor:
        loop = asyncio.get_running_loop()
        doing = executor.submit(during)
        await asyncio.gather(
            *(
                atake_turns(*run, doing.done)
                if run[0].is_async
                else loop.run_in_executor(executor, take_turns, *run, doing.done)
                for run in runs
            )
        )
        doing.result()


def take_turns(saver: SessionSaver, thread_id: str, is_over: Callable[[], bool]) -> None:
    """Run a graph turn after turn on one thread."""
    graph = build_graph(saver)
    turn = 0
    while not is_over():
        given: Any = {"messages": [HumanMessage(asked(turn))]}
        graph.invoke(given, on(thread_id), durability="sync")
        turn += 1


async def atake_turns(saver: SessionSaver, thread_id: str, is_over: Callable[[], bool]) -> None:
    """As `take_turns`, async."""
    graph = build_graph(saver)
    turn = 0
    while not is_over():
        given: Any = {"messages": [HumanMessage(asked(turn))]}
        await graph.ainvoke(given, on(thread_id), durability="async")
        turn += 1


def saved_by(child: Child) -> list[dict[str, Any]]:
    """The checkpoints that a process with a `TellingSaver` has told of, in what was read of it."""
    told = [json.loads(line) for line in child.lines if line.startswith("{")]  # else of a log
    return [line for line in told if "saved" in line]


def lost(reader: SessionSaver, saved: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Acknowledged checkpoints that are not there, or not as they were."""
    missing = []
    for line in saved:
        config = on(line["thread"])
        config["configurable"] |= {"checkpoint_id": line["saved"], "checkpoint_ns": ""}
        found = reader.get_tuple(config)
        if found is None or digest(found.checkpoint["channel_values"]) != line["digest"]:
            missing.append(line)
    return missing


def disagreeing(engine: Engine, reader: SessionSaver) -> list[Any]:
    """Threads whose newest checkpoint and rows differ."""
    with engine.connect() as conn:
        rows = conn.execute(text(NEWEST)).all()
    return [row for row in rows if not _agrees(reader, row)]


def _agrees(reader: SessionSaver, row: Any) -> bool:
    config = on(row.thread_id)
    config["configurable"] |= {"checkpoint_id": row.newest, "checkpoint_ns": ""}
    found = reader.get_tuple(config)
    if found is None:
        return bool(row.newest is None)
    # A run that is resumed from before the first page has none: its session keeps that page.
    html = found.checkpoint["channel_values"].get("html", row.html)
    return bool(row.newest == row.current and row.html == html)
