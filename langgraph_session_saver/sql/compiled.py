"""Statements that are compiled once and run on the driver's own cursor.

SQLAlchemy's `Connection.execute` looks a compiled statement up and builds a result object at each
call. The statements that every step runs skip both, unless somebody observes the connection.
"""

from __future__ import annotations

import logging
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, LargeBinary
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError

Process = Callable[[Any], Any]

BATCH = 500
"""Keys named in one statement: every driver takes that many parameters."""


class Statement:
    """A statement of fixed text with named parameters.

    Args:
        executable: A SQLAlchemy construct without expanding parameters.
        columns: The columns that an INSERT or UPDATE sets from parameters.
    """

    def __init__(self, executable: Any, columns: Iterable[str] = ()) -> None:
        self._executable = executable
        self._columns = list(columns)
        self._compiled: dict[tuple[Any, ...], _Compiled] = {}
        self._current: tuple[Dialect, _Compiled] | None = None

    def all(self, conn: Connection, params: Mapping[str, Any]) -> list[Any]:
        """Run the statement and return its rows as named tuples."""
        compiled = self._for(conn)
        rows, _ = execute(conn, compiled.sql, compiled.bound(params))
        return list(map(compiled.row, rows))

    def first(self, conn: Connection, params: Mapping[str, Any]) -> Any:
        """Run the statement and return its only row as a named tuple, or None."""
        compiled = self._for(conn)
        rows, _ = execute(conn, compiled.sql, compiled.bound(params))
        return compiled.row(rows[0]) if rows else None

    def scalar(self, conn: Connection, params: Mapping[str, Any]) -> Any:
        """Run the statement and return the first column of its only row, or None."""
        row = self.first(conn, params)
        return None if row is None else row[0]

    def run(self, conn: Connection, params: Mapping[str, Any]) -> int:
        """Run the statement and return the number of rows that it matched."""
        compiled = self._for(conn)
        return execute(conn, compiled.sql, compiled.bound(params))[1]

    def bound(self, conn: Connection, params: Mapping[str, Any]) -> tuple[str, Any]:
        """The text and the parameters in the driver's own style."""
        compiled = self._for(conn)
        return compiled.sql, compiled.bound(params)

    def run_each(self, conn: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
        """As `run` for each row of parameters, in one round trip if the driver can."""
        if len(rows) == 1:
            return self.run(conn, rows[0])
        compiled = self._for(conn)
        return execute(conn, compiled.sql, [compiled.bound(row) for row in rows], many=True)[1]

    def _for(self, conn: Connection) -> _Compiled:
        current = self._current
        if current is None or current[0] is not conn.dialect:
            # Compiled at the first use: the text depends on the server's version.
            current = self._current = (conn.dialect, self._compiled_for(conn.dialect))
        return current[1]

    def _compiled_for(self, dialect: Dialect) -> _Compiled:
        """The statement compiled for a dialect; engines that are alike share it."""
        key = _alike(dialect)
        found = self._compiled.get(key)
        if found is None:
            found = self._compiled[key] = _Compiled(self._executable, self._columns, dialect)
        return found


class Statements:
    """An UPDATE or INSERT of varying columns, compiled once for each set of columns."""

    def __init__(self, executable: Any) -> None:
        self._executable = executable
        self._made: dict[tuple[str, ...], Statement] = {}

    def of(self, columns: Iterable[str]) -> Statement:
        """The statement that sets some columns."""
        names = tuple(columns)
        found = self._made.get(names)
        if found is None:
            found = self._made[names] = Statement(self._executable, names)
        return found


class _Compiled:
    """A statement's text in one dialect, and the conversion of its parameters and rows."""

    def __init__(self, executable: Any, columns: list[str], dialect: Dialect) -> None:
        compiled: Any = executable.compile(dialect=dialect, column_keys=columns or None)
        self.sql = str(compiled)
        binds = compiled.binds
        self._names = tuple(compiled.positiontup or binds)
        self._pick = _picker(self._names)
        self._is_positional = bool(compiled.positional)
        self._constants = {
            name: bind.effective_value for name, bind in binds.items() if not bind.required
        }
        self._defaults = {c.key: _maker(c.default) for c in compiled.insert_prefetch}
        self._defaults |= {c.key: _maker(c.onupdate) for c in compiled.update_prefetch}
        self._processed = [
            (name, process)
            for name, bind in binds.items()
            if (process := _crossing(bind.type, dialect, "bind")) is not None
        ]
        converts = not self._is_positional or self._constants or self._defaults or self._processed
        self.bound: Callable[[Mapping[str, Any]], Any] = self._bound if converts else self._pick
        """Converts parameters to the driver's form."""
        results = list(getattr(compiled, "_result_columns", ()))
        self._row = _row_type(results)
        self._read = [
            (place, process)
            for place, entry in enumerate(results)
            if (process := _crossing(entry.type, dialect, "result")) is not None
        ]
        self.row: Callable[[Sequence[Any]], Any] = self._converted if self._read else self._row
        """Converts a driver's row to a named tuple."""

    def _bound(self, params: Mapping[str, Any]) -> Any:
        made = {name: make() for name, make in self._defaults.items() if name not in params}
        bound = {**self._constants, **made, **params}
        for name, process in self._processed:
            bound[name] = process(bound[name])
        picked = self._pick(bound)
        return picked if self._is_positional else dict(zip(self._names, picked, strict=True))

    def _converted(self, row: Sequence[Any]) -> Any:
        values = list(row)
        for place, process in self._read:
            values[place] = process(values[place])
        return self._row(values)


def _alike(dialect: Dialect) -> tuple[Any, ...]:
    """The properties of a dialect that statements and conversions depend on."""
    names = ("is_mariadb", "_json_serializer", "_json_deserializer")
    return (
        type(dialect),
        dialect.server_version_info,
        dialect.paramstyle,
        dialect.identifier_preparer.initial_quote,
        *(getattr(dialect, name, None) for name in names),
    )


def _picker(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    """A function that picks the values under some names."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda params: tuple(params[name] for name in names)


def _row_type(results: Sequence[Any]) -> Callable[[Sequence[Any]], Any]:
    names = [entry.keyname for entry in results]
    # Unlike `_make`, this does not count the values.
    return partial(tuple.__new__, namedtuple("Row", names))  # noqa: PYI024


def _maker(default: Any) -> Callable[[], Any]:
    """A function that returns a column's default value."""
    if default.is_callable:
        return lambda: default.arg(None)
    return lambda: default.arg


def _crossing(type_: Any, dialect: Dialect, way: str) -> Process | None:
    """SQLAlchemy's conversion of a value, for `way` "bind" or "result"; None if there is none."""
    impl = type_.dialect_impl(dialect)
    if isinstance(impl, LargeBinary | mysql.LONGBLOB | mysql.VARBINARY):
        return None  # drivers take and return bytes unchanged
    if way == "bind":
        found: Process | None = impl.bind_processor(dialect)
    else:
        found = impl.result_processor(dialect, None)
    return found


def execute(
    conn: Connection, sql: str, bound: Any = (), *, many: bool = False
) -> tuple[Sequence[Any], int]:
    """Run SQL in the connection's transaction; return its rows, and how many it matched.

    Args:
        conn: The connection.
        sql: In the driver's own style of parameters.
        bound: The parameters; with `many` a list of them.
        many: Whether to run it once for each.

    Raises:
        DBAPIError: What the driver raised, in SQLAlchemy's wrapping.
    """
    result = conn.exec_driver_sql(sql, bound) if is_observed(conn) else None
    if result is not None and not result.returns_rows:
        return (), result.rowcount
    cursor: Any = conn.connection.cursor() if result is None else result.cursor
    try:
        if result is None:
            (cursor.executemany if many else cursor.execute)(sql, bound)
        found = (cursor.fetchall() if cursor.description else ()), cursor.rowcount
        cursor.close()  # A block may fail after its rows. SQLAlchemy's own close would not tell.
    except conn.dialect.loaded_dbapi.Error as exc:
        raise _wrapped(conn, cursor, sql, exc) from exc
    except BaseException as exc:  # a signal's handler raised, or a task was cancelled
        if conn.dialect.driver not in _UNINTERRUPTED_DRIVERS:
            conn.invalidate(exc)  # the server's answer may still be on its way
        raise
    return found


_UNINTERRUPTED_DRIVERS = frozenset(("pysqlite", "pysqlcipher", "aiosqlite"))
"""Drivers that finish a statement, in C or in a thread of their own, whoever is interrupted."""


def driver_of(conn: Connection) -> Any:
    """The driver's own connection."""
    return conn.connection.driver_connection


def is_observed(conn: Connection) -> bool:
    """Whether a listener or a logger is to be told of the connection's statements.

    Listeners for connects and checkouts do not count: they are told of no statement.
    """
    engine, dialect = conn.engine, conn.dialect
    if conn._has_events or engine._has_events:  # noqa: SLF001
        return True
    if dialect._has_events and any(_statement_listeners(dialect.dispatch)):  # noqa: SLF001
        return True
    return engine.logger.isEnabledFor(logging.INFO)


_statement_listeners = attrgetter(
    "do_execute", "do_execute_no_params", "do_executemany", "handle_error"
)
"""The listeners of a dialect that are told of statements."""


def _wrapped(conn: Connection, cursor: Any, sql: str, exc: Exception) -> BaseException:
    """Wrap a driver's error in SQLAlchemy's, and close the cursor as it does.

    The error's traceback refers to the cursor. An open one keeps SQLite's connection open after it
    was closed, and with it a log that could only be read, also for the connections after it.
    """
    dialect = conn.dialect
    is_lost = dialect.is_disconnect(exc, conn.connection, None)  # type: ignore[arg-type]
    wrapped = DBAPIError.instance(
        sql, None, exc, dialect.loaded_dbapi.Error, hide_parameters=True,
        connection_invalidated=is_lost, dialect=dialect,
    )  # fmt: skip
    if is_lost:
        replace_connections(conn, exc)
    else:
        with suppress(dialect.loaded_dbapi.Error):
            cursor.close()
    return wrapped


def replace_connections(conn: Connection, exc: Exception) -> None:
    """Remove a useless connection from its pool, and replace those that rest there when taken.

    SQLAlchemy does so after a lost connection: most likely the others are lost too, and each would
    cost a retry.
    """
    conn.engine.pool._invalidate(conn.connection, exc)  # noqa: SLF001
    conn.invalidate(exc)


def batches(items: Sequence[Any], size: int = BATCH) -> Iterable[Sequence[Any]]:
    """Slices of a sequence of at most `size` items."""
    return (items[i : i + size] for i in range(0, len(items), size))
