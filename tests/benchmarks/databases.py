"""Fresh databases to measure on: a SQLite file, or a database of a server that runs already."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from sqlalchemy import URL, NullPool, create_engine, make_url, text

from tests.support.servers import (
    BackendMissingError,
    NamedMariaDB,
    NamedPostgreSQL,
    NamedServer,
)

Kind: TypeAlias = Literal["SQLite", "PostgreSQL", "MariaDB"]
KINDS: tuple[Kind, ...] = get_args(Kind)

POSTGRES_SIZE = """
    SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
MARIADB_SIZE = """
    SELECT coalesce(sum(file_size), 0) FROM information_schema.innodb_sys_tablespaces
    WHERE name LIKE concat(database(), '/%')
"""


class Database(ABC):
    """One fresh database.

    Attributes:
        kind: What it is a database of.
        url: For SQLAlchemy's plain engines, with the driver that the saver would choose.
    """

    kind: Kind

    def __init__(self, url: URL) -> None:
        self.url = url

    @property
    def address(self) -> str:
        """The URL as text, password included."""
        return self.url.render_as_string(hide_password=False)

    def with_driver(self, driver: str) -> URL:
        """The URL for another driver: `psycopg`, `asyncpg`, `aiosqlite`, or "" for none."""
        scheme = self.url.get_backend_name()
        return self.url.set(drivername=f"{scheme}+{driver}" if driver else scheme)

    def through(self, port: int) -> Database:
        """The same database, reached through a port of this machine."""
        return type(self)(self.url.set(host="127.0.0.1", port=port))

    @abstractmethod
    def size(self) -> int:
        """Bytes that the tables and their indexes take on disk now."""

    @abstractmethod
    def vacuum(self) -> None:
        """Give free pages back."""

    def run(self, statement: str) -> list[tuple[object, ...]]:
        """Run one statement outside of transactions, on a connection of its own."""
        engine = create_engine(self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            result = connection.execute(text(statement))
            rows = [tuple(row) for row in result] if result.returns_rows else []
        engine.dispose()
        return rows


class SqliteFile(Database):
    """A SQLite file."""

    kind = "SQLite"

    @property
    def path(self) -> Path:
        return Path(str(self.url.database))

    def size(self) -> int:
        """Bytes of the file and of the log beside it."""
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def vacuum(self) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class PostgresDatabase(Database):
    """A database of a PostgreSQL server."""

    kind = "PostgreSQL"

    def size(self) -> int:
        return int(str(self.run(POSTGRES_SIZE)[0][0]))

    def vacuum(self) -> None:
        self.run("VACUUM FULL")


class MariaDatabase(Database):
    """A database of a MariaDB server."""

    kind = "MariaDB"

    def size(self) -> int:
        return int(str(self.run(MARIADB_SIZE)[0][0]))

    def vacuum(self) -> None:
        for (table,) in self.run("SHOW TABLES"):
            self.run(f"OPTIMIZE TABLE `{table}`")


class Site(ABC):
    """Where fresh databases of one kind come from."""

    kind: Kind

    @abstractmethod
    def version(self) -> str:
        """What the database says of itself."""

    @abstractmethod
    def doubts(self) -> list[str]:
        """Settings that make it faster than its default by risking what was committed."""

    @abstractmethod
    @contextmanager
    def fresh(self) -> Iterator[Database]:
        """An empty database, gone afterwards."""

    def copy_of(self, database: Database) -> AbstractContextManager[Database]:
        """A copy of a database that nobody uses now, gone afterwards."""
        raise NotImplementedError(f"{self.kind} cannot copy {database.url.database}")


class SqliteSite(Site):
    """A directory for SQLite files."""

    kind = "SQLite"

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def version(self) -> str:
        return sqlite3.sqlite_version

    def doubts(self) -> list[str]:
        in_memory = self.directory.resolve().is_relative_to("/dev/shm")
        return ["SQLite's files are in memory"] if in_memory else []

    @contextmanager
    def fresh(self) -> Iterator[Database]:
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            yield SqliteFile(URL.create("sqlite", database=str(Path(directory) / "saver.db")))

    @contextmanager
    def copy_of(self, database: Database) -> Iterator[Database]:
        with self.fresh() as copy:
            # Connections that were closed have put their log into the file.
            shutil.copyfile(str(database.url.database), str(copy.url.database))
            yield copy


class ServerSite(Site):
    """A server that runs already."""

    made: type[Database]
    server_type: type[NamedServer]

    def __init__(self, url: str) -> None:
        self.server = self.server_type(url)
        try:
            self.server.start()
        except BackendMissingError as error:
            raise SiteMissingError(str(error)) from error

    def version(self) -> str:
        return self.server.version()

    @contextmanager
    def fresh(self) -> Iterator[Database]:
        with self._made() as made:
            yield made

    @contextmanager
    def _made(self, **options: str) -> Iterator[Database]:
        name = f"benchmark_{secrets.token_hex(6)}"
        self.server.create_database(name, **options)
        try:
            yield self.made(make_url(self.server.url(name)))
        finally:
            self.server.drop_database(name)

    def admin(self) -> Database:
        """The server's own database, to ask for its settings."""
        return self.made(make_url(self.server.url()))


class PostgresSite(ServerSite):
    """A PostgreSQL server."""

    kind = "PostgreSQL"
    made = PostgresDatabase
    server_type = NamedPostgreSQL

    def doubts(self) -> list[str]:
        names = ("fsync", "synchronous_commit", "full_page_writes")
        found = {name: self.admin().run(f"SHOW {name}")[0][0] for name in names}
        return [f"PostgreSQL has {name}={value}" for name, value in found.items() if value != "on"]

    @contextmanager
    def copy_of(self, database: Database) -> Iterator[Database]:
        with self._made(options=f"TEMPLATE {database.url.database}") as copy:
            yield copy


class MariaSite(ServerSite):
    """A MariaDB server."""

    kind = "MariaDB"
    made = MariaDatabase
    server_type = NamedMariaDB

    def doubts(self) -> list[str]:
        name = "innodb_flush_log_at_trx_commit"
        value = self.admin().run(f"SELECT @@{name}")[0][0]
        return [] if value == 1 else [f"MariaDB has {name}={value}"]


class SiteMissingError(Exception):
    """No such database is to be had here; the message says why."""
