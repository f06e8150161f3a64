"""What a database says of itself, to a person and to `health`: a small class for each."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce

from sqlalchemy import Connection, LargeBinary, Table, cast, func, select, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

GIB = 1 << 30


class Described:
    """What every database can be asked."""

    def value_limit(self, conn: Connection) -> int:
        """Bytes that one value may have."""
        raise NotImplementedError

    def server_version(self, conn: Connection) -> str:
        """What the database says that it is."""
        return str(conn.execute(text("SELECT version()")).scalar_one())

    def journal_mode(self, conn: Connection) -> str | None:
        """How SQLite keeps a transaction that is not over; None for servers."""
        del conn
        return None

    def faults(self, conn: Connection) -> str | None:
        """What the database says is damaged; servers look after that themselves."""
        del conn
        return None

    def bytes_of(self, conn: Connection, tables: Sequence[Table]) -> tuple[str, dict[str, int]]:
        """What tables take with their indexes, by name, and how that was found."""
        raise NotImplementedError


class SQLiteDescribed(Described):
    """SQLite: a library and a file."""

    _limit = 1_000_000_000

    def value_limit(self, conn: Connection) -> int:
        """SQLITE_MAX_LENGTH as it is compiled by default."""
        del conn
        return self._limit

    def server_version(self, conn: Connection) -> str:
        """The library's version: there is no server."""
        return f"SQLite {conn.execute(text('SELECT sqlite_version()')).scalar_one()}"

    def journal_mode(self, conn: Connection) -> str | None:
        """Write-ahead log or rollback journal."""
        return str(conn.execute(text("PRAGMA journal_mode")).scalar_one())

    def faults(self, conn: Connection) -> str | None:
        """The first of what `quick_check` finds."""
        said = str(conn.execute(text("PRAGMA quick_check(1)")).scalar())
        return None if said == "ok" else said

    def bytes_of(self, conn: Connection, tables: Sequence[Table]) -> tuple[str, dict[str, int]]:
        """Pages by `dbstat`; a library built without it leaves only the values' lengths."""
        schema = (tables[0].schema if tables else None) or "main"
        owners = text(
            f"SELECT m.tbl_name, sum(s.pgsize) FROM dbstat('{schema}', 1) s "  # noqa: S608
            f"JOIN {sqlite.dialect().identifier_preparer.quote(schema)}.sqlite_master m "
            "ON m.name = s.name GROUP BY m.tbl_name"
        )
        try:
            return "pages, by dbstat", {row[0]: int(row[1]) for row in conn.execute(owners)}
        except DBAPIError:
            return (
                "lengths of the values: this SQLite has no dbstat",
                {table.name: _sum_of_lengths(conn, table) for table in tables},
            )


class PostgreSQLDescribed(Described):
    """PostgreSQL."""

    def value_limit(self, conn: Connection) -> int:
        """A field holds 1 GiB, and text protocols double it on the way."""
        del conn
        return GIB // 2 - (1 << 20)

    def server_version(self, conn: Connection) -> str:
        """Without the compiler that `version()` names."""
        return f"PostgreSQL {conn.execute(text('SHOW server_version')).scalar_one()}"

    def bytes_of(self, conn: Connection, tables: Sequence[Table]) -> tuple[str, dict[str, int]]:
        """Files with TOAST and indexes; deleted rows count until a VACUUM makes room of them."""
        sizes = text(
            "SELECT c.relname, pg_total_relation_size(c.oid) FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relkind IN ('r', 'p') AND n.nspname = coalesce(:schema, current_schema())"
        )
        schema = tables[0].schema if tables else None
        found = {name: int(size) for name, size in conn.execute(sizes, {"schema": schema})}
        return "files, by pg_total_relation_size", found


class MySQLDescribed(Described):
    """MySQL and MariaDB."""

    def value_limit(self, conn: Connection) -> int:
        """Half a packet: some drivers send bytes as hexadecimal digits."""
        packet = int(conn.execute(text("SELECT @@max_allowed_packet")).scalar_one())
        return packet // 2 - (64 << 10)

    def bytes_of(self, conn: Connection, tables: Sequence[Table]) -> tuple[str, dict[str, int]]:
        """Estimated by the server, which does not look again at every question."""
        sizes = text(
            "SELECT table_name, data_length + index_length FROM information_schema.tables "
            "WHERE table_schema = coalesce(:schema, database())"
        )
        schema = tables[0].schema if tables else None
        rows = conn.execute(sizes, {"schema": schema})
        return "estimates, by information_schema", {
            name: int(size) for name, size in rows if size is not None
        }


def _sum_of_lengths(conn: Connection, table: Table) -> int:
    lengths = (func.coalesce(func.length(cast(c, LargeBinary)), 0) for c in table.c)
    total = conn.execute(select(func.sum(reduce(operator.add, lengths))).select_from(table))
    return int(total.scalar() or 0)
