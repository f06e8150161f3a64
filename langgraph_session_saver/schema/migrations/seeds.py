"""The four tables as applications had them before this package: history, written out.

Types are those of the documents (naive datetimes, plain integers, no collation), with the lengths
that MySQL asks for.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    DateTime,
    Float,
    ForeignKey,
    Integer,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles

from langgraph_session_saver.schema.column_types import LongText
from langgraph_session_saver.schema.migrations.steps import Place

ROLES = ("classifier", "writer", "expander", "validator", "style_refiner")


def session_columns() -> list[Column[Any]]:
    """Revision 0001's columns of `sessions`."""
    return [
        Column("id", String(255), primary_key=True),
        Column("title", String(512), nullable=False),
        _now("created_at"),
        _now("updated_at"),
        Column("current_version", Integer, server_default="0"),
    ]


def routing_columns() -> list[Column[Any]]:
    """Revision 0002's."""
    return [
        Column("product_type", String(50)),
        Column("complexity", String(20)),
        Column("skill_id", String(100)),
        Column("doc_tier", String(20)),
        Column("style_reference_mode", String(50)),
        *(Column(f"model_{role}", String(100)) for role in ROLES),
    ]


def state_columns() -> list[Column[Any]]:
    """Revision 0003's."""
    return [
        Column("graph_state", JSON()),
        Column("build_status", String(20), server_default="pending"),
        Column("build_artifacts", JSON()),
        Column("aesthetic_scores", JSON()),
    ]


def sessions(place: Place, *more: Any) -> Table:
    """`sessions` of revision 0001, and what later ones added."""
    return place.table(
        "sessions", *session_columns(), *more, place.index("idx_sessions_updated", "updated_at")
    )


def routing(place: Place) -> list[Any]:
    """What revision 0002 adds to `sessions`."""
    return [
        *routing_columns(),
        place.index("idx_sessions_product_type", "product_type"),
        place.index("idx_sessions_complexity", "complexity"),
    ]


def state(place: Place) -> list[Any]:
    """What revision 0003 adds to `sessions`."""
    return [*state_columns(), place.index("idx_sessions_build_status", "build_status")]


def messages(place: Place) -> Table:
    """`messages` of revision 0001."""
    return place.table(
        "messages",
        _row_id(),
        _session_id(place),
        Column("role", String(20), nullable=False),
        Column("content", LongText(), nullable=False),
        _now("timestamp"),
        place.index("idx_messages_session", "session_id"),
        place.index("idx_messages_timestamp", "timestamp"),
        sqlite_autoincrement=True,
    )


def versions(place: Place) -> Table:
    """`versions` of revision 0001."""
    return place.table(
        "versions",
        _row_id(),
        _session_id(place),
        Column("version", Integer, nullable=False),
        Column("html", LongText(), nullable=False),
        Column("description", LongText()),
        _now("created_at"),
        UniqueConstraint("session_id", "version", name=place.name("uq_versions_version")),
        place.index("idx_versions_session", "session_id"),
        sqlite_autoincrement=True,
    )


def token_usage(place: Place) -> Table:
    """`token_usage` of revision 0001."""
    return place.table(
        "token_usage",
        _row_id(),
        _session_id(place),
        _now("timestamp"),
        Column("agent_type", String(255), nullable=False),
        Column("model", String(2048), nullable=False),
        Column("input_tokens", Integer, nullable=False),
        Column("output_tokens", Integer, nullable=False),
        Column("total_tokens", Integer, nullable=False),
        Column("cost_usd", Float, nullable=False),
        place.index("idx_token_usage_session", "session_id"),
        place.index("idx_token_usage_timestamp", "timestamp"),
        sqlite_autoincrement=True,
    )


class _Now(ColumnElement[Any]):
    """CURRENT_TIMESTAMP, as exact as the column."""

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


def _now(name: str) -> Column[Any]:
    # Without a fraction, going back would cut those of the rows.
    exact = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    return Column(name, exact, server_default=_Now())


def _row_id() -> Column[Any]:
    return Column("id", Integer, primary_key=True, autoincrement=True)


def _session_id(place: Place) -> Column[Any]:
    return Column(
        "session_id",
        String(255),
        ForeignKey(place.column("sessions", "id"), ondelete="CASCADE"),
        nullable=False,
    )
