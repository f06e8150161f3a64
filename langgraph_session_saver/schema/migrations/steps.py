"""The operations that revisions are made of; they create what is missing and keep what exists.

`databases` has the subclass for each database. Offline, the operations are written to a script,
which cannot look at a database: it creates and drops everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alembic.operations import Operations
from sqlalchemy import Column, Inspector, Table, UniqueConstraint, inspect, update
from sqlalchemy.schema import (
    AddConstraint,
    CreateIndex,
    CreateTable,
    DropIndex,
    DropTable,
    SchemaItem,
)

from langgraph_session_saver.schema.tables import TableFactory


class Steps:
    """Changes to the tables of one schema and prefix, where columns are altered in place."""

    def __init__(self, op: Operations, schema: str | None, prefix: str) -> None:
        self.op = op
        self.schema = schema
        self.prefix = prefix
        self.offline = op.get_context().as_sql
        self.dialect = op.get_context().dialect

    def factory(self) -> TableFactory:
        """A factory for the tables of one revision."""
        return TableFactory(self.schema, self.prefix)

    # -- operations -------------------------------------------------------------------------

    def create(self, table: Table) -> None:
        """Create a table and its indexes."""
        if self.offline or not self._inspector.has_table(table.name, schema=table.schema):
            self.op.execute(CreateTable(table))
        self._create_indexes(table)

    def drop(self, name: str) -> None:
        """Drop a table."""
        table = self.factory().table(name)
        if self.offline or self._inspector.has_table(table.name, schema=table.schema):
            self.op.execute(DropTable(table))

    def extend(self, name: str, *items: SchemaItem) -> None:
        """Add columns to a table, with their indexes and unique constraints."""
        table = self.factory().table(name, *items)
        existing = self._columns(table)
        for column in list(table.c):
            if column.name not in existing:
                bare = Column(
                    column.name, column.type, server_default=column.server_default, nullable=True
                )
                self.op.add_column(table.name, bare, schema=table.schema)
        self._create_indexes(table)
        self._create_uniques(table)

    def retract(self, name: str, *items: SchemaItem) -> None:
        """Drop the columns and indexes that `extend` added."""
        self._drop_columns(self.factory().table(name, *items))

    def fill(self, table: Table, **values: Any) -> None:
        """Set columns where they are NULL."""
        for name, value in values.items():
            self.op.execute(update(table).where(table.c[name].is_(None)).values({name: value}))

    def convert(self, *tables: Table, without: Sequence[Table] = ()) -> None:
        """Give existing tables the declared columns, constraints and indexes.

        Args:
            *tables: The declarations, referred tables first. Other columns and indexes belong to
                the application, and stay.
            without: Columns, constraints and indexes to drop, as tables of the same names.
        """
        if not self.offline:
            for table in tables:
                self._create_indexes(table)
        self._convert_all(tables, {table.name: table for table in without})

    def rebind(self, before: Table, after: Table) -> None:
        """Replace a table's named foreign keys and its indexes.

        Args:
            before: The table as it is.
            after: The table as it is to be, with the same columns.
        """
        existing = self._foreign_keys(before)
        for name in sorted(_by_name(before.foreign_key_constraints)):
            if self.offline or name in existing:
                self.op.drop_constraint(name, before.name, schema=self.schema, type_="foreignkey")
        self._drop_indexes(before)
        self._create_indexes(after)
        existing = self._foreign_keys(after)
        for name, key in _by_name(after.foreign_key_constraints).items():
            if name not in existing:
                self.op.execute(AddConstraint(key))

    def store_inline(self, name: str, limit: int | None) -> None:
        """Let PostgreSQL store rows of up to `limit` bytes in one piece; None is its default."""

    def utc_now(self, table: Table, column: str) -> Any:
        """The current time, as the column stores it."""
        raise NotImplementedError

    # -- converting -------------------------------------------------------------------------

    def _convert_all(self, tables: Sequence[Table], without: Mapping[str, Table]) -> None:
        for table in tables:
            self._convert(table, without.get(table.name))

    def _convert(self, table: Table, without: Table | None) -> None:
        self._drop_uniques(table, without)
        if without is not None:
            self._drop_columns(without)
        self.op.execute(f"ALTER TABLE {self._quoted(table)} {', '.join(self._alter(table))}")
        if not self.offline:
            self._create_uniques(table)

    def _alter(self, table: Table) -> list[str]:
        """The clauses of the ALTER TABLE that converts the columns."""
        raise NotImplementedError

    def _create_uniques(self, table: Table) -> None:
        existing = {key["name"] for key in self._uniques(table)}
        for key in uniques_of(table):
            if key.name not in existing:
                self.op.execute(AddConstraint(key))

    def _drop_uniques(self, table: Table, without: Table | None) -> None:
        """Drop those of `without`, and those of declared columns under another name."""
        found = {str(key["name"]): key["column_names"] for key in self._uniques(table)}
        declared = {str(key.name): key.columns.keys() for key in uniques_of(table)}
        unwanted = {str(key.name) for key in uniques_of(without)} if without is not None else set()
        for name, columns in found.items():
            if name not in declared and columns in declared.values():
                unwanted.add(name)
        for name in sorted(unwanted):
            if self.offline or name in found:
                self._drop_unique(table, name)

    def _drop_unique(self, table: Table, name: str) -> None:
        self.op.drop_constraint(name, table.name, schema=self.schema, type_="unique")

    def _create_indexes(self, table: Table) -> None:
        existing = self._indexes(table)
        for name, index in _by_name(table.indexes).items():
            if name not in existing:
                self.op.execute(CreateIndex(index))

    def _drop_indexes(self, table: Table) -> None:
        existing = self._indexes(table)
        for name, index in _by_name(table.indexes).items():
            if self.offline or name in existing:
                self.op.execute(DropIndex(index))

    def _drop_columns(self, table: Table) -> None:
        self._drop_indexes(table)
        existing = self._columns(table)
        for column in table.c:
            if self.offline or column.name in existing:
                self.op.drop_column(table.name, column.name, schema=self.schema)

    # -- inspecting; a script finds nothing ---------------------------------------------------

    @property
    def _inspector(self) -> Inspector:
        return inspect(self.op.get_bind())  # a new one each time: it caches what it finds

    def _columns(self, table: Table) -> dict[str, Any]:
        if self.offline:
            return {}
        columns = self._inspector.get_columns(table.name, schema=self.schema)
        return {column["name"]: column for column in columns}

    def _indexes(self, table: Table) -> set[str]:
        if self.offline:
            return set()
        indexes = self._inspector.get_indexes(table.name, schema=self.schema)
        return {str(index["name"]) for index in indexes}

    def _foreign_keys(self, table: Table) -> set[str]:
        if self.offline:
            return set()
        keys = self._inspector.get_foreign_keys(table.name, schema=self.schema)
        return {str(key["name"]) for key in keys}

    def _uniques(self, table: Table) -> list[Any]:
        if self.offline:
            return []
        return list(self._inspector.get_unique_constraints(table.name, schema=self.schema))

    def _quoted(self, table: Table) -> str:
        return self.dialect.identifier_preparer.format_table(table)


def uniques_of(table: Table) -> list[UniqueConstraint]:
    """A table's unique constraints, by name."""
    keys = [key for key in table.constraints if isinstance(key, UniqueConstraint)]
    return sorted(keys, key=lambda key: str(key.name))


def _by_name(items: Iterable[Any]) -> dict[str, Any]:
    """Constraints or indexes by name, sorted, without those that the database names."""
    named = {str(item.name): item for item in items if item.name is not None}
    return dict(sorted(named.items()))
