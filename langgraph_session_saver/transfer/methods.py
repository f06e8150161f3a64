"""The methods of a saver that move a database, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from langgraph_session_saver.transfer.archive import PathLike
from langgraph_session_saver.transfer.backup import BackingUp
from langgraph_session_saver.transfer.importing import Imported, Importing
from langgraph_session_saver.transfer.other_savers import Peer, peer_of
from langgraph_session_saver.transfer.progress import OnProgress, Transferred

if TYPE_CHECKING:
    from langgraph_session_saver.checkpointer.context import Context
    from langgraph_session_saver.checkpointer.maintenance import ThreadMaintenance
    from langgraph_session_saver.sql.scripts import Script, ScriptRunner


class TransferMethods:
    """Backup, restore and import, as `SessionSaver` has them."""

    _context: Context
    _script_runner: ScriptRunner
    _maintenance: ThreadMaintenance
    serde: Any

    def backup(self, path: PathLike, progress: OnProgress | None = None) -> dict[str, int]:
        """Write all sessions, threads and what they hold to one file, which any database takes.

        It is a snapshot: what is written meanwhile is not in it. The file gets its name when it
        is whole and on the disk, in place of one that had it; it can be read by its owner only.

        Args:
            path: The file.
            progress: Called with a `Progress` after each page of rows.

        Returns:
            How many rows of each table.

        Raises:
            BackupFileError: The file cannot be written, for example because the disk is full.
        """
        return self._script_runner.run(BackingUp(self._context).backup(path, progress))

    async def abackup(self, path: PathLike, progress: OnProgress | None = None) -> dict[str, int]:
        """As `backup`."""
        return await self._script_runner.arun(BackingUp(self._context).backup(path, progress))

    def restore(self, path: PathLike, progress: OnProgress | None = None) -> Transferred:
        """Add the rows of a backup to this database, of whatever kind it is.

        The whole file is checked first. All rows come in one transaction. Rows that are there
        with the same content stay, so that a second call changes nothing.

        Args:
            path: The file that `backup` made.
            progress: Called with a `Progress` after each page of rows.

        Returns:
            How many rows of each table were written, and how many were there.

        Raises:
            NotABackupError: The file is something else, damaged, or made by a newer version.
            BackupFileError: The file cannot be read.
            TransferConflictError: The database has a row with the same key and other content.
            ValueTooLargeError: A value is more than this database takes.
        """
        work = BackingUp(self._context)
        with closing(work.check(path)) as archive:  # before the database is even set up
            return self._script_runner.run(work.restore(archive, progress))

    async def arestore(self, path: PathLike, progress: OnProgress | None = None) -> Transferred:
        """As `restore`."""
        work = BackingUp(self._context)
        with closing(await asyncio.to_thread(work.check, path)) as archive:
            return await self._script_runner.arun(work.restore(archive, progress))

    def import_from(
        self,
        other: BaseCheckpointSaver[Any],
        progress: OnProgress | None = None,
        thread_ids: Iterable[str] | None = None,
    ) -> Imported:
        """Take over the threads of another saver: they resume here, with all their history.

        Every checkpoint comes with its parent, metadata and pending writes, and its steps project
        rows as they would have here. What is here already stays, so that a second call changes
        nothing and one that was killed goes on. A thread that is another one here, or went on
        here, is left as it is, with a warning and a reason in `skipped`.

        Args:
            other: Any saver; it is only read.
            progress: Called with a `Progress` after each checkpoint.
            thread_ids: The threads; default all.

        Raises:
            ThreadNotFoundError: The other saver has no thread of a given id.
            WrongFaceError: It can only be read with await: use `aimport_from`.
        """
        peer = peer_of(other, async_face=False)
        return self._script_runner.run(self._import_from(peer, progress, thread_ids))

    async def aimport_from(
        self,
        other: BaseCheckpointSaver[Any],
        progress: OnProgress | None = None,
        thread_ids: Iterable[str] | None = None,
    ) -> Imported:
        """As `import_from`; a saver without async methods is read in a thread."""
        peer = peer_of(other, async_face=True)
        return await self._script_runner.arun_here(self._import_from(peer, progress, thread_ids))

    def _import_from(
        self, peer: Peer, progress: OnProgress | None, thread_ids: Iterable[str] | None
    ) -> Script[Imported]:
        work = Importing(self._context, self.serde, self._maintenance)
        return (yield from work.import_from(peer, progress, thread_ids))
