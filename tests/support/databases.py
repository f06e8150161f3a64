"""Databases that are handed from test to test, with our tables in them and no rows.

To create a database, to make our tables in it and to drop it takes a server up to 0.3 s; to delete
a few rows, milliseconds. So a test's database is emptied and kept for the next one, unless the
test changed anything but rows: then it is dropped. A SQLite file is written anew, under the same
name.
"""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import Connection, Engine, MetaData, NullPool, create_engine, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from langgraph_session_saver import SessionSaver
from tests.support.servers import Server, ServerPark


class Engines:
    """Engines of one database, handed on with it: their statements are compiled already.

    Their pools are new in each test.
    """

    def __init__(self, url: str, async_url: str) -> None:
        self.url = url
        self.async_url = async_url
        self._plain: list[Engine] = []
        self._async: list[AsyncEngine] = []

    def take(self) -> Engine:
        """A plain engine that no other part of the test has."""
        return self._plain.pop() if self._plain else create_engine(self.url)

    def take_async(self) -> AsyncEngine:
        """An async engine that no other part of the test has."""
        return self._async.pop() if self._async else create_async_engine(self.async_url)

    def give_back(self, engine: Engine) -> None:
        """Take back a disposed engine, unless the test listens to it."""
        if _is_unheard(engine):
            self._plain.append(engine)

    def give_back_async(self, engine: AsyncEngine) -> None:
        """As `give_back`."""
        if _is_unheard(engine.sync_engine):
            self._async.append(engine)


def _is_unheard(engine: Any) -> bool:
    return not (engine._has_events or engine.dialect._has_events)


class Database:
    """One database of a running server, and an engine for looking into it from outside."""

    def __init__(self, server: Server, *, is_set_up: bool) -> None:
        self.server = server
        self.name = f"t_{secrets.token_hex(8)}"
        server.create_database(self.name)
        url = server.url(self.name)
        self.engines = Engines(url, server.url(self.name, asynchronous=True))
        self.outside: Engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
        self._rows: _Rows | None = None
        if is_set_up:
            set_up(self.outside)
            with self.outside.connect() as connection:
                self._rows = _ROWS[server.scheme](connection)

    def is_emptied(self) -> bool:
        """Delete what a test wrote; False where it changed more than rows."""
        if self._rows is None:
            return False
        with self.outside.connect() as connection:
            self.server.end_connections(self.name, but=connection)
            return self._rows.are_deleted(connection)

    def drop(self) -> None:
        """Drop the database, whoever is still connected to it."""
        self.outside.dispose()
        self.server.drop_database(self.name)


