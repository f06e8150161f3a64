"""Copy from one database to another, which can be continued after it was interrupted.

The source is read in one snapshot, three times: to check its values before anything is written,
to copy, and at the end to look up each of its rows in the target. Each page of rows is a
transaction of the target; rows that the target has are not written again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from sqlalchemy import URL, Connection

from langgraph_session_saver.checkpointer.context import upgrade
from langgraph_session_saver.errors import (
    CorruptBlobError,
    InvalidConfigError,
    TransferConflictError,
    TransferMismatchError,
)
from langgraph_session_saver.schema.setup import is_current, set_up, verify
from langgraph_session_saver.schema.tables import build_tables
from langgraph_session_saver.sql.runner import BrokenReferenceError, Runner
from langgraph_session_saver.sql.urls import address_of, make_engine, parse_url, sync_url
from langgraph_session_saver.transfer.backup import PathLike
from langgraph_session_saver.transfer.chain_check import ChainCheck
from langgraph_session_saver.transfer.progress import Meter, OnProgress, Transferred
from langgraph_session_saver.transfer.records import (
    Records,
    all_records,
    check_fits,
    count,
    largest_of,
)


def copy(
    from_url: str | URL | PathLike, to_url: str | URL | PathLike, progress: OnProgress | None = None
) -> Transferred:
    """Copy all sessions, threads and what they hold from one database to another, of any kind.

    Stop writing to the source first, and do not use the target before the copy has returned. The
    target's tables are created if they are missing, and its other rows are kept. A copy that was
    interrupted continues when it is run again.

    Args:
        from_url: The source, as `SessionSaver.from_conn_string` takes it.
        to_url: The target.
        progress: Called with a `Progress` after each page of rows, and of rows verified.

    Returns:
        How many rows of each table were written, and how many existed.

    Raises:
        InvalidConfigError: A URL cannot be used, or both name one database.
        SchemaError: The source does not have this version's tables.
        CorruptBlobError: A value of the source is a change of itself or of one that is not there,
            or a few bytes that claim to be gigabytes; nothing was written.
        ValueTooLargeError: A value is larger than the target takes; nothing was written.
        TransferConflictError: The target has a row with the same key and other content.
        TransferMismatchError: Afterwards, source and target differ.
    """
    source_url, target_url = (sync_url(parse_url(url)) for url in (from_url, to_url))
    if source_url == target_url:
        raise InvalidConfigError(
            f"source and target are one database, {address_of(target_url)}: name another target"
        )
    database = source_url.database
    if source_url.get_backend_name() == "sqlite" and not Path(str(database)).exists():
        raise InvalidConfigError(f"there is no database file {database}: nothing to copy")
    tables = build_tables()
    every = all_records(tables)
    with (
        closing(Runner(make_engine(source_url), owned=True)) as source,
        closing(Runner(make_engine(target_url), owned=True)) as target,
    ):
        source.run(partial(verify, tables=tables), "read")
        if not target.run(partial(is_current, tables=tables), "read"):
            prepare = partial(set_up, tables=tables, dialect=target.dialect, upgrade=upgrade)
            target.run(prepare, "schema")
        limit = target.run(target.dialect.value_limit, "read")

        def copy_rows(conn: Connection) -> Transferred:
            done = Transferred.none_of(records.name for records in every)
            with source.dialect.snapshot(conn):
                _check(conn, every, limit)
                meter = Meter(progress, 2 * count(conn, every))
                for records in every:
                    _add(conn, target, records, done, meter)
                for records in every:
                    _verify(conn, target, records, meter)
            return done

        return source.run(copy_rows, "read")


def _check(conn: Connection, every: Sequence[Records], limit: int) -> None:
    """Check the source's values as a restore checks those of a file, and their sizes."""
    chains = ChainCheck()
    for records in every:
        for page in records.stream(conn):
            for values in page:
                if problem := chains.problem(records, values):
                    raise CorruptBlobError(
                        f"the source is damaged: {problem}. Nothing was written: delete that "
                        "thread there, and run the copy again"
                    )
                row = f"a row of {records.name} ({records.name_of(values)})"
                check_fits(largest_of(values), row, limit)


def _add(
    conn: Connection, target: Runner, records: Records, done: Transferred, meter: Meter
) -> None:
    was_empty = target.run(records.is_empty, "read")
    for page in records.stream(conn):
        add_page = partial(records.add, rows=page, dialect=target.dialect)
        try:
            written = target.run(partial(add_page, was_empty=was_empty), "write")
        except BrokenReferenceError:
            # The connection was lost after a commit, and the retry met the rows of this page.
            written = target.run(partial(add_page, was_empty=False), "write")
        done.add(records.name, len(page), written)
        meter.advance(len(page), records.name)


def _verify(conn: Connection, target: Runner, records: Records, meter: Meter) -> None:
    for page in records.stream(conn):
        try:
            missing = target.run(partial(records.find_missing, rows=page), "read")
        except TransferConflictError as exc:
            raise TransferMismatchError(f"the copy differs from its source: {exc}") from exc
        if missing:
            raise TransferMismatchError(
                f"the copy differs from its source: the target lacks {len(missing):,} of "
                f"{len(page):,} rows of {records.name}. It was written to meanwhile: run the copy "
                "again"
            )
        meter.advance(len(page), "verify")
