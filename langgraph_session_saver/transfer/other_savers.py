"""What other savers hold, read in bounded memory, through either face of theirs.

The official savers are asked in SQL for the ids of their checkpoints (PostgresSaver's `list`
fetches all that it will yield, with every value) and for the column `task_path`, which no method
of theirs gives. Any other saver's ids come from its `list`. A peer's methods return calls, which
the script that imports has made as asides.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from langgraph_session_saver.errors import WrongFaceError
from langgraph_session_saver.sql.scripts import Aside, Script

PAGE = 2_000
"""Ids that one query gives."""


class At(NamedTuple):
    """Where a checkpoint is in another saver."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str

    def config(self) -> RunnableConfig:
        """A config that names it."""
        return {"configurable": self._asdict()}


class Ids:
    """The ids of another saver's checkpoints: on disk if they are many."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._file.execute(
            "CREATE TABLE ids (thread TEXT, ns TEXT, id TEXT, PRIMARY KEY (thread, id, ns)) "
            "WITHOUT ROWID"
        )

    def add(self, found: Iterable[Sequence[str]]) -> None:
        """Remember checkpoints."""
        self._file.executemany("INSERT OR IGNORE INTO ids VALUES (?, ?, ?)", found)

    def __len__(self) -> int:
        (count,) = self._file.execute("SELECT count(*) FROM ids").fetchone()
        return int(count)

    def threads(self) -> Iterator[str]:
        """Every thread that has a checkpoint."""
        last = ("",)
        query = "SELECT thread FROM ids WHERE thread > ? ORDER BY thread LIMIT 1"
        while last := self._file.execute(query, last).fetchone():
            yield last[0]

    def of(self, thread_id: str) -> list[At]:
        """A thread's checkpoints, oldest first, in all its namespaces."""
        query = "SELECT thread, ns, id FROM ids WHERE thread = ? ORDER BY id, ns"
        return [At(*row) for row in self._file.execute(query, (thread_id,))]

    def close(self) -> None:
        """Forget them."""
        self._file.close()


Written = Sequence[tuple[str, str, str, int]]
"""Of a checkpoint's writes: task, channel, path and index."""


class Peer:
    """Any saver, through the methods that all have."""

    def __init__(self, saver: BaseCheckpointSaver[Any], *, is_async: bool) -> None:
        self.saver = saver
        self.is_async = is_async

    def get_tuple(self, at: At) -> Callable[[], Any]:
        """A call that reads a checkpoint."""
        read = self.saver.aget_tuple if self.is_async else self.saver.get_tuple
        return partial(read, at.config())

    def written(self, at: At) -> Callable[[], Written | None]:
        """A call that reads where the writes of a checkpoint belong; None if that is not kept."""
        del at
        return lambda: None

    def gather(self, ids: Ids, thread_id: str | None) -> Script[None]:
        """Note the ids of all checkpoints, or of a thread's."""
        config: RunnableConfig | None = None
        if thread_id is not None:
            config = {"configurable": {"thread_id": thread_id}}
        list_ids = self._alist_ids if self.is_async else self._list_ids
        yield Aside(partial(list_ids, ids, config))

    def _list_ids(self, ids: Ids, config: RunnableConfig | None) -> None:
        ids.add(_place(found.config) for found in self.saver.list(config))

    async def _alist_ids(self, ids: Ids, config: RunnableConfig | None) -> None:
        async for found in self.saver.alist(config):
            ids.add([_place(found.config)])


def _place(config: RunnableConfig) -> tuple[str, str, str]:
    named = config["configurable"]
    return str(named["thread_id"]), named.get("checkpoint_ns", ""), named["checkpoint_id"]


class _InMemory(Peer):
    """`InMemorySaver`, which has everything in dictionaries."""

    def written(self, at: At) -> Callable[[], Written | None]:
        """As `Peer.written`."""
        saver: Any = self.saver
        stored = saver.writes.get(tuple(at), {})
        rows = [(task, channel, path, idx) for (task, idx), (_, channel, _, path) in stored.items()]
        return lambda: rows

    def gather(self, ids: Ids, thread_id: str | None) -> Script[None]:
        """As `Peer.gather`."""
        yield from ()  # a script, though it asks for nothing
        saver: Any = self.saver
        for thread, namespaces in list(saver.storage.items()):
            if thread_id in (None, str(thread)):
                for ns, checkpoints in list(namespaces.items()):
                    ids.add((str(thread), ns, name) for name in list(checkpoints))


