"""The saver's methods that inspect a database."""

from __future__ import annotations

from typing import Any

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.inspection.diff import Diff, read_diff
from langgraph_session_saver.inspection.health import Health, read_health
from langgraph_session_saver.inspection.history import History, Older, read_history
from langgraph_session_saver.inspection.values import NamespaceReader
from langgraph_session_saver.sql.runner import Runner
from langgraph_session_saver.sql.scripts import ScriptMethods, awaited


class InspectionMethods(ScriptMethods):
    """`SessionSaver`'s methods `history`, `diff` and `health`."""

    _context: Context
    _runner: Runner
    serde: Any

    def _namespace(self, thread_id: str, checkpoint_ns: str) -> NamespaceReader:
        return NamespaceReader(self._context, self.serde, thread_id, checkpoint_ns)

    def history(
        self,
        thread_id: str,
        *,
        checkpoint_ns: str = "",
        limit: int = 50,
        before: str | Older | None = None,
    ) -> History:
        """Read a page of a thread's history, newest first, to print or to show in a notebook.

        A page takes at most five queries, whatever the length of the thread: checkpoints, parents
        on a later page, writes, sizes, and the tasks of `Send`s and joins; each takes another for
        every 500 rows that it names. Other values are not read, and no stored type is imported.

        Args:
            thread_id: The thread.
            checkpoint_ns: The namespace; "" is the root graph's.
            limit: Checkpoints of a page, at most 1,000.
            before: The `older` of the previous page, or a checkpoint id.

        Raises:
            InvalidConfigError: An id, `limit` or `before` is not valid.
            ThreadNotFoundError: The thread does not exist.
            CheckpointNotFoundError: The namespace has no checkpoints.
        """
        return self._run(read_history(self._namespace(thread_id, checkpoint_ns), limit, before))

    ahistory = awaited(history)

    def diff(
        self, thread_id: str, a: str, b: str | None = None, *, checkpoint_ns: str = ""
    ) -> Diff:
        """Compare two checkpoints of a thread, channel by channel.

        Takes four queries, and for each `DeltaChannel` that differs a few for every 512
        checkpoints back to its snapshot. Only values that differ are read, and no stored type is
        imported.

        Args:
            thread_id: The thread.
            a: A checkpoint id, or a unique start of one.
            b: Another; None for the newest checkpoint.
            checkpoint_ns: Their namespace; "" is the root graph's.

        Raises:
            InvalidConfigError: An id is not valid.
            AmbiguousIdError: Several checkpoint ids start with `a` or `b`.
            ThreadNotFoundError: The thread does not exist.
            CheckpointNotFoundError: The thread has no such checkpoint.
            CorruptBlobError: A checkpoint's row cannot be decoded.
        """
        return self._run(read_diff(self._namespace(thread_id, checkpoint_ns), a, b))

    adiff = awaited(diff)

    def health(self, *, sizes: bool = True) -> Health:
        """Check the connection and the schema, and measure the tables.

        Nothing is created, and an unreachable database raises nothing: `reachable` is then False
        and `reason` holds the error.

        Args:
            sizes: Whether to count rows and bytes, which scans the tables.
        """
        self._context.check_unlimited("health")
        return self._script_runner.probe(
            read_health(self._context, self._runner.sync_engine, sizes=sizes)
        )

    async def ahealth(self, *, sizes: bool = True) -> Health:
        """As `health`."""
        self._context.check_unlimited("health")
        return await self._script_runner.aprobe(
            read_health(self._context, self._runner.sync_engine, sizes=sizes)
        )
