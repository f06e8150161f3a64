"""No foreign key from a delta to its base, a smaller index of runs, sessions in one piece.

A step checks the base itself when it stores a delta, under a lock of the thread's row; checking
the foreign key made deletion of many blobs slow. PostgreSQL no longer compresses and moves parts
of a session's row at every step.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, Integer, String, Table, text

from langgraph_session_saver.schema.column_types import Bytes, Id, Key
from langgraph_session_saver.schema.migrations.steps import Place, Steps

revision = "0005"
down_revision = "0004"

LOSES: dict[str, dict[str, Any]] = {}


def upgrade(steps: Steps) -> None:
    """Drop the foreign key and its index, index runs only, and store sessions in one piece."""
    steps.rebind(_bound(steps.place()), _blobs(steps.place()))
    steps.rebind(_runs(steps.place()), _runs(steps.place(), "run_id IS NOT NULL"))
    steps.store_inline("sessions", 4_080)


def downgrade(steps: Steps) -> None:
    """Restore the foreign key, the indexes and the storage of sessions."""
    steps.store_inline("sessions", None)
    steps.rebind(_runs(steps.place(), "run_id IS NOT NULL"), _runs(steps.place()))
    steps.rebind(_blobs(steps.place()), _bound(steps.place()))


def _runs(place: Place, condition: str | None = None) -> Table:
    """`session_checkpoints`, as far as its index of runs goes."""
    where = None if condition is None else text(condition)
    return place.table(
        "session_checkpoints",
        Column("run_id", Id(255)),
        place.index(
            "idx_session_checkpoints_run", "run_id", sqlite_where=where, postgresql_where=where
        ),
    )


def _bound(place: Place) -> Table:
    """`session_blobs` with the foreign key and its index."""
    to = [place.column("session_blobs", name) for name in ("thread_key", "blob_key")]
    has_base = text("base_key IS NOT NULL")
    return _blobs(
        place,
        ForeignKeyConstraint(
            ["thread_key", "base_key"], to, name=place.name("fk_session_blobs_base")
        ),
        place.index(
            "idx_session_blobs_base",
            "thread_key",
            "base_key",
            sqlite_where=has_base,
            postgresql_where=has_base,
        ),
    )


def _blobs(place: Place, *more: Any) -> Table:
    thread = ForeignKey(place.column("session_threads", "thread_key"), ondelete="CASCADE")
    return place.table(
        "session_blobs",
        Column("thread_key", Key(), thread, primary_key=True),
        Column("blob_key", Key(), primary_key=True),
        Column("base_key", Key()),
        Column("depth", Integer, nullable=False),
        Column("level", Integer, nullable=False),
        Column("channel", Id(255), nullable=False),
        Column("type", String(64), nullable=False),
        Column("data", Bytes(), nullable=False),
        *more,
    )
