"""Long threads and large databases, filled faster than a saver would be allowed to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import Engine, Table, create_engine, event, insert, literal, select

from langgraph_session_saver.encoding.keys import thread_key
from langgraph_session_saver.schema.tables import build_tables
from tests.benchmarks.calls import continued, of_thread, recorded, run
from tests.benchmarks.contenders import OURS, Contender
from tests.benchmarks.databases import Database
from tests.benchmarks.graphs import chat, loop

TEMPLATE = "template"
TEMPLATE_TURNS = 7
CHECKPOINTS = 3 * TEMPLATE_TURNS
"""Of each thread that is copied."""

ROUND = 1_000
"""Checkpoints of a long thread that a graph makes; the others repeat them."""

OWNERS = 500
CHUNK = 1_000
"""Threads that are copied in one transaction."""


@contextmanager
def hurried(database: Database) -> Iterator[None]:
    """Let commits to a database not wait for the disk, for connections that are made meanwhile."""

    def configure(connection: Any, _record: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")

    name = database.url.database
    if database.kind == "PostgreSQL":
        database.run(f"ALTER DATABASE {name} SET synchronous_commit = off")
    event.listen(Engine, "connect", configure)
    try:
        yield
    finally:
        event.remove(Engine, "connect", configure)
        if database.kind == "PostgreSQL":
            database.run(f"ALTER DATABASE {name} RESET synchronous_commit")


def fill_thread(contender: Contender, database: Database, thread_id: str, checkpoints: int) -> None:
    """Save one long thread of a tiny state: up to a thousand checkpoints, or whole thousands."""
    with hurried(database), contender.open(database) as saver:
        connection = getattr(saver, "conn", None)
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")
        length = min(checkpoints, ROUND)
        # Two checkpoints come before the first step: the input, and its arrival.
        calls = recorded(loop(length - 2, notes=2, characters=50), saver)
        for call in continued(of_thread(calls, thread_id), checkpoints // length, saver):
            call.make(saver)
    _look_over(database)


def fill_alike(source: Database, target: Database) -> None:
    """Put into a PostgreSQL database what our saver stored in another database.

    A tenth of what its calls would take: 700,000 rows by COPY.
    """
    with OURS.open(target):
        pass  # makes the tables
    tables = build_tables()
    address = target.with_driver("").render_as_string(hide_password=False)
    engine = create_engine(source.url)
    with engine.connect() as old, psycopg.connect(address) as new:
        new.execute("SET session_replication_role = replica")
        for table in tables.metadata.sorted_tables:
            if table is tables.version:
                continue
            names = ", ".join(column.name for column in table.c)
            with new.cursor().copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
                for row in old.execute(select(table)).yield_per(CHUNK):
                    copy.write_row([Jsonb(v) if isinstance(v, dict | list) else v for v in row])
    engine.dispose()
    _look_over(target)


def _look_over(database: Database) -> None:
    """Let PostgreSQL know how much there is, as in a database that has been in use for a while.

    Without, its planner takes every table for almost empty: a full list of 10,000 checkpoints took
    the official saver 73 s.
    """
    if database.kind == "PostgreSQL":
        database.run("VACUUM ANALYZE")


def fill_database(database: Database, threads: int, *, owners: int = OWNERS) -> None:
    """Save one thread through the saver, and copy its rows in SQL for so many others.

    Nothing that is stored but the thread's key tells one from the other.
    """
    with OURS.open(database) as saver:
        run(chat(TEMPLATE_TURNS, asked=20, told=80), saver, TEMPLATE)
    engine = create_engine(database.url)
    if database.kind == "PostgreSQL":
        event.listen(engine, "connect", _without_checks)
    for first in range(0, threads, CHUNK):
        _copy(engine, range(first, min(first + CHUNK, threads)), owners)
    engine.dispose()
    _look_over(database)


def _without_checks(connection: Any, _record: Any) -> None:
    """The template's rows were checked; their copies need not be."""
    connection.execute("SET session_replication_role = replica")
    connection.commit()


def thread_name(number: int) -> str:
    """The id of a copied thread."""
    return f"copy-{number}"


def _copy(engine: Engine, numbers: range, owners: int) -> None:
    tables = build_tables()
    template = thread_key(TEMPLATE)
    with engine.begin() as conn:
        session = conn.execute(select(tables.sessions).filter_by(id=TEMPLATE)).one()._asdict()
        thread = conn.execute(select(tables.threads).filter_by(thread_key=template)).one()
        names = [thread_name(number) for number in numbers]
        conn.execute(
            insert(tables.sessions),
            [
                {**session, "id": name, "owner_id": f"owner-{number % owners}"}
                for number, name in zip(numbers, names, strict=True)
            ],
        )
        conn.execute(
            insert(tables.threads),
            [
                {
                    **thread._asdict(),
                    "thread_key": thread_key(name),
                    "thread_id": name,
                    "session_id": name,
                }
                for name in names
            ],
        )
        for table in tables:
            if table not in (tables.version, tables.sessions, tables.threads):
                _copy_rows(conn, table, tables.threads, names, template)


def _copy_rows(conn: Any, table: Table, threads: Table, names: list[str], template: bytes) -> None:
    """Insert the template's rows of one table once for each named thread, in the keys' order."""
    own = {"thread_key", "thread_id", "session_id"}
    columns = [column for column in table.columns if column.autoincrement is not True]
    chosen = [threads.c[column.name] if column.name in own else column for column in columns]
    rows = (
        select(*chosen)
        .select_from(threads.join(table, literal(1) == 1))
        .where(table.c.thread_key == template, threads.c.thread_id.in_(names))
        .order_by(threads.c.thread_key)
    )
    conn.execute(insert(table).from_select([column.name for column in columns], rows))
