"""No foreign key from a delta to its base, a smaller index of runs, sessions in one piece.

A step checks the base itself when it stores a delta, under a lock of the thread's row; checking
the foreign key made deletion of many blobs slow. PostgreSQL no longer compresses and moves parts
of a session's row at every step.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ForeignKeyConstraint, Integer, String, Table

from langgraph_session_saver.schema.column_types import Bytes, Id, Key
from langgraph_session_saver.schema.migrations.steps import Steps
from langgraph_session_saver.schema.tables import TableFactory

revision = "0005"
down_revision = "0004"

LOSES: dict[str, dict[str, Any]] = {}


def upgrade(steps: Steps) -> None:
    """Drop the foreign key and its index, index runs only, and store sessions in one piece."""
    steps.rebind(_bound(steps.factory()), _blobs(steps.factory()))
    steps.rebind(_runs(steps.factory()), _runs(steps.factory(), "run_id IS NOT NULL"))
    steps.store_inline("sessions", 4_080)


def downgrade(steps: Steps) -> None:
    """Restore the foreign key, the indexes and the storage of sessions."""
    steps.store_inline("sessions", None)
    steps.rebind(_runs(steps.factory(), "run_id IS NOT NULL"), _runs(steps.factory()))
    steps.rebind(_blobs(steps.factory()), _bound(steps.factory()))


def _runs(declare: TableFactory, where: str | None = None) -> Table:
    """`session_checkpoints`, as far as its index of runs goes."""
    index = declare.index("idx_session_checkpoints_run", "run_id", where=where)
    return declare.table("session_checkpoints", Column("run_id", Id(255)), index)


def _bound(declare: TableFactory) -> Table:
    """`session_blobs` with the foreign key and its index."""
    base = [declare.reference("session_blobs", name) for name in ("thread_key", "blob_key")]
    name = declare.prefix + "fk_session_blobs_base"
    return _blobs(
        declare,
        ForeignKeyConstraint(["thread_key", "base_key"], base, name=name),
        declare.index(
            "idx_session_blobs_base", "thread_key", "base_key", where="base_key IS NOT NULL"
        ),
    )


def _blobs(declare: TableFactory, *more: Any) -> Table:
    return declare.table(
        "session_blobs",
        declare.thread_key(),
        Column("blob_key", Key(), primary_key=True),
        Column("base_key", Key()),
        Column("depth", Integer, nullable=False),
        Column("level", Integer, nullable=False),
        Column("channel", Id(255), nullable=False),
        Column("type", String(64), nullable=False),
        Column("data", Bytes(), nullable=False),
        *more,
    )
