"""Create, drop and open a database, for scripts and small applications.

`target` is a URL, a file path or an `Engine`; None is the default database of
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
from langgraph_session_saver.schema.tables import build_tables
from langgraph_session_saver.sql.runner import Runner, translated
from langgraph_session_saver.sql.urls import make_engine, parse_url

Target: TypeAlias = str | URL | PathLike[str] | Engine | None


def init_db(target: Target = None, *, schema: str | None = None, table_prefix: str = "") -> None:
    """Create the tables, or upgrade existing ones to the version of this code.

    Args:
        target: The database.
        schema: Schema (PostgreSQL) or database (MySQL) that holds the tables.
        table_prefix: Prefix of every table's name.

    Raises:
        SchemaError: A table has one of our names and belongs to another application.
    """
    with _engine(target) as engine:
        runner = Runner(engine)
        tables = build_tables(translated(engine, schema), table_prefix)
        if not runner.run(lambda conn: is_current(conn, tables), "read"):
            runner.run(lambda conn: set_up(conn, tables, runner.dialect, upgrade), "schema")


def drop_db(
    target: Target = None, *, confirm: str, schema: str | None = None, table_prefix: str = ""
) -> None:
    """Drop the package's tables with all their rows, and no other table.

    Args:
        target: The database.
        confirm: The name of the database; of a SQLite file, its name without the directory.
        schema: As for `init_db`.
        table_prefix: As for `init_db`.

    Raises:
        NotConfirmedError: `confirm` is not the name; nothing was dropped.
        SchemaError: The tables are not ours, or other tables refer to them.
    """
    _drop(target, confirm, schema, table_prefix, recreate=False)


def reset_db(
    target: Target = None, *, confirm: str, schema: str | None = None, table_prefix: str = ""
) -> None:
    """Drop the package's tables with all their rows, and create them again.

    Takes and raises what `drop_db` does.
    """
    _drop(target, confirm, schema, table_prefix, recreate=True)


@contextmanager
def get_db(target: Target = None) -> Iterator[Session]:
    """Open an ORM session; at the end it is rolled back, unless committed, and closed.

    Args:
        target: The database. For a URL an engine is made for this one session: pass an `Engine`
            to open many.
    """
    with _engine(target, begin="BEGIN") as engine, Session(engine) as session:
        yield session


@contextmanager
def transaction(target: Target = None) -> Iterator[Session]:
    """Open an ORM session that is committed at the end, or rolled back on an error.

    Args:
        target: As for `get_db`.
    """
    with _engine(target, begin="BEGIN IMMEDIATE") as engine, Session(engine) as session:
        yield session
        session.commit()


def check_connection(target: Target = None) -> None:
    """Connect and run a statement that needs no tables.

    Raises:
        DatabaseUnavailableError: The database cannot be reached, and why.
        DriverNotInstalledError: Names the extra to install.
        StoragePermissionError: A file cannot be opened.
    """
    with _engine(target) as engine:
        Runner(engine).run(lambda conn: conn.execute(select(1)).scalar(), "read")


@contextmanager
def _engine(target: Target, *, begin: str | None = None) -> Iterator[Engine]:
    """Yield the target's engine, and dispose of it if it was made here.

    `begin` is SQLite's statement to begin the transactions of ORM sessions.
    """
    if isinstance(target, Engine):
        yield target
        return
    if target is not None and not isinstance(target, str | URL | PathLike):
        raise InvalidConfigError(
            f"expected a URL, a path or an Engine, found {type(target).__name__}: for an "
            "AsyncEngine use SessionSaver and its a… methods"
        )
    engine = make_engine(parse_url(target))
    if not isinstance(engine, Engine):
        raise InvalidConfigError(
            f"the driver {engine.url.drivername!r} is async: use a sync driver, for example "
            f"{engine.url.get_backend_name()}://…"
        )
    try:
        # ORM sessions need transactions, and the saver's engines autocommit.
        if begin is None:
            yield engine
        elif Runner(engine).dialect.single_writer:
            event.listen(engine, "begin", lambda conn: conn.exec_driver_sql(begin))
            yield engine
        else:
            yield engine.execution_options(isolation_level="READ COMMITTED")
    finally:
        engine.dispose()


def _drop(
    target: Target, confirm: str, schema: str | None, table_prefix: str, *, recreate: bool
) -> None:
    with _engine(target) as engine:
        name = Path(engine.url.database).name if engine.url.database else ":memory:"
        if confirm != name:
            raise NotConfirmedError(
                f"this drops all sessions, messages and checkpoints of the database {name!r}, but "
                f"confirm is {confirm!r}. Nothing was dropped: to drop them, pass confirm={name!r}"
            )
        runner = Runner(engine)
        tables = build_tables(translated(engine, schema), table_prefix)

        def operation(conn: Connection) -> None:
            if known_version(conn, tables) is None:
                refuse_what_does_not_fit(conn, tables, recorded=False)
            refuse_references(conn, tables)
            tables.metadata.drop_all(conn)
            if recreate:
                set_up(conn, tables, runner.dialect, upgrade)

        runner.run(operation, "schema")
