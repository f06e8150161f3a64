"""The operations that revisions are made of; they create what is missing and keep what exists.

`Steps` alters columns in place; it has a subclass for each database. Offline, the operations are
written to a script, which cannot look at a database: it creates and drops everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from alembic.operations import Operations
from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    Inspector,
    MetaData,
    Table,
    UniqueConstraint,
    func,
    inspect,
    text,
)
from sqlalchemy.schema import (
    AddConstraint,
    CreateColumn,
    CreateIndex,
    CreateTable,
    DropIndex,
    DropTable,
    SchemaItem,
)

from langgraph_session_saver.schema.column_types import stored_type
from langgraph_session_saver.schema.tables import TableFactory, Tables
from langgraph_session_saver.sql.dialects import dialect_for
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.sql.dialects.mysql import MySQL
from langgraph_session_saver.sql.dialects.postgresql import PostgreSQL
from langgraph_session_saver.sql.dialects.sqlite import SQLite

LookUp: TypeAlias = Callable[[Inspector, str, str | None], Iterable[Any]]
"""A method of `Inspector`, with a table's name and schema."""


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
        if self.offline or not self._inspector.has_table(table.name, schema=self.schema):
            self.op.execute(CreateTable(table))
        self._create_indexes(table)

    def drop(self, name: str) -> None:
        """Drop a table."""
        table = self.factory().table(name)
        if self.offline or self._inspector.has_table(table.name, schema=self.schema):
            self.op.execute(DropTable(table))

    def extend(self, name: str, *items: SchemaItem) -> None:
        """Add columns to a table, with their indexes and unique constraints."""
        table = self.factory().table(name, *items)
        existing = self._found(Inspector.get_columns, table)
        for column in table.c:
            if column.name not in existing:
                bare = Column(column.name, column.type, server_default=column.server_default)
                self.op.add_column(table.name, bare, schema=self.schema)
        self._create_indexes(table)
        self._create_uniques(table)

    def retract(self, name: str, *items: SchemaItem) -> None:
        """Drop the columns and indexes that `extend` added."""
        self._drop_columns(self.factory().table(name, *items))

    def fill(self, table: Table, **values: Any) -> None:
        """Set columns where they are NULL."""
        for name, value in values.items():
            is_null = table.c[name].is_(None)
            self.op.execute(table.update().where(is_null).values({name: value}))

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
        dropped = {table.name: table for table in without}
        nothing = {table.name: Table(table.name, MetaData(schema=self.schema)) for table in tables}
        self._convert_all(tables, nothing | dropped)

    def rebind(self, before: Table, after: Table) -> None:
        """Replace a table's named foreign keys and its indexes.

        Args:
            before: The table as it is.
            after: The table as it is to be, with the same columns.
        """
        existing = self._found(Inspector.get_foreign_keys, before)
        for name in _by_name(before.foreign_key_constraints):
            if self.offline or name in existing:
                self.op.drop_constraint(name, before.name, schema=self.schema, type_="foreignkey")
        self._drop_indexes(before)
        self._create_indexes(after)
        keys = after.foreign_key_constraints
        self._create_missing(Inspector.get_foreign_keys, after, keys, AddConstraint)

    def reindex(self, before: Table, after: Table) -> None:
        """Replace a table's indexes by those of another declaration."""
        self._drop_indexes(before)
        self._create_indexes(after)

    def store_inline(self, name: str, limit: int | None) -> None:
        """Let PostgreSQL store rows of up to `limit` bytes in one piece; None is its default."""

    def utc_now(self, column: Column[Any]) -> Any:
        """The current time, as the column stores it."""
        raise NotImplementedError

    # -- converting -------------------------------------------------------------------------

    def _convert_all(self, tables: Sequence[Table], without: Mapping[str, Table]) -> None:
        for table in tables:
            self._convert(table, without[table.name])

    def _convert(self, table: Table, without: Table) -> None:
        self._drop_uniques(table, without)
        self._drop_columns(without)
        self.op.execute(f"ALTER TABLE {self._quoted(table)} {', '.join(self._alter(table))}")
        if not self.offline:
            self._create_uniques(table)

    def _alter(self, table: Table) -> list[str]:
        """The clauses of the ALTER TABLE that converts the columns."""
        raise NotImplementedError

    def _create_uniques(self, table: Table) -> None:
        look_up, keys = Inspector.get_unique_constraints, _uniques(table).values()
        self._create_missing(look_up, table, keys, AddConstraint)

    def _drop_uniques(self, table: Table, without: Table) -> None:
        """Drop those of `without`, and those of declared columns under another name."""
        found = self._found(Inspector.get_unique_constraints, table)
        declared = {name: key.columns.keys() for name, key in _uniques(table).items()}
        unwanted = set(_uniques(without))
        for name, key in found.items():
            if name not in declared and key["column_names"] in declared.values():
                unwanted.add(name)
        for name in sorted(unwanted):
            if self.offline or name in found:
                self._drop_unique(table, name)

    def _drop_unique(self, table: Table, name: str) -> None:
        self.op.drop_constraint(name, table.name, schema=self.schema, type_="unique")

    def _create_indexes(self, table: Table) -> None:
        self._create_missing(Inspector.get_indexes, table, table.indexes, CreateIndex)

    def _drop_indexes(self, table: Table) -> None:
        existing = self._found(Inspector.get_indexes, table)
        for name, index in _by_name(table.indexes).items():
            if self.offline or name in existing:
                self.op.execute(DropIndex(index))

    def _drop_columns(self, table: Table) -> None:
        self._drop_indexes(table)
        existing = self._found(Inspector.get_columns, table)
        for column in table.c:
            if self.offline or column.name in existing:
                self.op.drop_column(table.name, column.name, schema=self.schema)

    def _create_missing(
        self, look_up: LookUp, table: Table, items: Iterable[Any], ddl: Callable[[Any], Any]
    ) -> None:
        """Create those of a table's indexes or constraints that the database does not have."""
        existing = self._found(look_up, table)
        for name, item in _by_name(items).items():
            if name not in existing:
                self.op.execute(ddl(item))

    # -- inspecting ---------------------------------------------------------------------------

    @property
    def _inspector(self) -> Inspector:
        return inspect(self.op.get_bind())  # a new one each time: it caches what it finds

    def _found(self, look_up: LookUp, table: Table) -> dict[str, Any]:
        """What a method of `Inspector` finds of a table, by name; a script finds nothing."""
        if self.offline:
            return {}
        return {str(i["name"]): i for i in look_up(self._inspector, table.name, self.schema)}

    def _quoted(self, table: Table) -> str:
        return self.dialect.identifier_preparer.format_table(table)


