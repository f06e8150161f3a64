"""How each kind of database turns the columns of a table into other ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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
from sqlalchemy.schema import AddConstraint, CreateColumn, CreateIndex, DropIndex
from sqlalchemy.types import TypeDecorator

from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.sql.dialects.mysql import MySQL
from langgraph_session_saver.sql.dialects.postgresql import PostgreSQL
from langgraph_session_saver.sql.dialects.sqlite import SQLite


class Database:
    """What they share: columns are altered in place.

    Args:
        op: Runs the changes, or writes them down.
        schema: Schema of the tables.
    """

    def __init__(self, op: Operations, schema: str | None) -> None:
        self.op = op
        self.schema = schema
        self.offline = op.get_context().as_sql
        self.dialect = op.get_context().dialect

    def convert_all(self, tables: Sequence[Table], without: Mapping[str, Table]) -> None:
        """Make columns and unique constraints of tables what is declared."""
        for table in tables:
            self.convert(table, without.get(table.name))

    def convert(self, table: Table, without: Table | None) -> None:
        """Make a table's columns and unique constraints what is declared."""
        self._drop_uniques(table, without)
        if without is not None:
            self._drop_columns(without)
        self.op.execute(text(f"ALTER TABLE {self._format(table)} {', '.join(self._alter(table))}"))
        if not self.offline:
            self.add_uniques(table)

    def add_uniques(self, table: Table) -> None:
        """Add the unique constraints that are missing."""
        there = {key["name"] for key in self._uniques(table)}
        for key in _uniques_of(table):
            if key.name not in there:
                self.op.execute(AddConstraint(key))

    def rebind(self, before: Table, after: Table) -> None:
        """Give a table the named foreign keys and the indexes of another declaration."""
        keys, indexes = self._references(before), self._indexes(before)
        for name in sorted(_named(before.foreign_key_constraints).keys() & keys):
            self.op.drop_constraint(name, before.name, schema=self.schema, type_="foreignkey")
        for name, index in _named(before.indexes).items():
            if name in indexes:
                self.op.execute(DropIndex(index))
        for name, index in _named(after.indexes).items():
            if self.offline or name in _named(before.indexes) or name not in indexes:
                self.op.execute(CreateIndex(index))
        for name, key in _named(after.foreign_key_constraints).items():
            if self.offline or name not in keys:
                self.op.execute(AddConstraint(key))

    def store_inline(self, table: Table, most: int | None) -> None:
        """Keep rows of up to so many bytes whole, where a database would cut them up."""

    def utc_now(self, table: Table, column: str) -> Any:
        """This instant, as a column stores it."""
        raise NotImplementedError

    def _alter(self, table: Table) -> list[str]:
        raise NotImplementedError

    # -- what is not declared any more ------------------------------------------------------

    def _drop_uniques(self, table: Table, without: Table | None) -> None:
        """Those of `without`, and those that mean a declared one under another name."""
        declared = {key.name: _names(key) for key in _uniques_of(table)}
        unwanted = {key.name for key in _uniques_of(without)} if without is not None else set()
        if self.offline:
            names = unwanted
        else:
            names = {
                key["name"]
                for key in self._uniques(table)
                if key["name"] in unwanted
                or (key["name"] not in declared and key["column_names"] in declared.values())
            }
        for name in sorted(str(name) for name in names):
            self._drop_unique(table, name)

    def _drop_unique(self, table: Table, name: str) -> None:
        self.op.drop_constraint(name, table.name, schema=self.schema, type_="unique")

    def _drop_columns(self, without: Table) -> None:
        there = {
            index["name"]
            for index in ([] if self.offline else self._inspector.get_indexes(
                without.name, schema=self.schema
            ))
        }  # fmt: skip
        for index in without.indexes:
            if self.offline or index.name in there:
                self.op.execute(DropIndex(index))
        columns = self._columns(without)
        for column in without.c:
            if self.offline or column.name in columns:
                self.op.drop_column(without.name, column.name, schema=self.schema)

    # -- what is there ----------------------------------------------------------------------

    @property
    def _inspector(self) -> Inspector:
        return inspect(self.op.get_bind())

    def _columns(self, table: Table) -> dict[str, Any]:
        if self.offline:
            return {}
        found = self._inspector.get_columns(table.name, schema=self.schema)
        return {column["name"]: column for column in found}

    def _references(self, table: Table) -> set[str]:
        """The names of its foreign keys; in a script, of those that it is declared with."""
        if self.offline:
            return set(_named(table.foreign_key_constraints))
        found = self._inspector.get_foreign_keys(table.name, schema=self.schema)
        return {str(key["name"]) for key in found}

    def _indexes(self, table: Table) -> set[str]:
        """The names of its indexes; in a script, of those that it is declared with."""
        if self.offline:
            return set(_named(table.indexes))
        found = self._inspector.get_indexes(table.name, schema=self.schema)
        return {str(index["name"]) for index in found}

    def _uniques(self, table: Table) -> list[Any]:
        if self.offline:
            return []
        return list(self._inspector.get_unique_constraints(table.name, schema=self.schema))

    # -- words ------------------------------------------------------------------------------

    def _format(self, table: Table) -> str:
        return self.dialect.identifier_preparer.format_table(table)

    def _quote(self, column: Column[Any]) -> str:
        return self.dialect.identifier_preparer.format_column(column)

    def _default(self, column: Column[Any]) -> str | None:
        compiler: Any = self.dialect.ddl_compiler
        default: str | None = compiler(self.dialect, None).get_column_default_string(column)
        return default


