"""What revisions are made of: a place for the tables, and steps that make what is missing there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from alembic.operations import Operations
from sqlalchemy import (
    Column,
    Index,
    Inspector,
    MetaData,
    Table,
    inspect,
    null,
    update,
)
from sqlalchemy.schema import CreateIndex, CreateTable, DropIndex, DropTable

from langgraph_session_saver.schema.migrations.databases import Database, database_for
from langgraph_session_saver.sql.dialects import dialect_for

_OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mariadb_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mariadb_charset": "utf8mb4",
}


@dataclass(frozen=True)
class Place:
    """A schema and a prefix; tables of one revision, under one `MetaData`."""

    schema: str | None = None
    prefix: str = ""
    metadata: MetaData = field(default_factory=MetaData)

    def name(self, name: str) -> str:
        """A table's, index's or constraint's name in this place."""
        return self.prefix + name

    def column(self, table: str, column: str) -> str:
        """A column as a foreign key names it."""
        schema = f"{self.schema}." if self.schema else ""
        return f"{schema}{self.name(table)}.{column}"

    def table(self, name: str, *items: Any, **options: Any) -> Table:
        """Declare a table."""
        return Table(
            self.name(name), self.metadata, *items, schema=self.schema, **_OPTIONS, **options
        )

    def index(self, name: str, *columns: str, **options: Any) -> Index:
        """Declare an index."""
        return Index(self.name(name), *columns, **options)


class Steps:
    """Changes to one place of one database, or to a script (`offline`)."""

    def __init__(self, op: Operations, schema: str | None, prefix: str) -> None:
        self.op = op
        self._schema = schema
        self._prefix = prefix
        self.offline = op.get_context().as_sql

    def place(self) -> Place:
        """A fresh place to declare tables in."""
        return Place(self._schema, self._prefix)

    @cached_property
    def _database(self) -> Database:
        context = self.op.get_context()
        return database_for(dialect_for(context.dialect))(self.op, self._schema)

    # -- making -----------------------------------------------------------------------------

    def create(self, table: Table) -> None:
        """Create a table and its indexes."""
        if not self._has_table(table):
            self.op.execute(CreateTable(table))
        self._create_indexes(table)

    def extend(self, name: str, *items: Any) -> None:
        """Add columns to a table, and indexes and constraints of them."""
        table = self.place().table(name, *items)
        there = self._columns(table)
        for column in list(table.c):
            if column.name not in there:
                bare = Column(
                    column.name, column.type, server_default=column.server_default, nullable=True
                )
                self.op.add_column(table.name, bare, schema=table.schema)
        self._create_indexes(table)
        self._database.add_uniques(table)

    def fill(self, table: Table, **values: Any) -> None:
        """Give columns values where they have none."""
        for name, value in values.items():
            column = table.c[name]
            self.op.execute(update(table).where(column.is_(null())).values({name: value}))

    def convert(self, *tables: Table, without: Sequence[Table] = ()) -> None:
        """Give tables that are there exactly the declared columns, constraints and indexes.

        Args:
            *tables: The declarations, those that are referred to first. Columns and indexes that
                they do not name are the application's, and stay.
            without: Columns, constraints and indexes to drop, of tables of these names.
        """
        if not self.offline:
            for table in tables:
                self._create_indexes(table)
        self._database.convert_all(tables, {table.name: table for table in without})

    def rebind(self, before: Table, after: Table) -> None:
        """Drop a table's foreign keys and indexes that only `before` names, add those of `after`.

        Args:
            before: The table as it is.
            after: The table as it is to be, with the same columns.
        """
        self._database.rebind(before, after)

    def store_inline(self, name: str, most: int | None) -> None:
        """Let PostgreSQL keep a table's rows of up to so many bytes whole; None is its default."""
        self._database.store_inline(self.place().table(name), most)

    def utc_now(self, table: Table, column: str) -> Any:
        """The instant of the migration, as a column stores it."""
        return self._database.utc_now(table, column)

    # -- undoing ----------------------------------------------------------------------------

    def retract(self, name: str, *items: Any) -> None:
        """Undo `extend`."""
        table = self.place().table(name, *items)
        there = self._indexes(table)
        for index in table.indexes:
            if self.offline or index.name in there:
                self.op.execute(DropIndex(index))
        columns = self._columns(table)
        for column in table.c:
            if self.offline or column.name in columns:
                self.op.drop_column(table.name, column.name, schema=table.schema)

    def drop(self, name: str) -> None:
        """Drop a table."""
        table = self.place().table(name)
        if self.offline or self._has_table(table):
            self.op.execute(DropTable(table))

    # -- what is there ----------------------------------------------------------------------

    def _create_indexes(self, table: Table) -> None:
        there = self._indexes(table)
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            if index.name not in there:
                self.op.execute(CreateIndex(index))

    @property
    def _inspector(self) -> Inspector:
        return inspect(self.op.get_bind())

    def _has_table(self, table: Table) -> bool:
        return not self.offline and self._inspector.has_table(table.name, schema=table.schema)

    def _columns(self, table: Table) -> set[str]:
        if self.offline:
            return set()
        return {c["name"] for c in self._inspector.get_columns(table.name, schema=table.schema)}

    def _indexes(self, table: Table) -> set[str | None]:
        if self.offline:
            return set()
        return {i["name"] for i in self._inspector.get_indexes(table.name, schema=table.schema)}
