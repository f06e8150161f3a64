"""A database's beginning and end, and ORM sessions on it, for scripts and small applications.

Everywhere `target` is a URL, a file path or an `Engine`; None is the default database, as for
`SessionSaver.from_conn_string`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from sqlalchemy import URL, Connection, Engine, event, select
from sqlalchemy.orm import Session

from langgraph_session_saver.checkpointer.context import upgrade
from langgraph_session_saver.errors import InvalidConfigError, NotConfirmedError
from langgraph_session_saver.schema.adoption import refuse_references, refuse_what_does_not_fit
from langgraph_session_saver.schema.setup import is_current, known_version, set_up
from langgraph_session_saver.schema.tables import Tables, build_tables
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.sql.runner import Runner
from langgraph_session_saver.sql.urls import make_engine, parse_url

Target: TypeAlias = str | URL | PathLike[str] | Engine | None


def init_db(target: Target = None, *, schema: str | None = None, table_prefix: str = "") -> None:
    """Create the tables, or bring those that are there to this code's version.

    Args:
        target: The database.
        schema: Schema (PostgreSQL) or database (MySQL) that holds the tables.
        table_prefix: Put before every table's name.

    Raises:
        SchemaError: A table of one of our names is somebody else's.
    """
    tables = build_tables(schema, table_prefix)
    with _engine(target) as engine:
        runner = Runner(engine)
        if not runner.run(lambda conn: is_current(conn, tables), "read"):
            runner.run(lambda conn: set_up(conn, tables, runner.dialect, upgrade), "schema")


def drop_db(
    target: Target = None, *, confirm: str, schema: str | None = None, table_prefix: str = ""
) -> None:
    """Drop our tables with all that they hold, and no other table.

    Args:
        target: The database.
        confirm: The database's name, of a file without its directory.
        schema: As for `init_db`.
        table_prefix: As for `init_db`.

    Raises:
        NotConfirmedError: `confirm` is not the name; nothing was dropped.
        SchemaError: The tables are not ours, or other tables refer to them.
    """
    tables = build_tables(schema, table_prefix)
    with _engine(target) as engine:
        _refuse_unconfirmed(engine.url, confirm)
        Runner(engine).run(lambda conn: _drop(conn, tables), "schema")


def reset_db(
    target: Target = None, *, confirm: str, schema: str | None = None, table_prefix: str = ""
) -> None:
    """Drop our tables with all that they hold, and create them anew.

    Args:
        target: The database.
        confirm: As for `drop_db`.
        schema: As for `init_db`.
        table_prefix: As for `init_db`.

    Raises:
        NotConfirmedError: `confirm` is not the name; nothing was dropped.
        SchemaError: The tables are not ours, or other tables refer to them.
    """
    tables = build_tables(schema, table_prefix)
    with _engine(target) as engine:
        _refuse_unconfirmed(engine.url, confirm)
        runner = Runner(engine)
        runner.run(lambda conn: _recreate(conn, tables, runner.dialect), "schema")


@contextmanager
def get_db(target: Target = None) -> Iterator[Session]:
    """An ORM session that is closed at the end; what was not committed is rolled back.

    Args:
        target: The database. A URL's engine lives as long as the session: pass an `Engine` where
            many sessions follow each other.
    """
    with _engine(target, begin="BEGIN") as engine, Session(engine) as session:
        yield session


@contextmanager
def transaction(target: Target = None) -> Iterator[Session]:
    """An ORM session that is committed at the end, and rolled back when an error ends it.

    Args:
        target: As for `get_db`.
    """
    with _engine(target, begin="BEGIN IMMEDIATE") as engine, Session(engine) as session:
        yield session
        session.commit()


def check_connection(target: Target = None) -> None:
    """Connect, and run a statement that needs no tables.

    Raises:
        DatabaseUnavailableError: The database cannot be reached, and why.
        DriverNotInstalledError: Names the extra to install.
        StoragePermissionError: A file cannot be opened.
    """
    with _engine(target) as engine:
        Runner(engine).run(lambda conn: conn.execute(select(1)).scalar(), "read")


@contextmanager
def _engine(target: Target, *, begin: str | None = None) -> Iterator[Engine]:
    """The target's engine, disposed of if it is made here.

    Args:
        target: The database.
        begin: For an engine whose sessions have transactions: how they begin on SQLite.
    """
    if isinstance(target, Engine):
        yield target
        return
    if target is not None and not isinstance(target, str | URL | PathLike):
        raise InvalidConfigError(
            f"expected a URL, a path or an Engine, found {type(target).__name__}: over an "
            "AsyncEngine use SessionSaver and its a… methods"
        )
    engine = make_engine(parse_url(target))
    if not isinstance(engine, Engine):
        raise InvalidConfigError(
            f"the driver {engine.url.drivername!r} is an async one: name a plain one, for example "
            f"{engine.url.get_backend_name()}://…"
        )
    try:
        yield engine if begin is None else _with_transactions(engine, begin)
    finally:
        engine.dispose()


def _with_transactions(engine: Engine, begin: str) -> Engine:
    """The saver's own engines commit each statement: it begins its transactions itself."""
    if Runner(engine).dialect.single_writer:
        event.listen(engine, "begin", lambda conn: conn.exec_driver_sql(begin))
        return engine
    return engine.execution_options(isolation_level="READ COMMITTED")


def _refuse_unconfirmed(url: URL, confirm: str) -> None:
    name = Path(url.database).name if url.database else ":memory:"
    if confirm != name:
        raise NotConfirmedError(
            f"this drops all sessions, messages and checkpoints of the database {name!r}, and "
            f"confirm is {confirm!r}. Nothing was dropped: pass confirm={name!r} if you mean it"
        )


def _drop(conn: Connection, tables: Tables) -> None:
    if known_version(conn, tables) is None:
        refuse_what_does_not_fit(conn, tables, recorded=False)
    refuse_references(conn, tables)
    tables.metadata.drop_all(conn)


def _recreate(conn: Connection, tables: Tables, dialect: Dialect) -> None:
    _drop(conn, tables)
    set_up(conn, tables, dialect, upgrade)
