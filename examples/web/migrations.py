"""Migrations of an application's tables, together with the package's.

An application has a folder of Alembic scripts, whose `env.py` calls `run`. One process at a time
migrates, the package's tables first.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command, context, op
from alembic.config import Config
from alembic.ddl.mysql import MariaDBImpl, MySQLImpl
from sqlalchemy import BLANK_SCHEMA, URL, Connection, MetaData, Table, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.web.models import ON_MYSQL
from langgraph_session_saver import migrate
from langgraph_session_saver.models import Id, UTCDateTime


class _UnnamedKey:
    """MariaDB and MySQL call every primary key PRIMARY, and warn of the name that Alembic gives."""

    def version_table_impl(self, **options: Any) -> Table:
        """Alembic's table of revisions."""
        table: Table = super().version_table_impl(**options)  # type: ignore[misc]
        table.primary_key.name = None
        return table


class _MySQL(_UnnamedKey, MySQLImpl):
    __dialect__ = "mysql"


class _MariaDB(_UnnamedKey, MariaDBImpl):
    __dialect__ = "mariadb"


LOCKS = {
    "postgresql": "SELECT pg_advisory_xact_lock(hashtext(:name))",
    "mysql": "SELECT GET_LOCK(:name, 60)",
    "mariadb": "SELECT GET_LOCK(:name, 60)",
}
"""SQLite's transactions take the write lock as they begin."""


def config_of(folder: Path, url: str | URL) -> Config:
    """Alembic's config of a folder of scripts, for one database."""
    config = Config(folder / "alembic.ini")
    config.attributes["url"] = make_url(url)
    return config


async def upgrade(folder: Path, url: str | URL, revision: str = "head") -> None:
    """Bring a database to a revision; whoever else migrates it waits."""
    await asyncio.to_thread(command.upgrade, config_of(folder, url), revision)


@asynccontextmanager
async def migrated(
    folder: Path, make_engine: Callable[[str | URL], AsyncEngine], url: str | URL
) -> AsyncIterator[AsyncEngine]:
    """Migrate a database, and open its engine."""
    await upgrade(folder, url)
    engine = make_engine(url)
    try:
        yield engine
    finally:
        await engine.dispose()


def run(
    name: str,
    metadata: MetaData,
    make_engine: Callable[[str | URL], AsyncEngine],
    *,
    uncompared: Collection[str] = (),
) -> None:
    """Migrate the database of `config_of`, or of DATABASE_URL, by an engine of its own.

    Args:
        name: Of the lock.
        metadata: The declared tables, which autogenerate compares with the database's.
        make_engine: Makes the application's engine.
        uncompared: The names of what autogenerate leaves alone.
    """
    url = context.config.attributes.get("url") or os.environ["DATABASE_URL"]
    asyncio.run(_run(name, metadata, make_engine(url), uncompared))


async def _run(
    name: str, metadata: MetaData, engine: AsyncEngine, uncompared: Collection[str]
) -> None:
    def migrate_all(connection: Connection) -> None:
        lock = LOCKS.get(connection.dialect.name)
        if lock and connection.scalar(text(lock), {"name": f"{name}.migrations"}) == 0:
            raise TimeoutError("another process has migrated this database for 60 seconds")
        context.configure(
            connection=connection,
            target_metadata=_translated(metadata, connection),
            include_name=migrate.not_ours(),
            include_object=lambda _item, item_name, *_: item_name not in uncompared,
        )
        with context.begin_transaction():
            migrate.include(context)
            context.run_migrations()

    if engine.dialect.name == "sqlite":
        # A table that is rebuilt is dropped, which must not delete what refers to it.
        off = "PRAGMA foreign_keys=OFF"
        event.listen(engine.sync_engine, "connect", lambda connection, _: connection.execute(off))
    try:
        async with engine.connect() as connection:
            await connection.execution_options(writes=True)
            async with connection.begin():
                await connection.run_sync(migrate_all)
    finally:
        await engine.dispose()


def _translated(metadata: MetaData, connection: Connection) -> MetaData:
    """The tables with the schemas that they have in this database: Alembic compares names."""
    schemas = connection.get_execution_options().get("schema_translate_map")
    if not schemas:
        return metadata

    found = MetaData(naming_convention=metadata.naming_convention)

    def place(_table: Table, _to: str | None, _key: Any, referred: str | None) -> Any:
        return schemas.get(referred, referred) or BLANK_SCHEMA

    for table in metadata.tables.values():
        named = schemas.get(table.schema, table.schema)
        table.to_metadata(found, schema=named, referred_schema_fn=place)
    return found


# -- what scripts declare tables with ------------------------------------------------------------


def create_table(
    name: str, *columns: sa.schema.SchemaItem, id_length: int = 36, schema: str | None = None
) -> None:
    """Create a table, whose primary key is an id."""
    key = sa.Column("id", Id(id_length), primary_key=True)
    op.create_table(name, key, *columns, schema=schema, **ON_MYSQL)


def owned_by(table: str, column: str, length: int = 36) -> sa.Column[Any]:
    """Declare a reference to a row, with which the database deletes this one."""
    key = sa.ForeignKey(f"{table}.id", ondelete="CASCADE")
    return sa.Column(column, Id(length), key, nullable=False)


def one_of(column: str, name: str, *values: str) -> sa.Column[Any]:
    """Declare text that is one of some values."""
    kind = sa.Enum(*values, name=name, native_enum=False, length=20, create_constraint=True)
    return sa.Column(column, kind, nullable=False)


def time(column: str) -> sa.Column[Any]:
    """Declare a time that is always there."""
    return sa.Column(column, UTCDateTime(), nullable=False)