class SQLiteDatabase(Database):
    """SQLite alters next to nothing: Alembic's batch mode copies the rows to a new table."""

    def convert(self, table: Table, without: Table | None) -> None:
        """Copy the table, with the columns, indexes and triggers that the application added."""
        dropped = set(without.c.keys()) if without is not None else set()
        extra = [
            Column(c["name"], c["type"], nullable=c["nullable"], server_default=_text(c["default"]))
            for c in self._columns(table).values()
            if c["name"] not in table.c and c["name"] not in dropped
        ]
        target = table.to_metadata(MetaData())
        for column in extra:
            target.append_column(column)
        kept = self._application_s_own(table, without)
        highest = self._highest_number(table)
        self._normalise_datetimes(table)
        # Views that name the table are checked at a rename, and it is not there then.
        self.op.execute(text("PRAGMA legacy_alter_table=ON"))
        with self.op.batch_alter_table(
            table.name, schema=self.schema, copy_from=target, recreate="always"
        ):
            pass
        self.op.execute(text("PRAGMA legacy_alter_table=OFF"))
        for statement in kept + highest:
            self.op.get_bind().exec_driver_sql(statement)

    def rebind(self, before: Table, after: Table) -> None:
        """Where keys differ the table is copied, and has those of the new declaration."""
        keys = _named(before.foreign_key_constraints), _named(after.foreign_key_constraints)
        if keys[0].keys() == keys[1].keys():
            super().rebind(before, after)
            return
        there = self._indexes(before)
        for name, index in _named(before.indexes).items():
            if name in there:
                self.op.execute(DropIndex(index))
        self.convert(after, before)

    def add_uniques(self, table: Table) -> None:
        """The copy has them."""

    def utc_now(self, table: Table, column: str) -> Any:
        """In the form in which SQLAlchemy stores datetimes."""
        del table, column
        return func.strftime("%Y-%m-%d %H:%M:%f000", "now")

    def _normalise_datetimes(self, table: Table) -> None:
        """CURRENT_TIMESTAMP has no fraction, and text is compared as text."""
        for column in table.c:
            if _is(column, DateTime):
                self.op.execute(
                    table.update()
                    .where(func.length(column) == 19)
                    .values({column.name: func.replace(column, "T", " ").concat(".000000")})
                )

    def _highest_number(self, table: Table) -> list[str]:
        """AUTOINCREMENT remembers row numbers that were deleted; the copy is to remember them."""
        if self.offline or table.autoincrement_column is None:
            return []
        if not self._inspector.has_table("sqlite_sequence", schema=self.schema):
            return []
        schema = f'"{self.schema}".' if self.schema else ""
        query = text(f"SELECT seq FROM {schema}sqlite_sequence WHERE name = :name")  # noqa: S608
        number = self.op.get_bind().execute(query, {"name": table.name}).scalar()
        if number is None:
            return []
        name = table.name.replace("'", "''")
        delete = f"DELETE FROM {schema}sqlite_sequence WHERE name = '{name}'"  # noqa: S608
        insert = f"INSERT INTO {schema}sqlite_sequence (name, seq) VALUES ('{name}', {number})"  # noqa: S608
        return [delete, insert]

    def _application_s_own(self, table: Table, without: Table | None) -> list[str]:
        if self.offline:
            return []
        ours = {index.name for index in table.indexes}
        ours |= {index.name for index in without.indexes} if without is not None else set()
        schema = f'"{self.schema}".' if self.schema else ""
        rows = self.op.get_bind().execute(
            text(
                f"SELECT name, sql FROM {schema}sqlite_master WHERE tbl_name = :table "  # noqa: S608
                "AND type IN ('index', 'trigger') AND sql IS NOT NULL"
            ),
            {"table": table.name},
        )
        return [sql for name, sql in rows if name not in ours]


