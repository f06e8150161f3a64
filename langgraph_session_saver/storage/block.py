"""Storing a batch on MariaDB as one anonymous block: one round trip, not six."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from sqlalchemy import Connection

from langgraph_session_saver.sql.compiled import execute
from langgraph_session_saver.storage.batch import Batch
from langgraph_session_saver.storage.in_turn import InTurn


class OneBlock(InTurn):
    """Runs a batch in a BEGIN NOT ATOMIC block (https://mariadb.com/kb/en/begin-end/)."""

    def run(self, conn: Connection, batch: Batch) -> bool:
        """As `InTurn.run`."""
        is_mariadb = getattr(conn.dialect, "is_mariadb", False)
        if not is_mariadb or batch.revision_check is None or batch.is_large:
            return super().run(conn, batch)
        is_alone = self._dialect.takes_batches(conn)
        if not all(upsert.fits_one_statement(rows) for upsert, rows in batch.upserts):
            with self._dialect.transaction(conn) if is_alone else nullcontext():
                return super().run(conn, batch)
        check, params = self._check(batch.revision_check)
        parts = [(check, params), *((part, rows[0]) for part, rows in self._parts(batch))]
        texts, bound = _joined([statement.bound(conn, given) for statement, given in parts])
        rows, _ = execute(
            conn,
            (_TRANSACTION if is_alone else _PART).format(texts[0], "; ".join(texts[1:])),
            bound,
        )
        return bool(rows[0][0])


def _joined(parts: Sequence[tuple[str, Any]]) -> tuple[list[str], Any]:
    """The texts of several statements, and their parameters as those of one.

    Parameters with names get the number of their statement as a prefix.
    """
    if not isinstance(parts[0][1], dict):
        return [sql for sql, _ in parts], tuple(value for _, values in parts for value in values)
    texts = [sql.replace("%(", f"%({number}_") for number, (sql, _) in enumerate(parts)]
    named = {
        f"{number}_{name}": value
        for number, (_, values) in enumerate(parts)
        for name, value in values.items()
    }
    return texts, named


_TRANSACTION = """\
BEGIN NOT ATOMIC
DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
START TRANSACTION;
{}; IF ROW_COUNT() > 0 THEN {}; COMMIT; SELECT 1; ELSE ROLLBACK; SELECT 0; END IF;
END"""

_PART = "BEGIN NOT ATOMIC {}; IF ROW_COUNT() > 0 THEN {}; SELECT 1; ELSE SELECT 0; END IF; END"
"""For a transaction that the caller ends."""
