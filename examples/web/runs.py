"""Runs of a graph in the background: tasks of a server, which outlive requests, and kills."""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Literal

from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph

from langgraph_session_saver import ThreadConflictError

Graph = CompiledStateGraph[Any, Any, Any, Any]

logger = logging.getLogger(__name__)


class BackgroundRuns:
    """The runs of one process, one to a thread. The graph's saver has `single_writer=True`.

    A run that was killed or cancelled is pending: another process can `_begin` it, also one that
    only believes it was killed. Of two processes that run a thread, one stops at its next step.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """The newest run of each thread that is run."""
        self._working: set[asyncio.Task[None]] = set()

    async def wait(self) -> None:
        """Wait until nothing runs."""
        while self._working:
            await asyncio.wait([*self._working])

    async def aclose(self) -> None:
        """Cancel what runs; the next process takes it up."""
        for task in self._working:
            task.cancel()
        await self.wait()

    async def _take(
        self, given: Any, config: RunnableConfig, work: Sequence[str] | Literal["*"]
    ) -> None:
        """Store what is given, and begin a run; what goes wrong before that is the caller's.

        Args:
            given: The input of the graph, or the answer to its question.
            config: The thread's.
            work: The nodes before which it is stored.
        """

        async def take() -> None:
            await self._graph.ainvoke(given, config, interrupt_before=work, durability="sync")
            self._begin(config)

        await asyncio.shield(self._work(take()))  # a caller who leaves cancels nothing

    def _begin(self, config: RunnableConfig) -> None:
        """Run a thread on to its next question or its end."""
        thread_id = config["configurable"]["thread_id"]

        def release(done: asyncio.Task[None]) -> None:
            if self._tasks.get(thread_id) is done:  # and not a later run
                del self._tasks[thread_id]

        self._tasks[thread_id] = task = self._work(self._run(config))
        task.add_done_callback(release)

    def _work(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something that `wait` and `aclose` know of."""
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return task

    async def _run(self, config: RunnableConfig) -> None:
        thread_id = config["configurable"]["thread_id"]
        try:
            await self._graph.ainvoke(await self._opening(config), config, durability="sync")
        except ThreadConflictError:
            logger.info("thread %s is run by another process", thread_id)
        except Exception as exc:
            logger.exception("the run of thread %s failed", thread_id)
            await self._note_failure(config, exc)

    async def _opening(self, config: RunnableConfig) -> Any:
        """The input of a thread that has none yet, where an application begins such ones."""

    async def _note_failure(self, config: RunnableConfig, exc: Exception) -> None:
        """What an application does about a run that failed."""