class PostgreSQLDatabase(Database):
    """PostgreSQL alters all columns in one pass over the table."""

    def convert(self, table: Table, without: Table | None) -> None:
        """Alter the columns, and with a row number the sequence that it comes from."""
        super().convert(table, without)
        for column in table.primary_key:
            if column is table.autoincrement_column:
                kind = column.type.compile(self.dialect)
                name = self._format(table).replace("'", "''")
                sequence = f"pg_get_serial_sequence('{name}', '{column.name}')"
                self.op.execute(
                    text(
                        f"DO $$ BEGIN IF {sequence} IS NOT NULL THEN EXECUTE 'ALTER SEQUENCE ' || "
                        f"{sequence} || ' AS {kind}'; END IF; END $$"
                    )
                )

    def store_inline(self, table: Table, most: int | None) -> None:
        """A setting of the table, for rows that are written from then on."""
        setting = (
            "RESET (toast_tuple_target)" if most is None else f"SET (toast_tuple_target={most})"
        )
        self.op.execute(text(f"ALTER TABLE {self._format(table)} {setting}"))

    def utc_now(self, table: Table, column: str) -> Any:
        """Naive or aware, as the column is."""
        return func.now() if self._is_aware(table, column) else func.timezone("UTC", func.now())

    def _alter(self, table: Table) -> list[str]:
        clauses = []
        for column in table.c:
            name = f"ALTER COLUMN {self._quote(column)}"
            clauses.append(f"{name} TYPE {self._type(table, column)}")
            clauses.append(f"{name} {'DROP' if column.nullable else 'SET'} NOT NULL")
            if column is not table.autoincrement_column:
                default = self._default(column)
                clauses.append(
                    f"{name} DROP DEFAULT" if default is None else f"{name} SET DEFAULT {default}"
                )
        return clauses

    def _type(self, table: Table, column: Column[Any]) -> str:
        name, kind = self._quote(column), column.type.compile(self.dialect)
        if _is(column, JSON):
            return f"{kind} USING {name}::{kind}"
        if _is(column, DateTime) and self._is_aware(table, column.name) != _wants_zone(column):
            # From naive to aware and back: naive ones are in UTC.
            return f"{kind} USING {name} AT TIME ZONE 'UTC'"
        return kind

    def _is_aware(self, table: Table, column: str) -> bool:
        """Whether a datetime column has a zone now; that of a script is the other one's."""
        if self.offline:
            return not _wants_zone(table.c[column])
        return bool(getattr(self._columns(table)[column]["type"], "timezone", False))


class MySQLDatabase(Database):
    """MySQL takes whole columns, and one statement is one copy of the table."""

    def convert_all(self, tables: Sequence[Table], without: Mapping[str, Table]) -> None:
        """Take the foreign keys off: a column at either end of one cannot be changed."""
        for table in tables:
            for name in self._foreign_keys(table):
                self.op.drop_constraint(name, table.name, schema=self.schema, type_="foreignkey")
        super().convert_all(tables, without)
        for table in tables:
            for key in sorted(table.foreign_key_constraints, key=str):
                self.op.execute(AddConstraint(key))

    def _foreign_keys(self, table: Table) -> list[str]:
        if self.offline:  # as the server names them
            return [f"{table.name}_ibfk_1"] if table.foreign_keys else []
        found = self._inspector.get_foreign_keys(table.name, schema=self.schema)
        return [str(key["name"]) for key in found]

    def utc_now(self, table: Table, column: str) -> Any:
        """The session's zone may be any."""
        del table, column
        return func.utc_timestamp(text("6"))

    def _alter(self, table: Table) -> list[str]:
        columns = [
            f"MODIFY {CreateColumn(column).compile(dialect=self.dialect)}" for column in table.c
        ]
        return ["DEFAULT CHARACTER SET utf8mb4", *columns]

    def _drop_unique(self, table: Table, name: str) -> None:
        self.op.drop_index(name, table.name, schema=self.schema)


_DATABASES: dict[type[Dialect], type[Database]] = {
    SQLite: SQLiteDatabase,
    PostgreSQL: PostgreSQLDatabase,
    MySQL: MySQLDatabase,
}


def database_for(dialect: Dialect) -> type[Database]:
    """The class for a dialect."""
    return _DATABASES[type(dialect)]


def _uniques_of(table: Table) -> list[UniqueConstraint]:
    keys = [key for key in table.constraints if isinstance(key, UniqueConstraint)]
    return sorted(keys, key=lambda key: str(key.name))


def _named(items: Iterable[Any]) -> dict[str, Any]:
    """Constraints or indexes by name, but for those that a database names."""
    return {str(item.name): item for item in items if item.name is not None}


def _names(key: UniqueConstraint) -> list[str]:
    return [column.name for column in key.columns]


def _is(column: Column[Any], kind: type[Any]) -> bool:
    inner = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    return isinstance(inner, kind)


def _wants_zone(column: Column[Any]) -> bool:
    inner = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    return bool(getattr(inner, "timezone", False))


def _text(default: str | None) -> Any:
    return None if default is None else text(default)
