"""Tables as they were: the applications' own before this package, and those of several revisions.

The types are those of the applications: naive datetimes, plain integers, no collation; text has
the lengths that MySQL needs. These declarations are history, and do not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles

from langgraph_session_saver.schema.column_types import Bytes, Id, Key, LongText
from langgraph_session_saver.schema.tables import TableFactory

ROUTING = {
    "product_type": 50,
    "complexity": 20,
    "skill_id": 100,
    "doc_tier": 20,
    "style_reference_mode": 50,
    "model_classifier": 100,
    "model_writer": 100,
    "model_expander": 100,
    "model_validator": 100,
    "model_style_refiner": 100,
}
"""The columns that revision 0002 adds to `sessions`, and how many characters each holds."""


def routing(factory: TableFactory) -> list[Any]:
    """The columns and indexes that revision 0002 adds to `sessions`."""
    return [
        *(sa.Column(name, sa.String(length)) for name, length in ROUTING.items()),
        factory.index("idx_sessions_product_type", "product_type"),
        factory.index("idx_sessions_complexity", "complexity"),
    ]


def state(factory: TableFactory) -> list[Any]:
    """The columns and indexes that revision 0003 adds to `sessions`."""
    return [
        sa.Column("graph_state", sa.JSON()),
        sa.Column("build_status", sa.String(20), server_default="pending"),
        sa.Column("build_artifacts", sa.JSON()),
        sa.Column("aesthetic_scores", sa.JSON()),
        factory.index("idx_sessions_build_status", "build_status"),
    ]


class OriginalTables(TableFactory):
    """Revision 0001's tables; a later revision overrides the types that it converts."""

    session_id_type: Any = sa.String(255)
    row_id_type: Any = sa.Integer
    token_count_type: Any = sa.Integer
    cost_type: Any = sa.Float

    def datetime(self, name: str) -> sa.Column[Any]:
        """Declare a column of datetimes."""
        # The fraction is for downgrades, which would otherwise cut it off.
        precise = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
        return sa.Column(name, precise, server_default=_Now())

    def applications(self, more: Mapping[str, list[Any]]) -> list[sa.Table]:
        """Declare `sessions` and the tables that refer to it, with what later revisions add."""
        return [
            self.table(
                "sessions",
                sa.Column("id", self.session_id_type, primary_key=True),
                sa.Column("title", sa.String(512), nullable=False),
                self.datetime("created_at"),
                self.datetime("updated_at"),
                sa.Column("current_version", sa.Integer, server_default="0"),
                self.index("idx_sessions_updated", "updated_at"),
                *more.get("sessions", ()),
            ),
            self.rows(
                "messages",
                sa.Column("role", sa.String(20), nullable=False),
                sa.Column("content", LongText(), nullable=False),
                self.datetime("timestamp"),
                self.index("idx_messages_session", "session_id"),
                self.index("idx_messages_timestamp", "timestamp"),
                *more.get("messages", ()),
            ),
            self.rows(
                "versions",
                sa.Column("version", sa.Integer, nullable=False),
                sa.Column("html", LongText(), nullable=False),
                sa.Column("description", LongText()),
                self.datetime("created_at"),
                self.unique("uq_versions_version", "session_id", "version"),
                self.index("idx_versions_session", "session_id"),
                *more.get("versions", ()),
            ),
            self.rows(
                "token_usage",
                self.datetime("timestamp"),
                sa.Column("agent_type", sa.String(255), nullable=False),
                sa.Column("model", sa.String(2048), nullable=False),
                sa.Column("input_tokens", self.token_count_type, nullable=False),
                sa.Column("output_tokens", self.token_count_type, nullable=False),
                sa.Column("total_tokens", self.token_count_type, nullable=False),
                sa.Column("cost_usd", self.cost_type, nullable=False),
                self.index("idx_token_usage_session", "session_id"),
                self.index("idx_token_usage_timestamp", "timestamp"),
                *more.get("token_usage", ()),
            ),
        ]


def blobs(factory: TableFactory, *more: Any) -> sa.Table:
    """Declare `session_blobs`, as it is since revision 0005."""
    return factory.table(
        "session_blobs",
        factory.thread_key(),
        sa.Column("blob_key", Key(), primary_key=True),
        sa.Column("base_key", Key()),
        sa.Column("depth", sa.Integer, nullable=False),
        sa.Column("level", sa.Integer, nullable=False),
        sa.Column("channel", Id(255), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("data", Bytes(), nullable=False),
        *more,
    )


def bound_blobs(factory: TableFactory) -> sa.Table:
    """Declare revision 0004's `session_blobs`, with a foreign key from a delta to its base."""
    base = [factory.reference("session_blobs", name) for name in ("thread_key", "blob_key")]
    name = factory.prefix + "fk_session_blobs_base"
    return blobs(
        factory,
        sa.ForeignKeyConstraint(["thread_key", "base_key"], base, name=name),
        factory.index(
            "idx_session_blobs_base", "thread_key", "base_key", where="base_key IS NOT NULL"
        ),
    )


class _Now(sa.ColumnElement[Any]):
    """CURRENT_TIMESTAMP, with the precision of the column."""

    inherit_cache = True


@compiles(_Now)
def _compile_now(element: _Now, compiler: Any, **kw: Any) -> str:
    del element, compiler, kw
    return "CURRENT_TIMESTAMP"


@compiles(_Now, "mysql")
@compiles(_Now, "mariadb")
def _compile_now_mysql(element: _Now, compiler: Any, **kw: Any) -> str:
    del element, compiler, kw
    return "CURRENT_TIMESTAMP(6)"
