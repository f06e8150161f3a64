"""PostgreSQL, and databases that speak its protocol."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import date
from typing import Any

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Date,
    Executable,
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

from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.sql.compiled import driver_of, execute
from langgraph_session_saver.sql.dialects import base
from langgraph_session_saver.sql.dialects.base import (
    Dialect,
    Space,
    VacuumKind,
    newest_blobs,
)

_PGBOUNCER = "pgbouncer"
"""In a URL's query: whether pgbouncer pools the connections in transaction mode."""


def _is_pooled(url: URL) -> bool:
    """Whether a URL says that pgbouncer pools its connections."""
    found = url.query.get(_PGBOUNCER, "false")
    if found not in {"true", "false"}:
        raise InvalidConfigError(f"the URL says pgbouncer={found!r:.80}: use true or false")
    return found == "true"


def _is_confused(exc: BaseException) -> bool:
    """Whether asyncpg failed because a lost connection left its protocol in mid-operation.

    SQLAlchemy translates that error from 2.0.50 on.
    """
    raw = exc.orig.__cause__ if isinstance(exc, DBAPIError) and exc.orig else exc
    asyncpg = sys.modules.get("asyncpg")
    return asyncpg is not None and isinstance(raw, asyncpg.InternalClientError)


class PostgreSQL(Dialect):
    """PostgreSQL, and databases that speak its protocol."""

    insert = staticmethod(postgresql.insert)
    batches_as = "statement"
    transient_errors = frozenset({"40001", "40P01", "57P01", "57P02", "57P03", "25006"})
    conflict_errors = frozenset({"40001", "40P01"})
    full_errors = frozenset({"53100"})
    locked_errors = frozenset({"55P03"})  # lock_not_available
    forbidden_errors = frozenset({"25006", "42501"})  # read-only: set so, demoted, or a standby
    most_bytes = (1 << 29) - (1 << 20)  # half of a field's 1 GiB: a text protocol doubles the size
    # Unlike `version()`, without the compiler's name.
    version_query = "SELECT concat('PostgreSQL ', current_setting('server_version'))"
    sizes_are = "files, by pg_total_relation_size"
    # Files with TOAST and indexes; deleted rows count until a VACUUM.
    sizes_query = (
        "SELECT c.relname, pg_total_relation_size(c.oid) FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'p') AND n.nspname = coalesce(:schema, current_schema())"
    )
    _setup_lock = 0x6C67_7373  # "lgss"
    # Each piece scans the dead rows of the pieces before it, and blocks only this thread's writers.
    first_piece_factor = 15
    cascades_thread_deletes = True

    def raw_errors(self, driver: str) -> tuple[type[Exception], ...]:
        """All of asyncpg's: SQLAlchemy 2.0 translates none of them while it connects."""
        if driver != "asyncpg":
            return ()
        import asyncpg  # type: ignore[import-untyped] # noqa: PLC0415 - need not be installed

        return (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

    def is_transient(self, exc: BaseException) -> bool:
        """Also where asyncpg's protocol was left in mid-operation."""
        return super().is_transient(exc) or _is_confused(exc)

    def needs_new_connection(self, exc: Exception) -> bool:
        """Also where asyncpg still takes a lost connection for one that it can use."""
        return super().needs_new_connection(exc) or _is_confused(exc)

    def driver_url(self, url: URL) -> URL:
        """A URL without `pgbouncer=true`."""
        return url.difference_update_query([_PGBOUNCER])

    def has_sessions(self, url: URL) -> bool:
        """Not behind pgbouncer, where a setting would be left to whoever comes next."""
        return not _is_pooled(url)

    def engine_options(self, url: URL, *, is_async: bool) -> dict[str, Any]:
        """With psycopg's raw cursors, which take PostgreSQL's own parameters.

        The others parse a statement of over 4,096 characters or 50 parameters at every use
        (MAX_CACHED_STATEMENT_LENGTH in psycopg's _queries.py).

        Raises:
            InvalidConfigError: `pgbouncer=` is neither `true` nor `false`, or asyncpg is to use it.
        """
        options = super().engine_options(url, is_async=is_async)
        is_pooled = _is_pooled(url)
        if url.get_driver_name() not in {"psycopg", "psycopg_async"}:
            if is_pooled:
                raise InvalidConfigError(
                    "asyncpg prepares every statement, which pgbouncer may send to another server: "
                    "use postgresql+psycopg_async://"
                )
            return options
        import psycopg  # noqa: PLC0415 - need not be installed

        cursor = psycopg.AsyncRawCursor if is_async else psycopg.RawCursor
        connect: dict[str, Any] = {"cursor_factory": cursor}
        if is_pooled:
            connect["prepare_threshold"] = None
        elif "prepare_threshold" not in url.query:
            connect["prepare_threshold"] = 0  # prepare at the first use, as other drivers do
        return options | {"paramstyle": "numeric_dollar", "connect_args": connect}

    def configure(self, dbapi_connection: Any, record: Any) -> None:
        """Plan a prepared statement once instead of at each of its first five uses.

        Rows are found by key, so that no parameters need another plan. The setting is looked up
        because servers that only speak PostgreSQL's protocol may not have it.
        """
        del record
        cursor = dbapi_connection.cursor()
        cursor.execute(
            "SELECT set_config(name, 'force_generic_plan', false) FROM pg_settings "
            "WHERE name = 'plan_cache_mode'"
        )
        cursor.close()

    def transaction(self, conn: Connection) -> AbstractContextManager[object]:
        """READ COMMITTED, which the drivers send with BEGIN, at no extra round trip."""
        return conn.execution_options(isolation_level="READ COMMITTED").begin()

    def one_statement(self, conn: Connection) -> AbstractContextManager[object]:
        """In autocommit mode."""
        self.use_autocommit(conn)
        return nullcontext()

    def use_autocommit(self, conn: Connection) -> None:
        """Autocommit is a setting of the driver, which tells the server nothing."""
        driver: Any = conn.connection.dbapi_connection
        if not driver.autocommit:
            conn.execution_options(isolation_level="AUTOCOMMIT")

    def continue_ids(self, conn: Connection, table: Table) -> None:
        """Inserted ids do not advance the sequence: move it forward, never back."""
        name = conn.dialect.identifier_preparer.format_table(table)
        sequence = cast(func.pg_get_serial_sequence(name, "id"), postgresql.REGCLASS)
        last = func.coalesce(func.pg_sequence_last_value(sequence), 0)
        greatest = select(func.max(table.c.id)).scalar_subquery()
        conn.execute(select(func.setval(sequence, greatest)).where(greatest > last))

    @contextmanager
    def setup_lock(self, conn: Connection) -> Iterator[None]:
        """An advisory lock that ends with the transaction."""
        before = conn.execute(text("SELECT current_setting('lock_timeout')")).scalar_one()
        set_timeout = text("SELECT set_config('lock_timeout', :timeout, true)")
        conn.execute(set_timeout, {"timeout": f"{base.SETUP_WAIT * 1000:.0f}ms"})
        try:
            conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": self._setup_lock})
        except DBAPIError as exc:
            if not self.is_locked(exc):
                raise
            raise base.setup_locked(
                f"its pid is in pg_locks, with objid {self._setup_lock}"
            ) from exc
        conn.execute(set_timeout, {"timeout": before})
        yield

    def day(self, moment: Any) -> ColumnElement[date]:
        """In UTC, whatever the time zone of the connection."""
        return cast(func.timezone("UTC", moment), Date)

    def space(self, conn: Connection, tables: Sequence[Table]) -> Space:
        """By the sizes of files, and the statistics of dead rows."""
        schema = tables[0].schema
        dead = text(
            "SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_all_tables "
            "WHERE schemaname = coalesce(:schema, current_schema()) AND relname IN :names"
        ).bindparams(bindparam("names", expanding=True))
        names = [table.name for table in tables]
        _, sizes = self.table_sizes(conn, tables)
        return Space(
            sum(sizes.get(name, 0) for name in names),
            dead_rows=int(conn.execute(dead, {"schema": schema, "names": names}).scalar_one()),
        )

    def vacuum(self, conn: Connection, tables: Sequence[Table], how: VacuumKind) -> str | None:
        """Make the space of dead rows free for others; only FULL gives it back."""
        options = "FULL, ANALYZE" if how == "full" else "ANALYZE"
        names = ", ".join(map(conn.dialect.identifier_preparer.format_table, tables))
        warnings: list[str] = []
        driver_of(conn).add_notice_handler(lambda said: warnings.append(said.message_primary))
        execute(conn, f"VACUUM ({options}) {names}")
        return "; ".join(warnings) or None  # such as of a table that the role does not own

    def limit_lock_wait(self, conn: Connection, seconds: float) -> None:
        """SET lock_timeout."""
        execute(conn, f"SET lock_timeout = {seconds * 1000:.0f}")

    def delete_newest_blobs(self, blobs: Table) -> Executable:
        """The deepest of their delta chains first, by physical location."""
        ids = newest_blobs(blobs, "ctid", "depth").scalar_subquery()
        return delete(blobs).where(literal_column("ctid") == any_(func.array(ids)))

    @contextmanager
    def tuned_for_bulk_deletes(self, conn: Connection) -> Iterator[None]:
        """Plan each statement for its parameters, unlike the steps of an engine of ours.

        A generic plan would scan all of a small database for each piece.
        """
        execute(conn, "SET LOCAL plan_cache_mode = force_custom_plan")
        yield
