"""The applications' own tables, as they were before this package.

The types are those of the applications: naive datetimes, plain integers, no collation; text has
the lengths that MySQL needs. These declarations are history, and do not change.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    DateTime,
    Float,
    Integer,
    String,
    Table,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles

from langgraph_session_saver.schema.column_types import LongText
from langgraph_session_saver.schema.tables import TableFactory

ROLES = ("classifier", "writer", "expander", "validator", "style_refiner")


def routing_columns() -> list[Column[Any]]:
    """The columns that revision 0002 adds to `sessions`."""
    return [
        Column("product_type", String(50)),
        Column("complexity", String(20)),
        Column("skill_id", String(100)),
        Column("doc_tier", String(20)),
        Column("style_reference_mode", String(50)),
        *(Column(f"model_{role}", String(100)) for role in ROLES),
    ]


def routing(factory: TableFactory) -> list[Any]:
    """The columns and indexes that revision 0002 adds to `sessions`."""
    return [
        *routing_columns(),
        factory.index("idx_sessions_product_type", "product_type"),
        factory.index("idx_sessions_complexity", "complexity"),
    ]


def state(factory: TableFactory) -> list[Any]:
    """The columns and indexes that revision 0003 adds to `sessions`."""
    return [
        Column("graph_state", JSON()),
        Column("build_status", String(20), server_default="pending"),
        Column("build_artifacts", JSON()),
        Column("aesthetic_scores", JSON()),
        factory.index("idx_sessions_build_status", "build_status"),
    ]


class OriginalTables(TableFactory):
    """Revision 0001's tables; a later revision overrides the types that it converts."""

    session_id_type: Any = String(255)
    row_id_type: Any = Integer
    token_count_type: Any = Integer
    cost_type: Any = Float

    def datetime(self, name: str) -> Column[Any]:
        """Declare a column of datetimes."""
        # The fraction is for downgrades, which would otherwise cut it off.
        precise = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
        return Column(name, precise, server_default=_Now())

    def row_id(self) -> Column[Any]:
        """Declare a generated id."""
        return Column("id", self.row_id_type, primary_key=True, autoincrement=True)

    def sessions(self, *more: Any) -> Table:
        """Declare `sessions`, with the columns and indexes of later revisions."""
        return self.table(
            "sessions",
            Column("id", self.session_id_type, primary_key=True),
            Column("title", String(512), nullable=False),
            self.datetime("created_at"),
            self.datetime("updated_at"),
            Column("current_version", Integer, server_default="0"),
            self.index("idx_sessions_updated", "updated_at"),
            *more,
        )

    def messages(self, *more: Any) -> Table:
        """Declare `messages`."""
        return self.table(
            "messages",
            self.row_id(),
            self.session_id(self.session_id_type),
            Column("role", String(20), nullable=False),
            Column("content", LongText(), nullable=False),
            self.datetime("timestamp"),
            self.index("idx_messages_session", "session_id"),
            self.index("idx_messages_timestamp", "timestamp"),
            *more,
            sqlite_autoincrement=True,
        )

    def versions(self, *more: Any) -> Table:
        """Declare `versions`."""
        return self.table(
            "versions",
            self.row_id(),
            self.session_id(self.session_id_type),
            Column("version", Integer, nullable=False),
            Column("html", LongText(), nullable=False),
            Column("description", LongText()),
            self.datetime("created_at"),
            self.unique("uq_versions_version", "session_id", "version"),
            self.index("idx_versions_session", "session_id"),
            *more,
            sqlite_autoincrement=True,
        )

    def token_usage(self, *more: Any) -> Table:
        """Declare `token_usage`."""
        return self.table(
            "token_usage",
            self.row_id(),
            self.session_id(self.session_id_type),
            self.datetime("timestamp"),
            Column("agent_type", String(255), nullable=False),
            Column("model", String(2048), nullable=False),
            Column("input_tokens", self.token_count_type, nullable=False),
            Column("output_tokens", self.token_count_type, nullable=False),
            Column("total_tokens", self.token_count_type, nullable=False),
            Column("cost_usd", self.cost_type, nullable=False),
            self.index("idx_token_usage_session", "session_id"),
            self.index("idx_token_usage_timestamp", "timestamp"),
            *more,
            sqlite_autoincrement=True,
        )


class _Now(ColumnElement[Any]):
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
