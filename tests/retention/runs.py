"""Runs of a graph on a saver that prunes, compared with a saver that keeps everything."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.memory import InMemorySaver

from tests.support.backends import Sql
from tests.support.faces import SyncFaceAdapter
from tests.support.graphs import ScriptRunner, ask, line_of, says, thread
from tests.support.kept import Beside, Kept, check_kept
from tests.support.savers import SaverFactory

LINE = line_of(*[(name, says(name)) for name in ("one", "two", "three")])
ASKING = line_of(("before", says("before")), ("ask", ask("who?")), ("after", says("after")))


class Run:
    """A graph on a thread of a saver that prunes, beside one that keeps everything."""

    def __init__(
        self, make_saver: SaverFactory, builder: Any, count: int, sql: Sql, name: str = "kept"
    ) -> None:
        self.everything = InMemorySaver()
        self.reader = make_saver()
        self.config: Any = thread(name)
        self._make, self._builder = make_saver, builder
        self._count, self._sql, self._name = count, sql, name
        self.driver = self.another_process()

    def another_process(self) -> ScriptRunner:
        """The graph with a new saver that keeps as many checkpoints, like another process."""
        saver = self._make(keep_last=self._count)
        beside = Beside(saver, self.everything)
        return ScriptRunner(self._builder, beside, is_sync=isinstance(saver, SyncFaceAdapter))

    async def check(self) -> Kept:
        return await check_kept(self.reader, self.everything, self._sql, self._name, self._count)

    async def invoke(self, given: Any, **options: Any) -> Any:
        """Run in this process, then check."""
        result = await self.driver.invoke(given, self.config, **options)
        await self.check()
        return result
