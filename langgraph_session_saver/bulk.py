"""Deleting many rows: how each database does it without going over the same ones again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Integer,
    Select,
    Table,
    any_,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects import mysql

from langgraph_session_saver.statements import execute

BULK_CACHE = 32_000
"""KiB of pages that SQLite may hold while it deletes many rows."""


class BulkDeleting:
    """What every database does, or can be asked to."""

    first_piece = 1
    """Times as much as elsewhere that the first transaction deletes of a thread."""
    leaves_it_to_references = False
    """Whether a thread's foreign keys delete what it stores; a caller's SQLite may ignore them."""

    def delete_newest_blobs(self, blobs: Table, *, but_some: bool) -> Executable:
        """Delete blobs of a thread, each before what it is a change of.

        As many as are asked for if some stay, else at most as many.
        """
        raise NotImplementedError

    def in_bulk(self, conn: Connection) -> AbstractContextManager[None]:
        """Within a transaction: make ready to delete many rows."""
        del conn
        return nullcontext()


class SQLiteBulkDeleting(BulkDeleting):
    """SQLite, which writes pages."""

    def delete_newest_blobs(self, blobs: Table, *, but_some: bool) -> Executable:
        """The newest rows: none is a change of one that came later, and a page holds many.

        By key they are strewn, and each transaction writes most pages: 300,000 blobs in 60 of them
        took 8.5 s to delete and as long to commit. Within a range of row numbers they need not be
        sorted: 0.25 s for 100,000, and not 0.35 s.
        """
        old, number = blobs.alias("old"), literal_column("rowid", Integer)
        newest, most = literal_column("old.rowid", Integer), bindparam("most", type_=Integer)
        if but_some:
            some = select(newest).select_from(old).where(*_doomed(old, but_some=True))
            return delete(blobs).where(number.in_(some.order_by(newest.desc()).limit(most)))
        last = select(func.max(newest)).select_from(old).where(*_doomed(old, but_some=False))
        in_range = number > last.scalar_subquery() - most
        return delete(blobs).where(*_doomed(blobs, but_some=False), in_range)

    @contextmanager
    def in_bulk(self, conn: Connection) -> Iterator[None]:
        """A larger cache: with the default 2 MB a page is written many times before a commit."""
        before = int(execute(conn, "PRAGMA cache_size")[0][0][0])  # pages, or KiB below zero
        if (-before if before < 0 else 4 * before) >= BULK_CACHE:
            yield
            return
        execute(conn, f"PRAGMA cache_size=-{BULK_CACHE}")
        try:
            yield
        finally:
            if not conn.invalidated:
                execute(conn, f"PRAGMA cache_size={before}")


class PostgreSQLBulkDeleting(BulkDeleting):
    """PostgreSQL, which leaves dead rows behind."""

    # Who looks for what is gone passes it again: 100,000 checkpoints and 300,000 writes go in 0.35
    # s, in 0.42 if they are deleted before the foreign keys look for them, and in pieces in 0.65.
    # Nobody waits but who writes to the same thread.
    first_piece = 15
    leaves_it_to_references = True

    def delete_newest_blobs(self, blobs: Table, *, but_some: bool) -> Executable:
        """The deepest, by where they are."""
        old = blobs.alias("old")
        some: Select[Any] = select(literal_column("old.ctid")).select_from(old)
        some = some.where(*_doomed(old, but_some=but_some)).order_by(old.c.depth.desc())
        some = some.limit(bindparam("most", type_=Integer))
        return delete(blobs).where(
            literal_column("ctid") == any_(func.array(some.scalar_subquery()))
        )

    @contextmanager
    def in_bulk(self, conn: Connection) -> Iterator[None]:
        """Plan for the rows at hand: else each of many pieces reads the whole of a small database.

        What `urls.py` asks for suits steps, of which the plan is always the same.
        """
        execute(conn, "SET LOCAL plan_cache_mode = force_custom_plan")
        yield


class MySQLBulkDeleting(BulkDeleting):
    """MySQL and MariaDB."""

    def delete_newest_blobs(self, blobs: Table, *, but_some: bool) -> Executable:
        """The deepest."""
        name = mysql.dialect().identifier_preparer.format_table(blobs)
        of_thread = "thread_key = :thread" + (" AND blob_key NOT IN :staying" if but_some else "")
        sql = f"DELETE FROM {name} WHERE {of_thread} ORDER BY depth DESC LIMIT :most"  # noqa: S608
        return text(sql).bindparams(bindparam("staying", expanding=True)) if but_some else text(sql)


def _doomed(blobs: Any, *, but_some: bool) -> list[ColumnElement[bool]]:
    """Which are a thread's blobs, without those that stay."""
    staying: Any = bindparam("staying", expanding=True)
    of_thread = blobs.c.thread_key == bindparam("thread")
    return [of_thread, blobs.c.blob_key.not_in(staying)] if but_some else [of_thread]
