"""Readers of other savers, in bounded memory, through their sync or their async methods.

The official savers are asked in SQL for the ids of their checkpoints (PostgresSaver's `list`
fetches all that it will yield, with every value) and for the `task_path` of writes, which no
method of theirs returns. The ids of any other saver come from its `list`. A reader's methods
return calls, for an importing script to make as `Aside`s.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from langgraph_session_saver.encoding.serde import refusing_blocked
from langgraph_session_saver.errors import WrongFaceError
from langgraph_session_saver.sql.scripts import Aside, Script

PAGE = 2_000
"""Ids that one query returns."""

Names: TypeAlias = tuple[str, str, str]
"""A thread, a namespace and a checkpoint."""


class CheckpointRef(NamedTuple):
    """A checkpoint of another saver."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str

    def config(self) -> RunnableConfig:
        """A config that names it."""
        return {"configurable": self._asdict()}


class CheckpointRefs:
    """The checkpoints of another saver: in a temporary file if they are many.

    Only the script's thread uses it, which SQLite checks: the work of an `Aside` may outlive a
    script that is cancelled, and would meet a file that is closed.
    """

    def __init__(self) -> None:
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.execute(
            "CREATE TABLE refs (thread TEXT, ns TEXT, id TEXT, PRIMARY KEY (thread, id, ns)) "
            "WITHOUT ROWID"
        )

    def add(self, found: Iterable[Sequence[str]]) -> None:
        """Add checkpoints, by thread, namespace and id."""
        self._file.executemany("INSERT OR IGNORE INTO refs VALUES (?, ?, ?)", found)

    def __len__(self) -> int:
        (count,) = self._file.execute("SELECT count(*) FROM refs").fetchone()
        return int(count)

    def threads(self) -> Iterator[str]:
        """Every thread that has a checkpoint."""
        for (thread,) in self._file.execute("SELECT DISTINCT thread FROM refs ORDER BY thread"):
            yield thread

    def of(self, thread_id: str) -> list[CheckpointRef]:
        """A thread's checkpoints in all namespaces, oldest first."""
        query = "SELECT thread, ns, id FROM refs WHERE thread = ? ORDER BY id, ns"
        return [CheckpointRef(*row) for row in self._file.execute(query, (thread_id,))]

    def close(self) -> None:
        """Delete the file."""
        self._file.close()


class Reader:
    """Reads any saver, through the methods that all savers have."""

    def __init__(self, saver: BaseCheckpointSaver[Any], *, is_async: bool) -> None:
        self.saver: Any = saver
        self.is_async = is_async

    def get_tuple(self, ref: CheckpointRef) -> Callable[[], Any]:
        """A call that returns a checkpoint."""
        return partial(self._aread if self.is_async else self._read, ref)

    def _read(self, ref: CheckpointRef) -> Any:
        with refusing_blocked(partial(self._name, ref)):
            return self.saver.get_tuple(ref.config())

    async def _aread(self, ref: CheckpointRef) -> Any:
        with refusing_blocked(partial(self._name, ref)):
            return await self.saver.aget_tuple(ref.config())

    def _name(self, ref: CheckpointRef) -> str:
        name = type(self.saver).__name__
        return f"checkpoint {ref.checkpoint_id!r} of thread {ref.thread_id!r} in the {name}"

    def task_paths(self, ref: CheckpointRef) -> Callable[[], Any] | None:
        """A call that returns the tasks that wrote to a checkpoint, each with its path.

        None if they cannot be read.
        """
        del ref
        return None

    def list_refs(self, refs: CheckpointRefs, thread_id: str | None) -> Script[None]:
        """Add all checkpoints, or a thread's."""
        named: RunnableConfig = {"configurable": {"thread_id": thread_id}}
        config = None if thread_id is None else named
        if self.is_async:
            yield Aside(partial(self._aadd_listed, refs, config))
            return
        pages = self._list_pages(config)
        while page := (yield Aside(partial(next, pages, None))):
            refs.add(page)

    def _list_pages(self, config: RunnableConfig | None) -> Iterator[list[Names]]:
        listed = (_names(found.config) for found in self.saver.list(config))
        while page := list(islice(listed, PAGE)):
            yield page

    async def _aadd_listed(self, refs: CheckpointRefs, config: RunnableConfig | None) -> None:
        async for found in self.saver.alist(config):
            refs.add([_names(found.config)])