class _Sql(Peer):
    """A saver whose tables can be asked."""

    writes = "checkpoint_writes"
    mark = "%s"

    def query(self, sql: str, params: tuple[Any, ...]) -> Any:
        """Run a SELECT; its rows as tuples."""
        saver: Any = self.saver
        with saver._cursor() as cursor:  # noqa: SLF001 - the only way to its connection
            cursor.execute(sql, params)
            return [tuple(row.values()) for row in cursor.fetchall()]

    def written(self, at: At) -> Callable[[], Written | None]:
        """As `Peer.written`."""
        sql = (
            f"SELECT task_id, channel, task_path, idx FROM {self.writes} WHERE "  # noqa: S608
            "thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?"
        )
        return partial(self.query, sql.replace("?", self.mark), tuple(at))

    def gather(self, ids: Ids, thread_id: str | None) -> Script[None]:
        """As `Peer.gather`."""
        condition = "" if thread_id is None else "thread_id = ? AND "
        named = () if thread_id is None else (thread_id,)
        sql = (
            "SELECT thread_id, checkpoint_ns, checkpoint_id FROM checkpoints WHERE "  # noqa: S608
            f"{condition}(thread_id, checkpoint_ns, checkpoint_id) > (?, ?, ?) "
            f"ORDER BY thread_id, checkpoint_ns, checkpoint_id LIMIT {PAGE}"
        ).replace("?", self.mark)
        page = yield Aside(partial(self.query, sql, (*named, "", "", "")))
        while page:
            ids.add(page)
            page = yield Aside(partial(self.query, sql, (*named, *page[-1])))


class _AsyncSql(_Sql):
    async def query(self, sql: str, params: tuple[Any, ...]) -> Any:
        saver: Any = self.saver
        async with saver._cursor() as cursor:  # noqa: SLF001
            await cursor.execute(sql, params)
            return [tuple(row.values()) for row in await cursor.fetchall()]


class _Sqlite(_Sql):
    writes = "writes"
    mark = "?"

    def query(self, sql: str, params: tuple[Any, ...]) -> Any:
        saver: Any = self.saver
        with saver.cursor(transaction=False) as cursor:
            return cursor.execute(sql, params).fetchall()

    def written(self, at: At) -> Callable[[], Written | None]:
        if not getattr(self.saver, "_has_task_path", True):
            return lambda: None  # a read-only file from before there was the column
        return super().written(at)


class _AsyncSqlite(_Sqlite):
    async def query(self, sql: str, params: tuple[Any, ...]) -> Any:
        saver: Any = self.saver
        await saver.setup()
        async with saver.lock, saver.conn.execute(sql, params) as cursor:
            return list(await cursor.fetchall())


_KNOWN: dict[str, tuple[type[Peer], bool]] = {
    "InMemorySaver": (_InMemory, False),
    "SqliteSaver": (_Sqlite, False),
    "AsyncSqliteSaver": (_AsyncSqlite, True),
    "PostgresSaver": (_Sql, False),
    "AsyncPostgresSaver": (_AsyncSql, True),
    "PyMySQLSaver": (_Sql, False),
}
"""The official savers, by name: none of them is imported here."""


def peer_of(saver: BaseCheckpointSaver[Any], *, async_face: bool) -> Peer:
    """The way to read a saver.

    Raises:
        WrongFaceError: It has only `a…` methods, and the call is not an async one.
    """
    for cls in type(saver).__mro__:
        if cls.__module__.startswith("langgraph.checkpoint.") and cls.__name__ in _KNOWN:
            kind, is_async = _KNOWN[cls.__name__]
            break
    else:
        kind, is_async = Peer, _is_async(type(saver))
    if is_async and not async_face:
        raise WrongFaceError(
            f"{type(saver).__name__} is read with await: call aimport_from in place of import_from"
        )
    return kind(saver, is_async=is_async)


def _is_async(cls: type[BaseCheckpointSaver[Any]]) -> bool:
    return cls.get_tuple is BaseCheckpointSaver.get_tuple or cls.list is BaseCheckpointSaver.list