class SQLiteSteps(Steps):
    """SQLite cannot alter columns: Alembic's batch mode copies the rows to a new table."""

    def rebind(self, before: Table, after: Table) -> None:
        """Copy the table if its foreign keys change, else replace its indexes."""
        old, new = (_by_name(table.foreign_key_constraints) for table in (before, after))
        if old.keys() == new.keys():
            super().rebind(before, after)
        else:
            self._drop_indexes(before)
            self._convert(after, before)

    def utc_now(self, column: Column[Any]) -> Any:
        """The current time in SQLAlchemy's format."""
        del column
        return func.strftime("%Y-%m-%d %H:%M:%f000", "now")

    def _convert(self, table: Table, without: Table) -> None:
        """Copy the table, with the columns, indexes and triggers that the application added."""
        target = table.to_metadata(MetaData())
        for name, found in self._found(Inspector.get_columns, table).items():
            if name not in table.c and name not in without.c:
                default = None if found["default"] is None else text(found["default"])
                target.append_column(
                    Column(name, found["type"], nullable=found["nullable"], server_default=default)
                )
        afterwards = []
        if not self.offline:
            afterwards = [*self._application_statements(table, without), *self._last_row_id(table)]
        self._add_fractions(table)
        # While the table is renamed, views that name it would be checked and found broken.
        self.op.execute("PRAGMA legacy_alter_table=ON")
        with self.op.batch_alter_table(
            table.name, schema=self.schema, copy_from=target, recreate="always"
        ):
            pass
        self.op.execute("PRAGMA legacy_alter_table=OFF")
        for statement in afterwards:
            self.op.get_bind().exec_driver_sql(statement)

    def _create_uniques(self, table: Table) -> None:
        """The copied table has them."""

    def _add_fractions(self, table: Table) -> None:
        """Give datetimes six digits: CURRENT_TIMESTAMP has none, and they are compared as text."""
        for column in table.c:
            if isinstance(stored_type(column), DateTime):
                self.op.execute(
                    table.update()
                    .where(func.length(column) == 19)
                    .values({column.name: func.replace(column, "T", " ").concat(".000000")})
                )

    def _last_row_id(self, table: Table) -> Iterator[str]:
        """The statements that keep AUTOINCREMENT from reusing the ids of deleted rows."""
        has_sequence = self._inspector.has_table("sqlite_sequence", schema=self.schema)
        if table.autoincrement_column is None or not has_sequence:
            return
        sequence = f"{self._schema_prefix}sqlite_sequence"
        query = text(f"SELECT seq FROM {sequence} WHERE name = :name")  # noqa: S608
        last = self.op.get_bind().execute(query, {"name": table.name}).scalar()
        if last is not None:
            name = table.name.replace("'", "''")
            yield f"DELETE FROM {sequence} WHERE name = '{name}'"  # noqa: S608
            yield f"INSERT INTO {sequence} (name, seq) VALUES ('{name}', {last})"  # noqa: S608

    def _application_statements(self, table: Table, without: Table) -> list[str]:
        """The statements that made the indexes and triggers which the application added."""
        ours = {index.name for index in table.indexes | without.indexes}
        query = text(
            f"SELECT name, sql FROM {self._schema_prefix}sqlite_master "  # noqa: S608
            "WHERE tbl_name = :table AND type IN ('index', 'trigger') AND sql IS NOT NULL"
        )
        rows = self.op.get_bind().execute(query, {"table": table.name})
        return [sql for name, sql in rows if name not in ours]

    @property
    def _schema_prefix(self) -> str:
        return f'"{self.schema}".' if self.schema else ""


