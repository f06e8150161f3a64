"""The scripts of `backup` and `restore`.

A backup is one snapshot of the database. A restore is one transaction: in the middle of it
nobody sees half a database, and a failure leaves nothing. (200,000 checkpoints with all that
belongs to them are some 150 MB, which each database takes in one; a Galera cluster's limit is
2 GB, `wsrep_max_ws_size`.)
"""

from __future__ import annotations

from functools import partial

from sqlalchemy import Connection

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.errors import ValueTooLargeError
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.transfer import merging
from langgraph_session_saver.transfer.archive import Archive, PathLike, opened, written
from langgraph_session_saver.transfer.progress import Meter, OnProgress, Transferred
from langgraph_session_saver.transfer.records import all_records, count, stream


class BackingUp:
    """Writes a database to a file, and a file to a database."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._records = all_records(context.tables)

    def backup(self, path: PathLike, progress: OnProgress | None) -> Script[dict[str, int]]:
        """Write the database to a file; how many rows of each table."""
        return (yield Request.read(partial(self._backup, path, progress)))  # type: ignore[no-any-return]

    def _backup(
        self, path: PathLike, progress: OnProgress | None, conn: Connection
    ) -> dict[str, int]:
        with self._context.dialect.snapshot(conn):
            meter = Meter(progress, sum(count(conn, records) for records in self._records))
            with written(path, self._records) as archive:
                for records in self._records:
                    for page in stream(conn, records):
                        archive.add(records, page)
                        meter.advance(len(page), records.name)
        return {name: digest.rows for name, digest in archive.digests.items()}

    def check(self, path: PathLike) -> Archive:
        """Open a file, after reading it to its end."""
        return opened(path, self._records)

    def restore(self, archive: Archive, progress: OnProgress | None) -> Script[Transferred]:
        """Add a file's rows to the database."""
        self._refuse_too_large(archive)
        return (yield Request.write(partial(self._restore, archive, progress)))  # type: ignore[no-any-return]

    def _refuse_too_large(self, archive: Archive) -> None:
        size, name = archive.largest
        limit = self._context.value_limit
        if limit is not None and size > limit:
            raise ValueTooLargeError(
                f"a row of {name} in {archive.path} has a value of {size:,} bytes, and this "
                f"database takes at most {limit:,}. Nothing was written: raise the server's limit "
                "(MySQL: max_allowed_packet)"
            )

    def _restore(
        self, archive: Archive, progress: OnProgress | None, conn: Connection
    ) -> Transferred:
        dialect = self._context.dialect
        meter = Meter(progress, sum(archive.rows.values()))
        names = [records.name for records in self._records]
        done = Transferred(dict.fromkeys(names, 0), dict.fromkeys(names, 0))
        by_name = {records.name: records for records in self._records}
        empty = {name: merging.is_empty(conn, records) for name, records in by_name.items()}
        for name, rows in archive.pages():
            records = by_name[name]
            done.add(name, *merging.add(conn, dialect, records, rows, was_empty=empty[name]))
            meter.advance(len(rows), name)
        for records in self._records:
            if records.has_row_id and done.written.get(records.name):
                dialect.continue_ids(conn, records.table)
        return done