def _names(config: RunnableConfig) -> Names:
    named = config["configurable"]
    return str(named["thread_id"]), named.get("checkpoint_ns", ""), named["checkpoint_id"]


class _InMemoryReader(Reader):
    def task_paths(self, ref: CheckpointRef) -> Callable[[], Any] | None:
        stored = self.saver.writes.get(tuple(ref), {})
        paths = {(task, path) for (task, _), (_, _, _, path) in stored.items()}
        return lambda: list(paths)


class _SqlReader(Reader):
    """Reads a saver whose tables can be queried."""

    writes_table = "checkpoint_writes"
    placeholder = "%s"

    def query(self, sql: str, params: tuple[Any, ...]) -> Any:
        """Run a SELECT, and return its rows as tuples."""
        with self.saver._cursor() as cursor:  # noqa: SLF001 - the only way to its connection
            cursor.execute(sql, params)
            return [tuple(row.values()) for row in cursor.fetchall()]

    def task_paths(self, ref: CheckpointRef) -> Callable[[], Any] | None:
        sql = (
            f"SELECT DISTINCT task_id, task_path FROM {self.writes_table} WHERE "  # noqa: S608
            "thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?"
        )
        return partial(self.query, sql.replace("?", self.placeholder), tuple(ref))

    def list_refs(self, refs: CheckpointRefs, thread_id: str | None) -> Script[None]:
        condition = "" if thread_id is None else "thread_id = ? AND "
        named = () if thread_id is None else (thread_id,)
        sql = (
            "SELECT thread_id, checkpoint_ns, checkpoint_id FROM checkpoints WHERE "  # noqa: S608
            f"{condition}(thread_id, checkpoint_ns, checkpoint_id) > (?, ?, ?) "
            f"ORDER BY thread_id, checkpoint_ns, checkpoint_id LIMIT {PAGE}"
        ).replace("?", self.placeholder)
        page = [("", "", "")]
        while page:
            page = yield Aside(partial(self.query, sql, (*named, *page[-1])))
            refs.add(page)


class _AsyncSqlReader(_SqlReader):
    async def query(self, sql: str, params: tuple[Any, ...]) -> Any:
        async with self.saver._cursor() as cursor:  # noqa: SLF001
            await cursor.execute(sql, params)
            return [tuple(row.values()) for row in await cursor.fetchall()]


class _SqliteReader(_SqlReader):
    writes_table = "writes"
    placeholder = "?"

    def query(self, sql: str, params: tuple[Any, ...]) -> Any:
        with self.saver.cursor(transaction=False) as cursor:
            return cursor.execute(sql, params).fetchall()

    def task_paths(self, ref: CheckpointRef) -> Callable[[], Any] | None:
        if not getattr(self.saver, "_has_task_path", True):
            return None  # a read-only file from before the column existed
        return super().task_paths(ref)


class _AsyncSqliteReader(_SqliteReader):
    async def query(self, sql: str, params: tuple[Any, ...]) -> Any:
        await self.saver.setup()
        async with self.saver.lock, self.saver.conn.execute(sql, params) as cursor:
            return list(await cursor.fetchall())


_READERS: dict[str, tuple[type[Reader], bool]] = {
    "InMemorySaver": (_InMemoryReader, False),
    "SqliteSaver": (_SqliteReader, False),
    "AsyncSqliteSaver": (_AsyncSqliteReader, True),
    "PostgresSaver": (_SqlReader, False),
    "AsyncPostgresSaver": (_AsyncSqlReader, True),
    "PyMySQLSaver": (_SqlReader, False),
}
"""Readers of the official savers, and whether they are async; none of the savers is imported."""


def reader_for(saver: BaseCheckpointSaver[Any], *, async_face: bool) -> Reader:
    """Choose the reader of a saver.

    Raises:
        WrongFaceError: It has only `a…` methods, and the call is not an async one.
    """
    kind = type(saver)
    base = BaseCheckpointSaver
    reader, is_async = Reader, kind.get_tuple is base.get_tuple or kind.list is base.list
    for cls in reversed(kind.__mro__):
        if cls.__module__.startswith("langgraph.checkpoint.") and cls.__name__ in _READERS:
            reader, is_async = _READERS[cls.__name__]
    if is_async and not async_face:
        raise WrongFaceError(
            f"{kind.__name__} is read with await: call aimport_from in place of import_from"
        )
    return reader(saver, is_async=is_async)
