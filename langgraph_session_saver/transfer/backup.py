"""Backup of a database to a file, and restore of a file to a database.

A backup is one snapshot of the database. A restore is one transaction, so that nobody sees half
of it and a failure leaves nothing. (200,000 checkpoints with their rows are about 150 MB, which
each database takes in one transaction; the limit of a Galera cluster, `wsrep_max_ws_size`, is
2 GB.)
"""

from __future__ import annotations

from sqlalchemy import Connection

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.errors import ValueTooLargeError
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.transfer.archive import Archive, PathLike, new_archive
from langgraph_session_saver.transfer.merging import add, is_empty
from langgraph_session_saver.transfer.progress import Meter, OnProgress, Transferred
from langgraph_session_saver.transfer.records import all_records, count, stream


def write_backup(
    context: Context, path: PathLike, progress: OnProgress | None
) -> Script[dict[str, int]]:
    """Write the database to a file, and return the number of rows by table."""
    every = all_records(context.tables)

    def write_rows(conn: Connection) -> dict[str, int]:
        with context.dialect.snapshot(conn), new_archive(path, every) as archive:
            meter = Meter(progress, count(conn, every))
            for records in every:
                for page in stream(conn, records):
                    archive.add(records, page)
                    meter.advance(len(page), records.name)
        return archive.digests.rows

    return (yield Request.read(write_rows))  # type: ignore[no-any-return]


def restore_backup(
    context: Context, archive: Archive, progress: OnProgress | None
) -> Script[Transferred]:
    """Add a file's rows to the database."""
    _refuse_too_large(archive, context.value_limit)

    def add_rows(conn: Connection) -> Transferred:
        zero = dict.fromkeys(archive.known, 0)
        done = Transferred(zero.copy(), zero)
        meter = Meter(progress, sum(archive.rows.values()))
        was_empty = {name: is_empty(conn, records) for name, records in archive.known.items()}
        for records, page in archive.pages():
            name = records.name
            written = add(conn, context.dialect, records, page, was_empty=was_empty[name])
            done.add(name, len(page), written)
            meter.advance(len(page), name)
        return done

    return (yield Request.write(add_rows))  # type: ignore[no-any-return]


def _refuse_too_large(archive: Archive, limit: int | None) -> None:
    size, name = archive.largest
    if limit is not None and size > limit:
        raise ValueTooLargeError(
            f"a row of {name} in {archive.path} has a value of {size:,} bytes, and this "
            f"database takes at most {limit:,}. Nothing was written: raise the server's limit "
            "(MySQL: max_allowed_packet)"
        )
