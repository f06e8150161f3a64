"""What a saver sends to the database, statement by statement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from sqlalchemy import Engine, event

CONTROL = {"BEGIN", "COMMIT", "ROLLBACK", "PRAGMA", "SET"}


@contextmanager
def recorded_statements(engine: Engine) -> Iterator[list[str]]:
    """Collects the verb and the main table of each statement: ``SELECT session_checkpoints``.

    What only opens, closes or configures a transaction is left out. An executemany is one.
    """
    seen: list[str] = []

    def record(
        conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        del conn, cursor, parameters, context, executemany
        words = statement.split()
        if words[0].upper() not in CONTROL:
            seen.append(_described(words))

    event.listen(engine, "before_cursor_execute", record)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", record)


def _described(words: list[str]) -> str:
    marks = {"FROM", "INTO", "UPDATE"}
    named = [after.strip('`"(),') for word, after in pairwise(words) if word.upper() in marks]
    tables = [name for name in named if name.isidentifier() and name.upper() != "SELECT"]
    return f"{words[0].upper()} {tables[0] if tables else '?'}"
