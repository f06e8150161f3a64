"""Databases as applications made them before this package, with rows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias, get_args

from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    Engine,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects import mysql

Baseline: TypeAlias = Literal["001", "001+002", "001+002+000", "create_all"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)

SESSIONS = 400
START = datetime(2025, 3, 1, 12, 30, 15, 123456)  # noqa: DTZ001 - they stored no zone

# The SQL of the documents; MySQL and PostgreSQL in the words they have for it.
_CORE = """
CREATE TABLE sessions (
    id {text_key} PRIMARY KEY,
    title {text} NOT NULL,
    created_at {datetime} DEFAULT CURRENT_TIMESTAMP,
    updated_at {datetime} DEFAULT CURRENT_TIMESTAMP,
    current_version INTEGER DEFAULT 0
);
CREATE TABLE messages (
    id {row_id},
    session_id {text_key} NOT NULL,
    role {text} NOT NULL,
    content TEXT NOT NULL,
    timestamp {datetime} DEFAULT CURRENT_TIMESTAMP,
    FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
);
CREATE TABLE versions (
    id {row_id},
    session_id {text_key} NOT NULL,
    version INTEGER NOT NULL,
    html TEXT NOT NULL,
    description TEXT,
    created_at {datetime} DEFAULT CURRENT_TIMESTAMP,
    FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE,
    UNIQUE(session_id, version)
);
CREATE TABLE token_usage (
    id {row_id},
    session_id {text_key} NOT NULL,
    timestamp {datetime} DEFAULT CURRENT_TIMESTAMP,
    agent_type {text} NOT NULL,
    model {text} NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
);
CREATE INDEX idx_messages_session ON messages(session_id);
CREATE INDEX idx_messages_timestamp ON messages(timestamp);
CREATE INDEX idx_versions_session ON versions(session_id);
CREATE INDEX idx_token_usage_session ON token_usage(session_id);
CREATE INDEX idx_token_usage_timestamp ON token_usage(timestamp);
CREATE INDEX idx_sessions_updated ON sessions(updated_at);
"""
_ROUTING = """
ALTER TABLE sessions ADD COLUMN product_type VARCHAR(50);
ALTER TABLE sessions ADD COLUMN complexity VARCHAR(20);
ALTER TABLE sessions ADD COLUMN skill_id VARCHAR(100);
ALTER TABLE sessions ADD COLUMN doc_tier VARCHAR(20);
ALTER TABLE sessions ADD COLUMN style_reference_mode VARCHAR(50);
ALTER TABLE sessions ADD COLUMN model_classifier VARCHAR(100);
ALTER TABLE sessions ADD COLUMN model_writer VARCHAR(100);
ALTER TABLE sessions ADD COLUMN model_expander VARCHAR(100);
ALTER TABLE sessions ADD COLUMN model_validator VARCHAR(100);
ALTER TABLE sessions ADD COLUMN model_style_refiner VARCHAR(100);
"""
_STATE = """
ALTER TABLE sessions ADD COLUMN graph_state JSON;
ALTER TABLE sessions ADD COLUMN build_status VARCHAR(20);
ALTER TABLE sessions ADD COLUMN build_artifacts JSON;
ALTER TABLE sessions ADD COLUMN aesthetic_scores JSON;
"""
_WORDS = {
    "sqlite": {
        "text_key": "TEXT",
        "text": "TEXT",
        "datetime": "DATETIME",
        "row_id": "INTEGER PRIMARY KEY AUTOINCREMENT",
    },
    "postgresql": {
        "text_key": "TEXT",
        "text": "TEXT",
        "datetime": "TIMESTAMP",
        "row_id": "SERIAL PRIMARY KEY",
    },
    "mysql": {
        "text_key": "VARCHAR(36)",
        "text": "VARCHAR(255)",
        "datetime": "DATETIME(6)",
        "row_id": "INTEGER PRIMARY KEY AUTO_INCREMENT",
    },
}


def make_baseline(engine: Engine, baseline: Baseline) -> dict[str, list[dict[str, Any]]]:
    """Make a database of that age and fill it.

    Returns:
        What was put into each table, as it is to be read afterwards.
    """
    if baseline == "create_all":
        models().create_all(engine)
    else:
        parts = {"001": _CORE, "002": _ROUTING, "000": _STATE}
        words = _WORDS[engine.dialect.name]
        with engine.begin() as conn:
            for part in baseline.split("+"):
                for statement in parts[part].format(**words).split(";"):
                    if statement.strip():
                        conn.execute(text(statement))
    rows = _rows(baseline)
    tables = models()
    with engine.begin() as conn:
        for name, values in rows.items():
            conn.execute(tables.tables[name].insert(), values)
    return {name: [_expected(name, row) for row in values] for name, values in rows.items()}


def models() -> MetaData:
    """The documents' ORM models: no indexes, no unique constraint, naive datetimes."""
    metadata = MetaData()
    word = String().with_variant(mysql.VARCHAR(255), "mysql", "mariadb")
    Table(
        "sessions",
        metadata,
        Column("id", word, primary_key=True),
        Column("title", word, nullable=False),
        Column("created_at", _DATETIME),
        Column("updated_at", _DATETIME, default=func.now(), onupdate=func.now()),
        Column("current_version", Integer),
        Column("product_type", String(50)),
        Column("complexity", String(20)),
        Column("skill_id", String(100)),
        Column("doc_tier", String(20)),
        Column("style_reference_mode", String(50)),
        *(
            Column(f"model_{role}", String(100))
            for role in ("classifier", "writer", "expander", "validator", "style_refiner")
        ),
        Column("graph_state", JSON(none_as_null=True)),
        Column("build_status", String(20)),
        Column("build_artifacts", JSON(none_as_null=True)),
        Column("aesthetic_scores", JSON(none_as_null=True)),
    )

    def child(name: str, *columns: Column[Any]) -> None:
        key = ForeignKey("sessions.id", ondelete="CASCADE")
        Table(
            name,
            metadata,
            Column("id", Integer, primary_key=True, autoincrement=True),
            Column("session_id", word, key, nullable=False),
            *columns,
        )

    child(
        "messages",
        Column("role", word, nullable=False),
        Column("content", Text, nullable=False),
        Column("timestamp", _DATETIME),
    )
    child(
        "versions",
        Column("version", Integer, nullable=False),
        Column("html", Text, nullable=False),
        Column("description", word),
        Column("created_at", _DATETIME),
    )
    child(
        "token_usage",
        Column("timestamp", _DATETIME),
        Column("agent_type", word, nullable=False),
        Column("model", word, nullable=False),
        *(
            Column(name, Integer, nullable=False)
            for name in ("input_tokens", "output_tokens", "total_tokens")
        ),
        Column("cost_usd", Float, nullable=False),
    )
    return metadata


