"""Messages in the order of the conversation with their tool calls, and the details of usage."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, Table

from langgraph_session_saver.schema.column_types import Id, Json, LongText, RowId
from langgraph_session_saver.schema.migrations.steps import Steps
from langgraph_session_saver.schema.tables import TableFactory

revision = "0006"
down_revision = "0005"

LOSES: dict[str, dict[str, Any]] = {
    "messages": {"name": None, "tool_calls": None, "tool_call_id": None},
    "token_usage": {
        "cache_read_tokens": None,
        "cache_creation_tokens": None,
        "reasoning_tokens": None,
    },
}

GAP = 1 << 16
"""Between the positions of two messages."""


def upgrade(steps: Steps) -> None:
    """Add the columns; existing messages get positions in the order in which they were stored."""
    for name, columns in _added().items():
        steps.extend(name, *columns)
    steps.reindex(_messages(steps.factory()), _messages(steps.factory(), "position"))
    steps.reindex(_threads(steps.factory()), _threads(steps.factory(), "owner_id"))
    messages = steps.factory().table("messages", Column("id", RowId()), *_transcript())
    position = sa.cast(messages.c.id, sa.BigInteger) * GAP
    steps.op.execute(messages.update().where(messages.c.position == 0).values(position=position))


def downgrade(steps: Steps) -> None:
    """Drop them."""
    steps.reindex(_threads(steps.factory(), "owner_id"), _threads(steps.factory()))
    steps.reindex(_messages(steps.factory(), "position"), _messages(steps.factory()))
    for name, columns in _added().items():
        steps.retract(name, *columns)


def _transcript() -> list[Column[Any]]:
    return [
        Column("position", sa.BigInteger, server_default="0"),
        Column("name", LongText()),
        Column("tool_calls", Json()),
        Column("tool_call_id", LongText()),
    ]


def _added() -> dict[str, list[Column[Any]]]:
    """The columns that each table gains."""
    details = ("cache_read_tokens", "cache_creation_tokens", "reasoning_tokens")
    return {
        "messages": _transcript(),
        "token_usage": [Column(name, RowId()) for name in details],
    }


def _messages(declare: TableFactory, *more: str) -> Table:
    """`messages`, as far as its index of sessions goes."""
    columns = [Column("session_id", declare.session_id_type), Column("position", sa.BigInteger)]
    index = declare.index("idx_messages_session", "session_id", *more)
    return declare.table("messages", *columns, index)


def _threads(declare: TableFactory, *owner: str) -> Table:
    """`session_threads`, as far as its index of owners goes."""
    indexes = [declare.index("idx_session_threads_owner", *owner)] if owner else []
    return declare.table("session_threads", Column("owner_id", Id(255)), *indexes)
