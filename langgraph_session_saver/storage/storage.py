"""All statements on the storage tables of one installation.

They are methods that take a connection. None of them opens a connection, commits or retries: see
`sql.runner`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from langgraph_session_saver.schema.tables import Tables, shared_tables
from langgraph_session_saver.sql.dialects import dialect_for
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.storage.block import OneBlock
from langgraph_session_saver.storage.checkpoints import Checkpoints
from langgraph_session_saver.storage.in_turn import InTurn
from langgraph_session_saver.storage.single_statement import SingleStatement
from langgraph_session_saver.storage.thread_data import ThreadData
from langgraph_session_saver.storage.threads import Threads

_BATCH_RUNNERS = {"turns": InTurn, "statement": SingleStatement, "block": OneBlock}
"""How a database runs a batch, by `Dialect.batches_as`."""


class Storage:
    """The statements, by what they are on.

    Attributes:
        batches: Runs everything that a step stores.
        checkpoints: Checkpoints, their blobs and their writes.
        threads: Threads and the sessions that own them.
        thread_data: Everything that a thread stores.
    """

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self.tables = tables
        self.dialect = dialect
        self.batches = _BATCH_RUNNERS[dialect.batches_as](tables, dialect)
        self.checkpoints = Checkpoints(tables, self.batches)
        self.threads = Threads(tables, dialect)
        self.thread_data = ThreadData(tables, dialect, self.threads)


@lru_cache(maxsize=32)
def storage_on(dialect_class: Any, schema: str | None, prefix: str) -> Storage:
    """The storage that all savers on engines of one kind share, with its compiled statements.

    Args:
        dialect_class: The class of an engine's dialect.
        schema: As for `build_tables`.
        prefix: As for `build_tables`.
    """
    return Storage(shared_tables(schema, prefix), dialect_for(dialect_class))
