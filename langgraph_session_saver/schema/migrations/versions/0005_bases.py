"""No foreign key from a change to its base, no index of checkpoints without a run, whole sessions.

A step looks for the base as it stores a change, and holds the thread's row. PostgreSQL took 14 µs
to check the key for each blob that was deleted: 4.1 s for 300,000, and 0.2 s without. It also cut
up a session's row of over 2 KB at every step: of that step's 0.12 ms on the server, 0.04.
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
    """Drop the key and its index, index fewer runs, and keep the rows of sessions whole."""
    steps.rebind(_bound(steps.place()), _blobs(steps.place()))
    steps.rebind(_runs(steps.place()), _runs(steps.place(), "run_id IS NOT NULL"))
    steps.store_inline("sessions", 4_080)


def downgrade(steps: Steps) -> None:
    """Make them as they were."""
    steps.store_inline("sessions", None)
    steps.rebind(_runs(steps.place(), "run_id IS NOT NULL"), _runs(steps.place()))
    steps.rebind(_blobs(steps.place()), _bound(steps.place()))


def _runs(place: Place, condition: str | None = None) -> Table:
    """The index of the runs that made checkpoints, of those that meet a condition."""
    where = None if condition is None else text(condition)
    return place.table(
        "session_checkpoints",
        Column("run_id", Id(255)),
        place.index(
            "idx_session_checkpoints_run", "run_id", sqlite_where=where, postgresql_where=where
        ),
    )


def _bound(place: Place) -> Table:
    """The table with the key."""
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
