"""The methods of a saver that back up, restore and import, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from langgraph_session_saver.sql.scripts import ScriptMethods, awaited
from langgraph_session_saver.transfer.backup import (
    Archive,
    PathLike,
    open_archive,
    restore_backup,
    write_backup,
)
from langgraph_session_saver.transfer.importing import Imported, Importer
from langgraph_session_saver.transfer.other_savers import reader_for
from langgraph_session_saver.transfer.progress import OnProgress, Transferred
from langgraph_session_saver.transfer.records import Records, all_records
from langgraph_session_saver.transfer.rotation import Reencrypted, reencrypt

if TYPE_CHECKING:
    from langgraph_session_saver.checkpointer.context import Context
    from langgraph_session_saver.checkpointer.maintenance import ThreadMaintenance


class TransferMethods(ScriptMethods):
    """Backup, restore and import, as `SessionSaver` has them."""

    _context: Context
    _maintenance: ThreadMaintenance
    serde: Any

    def backup(
        self, path: PathLike, progress: OnProgress | None = None, *, overwrite: bool = False
    ) -> dict[str, int]:
        """Write all sessions, threads and what they hold to one file, which any database takes.

        The file is a snapshot: it holds nothing that is written meanwhile. It gets its name, and
        replaces a backup of that name, when it is whole and on the disk. Only its owner can read
        it. The log names damaged rows with which it could not be restored.

        Args:
            path: The file.
            progress: Called with a `Progress` after each page of rows.
            overwrite: Whether to replace a file that is not a backup. The database's own files are
                never replaced.

        Returns:
            The number of rows of each table.

        Raises:
            InvalidConfigError: The file exists and is not a backup, or is one of the database's.
            BackupFileError: The file cannot be written, for example because the disk is full.
        """
        self._context.check_unlimited("backup")
        return self._run(write_backup(self._context, path, progress, overwrite=overwrite))

    abackup = awaited(backup)

    def restore(self, path: PathLike, progress: OnProgress | None = None) -> Transferred:
        """Add the rows of a backup to this database, of whatever kind it is.

        The whole file is verified first: its checksum, and that every change of a value leads to a
        whole one. All rows are written in one transaction. Rows that
        exist with the same content are kept, so that a second call changes nothing.

        Args:
            path: The file that `backup` made.
            progress: Called with a `Progress` after each page of rows.

        Returns:
            How many rows of each table were written, and how many existed.

        Raises:
            NotABackupError: The file is something else, damaged, or made by a newer version.
            BackupFileError: The file cannot be read.
            TransferConflictError: The database has a row with the same key and other content.
            ValueTooLargeError: A value is larger than this database takes.
        """
        self._context.check_unlimited("restore")
        # Before the first connection: a file that is no backup sets up no database.
        with closing(open_archive(path, all_records(self._context.tables))) as archive:
            return self._run(restore_backup(self._context, archive, progress))

    async def arestore(self, path: PathLike, progress: OnProgress | None = None) -> Transferred:
        """As `restore`."""
        self._context.check_unlimited("restore")
        every = all_records(self._context.tables)
        with closing(await _opened(path, every)) as archive:
            return await self._script_runner.arun(restore_backup(self._context, archive, progress))

    def reencrypt(self, progress: OnProgress | None = None) -> Reencrypted:
        """Encrypt all stored values with the serde's key: those in clear, and those of another key.

        The serde's cipher is that of the one key, or a `KeyRing` of the new key and others. Graphs
        may run meanwhile, with savers that have the same serde. A call that was interrupted is
        repeated: it changes what is left. Rows that were projected are not encrypted.

        Args:
            progress: Called with a `Progress` after each thread.

        Raises:
            InvalidConfigError: The serde does not encrypt.
            SerializationError: None of the keys decrypts a value; the message names its row.
        """
        self._context.check_unlimited("reencrypt")
        return self._run(reencrypt(self._context, self.serde, progress))

    areencrypt = awaited(reencrypt)

    def import_from(
        self,
        other: BaseCheckpointSaver[Any],
        progress: OnProgress | None = None,
        thread_ids: Iterable[str] | None = None,
    ) -> Imported:
        """Import the threads of another saver: they resume here, with all their history.

        Every checkpoint is stored with its parent, metadata and pending writes, and with the rows
        that its step projects. Stored checkpoints are compared and kept, so that a second call
        changes nothing and continues an import that was interrupted. A thread that has continued
        here, or is another one of the same id, is left as it is, with a warning and a reason in
        `skipped`.

        Args:
            other: Any saver; it is only read.
            progress: Called with a `Progress` after each checkpoint.
            thread_ids: The threads to import; all by default.

        Raises:
            ThreadNotFoundError: The other saver has no thread of a given id.
            SerializationError: It may not rebuild a type, by LangGraph's strictness setting or its
                own: what it reads would be stored as plain data.
            WrongFaceError: It can only be read with await: use `aimport_from`.
        """
        reader = reader_for(other, async_face=False)
        importer = Importer(self._context, self.serde, self._maintenance, reader)
        return self._run(importer.import_threads(progress, thread_ids))

    async def aimport_from(
        self,
        other: BaseCheckpointSaver[Any],
        progress: OnProgress | None = None,
        thread_ids: Iterable[str] | None = None,
    ) -> Imported:
        """As `import_from`; a saver without async methods is read in a thread."""
        reader = reader_for(other, async_face=True)
        importer = Importer(self._context, self.serde, self._maintenance, reader)
        return await self._script_runner.arun_here(importer.import_threads(progress, thread_ids))


async def _opened(path: PathLike, every: Sequence[Records]) -> Archive:
    """As `open_archive`, in a thread; a file that it opens for a cancelled task is closed."""
    opening = asyncio.ensure_future(asyncio.to_thread(open_archive, path, every))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise


def _close(opened: asyncio.Future[Archive]) -> None:
    if not opened.cancelled() and opened.exception() is None:
        opened.result().close()
