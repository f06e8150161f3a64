"""From one database to another, in pieces: a copy that was killed goes on when it is run again.

The source is read as one snapshot. Each page of rows is a transaction in the target, and a page
whose rows are there already writes nothing. At the end all of the source is read once more, in
the same snapshot, and every row of it is looked up in the target.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sqlalchemy import URL, Connection

from langgraph_session_saver.checkpointer.context import upgrade
from langgraph_session_saver.errors import (
    InvalidConfigError,
    TransferConflictError,
    TransferMismatchError,
)
from langgraph_session_saver.schema.setup import is_current, set_up, verify
from langgraph_session_saver.schema.tables import build_tables
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.sql.runner import BrokenReferenceError, Runner
from langgraph_session_saver.sql.urls import make_engine, parse_url
from langgraph_session_saver.transfer import merging
from langgraph_session_saver.transfer.archive import PathLike
from langgraph_session_saver.transfer.progress import Meter, OnProgress, Transferred
from langgraph_session_saver.transfer.records import Digest, Records, all_records, count, stream


def copy(
    from_url: str | URL | PathLike, to_url: str | URL | PathLike, progress: OnProgress | None = None
) -> Transferred:
    """Copy all sessions, threads and what they hold from one database to another, of any kind.

    Stop what writes to the source first. The target is set up if it is not, and what it has
    besides stays. Run again after it was killed, it goes on; nobody should use the target before
    it has returned.

    Args:
        from_url: The source, as `SessionSaver.from_conn_string` takes it.
        to_url: The target.
        progress: Called with a `Progress` after each page of rows, and of rows verified.

    Returns:
        How many rows of each table were written, and how many were there.

    Raises:
        InvalidConfigError: A URL cannot be used, or both are of one database.
        SchemaError: The source has not this code's tables.
        TransferConflictError: The target has a row with the same key and other content.
        TransferMismatchError: Afterwards, source and target differ.
    """
    source_url, target_url = _sync(from_url), _sync(to_url)
    if source_url == target_url:
        raise InvalidConfigError(
            f"source and target are one database, {target_url!r}: name another target"
        )
    database = source_url.database
    if source_url.get_backend_name() == "sqlite" and not Path(str(database)).exists():
        raise InvalidConfigError(f"there is no database file {database}: nothing to copy")
    source = Runner(make_engine(source_url), owned=True)
    target = Runner(make_engine(target_url), owned=True)
    try:
        return _Copy(source, target, progress).run()
    finally:
        source.close()
        target.close()


def _sync(given: str | URL | PathLike) -> URL:
    """A URL with a driver that is not an async one: the copy itself is not."""
    url = parse_url(given)
    if url.get_dialect().is_async:
        url = parse_url(url.set(drivername=url.get_backend_name()))
    return url


class _Copy:
    def __init__(self, source: Runner, target: Runner, progress: OnProgress | None) -> None:
        self._source = source
        self._target = target
        self._progress = progress
        self._tables = build_tables()
        self._records = all_records(self._tables)

    def run(self) -> Transferred:
        self._source.run(partial(verify, tables=self._tables), "read")
        if not self._target.run(partial(is_current, tables=self._tables), "read"):
            prepare = partial(
                set_up, tables=self._tables, dialect=self._target.dialect, upgrade=upgrade
            )
            self._target.run(prepare, "schema")
        return self._source.run(self._copy, "read")

    def _copy(self, conn: Connection) -> Transferred:
        names = [records.name for records in self._records]
        done = Transferred(dict.fromkeys(names, 0), dict.fromkeys(names, 0))
        with self._source.dialect.snapshot(conn):
            total = sum(count(conn, records) for records in self._records)
            meter = Meter(self._progress, 2 * total)
            for records in self._records:
                self._add(conn, records, done, meter)
            for records in self._records:
                self._verify(conn, records, meter)
        return done

    def _add(self, conn: Connection, records: Records, done: Transferred, meter: Meter) -> None:
        dialect: Dialect = self._target.dialect
        was_empty = self._target.run(partial(merging.is_empty, records=records), "read")
        for page in stream(conn, records):
            add = partial(merging.add, dialect=dialect, records=records, rows=page)
            try:
                counts = self._target.run(partial(add, was_empty=was_empty), "write")
            except BrokenReferenceError:
                # The connection was lost in a commit that was done, so the retry met its own rows.
                counts = self._target.run(partial(add, was_empty=False), "write")
            done.add(records.name, *counts)
            meter.advance(len(page), records.name)
        if records.has_row_id and done.written.get(records.name):
            self._target.run(partial(dialect.continue_ids, table=records.table), "write")

    def _verify(self, conn: Connection, records: Records, meter: Meter) -> None:
        there, found = Digest(), Digest()
        for page in stream(conn, records):
            compare = partial(merging.compare, records=records, rows=page)
            try:
                compared = self._target.run(compare, "read")
            except TransferConflictError as exc:
                raise TransferMismatchError(f"the copy differs from its source: {exc}") from exc
            for values in page:
                there.add(records.fingerprint(values))
            for values in compared.kept:
                found.add(records.fingerprint(values))
            meter.advance(len(page), "verify")
        if (there.rows, str(there)) != (found.rows, str(found)):
            raise TransferMismatchError(
                f"the copy differs from its source: of {there.rows:,} rows of {records.name}, "
                f"{found.rows:,} are in the target. Somebody wrote to it meanwhile: run it again"
            )
