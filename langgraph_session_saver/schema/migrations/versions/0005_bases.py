"""No foreign key from a delta to its base, a smaller index of runs, sessions in one piece.

A step checks the base itself when it stores a delta, under a lock of the thread's row; checking
the foreign key made deletion of many blobs slow. PostgreSQL no longer compresses and moves parts
of a session's row at every step.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Table

from langgraph_session_saver.schema.column_types import Id
from langgraph_session_saver.schema.migrations.past_tables import blobs, bound_blobs
from langgraph_session_saver.schema.migrations.steps import Steps
from langgraph_session_saver.schema.tables import TableFactory

revision = "0005"
down_revision = "0004"

LOSES: dict[str, dict[str, Any]] = {}


def upgrade(steps: Steps) -> None:
    """Drop the foreign key and its index, index runs only, and store sessions in one piece."""
    steps.rebind(bound_blobs(steps.factory()), blobs(steps.factory()))
    steps.rebind(_runs(steps.factory()), _runs(steps.factory(), "run_id IS NOT NULL"))
    steps.store_inline("sessions", 4_080)


def downgrade(steps: Steps) -> None:
    """Restore the foreign key, the indexes and the storage of sessions."""
    steps.store_inline("sessions", None)
    steps.rebind(_runs(steps.factory(), "run_id IS NOT NULL"), _runs(steps.factory()))
    steps.rebind(blobs(steps.factory()), bound_blobs(steps.factory()))


def _runs(declare: TableFactory, where: str | None = None) -> Table:
    """`session_checkpoints`, as far as its index of runs goes."""
    index = declare.index("idx_session_checkpoints_run", "run_id", where=where)
    return declare.table("session_checkpoints", Column("run_id", Id(255)), index)