class PostgreSQLSteps(Steps):
    """PostgreSQL alters all columns in one pass over the table."""

    def store_inline(self, name: str, limit: int | None) -> None:
        """Set the table's TOAST threshold, for rows that are written from then on."""
        setting = f"SET (toast_tuple_target={limit})" if limit else "RESET (toast_tuple_target)"
        self.op.execute(f"ALTER TABLE {self._quoted(self.factory().table(name))} {setting}")

    def utc_now(self, column: Column[Any]) -> Any:
        """The current time, naive or aware as the column is."""
        return func.now() if self._is_aware(column) else func.timezone("UTC", func.now())

    def _convert(self, table: Table, without: Table) -> None:
        """Alter the columns, and the sequence of a generated id."""
        super()._convert(table, without)
        column = table.autoincrement_column
        if column is not None:
            name = self._quoted(table).replace("'", "''")
            sequence = f"pg_get_serial_sequence('{name}', '{column.name}')"
            self.op.execute(
                f"DO $$ BEGIN IF {sequence} IS NOT NULL THEN EXECUTE 'ALTER SEQUENCE ' || "
                f"{sequence} || ' AS {column.type.compile(self.dialect)}'; END IF; END $$"
            )

    def _alter(self, table: Table) -> list[str]:
        clauses = []
        compiler: Any = self.dialect.ddl_compiler
        for column in table.c:
            name = self.dialect.identifier_preparer.format_column(column)
            clauses.append(f"ALTER COLUMN {name} TYPE {self._type(column, name)}")
            change = "DROP" if column.nullable else "SET"
            clauses.append(f"ALTER COLUMN {name} {change} NOT NULL")
            if column is not table.autoincrement_column:
                default = compiler(self.dialect, None).get_column_default_string(column)
                change = "DROP DEFAULT" if default is None else f"SET DEFAULT {default}"
                clauses.append(f"ALTER COLUMN {name} {change}")
        return clauses

    def _type(self, column: Column[Any], name: str) -> str:
        stored, kind = stored_type(column), column.type.compile(self.dialect)
        if isinstance(stored, JSON):
            return f"{kind} USING {name}::{kind}"
        if isinstance(stored, DateTime) and self._is_aware(column) != stored.timezone:
            return f"{kind} USING {name} AT TIME ZONE 'UTC'"  # naive datetimes are in UTC
        return kind

    def _is_aware(self, column: Column[Any]) -> bool:
        """Whether a datetime column has a time zone now; a script assumes that this changes."""
        if self.offline:
            return not getattr(stored_type(column), "timezone", False)
        found = self._found(Inspector.get_columns, column.table)[column.name]
        return bool(getattr(found["type"], "timezone", False))


