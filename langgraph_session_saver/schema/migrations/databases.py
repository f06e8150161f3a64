"""The steps of migrations on each database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alembic.operations import Operations
from sqlalchemy import JSON, Column, DateTime, MetaData, Table, func, text
from sqlalchemy.schema import AddConstraint, CreateColumn

from langgraph_session_saver.schema.column_types import stored_type
from langgraph_session_saver.schema.migrations.steps import Steps
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.dialects import dialect_for
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.sql.dialects.mysql import MySQL
from langgraph_session_saver.sql.dialects.postgresql import PostgreSQL
from langgraph_session_saver.sql.dialects.sqlite import SQLite


class SQLiteSteps(Steps):
    """SQLite cannot alter columns: Alembic's batch mode copies the rows to a new table."""

    def rebind(self, before: Table, after: Table) -> None:
        """Copy the table if its foreign keys change, else replace its indexes."""
        if _foreign_key_names(before) == _foreign_key_names(after):
            super().rebind(before, after)
            return
        self._drop_indexes(before)
        self._convert(after, before)

    def utc_now(self, table: Table, column: str) -> Any:
        """The current time in SQLAlchemy's format."""
        del table, column
        return func.strftime("%Y-%m-%d %H:%M:%f000", "now")

    def _convert(self, table: Table, without: Table | None) -> None:
        """Copy the table, with the columns, indexes and triggers that the application added."""
        target = table.to_metadata(MetaData())
        dropped = set(without.c.keys()) if without is not None else set()
        for name, found in self._columns(table).items():
            if name not in table.c and name not in dropped:
                default = None if found["default"] is None else text(found["default"])
                target.append_column(
                    Column(name, found["type"], nullable=found["nullable"], server_default=default)
                )
        afterwards = self._application_statements(table, without) + self._last_row_id(table)
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

    def _last_row_id(self, table: Table) -> list[str]:
        """The statements that keep AUTOINCREMENT from reusing the ids of deleted rows."""
        if (
            self.offline
            or table.autoincrement_column is None
            or not self._inspector.has_table("sqlite_sequence", schema=self.schema)
        ):
            return []
        sequence = f"{self._schema_prefix}sqlite_sequence"
        query = text(f"SELECT seq FROM {sequence} WHERE name = :name")  # noqa: S608
        last = self.op.get_bind().execute(query, {"name": table.name}).scalar()
        if last is None:
            return []
        name = table.name.replace("'", "''")
        return [
            f"DELETE FROM {sequence} WHERE name = '{name}'",  # noqa: S608
            f"INSERT INTO {sequence} (name, seq) VALUES ('{name}', {last})",  # noqa: S608
        ]

    def _application_statements(self, table: Table, without: Table | None) -> list[str]:
        """The statements that made the indexes and triggers which the application added."""
        if self.offline:
            return []
        ours = {index.name for index in table.indexes}
        ours |= {index.name for index in without.indexes} if without is not None else set()
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
        setting = "RESET (toast_tuple_target)"
        if limit is not None:
            setting = f"SET (toast_tuple_target={limit})"
        self.op.execute(f"ALTER TABLE {self._quoted(self.factory().table(name))} {setting}")

    def utc_now(self, table: Table, column: str) -> Any:
        """The current time, naive or aware as the column is."""
        return func.now() if self._is_aware(table, column) else func.timezone("UTC", func.now())

    def _convert(self, table: Table, without: Table | None) -> None:
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
            name = f"ALTER COLUMN {self._column(column)}"
            clauses.append(f"{name} TYPE {self._type(table, column)}")
            clauses.append(f"{name} {'DROP' if column.nullable else 'SET'} NOT NULL")
            if column is not table.autoincrement_column:
                default = compiler(self.dialect, None).get_column_default_string(column)
                change = "DROP DEFAULT" if default is None else f"SET DEFAULT {default}"
                clauses.append(f"{name} {change}")
        return clauses

    def _type(self, table: Table, column: Column[Any]) -> str:
        name, kind = self._column(column), column.type.compile(self.dialect)
        if isinstance(stored_type(column), JSON):
            return f"{kind} USING {name}::{kind}"
        if isinstance(stored_type(column), DateTime) and (
            self._is_aware(table, column.name) != _becomes_aware(column)
        ):
            return f"{kind} USING {name} AT TIME ZONE 'UTC'"  # naive datetimes are in UTC
        return kind

    def _is_aware(self, table: Table, column: str) -> bool:
        """Whether a datetime column has a time zone now; a script assumes that this changes."""
        if self.offline:
            return not _becomes_aware(table.c[column])
        return bool(getattr(self._columns(table)[column]["type"], "timezone", False))

    def _column(self, column: Column[Any]) -> str:
        return self.dialect.identifier_preparer.format_column(column)


class MySQLSteps(Steps):
    """MySQL redefines whole columns; one ALTER TABLE copies the table once."""

    def utc_now(self, table: Table, column: str) -> Any:
        """The current time in UTC, whatever the session's time zone is."""
        del table, column
        return func.utc_timestamp(text("6"))

    def _convert_all(self, tables: Sequence[Table], without: Mapping[str, Table]) -> None:
        """Drop the foreign keys meanwhile: columns that they connect cannot be changed."""
        for table in tables:
            for name in self._foreign_keys(table):
                self.op.drop_constraint(name, table.name, schema=self.schema, type_="foreignkey")
        super()._convert_all(tables, without)
        for table in tables:
            for key in sorted(table.foreign_key_constraints, key=str):
                self.op.execute(AddConstraint(key))

    def _foreign_keys(self, table: Table) -> set[str]:
        """The names of all foreign keys; in a script, the one that the server generates."""
        if self.offline:
            return {f"{table.name}_ibfk_1"} if table.foreign_keys else set()
        return super()._foreign_keys(table)

    def _alter(self, table: Table) -> list[str]:
        columns = [
            f"MODIFY {CreateColumn(column).compile(dialect=self.dialect)}" for column in table.c
        ]
        return ["DEFAULT CHARACTER SET utf8mb4", *columns]

    def _drop_unique(self, table: Table, name: str) -> None:
        self.op.drop_index(name, table.name, schema=self.schema)


_STEPS: dict[type[Dialect], type[Steps]] = {
    SQLite: SQLiteSteps,
    PostgreSQL: PostgreSQLSteps,
    MySQL: MySQLSteps,
}


def steps_for(op: Operations, tables: Tables) -> Steps:
    """The steps on the database of these operations."""
    dialect = dialect_for(op.get_context().dialect)
    return _STEPS[type(dialect)](op, tables.metadata.schema, tables.prefix)


def _foreign_key_names(table: Table) -> set[Any]:
    return {key.name for key in table.foreign_key_constraints}


def _becomes_aware(column: Column[Any]) -> bool:
    return bool(getattr(stored_type(column), "timezone", False))
