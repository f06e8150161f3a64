"""How long a saver's transactions are, seen from outside of it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Engine, event

from tests.benchmarks.databases import Database

POLL_SECONDS = 0.005
OLDEST = """
    SELECT max(extract(epoch FROM clock_timestamp() - xact_start)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'
"""


class Longest:
    """The longest transaction so far.

    Attributes:
        seconds: How long it was open.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def note(self, seconds: float) -> None:
        self.seconds = max(self.seconds, seconds)


@contextmanager
def longest_transaction(database: Database) -> Iterator[Longest]:
    """Watch the transactions of all connections that are made to a database meanwhile."""
    watch = _watch_sqlite if database.kind == "SQLite" else _watch_postgres
    with watch(database) as longest:
        yield longest


# -- SQLite -------------------------------------------------------------------------------------


class _WatchedCursor(sqlite3.Cursor):
    """Tells its connection before and after each statement."""

    connection: _WatchedConnection

    def execute(self, *arguments: Any) -> Any:
        with self.connection.watched():
            return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> Any:
        with self.connection.watched():
            return super().executemany(*arguments)


class _WatchedConnection(sqlite3.Connection):
    """Measures from the start of the statement that opens a transaction to the end of its last."""

    longest: Longest
    _opened: float | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            if self._opened is None:
                self._opened = started
            if not self.in_transaction:
                self.longest.note(time.perf_counter() - self._opened)
                self._opened = None

    def cursor(self, *_arguments: Any, **_options: Any) -> Any:
        return super().cursor(_WatchedCursor)

    def commit(self) -> None:
        with self.watched():
            super().commit()

    def rollback(self) -> None:
        with self.watched():
            super().rollback()


@contextmanager
def _watch_sqlite(_database: Database) -> Iterator[Longest]:
    found = Longest()
    factory = type("WatchedConnection", (_WatchedConnection,), {"longest": found})
    connect = sqlite3.connect

    def watching(*arguments: Any, **options: Any) -> Any:
        return connect(*arguments, **{"factory": factory, **options})

    def configure(_dialect: Any, _record: Any, _arguments: Any, options: dict[str, Any]) -> None:
        options["factory"] = factory

    event.listen(Engine, "do_connect", configure)
    sqlite3.connect = watching  # the official saver takes no factory
    try:
        yield found
    finally:
        sqlite3.connect = connect
        event.remove(Engine, "do_connect", configure)


# -- PostgreSQL ---------------------------------------------------------------------------------


@contextmanager
def _watch_postgres(database: Database) -> Iterator[Longest]:
    found, done = Longest(), threading.Event()
    address = database.with_driver("").render_as_string(hide_password=False)

    def poll() -> None:
        with psycopg.connect(address, autocommit=True) as connection:
            while not done.wait(POLL_SECONDS):
                row = connection.execute(OLDEST).fetchone()
                found.note(float(row[0] or 0) if row else 0)

    poller = threading.Thread(target=poll)
    poller.start()
    try:
        yield found
    finally:
        done.set()
        poller.join()
