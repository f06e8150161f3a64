"""The methods of a saver that look into a database, sync and async."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph_session_saver.inspection.diff import Diff, Diffing
from langgraph_session_saver.inspection.health import Health, HealthCheck
from langgraph_session_saver.inspection.history import History, Older
from langgraph_session_saver.inspection.timeline import Timeline

if TYPE_CHECKING:
    from langgraph_session_saver.checkpointer.context import Context
    from langgraph_session_saver.sql.runner import Runner
    from langgraph_session_saver.sql.scripts import Script, ScriptRunner


class InspectionMethods:
    """History, differences and health, as `SessionSaver` has them."""

    _context: Context
    _script_runner: ScriptRunner
    _runner: Runner
    serde: Any

    def history(
        self,
        thread_id: str,
        *,
        checkpoint_ns: str = "",
        limit: int = 50,
        before: str | Older | None = None,
    ) -> History:
        """Read a page of what a thread did, newest first, to print or to show in a notebook.

        At most five statements for a page, whatever the thread's length: its checkpoints, parents
        that are on a later page, writes, sizes, and the tasks of `Send`s and joins; each takes one
        more for every 500 rows that it names beyond the first. Other values stay in the database.
        Nothing is imported from stored bytes, and no stored type is built.

        Args:
            thread_id: The thread.
            checkpoint_ns: The namespace; "" is the root graph's.
            limit: Checkpoints of a page, at most 1,000.
            before: The `older` of the page before, or a checkpoint id.

        Raises:
            InvalidConfigError: An id, the limit or `before` is not usable.
            ThreadNotFoundError: There is no such thread.
            CheckpointNotFoundError: The namespace has no checkpoints.
        """
        return self._script_runner.run(self._history(thread_id, checkpoint_ns, limit, before))

    async def ahistory(
        self,
        thread_id: str,
        *,
        checkpoint_ns: str = "",
        limit: int = 50,
        before: str | Older | None = None,
    ) -> History:
        """As `history`."""
        return await self._script_runner.arun(
            self._history(thread_id, checkpoint_ns, limit, before)
        )

    def _history(self, *args: Any) -> Script[History]:
        return Timeline(self._context).history(self.serde, *args)

    def diff(
        self, thread_id: str, a: str, b: str | None = None, *, checkpoint_ns: str = ""
    ) -> Diff:
        """Compare two checkpoints of a thread, value by value.

        Four statements, and for each `DeltaChannel` that differs a few for every 512 checkpoints
        back to its snapshot. Only values that differ are read; nothing is imported from stored
        bytes, and no stored type is built.

        Args:
            thread_id: The thread.
            a: A checkpoint id, or the start of one that is enough to tell.
            b: Another; None for the newest.
            checkpoint_ns: Their namespace; "" is the root graph's.

        Raises:
            InvalidConfigError: An id is not usable, or several checkpoints start so.
            ThreadNotFoundError: There is no such thread.
            CheckpointNotFoundError: The thread has no such checkpoint; says if another one has.
            CorruptBlobError: A checkpoint's own row cannot be decoded.
        """
        return self._script_runner.run(self._diff(thread_id, a, b, checkpoint_ns))

    async def adiff(
        self, thread_id: str, a: str, b: str | None = None, *, checkpoint_ns: str = ""
    ) -> Diff:
        """As `diff`."""
        return await self._script_runner.arun(self._diff(thread_id, a, b, checkpoint_ns))

    def _diff(self, *args: Any) -> Script[Diff]:
        return Diffing(self._context).diff(self.serde, *args)

    def health(self, *, sizes: bool = True) -> Health:
        """Say whether the database is there, is this code's, and how much it holds.

        Nothing is created, and nothing is raised where the database cannot be reached: `reachable`
        is then False and `reason` says why.

        Args:
            sizes: Whether to count rows and bytes, which looks through the tables.
        """
        return self._script_runner.probe(
            HealthCheck(self._context, self._runner.sync_engine).health(sizes=sizes)
        )

    async def ahealth(self, *, sizes: bool = True) -> Health:
        """As `health`."""
        return await self._script_runner.aprobe(
            HealthCheck(self._context, self._runner.sync_engine).health(sizes=sizes)
        )
