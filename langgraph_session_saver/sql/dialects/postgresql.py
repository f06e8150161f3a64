"""PostgreSQL, and databases that speak its protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Date,
    Executable,
    Integer,
    Select,
    Table,
    any_,
    bindparam,
    cast,
    delete,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError

from langgraph_session_saver.sql.compiled import execute
from langgraph_session_saver.sql.dialects import base
from langgraph_session_saver.sql.dialects.base import _doomed, _OnConflict, _sqlstate

T = TypeVar("T")
GIB = 1 << 30


class PostgreSQL(_OnConflict):
    """PostgreSQL, and databases that speak its protocol."""

    insert = staticmethod(postgresql.insert)
    batches_as = "statement"
    transient_states = frozenset({"40001", "40P01", "57P01", "57P02", "57P03", "25006"})
    _setup_lock = 0x6C67_7373  # "lgss"
    # Who looks for what is gone passes it again: 100,000 checkpoints and 300,000 writes go in 0.35
    # s, in 0.42 if they are deleted before the foreign keys look for them, and in pieces in 0.65.
    # Nobody waits but who writes to the same thread.
    first_piece = 15
    leaves_it_to_references = True

    def in_transaction(self, conn: Connection, operation: Callable[[Connection], T]) -> T:
        """READ COMMITTED: its drivers send it with BEGIN, so it costs no round trip."""
        conn.execution_options(isolation_level="READ COMMITTED")
        return super().in_transaction(conn, operation)

    def alone(self, conn: Connection, operation: Callable[[Connection], T]) -> T:
        """Under autocommit."""
        self.leave_transactions(conn)
        return operation(conn)

    def leave_transactions(self, conn: Connection) -> None:
        """Autocommit is a setting of the drivers, of which the server hears nothing."""
        driver: Any = conn.connection.dbapi_connection
        if not driver.autocommit:
            conn.execution_options(isolation_level="AUTOCOMMIT")

    def continue_ids(self, conn: Connection, table: Table) -> None:
        """Explicit ids leave a sequence where it was: move it, but never back."""
        greatest = select(func.max(table.c.id)).scalar_subquery()
        name = conn.dialect.identifier_preparer.format_table(table)
        sequence = conn.scalar(select(func.pg_get_serial_sequence(name, "id")))
        if sequence is None or (last := conn.scalar(select(greatest))) is None:
            return
        at = conn.scalar(text(f"SELECT last_value FROM {sequence}"))  # noqa: S608 - quoted by it
        if last > int(at or 0):
            conn.execute(select(func.setval(sequence, last)))

    @contextmanager
    def setup_lock(self, conn: Connection) -> Iterator[None]:
        """An advisory lock that ends with the transaction."""
        before = conn.execute(text("SELECT current_setting('lock_timeout')")).scalar_one()
        set_timeout = text("SELECT set_config('lock_timeout', :timeout, true)")
        conn.execute(set_timeout, {"timeout": f"{base.SETUP_WAIT * 1000:.0f}ms"})
        try:
            conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": self._setup_lock})
        except DBAPIError as exc:
            if _sqlstate(exc.orig) != "55P03":  # lock_not_available
                raise
            raise base.setup_locked(
                f"its pid is in pg_locks, with objid {self._setup_lock}"
            ) from exc
        conn.execute(set_timeout, {"timeout": before})
        yield

    def day(self, moment: Any) -> ColumnElement[date]:
        """The session's time zone may be any."""
        return cast(func.timezone("UTC", moment), Date)

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

    def delete_newest_blobs(self, blobs: Table, *, but_some: bool) -> Executable:
        """The deepest, by where they are."""
        old = blobs.alias("old")
        some: Select[Any] = select(literal_column("old.ctid")).select_from(old)
        some = some.where(*_doomed(old, but_some=but_some)).order_by(old.c.depth.desc())
        some = some.limit(bindparam("most", type_=Integer))
        return delete(blobs).where(
            literal_column("ctid") == any_(func.array(some.scalar_subquery()))
        )

    @contextmanager
    def in_bulk(self, conn: Connection) -> Iterator[None]:
        """Plan for the rows at hand: else each of many pieces reads the whole of a small database.

        What `urls.py` asks for suits steps, of which the plan is always the same.
        """
        execute(conn, "SET LOCAL plan_cache_mode = force_custom_plan")
        yield