class SqliteFile:
    """A SQLite file, and an engine for looking into it from outside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        url = f"sqlite+pysqlite:///{path}"
        self.engines = Engines(url, f"sqlite+aiosqlite:///{path}")
        self.outside: Engine = create_engine(url, poolclass=NullPool)

    def write(self, content: bytes) -> None:
        """Make it a file of that content, and nothing beside it."""
        for each in self.path.parent.glob(f"{self.path.name}*"):
            each.unlink()
        self.path.write_bytes(content)


class _Rows:
    """Deletes the rows of a database that are not those it was set up with."""

    def __init__(self, connection: Connection) -> None:
        metadata = MetaData()
        metadata.reflect(connection)
        filled = [t for t in metadata.sorted_tables if connection.execute(select(t)).first()]
        quoted = connection.dialect.identifier_preparer.format_table
        self._kept = [select(table) for table in filled]
        self._emptied = [quoted(t) for t in reversed(metadata.sorted_tables) if t not in filled]
        self._tables = [quoted(table) for table in metadata.sorted_tables]
        self._shape = self._look(connection)

    def are_deleted(self, connection: Connection) -> bool:
        try:
            if self._look(connection) != self._shape:
                return False
        except DBAPIError:  # a table is gone
            return False
        self._delete(connection)
        return True

    def _look(self, connection: Connection) -> list[Any]:
        """What no test may change in a database that is handed on."""
        return [connection.execute(kept).all() for kept in self._kept]

    def _delete(self, connection: Connection) -> None:
        raise NotImplementedError


class _PostgreSQLRows(_Rows):
    # Every change of a catalog's row leaves another xmin; what is deleted is not counted any more.
    catalogs: ClassVar[Mapping[str, str]] = {
        "pg_class": "oid",
        "pg_attribute": "attrelid",
        "pg_attrdef": "oid",
        "pg_constraint": "oid",
        "pg_index": "indexrelid",
        "pg_trigger": "oid",
        "pg_rewrite": "oid",
        "pg_proc": "oid",
        "pg_type": "oid",
        "pg_namespace": "oid",
        "pg_extension": "oid",
        "pg_event_trigger": "oid",
        "pg_db_role_setting": "setdatabase",
    }

    def _look(self, connection: Connection) -> list[Any]:
        counted = " UNION ALL ".join(
            f"SELECT count(*), sum(xmin::text::bigint) FROM {name} WHERE {oid} >= 16384"
            for name, oid in self.catalogs.items()
        )
        return [*super()._look(connection), connection.exec_driver_sql(counted).all()]

    def _delete(self, connection: Connection) -> None:
        deletes = [f"DELETE FROM {table}" for table in self._emptied]
        restart = "SELECT setval(seqrelid, seqstart, false) FROM pg_sequence"
        connection.exec_driver_sql("; ".join([*deletes, restart]))


class _MariaDBRows(_Rows):
    counter = re.compile(r" AUTO_INCREMENT=\d+")

    def _look(self, connection: Connection) -> list[Any]:
        told = connection.exec_driver_sql
        return [
            *super()._look(connection),
            told("SHOW TABLES").all(),
            told("SHOW TRIGGERS").all(),
            [self.counter.sub("", made) for made in self._made(connection)],
        ]

    def _made(self, connection: Connection) -> list[str]:
        told = connection.exec_driver_sql
        return [told(f"SHOW CREATE TABLE {table}").one()[1] for table in self._tables]

    def _delete(self, connection: Connection) -> None:
        run = connection.exec_driver_sql
        run("SET foreign_key_checks = 0")
        for table in self._emptied:
            run(f"DELETE FROM {table}")
        run("SET foreign_key_checks = 1")
        for table, made in zip(self._tables, self._made(connection), strict=True):
            if self.counter.search(made):
                run(f"ALTER TABLE {table} AUTO_INCREMENT = 1")


_ROWS: Mapping[str, type[_Rows]] = {"postgresql": _PostgreSQLRows, "mysql": _MariaDBRows}


class Databases:
    """The databases of one pytest session: on the servers of a park, and in a directory."""

    def __init__(self, park: ServerPark) -> None:
        self.park = park
        self._emptied: dict[str, list[Database]] = {}
        self._files: list[SqliteFile] = []
        self._numbers = count()

    @contextmanager
    def one(self, name: str, *, is_set_up: bool) -> Iterator[Database]:
        """A database of that server: set up and without rows, or without tables.

        Raises:
            BackendMissingError: This machine cannot offer it.
        """
        server = self.park.get(name)
        emptied = self._emptied.setdefault(name, []) if is_set_up else []
        database = emptied.pop() if emptied else Database(server, is_set_up=is_set_up)
        try:
            yield database
        finally:
            if server.controllable:
                server.start()  # a test may have stopped or killed it
            if database.is_emptied():
                emptied.append(database)
            else:
                database.drop()

    @contextmanager
    def one_file(self) -> Iterator[SqliteFile]:
        """A SQLite file that is set up and without rows."""
        made = self._directory / f"{next(self._numbers)}.db"
        file = self._files.pop() if self._files else SqliteFile(made)
        file.write(self._file_that_is_set_up)
        yield file
        self._files.append(file)

    @cached_property
    def _directory(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="sqlite-"))

    @cached_property
    def _file_that_is_set_up(self) -> bytes:
        path = self._directory / "set-up.db"
        engine = create_engine(f"sqlite:///{path}")
        set_up(engine)
        engine.dispose()
        return path.read_bytes()

    def close(self) -> None:
        """Drop what is kept, and stop the servers that are ours."""
        for databases in self._emptied.values():
            while databases:
                database = databases.pop()
                database.outside.dispose()
                if not database.server.controllable:
                    database.drop()
        shutil.rmtree(self._directory, ignore_errors=True)
        self.park.close()


def set_up(engine: Engine) -> None:
    """Make our tables."""
    with SessionSaver(engine) as saver:
        saver.setup()
