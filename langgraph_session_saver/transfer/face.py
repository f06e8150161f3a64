"""The methods of a saver that move a database, sync and async."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

from langgraph_session_saver.transfer.archive import PathLike
from langgraph_session_saver.transfer.backing_up import BackingUp
from langgraph_session_saver.transfer.progress import OnProgress, Transferred

if TYPE_CHECKING:
    from langgraph_session_saver.core import Core
    from langgraph_session_saver.driving import Driver


class Moves:
    """Backup, restore and import, as `SessionSaver` has them."""

    _core: Core
    _driver: Driver
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
        return self._driver.run(BackingUp(self._core).backup(path, progress))

    async def abackup(self, path: PathLike, progress: OnProgress | None = None) -> dict[str, int]:
        """As `backup`."""
        return await self._driver.arun(BackingUp(self._core).backup(path, progress))

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
        work = BackingUp(self._core)
        with closing(work.check(path)) as archive:  # before the database is even set up
            return self._driver.run(work.restore(archive, progress))

    async def arestore(self, path: PathLike, progress: OnProgress | None = None) -> Transferred:
        """As `restore`."""
        work = BackingUp(self._core)
        with closing(await asyncio.to_thread(work.check, path)) as archive:
            return await self._driver.arun(work.restore(archive, progress))
