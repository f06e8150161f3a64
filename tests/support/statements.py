"""What a saver sends to the database, statement by statement."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support.backends import Backend, Sql

CONTROL = {"BEGIN", "COMMIT", "ROLLBACK", "PRAGMA", "SET"}
BLOCK = "BEGIN NOT ATOMIC"
WRITES = re.compile(r"(?<!KEY )\b(INSERT|UPDATE|DELETE)(?: INTO| FROM)? (\w+)")


@contextmanager
def recorded_statements(engine: Engine) -> Iterator[list[str]]:
    """Collects the verb and the main table of each statement: ``SELECT session_checkpoints``.

    What only opens, closes or configures a transaction is left out. An executemany is one.
    Of MariaDB's anonymous blocks, each statement inside that writes is collected.
    """
    seen: list[str] = []

    def record(
        conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        del conn, cursor, parameters, context, executemany
        words = statement.split()
        if statement.startswith(BLOCK):
            seen.extend(f"{verb} {table}" for verb, table in WRITES.findall(statement))
        elif words[0].upper() not in CONTROL:
            seen.append(_described(words))

    event.listen(engine, "before_cursor_execute", record)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", record)


def sync_engine_of(engine: Engine | AsyncEngine) -> Engine:
    """The engine that statements pass through."""
    return engine.sync_engine if isinstance(engine, AsyncEngine) else engine


@contextmanager
def hook(
    engine: Engine | AsyncEngine, part: str, act: Callable[[Connection], object], times: int = 1
) -> Iterator[list[int]]:
    """Act before the first statements that contain a part; yields the count of all that do."""
    seen = [0]

    def look(conn: Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        if part in statement:
            seen[0] += 1
            if seen[0] <= times:
                act(conn)

    target = sync_engine_of(engine)
    event.listen(target, "before_cursor_execute", look)
    yield seen
    event.remove(target, "before_cursor_execute", look)


def is_waiting(backend: Backend, sql: Sql) -> bool:
    """Whether a connection to a server waits for a lock."""
    asked_for = {
        "postgresql": "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        "AND datname = current_database()",
        # Not innodb_trx: asked more often than every 0.1 s, it says again what it said before.
        "mariadb": "SHOW GLOBAL STATUS "
        "WHERE Variable_name = 'Innodb_row_lock_current_waits' AND Value > 0",
    }
    return bool(sql(asked_for[backend.name]))


def _described(words: list[str]) -> str:
    marks = {"FROM", "INTO", "UPDATE"}
    named = [
        (depth, name)
        for depth, word, after in zip(_depths(words), words, words[1:], strict=False)
        if word.upper() in marks
        and (name := after.strip('`"(),')).isidentifier()
        and name.upper() != "SELECT"
    ]
    verb = words[0].upper()
    if verb in {"SELECT", "WITH"}:  # a column, or what comes before, may be a query of its own
        named.sort(key=lambda found: found[0])
    return f"{verb} {named[0][1] if named else '?'}"


def _depths(words: list[str]) -> Iterator[int]:
    """In how many parentheses each word is."""
    depth = 0
    for word in words:
        yield depth + len(word) - len(word.lstrip("("))
        depth += word.count("(") - word.count(")")
