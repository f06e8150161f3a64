"""MySQL and MariaDB."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Executable,
    Insert,
    LargeBinary,
    Table,
    TextClause,
    bindparam,
    cast,
    text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError

from langgraph_session_saver.sql.compiled import driver_of, execute
from langgraph_session_saver.sql.dialects import base
from langgraph_session_saver.sql.dialects.base import (
    Dialect,
    Space,
    VacuumKind,
    sql_transaction,
)

_IN_TRANSACTION = 1
"""SERVER_STATUS_IN_TRANS of the protocol."""


_NAMED: BindParameter[str] = bindparam("names", expanding=True)

_ESTIMATES = text(
    "SELECT coalesce(sum(data_length + index_length), 0), coalesce(sum(data_free), 0) "
    "FROM information_schema.tables "
    "WHERE table_schema = coalesce(:schema, database()) AND table_name IN :names"
).bindparams(_NAMED)


def _files_in(view: str) -> TextClause:
    """The bytes of all files of tables; one in a shared tablespace has none."""
    return text(
        f"SELECT coalesce(sum(file_size), 0) FROM information_schema.{view} "  # noqa: S608
        "WHERE substring_index(name, '/', 1) = coalesce(:schema, database()) "
        "AND substring_index(name, '/', -1) IN :names"
    ).bindparams(_NAMED)


class MySQL(Dialect):
    """MySQL, MariaDB, and clusters of them."""

    batches_as = "block"
    alters_referenced = False
    reports_inserts = False
    transient_errors = frozenset(
        {1020, 1047, 1180, 1205, 1213, 1290, 1836, 2003, 2006, 2013, 2014, 2055, 4031}
    )
    conflict_errors = frozenset({1020, 1180, 1205, 1213})
    full_errors = frozenset({1021, 1114})
    locked_errors = frozenset({1205})
    # 1290 and 1836 are of a read-only server, such as one that was demoted; 1792 of a transaction.
    forbidden_errors = frozenset({1044, 1142, 1143, 1290, 1370, 1792, 1836})
    stale_errors = frozenset({1047})  # a Galera node without a quorum
    sizes_are = "estimates, by information_schema"
    sizes_query = (
        "SELECT table_name, data_length + index_length FROM information_schema.tables "
        "WHERE table_schema = coalesce(:schema, database()) AND data_length IS NOT NULL"
    )
    _setup_lock = "langgraph_session_saver.setup"

    def snapshot(self, conn: Connection) -> AbstractContextManager[None]:
        """WITH CONSISTENT SNAPSHOT: without it, the snapshot is made at the first read."""
        execute(conn, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return sql_transaction(conn, "START TRANSACTION WITH CONSISTENT SNAPSHOT")

    def transaction(self, conn: Connection) -> AbstractContextManager[object]:
        """BEGIN on an autocommit connection: to change its isolation level costs round trips."""
        return sql_transaction(conn, "BEGIN") if _autocommits(conn) else conn.begin()

    def one_statement(self, conn: Connection) -> AbstractContextManager[object]:
        """In autocommit mode, if that is on: one round trip instead of three."""
        return nullcontext() if _autocommits(conn) else self.transaction(conn)

    def takes_batches(self, conn: Connection) -> bool:
        """MariaDB only, as an anonymous block, which would commit an open transaction."""
        is_mariadb = bool(getattr(conn.dialect, "is_mariadb", False))
        return is_mariadb and _autocommits(conn) and not _is_in_transaction(conn)

    def insert_ignore(self, table: Table, key: Sequence[str]) -> Insert:
        """ON DUPLICATE KEY UPDATE without a change: INSERT IGNORE would hide broken references."""
        insert = mysql.insert(table)
        return insert.on_duplicate_key_update({key[0]: table.c[key[0]]})

    def upsert(self, table: Table, key: Sequence[str], columns: Sequence[str]) -> Insert:
        """INSERT … ON DUPLICATE KEY UPDATE."""
        del key
        insert = mysql.insert(table)
        return insert.on_duplicate_key_update({name: insert.inserted[name] for name in columns})

    def select_parameter(self, parameter: ColumnElement[Any]) -> ColumnElement[Any]:
        """Bytes are cast, because PyMySQL before 1.2 sends them as text."""
        is_bytes = isinstance(parameter.type, LargeBinary)
        return cast(parameter, LargeBinary) if is_bytes else parameter

    @contextmanager
    def setup_lock(self, conn: Connection) -> Iterator[None]:
        """A named lock: DDL commits, so a transaction's lock would not hold."""
        name = {"name": self._setup_lock}
        wait = name | {"seconds": base.SETUP_WAIT}
        if conn.execute(text("SELECT GET_LOCK(:name, :seconds)"), wait).scalar() != 1:
            raise base.setup_locked(f"IS_USED_LOCK('{self._setup_lock}') is its connection")
        try:
            yield
        finally:
            if not conn.invalidated:  # a connection that is lost holds no lock
                conn.exec_driver_sql("COMMIT")
                conn.execute(text("SELECT RELEASE_LOCK(:name)"), name)

    def value_limit(self, conn: Connection) -> int:
        """Half of `max_allowed_packet`: some drivers send bytes as hexadecimal digits."""
        packet = int(conn.execute(text("SELECT @@max_allowed_packet")).scalar_one())
        return packet // 2 - (64 << 10)

    def space(self, conn: Connection, tables: Sequence[Table]) -> Space:
        """Files where the user may see them (PROCESS), else estimates of information_schema."""
        given = {"schema": tables[0].schema, "names": [table.name for table in tables]}
        used, free = conn.execute(_ESTIMATES, given).one()
        is_mariadb = bool(getattr(conn.dialect, "is_mariadb", False))
        view = "innodb_sys_tablespaces" if is_mariadb else "innodb_tablespaces"
        with suppress(DBAPIError):
            size = conn.execute(_files_in(view), given).scalar_one()
            return Space(int(size), max(0, int(size - used)))
        return Space(int(used + free), int(free))

    def vacuum(self, conn: Connection, tables: Sequence[Table], how: VacuumKind) -> str | None:
        """Write the tables anew, while they are used.

        It is what OPTIMIZE TABLE does on InnoDB, which tells an error only as a row.
        """
        del how
        for name in map(conn.dialect.identifier_preparer.format_table, tables):
            execute(conn, f"ALTER TABLE {name} FORCE")
            execute(conn, f"ANALYZE TABLE {name}")
        return None

    def limit_lock_wait(self, conn: Connection, seconds: float) -> None:
        """SET lock_wait_timeout, in whole seconds."""
        execute(conn, f"SET lock_wait_timeout = {max(1, math.ceil(seconds))}")

    def delete_newest_blobs(self, blobs: Table) -> Executable:
        """The deepest of their delta chains first."""
        name = mysql.dialect().identifier_preparer.format_table(blobs)
        return text(
            f"DELETE FROM {name} WHERE thread_key = :thread "  # noqa: S608
            "AND blob_key NOT IN :staying ORDER BY depth DESC LIMIT :most"
        ).bindparams(bindparam("staying", expanding=True))


def _autocommits(conn: Connection) -> bool:
    return bool(driver_of(conn).get_autocommit())


def _is_in_transaction(conn: Connection) -> bool:
    """Whether the server said so; true for a driver that does not tell what it said.

    In a transaction that BEGIN has begun, the drivers still call the connection an autocommitting
    one.
    """
    return bool(getattr(driver_of(conn), "server_status", _IN_TRANSACTION) & _IN_TRANSACTION)
