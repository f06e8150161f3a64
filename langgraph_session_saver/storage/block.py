"""Storing a step on MariaDB: as one anonymous block, where it would be six round trips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from langgraph_session_saver.encoding.keys import CheckpointKey
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.compiled import Statement, execute
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.storage.batch import (
    Batch,
    Rows,
    Store,
    fit_one_insert,
    is_not_pruned,
    pruned_params,
)
from langgraph_session_saver.storage.in_turn import InTurn


class OneBlock(InTurn):
    """Runs a batch of a known thread as one anonymous block of MariaDB's: one round trip, not six.

    See https://mariadb.com/kb/en/begin-end/ for `BEGIN NOT ATOMIC`.
    """

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        super().__init__(tables, dialect)
        self._is_not_pruned = Statement(is_not_pruned(tables))

    def run(self, conn: Connection, batch: Batch) -> bool:
        """As `InTurn.run`."""
        if not self._dialect.takes_batches(conn):
            return super().run(conn, batch)
        if batch.unless_pruned is not None and batch.is_one_insert:
            return self._insert_unless_pruned(conn, batch.stores[0], batch.unless_pruned)
        if batch.revision_check is None:
            return super().run(conn, batch)
        if not all(fit_one_insert(store, rows) for store, rows in batch.stores):
            return self._dialect.in_transaction(conn, lambda conn: InTurn.run(self, conn, batch))
        revision_check, params = self._gate(batch.revision_check)
        parts = [
            (revision_check, params),
            *((statement, rows[0]) for statement, rows in self._parts(batch)),
        ]
        texts, bound = _joined([statement.bound(conn, given) for statement, given in parts])
        rows, _ = execute(conn, _BLOCK.format(texts[0], "; ".join(texts[1:])), bound)
        return bool(rows[0][0])

    def _insert_unless_pruned(
        self, conn: Connection, stored: tuple[Store, Rows], checkpoint: CheckpointKey
    ) -> bool:
        """As the condition of a block: as one of the INSERT, or of a SELECT, it takes longer."""
        insert, rows = self._insert_of(*stored)
        condition = self._is_not_pruned.bound(conn, pruned_params(checkpoint))
        texts, bound = _joined([condition, insert.bound(conn, rows[0])])
        execute(conn, _CONDITION.format(*texts), bound)
        return True


def _joined(parts: Sequence[tuple[str, Any]]) -> tuple[list[str], Any]:
    """Texts for one statement, and all their parameters: by name, if so, under a number each."""
    if not isinstance(parts[0][1], dict):
        return [sql for sql, _ in parts], tuple(value for _, values in parts for value in values)
    texts = [sql.replace("%(", f"%({number}_") for number, (sql, _) in enumerate(parts)]
    named = {
        f"{number}_{name}": value
        for number, (_, values) in enumerate(parts)
        for name, value in values.items()
    }
    return texts, named


_BLOCK = """\
BEGIN NOT ATOMIC
DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
START TRANSACTION;
{}; IF ROW_COUNT() > 0 THEN {}; COMMIT; SELECT 1; ELSE ROLLBACK; SELECT 0; END IF;
END"""

_CONDITION = "BEGIN NOT ATOMIC IF {} THEN {}; END IF; END"