_DATETIME = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def _rows(baseline: Baseline) -> dict[str, list[dict[str, Any]]]:
    return {
        "sessions": [_session(number, baseline) for number in range(SESSIONS)],
        "messages": [
            {
                "session_id": _id(number),
                "role": role,
                "content": f"{role} {number} — naïve ☕",
                "timestamp": START + timedelta(seconds=number),
            }
            for number in range(SESSIONS)
            for role in ("user", "assistant")
        ],
        "versions": [
            {
                "session_id": _id(number),
                "version": version,
                "html": f"<p>{version}</p>",
                "description": None,
                "created_at": START,
            }
            for number in range(SESSIONS)
            for version in range(2)
        ],
        "token_usage": [
            {
                "session_id": _id(number),
                "timestamp": START,
                "agent_type": "interview",
                "model": "small",
                "input_tokens": number,
                "output_tokens": 1,
                "total_tokens": number + 1,
                "cost_usd": 0.25,
            }
            for number in range(SESSIONS)
        ],
    }


def _id(number: int) -> str:
    return f"session {number} é"


def _session(number: int, baseline: Baseline) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": _id(number),
        "title": f"Title {number}",
        "created_at": START,
        "updated_at": START + timedelta(days=number),
        # The first application set no version before there was a page.
        "current_version": number % 3 or None,
    }
    if baseline != "001":
        row |= {"product_type": "card", "model_writer": "m" * 100}
    if baseline in {"001+002+000", "create_all"}:
        state = {"step": number} if number % 2 else None
        row |= {"graph_state": state, "build_status": "success" if number % 2 else None}
    return row


def _expected(name: str, row: dict[str, Any]) -> dict[str, Any]:
    aware = {
        key: value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
        for key, value in row.items()
    }
    if name == "sessions":
        aware["current_version"] = row["current_version"] or 0
        aware["build_status"] = row.get("build_status") or "pending"
    return aware


def read(engine: Engine, table: Table, columns: Iterable[str]) -> list[dict[str, Any]]:
    """A table's rows, in the order in which they were made."""
    wanted = [table.c[name] for name in columns]
    first = table.c["updated_at" if "updated_at" in table.c else "id"]
    with engine.connect() as conn:
        return [
            dict(row._mapping)
            for row in conn.execute(table.select().with_only_columns(*wanted).order_by(first))
        ]