class MySQLSteps(Steps):
    """MySQL redefines whole columns; one ALTER TABLE copies the table once."""

    def utc_now(self, column: Column[Any]) -> Any:
        """The current time in UTC, whatever the session's time zone is."""
        del column
        return func.utc_timestamp(text("6"))

    def _convert_all(self, tables: Sequence[Table], without: Mapping[str, Table]) -> None:
        """Drop the foreign keys meanwhile: columns that they connect cannot be changed."""
        for table in tables:
            names = [*self._found(Inspector.get_foreign_keys, table)]
            if self.offline and table.foreign_keys:
                names = [f"{table.name}_ibfk_1"]  # which the server generates
            for name in names:
                self.op.drop_constraint(name, table.name, schema=self.schema, type_="foreignkey")
        super()._convert_all(tables, without)
        for table in tables:
            for key in sorted(table.foreign_key_constraints, key=str):
                self.op.execute(AddConstraint(key))

    def _alter(self, table: Table) -> list[str]:
        columns = [
            f"MODIFY {CreateColumn(column).compile(dialect=self.dialect)}" for column in table.c
        ]
        return ["DEFAULT CHARACTER SET utf8mb4", *columns]

    def _drop_unique(self, table: Table, name: str) -> None:
        self.op.drop_index(name, table.name, schema=self.schema)

    def reindex(self, before: Table, after: Table) -> None:
        """Replace the indexes in one statement: a foreign key needs one at any time."""
        existing = self._found(Inspector.get_indexes, before)
        old, new = _by_name(before.indexes), _by_name(after.indexes)
        quote = self.dialect.identifier_preparer.quote
        dropped = [name for name in old if self.offline or name in existing]
        clauses = [f"DROP INDEX {quote(name)}" for name in dropped]
        clauses += [
            f"ADD INDEX {quote(name)} ({', '.join(map(quote, index.columns.keys()))})"
            for name, index in new.items()
            if name in dropped or name not in existing
        ]
        if clauses:
            self.op.execute(f"ALTER TABLE {self._quoted(after)} {', '.join(clauses)}")


def steps_for(op: Operations, tables: Tables) -> Steps:
    """The steps on the database of these operations."""
    kinds: dict[type[Dialect], type[Steps]] = {
        SQLite: SQLiteSteps,
        PostgreSQL: PostgreSQLSteps,
        MySQL: MySQLSteps,
    }
    kind = kinds[type(dialect_for(op.get_context().dialect))]
    return kind(op, tables.metadata.schema, tables.prefix)


def _uniques(table: Table) -> dict[str, UniqueConstraint]:
    return _by_name(key for key in table.constraints if isinstance(key, UniqueConstraint))


def _by_name(items: Iterable[Any]) -> dict[str, Any]:
    """Constraints or indexes by name, sorted, without those that the database names."""
    named = {str(item.name): item for item in items if item.name is not None}
    return dict(sorted(named.items()))
