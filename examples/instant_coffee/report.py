"""The report: what plain SQL finds in the database once the graph is done."""

import json
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table
from sqlalchemy import bindparam, create_engine, make_url, text
from sqlalchemy.engine import URL

_QUERY = """
SELECT s.id, s.title, s.product_type, s.build_status, s.aesthetic_scores,
       (SELECT COUNT(*) FROM versions v WHERE v.session_id = s.id) AS versions,
       (SELECT COUNT(*) FROM messages m WHERE m.session_id = s.id) AS messages,
       (SELECT SUM(t.total_tokens) FROM token_usage t WHERE t.session_id = s.id) AS tokens,
       (SELECT SUM(t.cost_usd) FROM token_usage t WHERE t.session_id = s.id) AS cost
FROM sessions s
WHERE s.id IN :ids
ORDER BY s.title
"""
_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}


@dataclass(frozen=True)
class SessionRow:
    """One session as SQL sees it."""

    id: str
    title: str
    product_type: str | None
    build_status: str
    overall: float | None
    versions: int
    messages: int
    tokens: int
    cost: float


def read_sessions(database: str, session_ids: list[str]) -> list[SessionRow]:
    """Read the rows of sessions over a connection of their own, with plain SQL.

    Args:
        database: The URL that the saver was given.
        session_ids: Which sessions.

    Returns:
        A row for each session that exists, by title.
    """
    engine = create_engine(_plain_url(database))
    try:
        query = text(_QUERY).bindparams(bindparam("ids", expanding=True))
        with engine.connect() as connection:
            found = connection.execute(query, {"ids": session_ids}).mappings().all()
    finally:
        engine.dispose()
    return [
        SessionRow(
            id=row["id"],
            title=row["title"],
            product_type=row["product_type"],
            build_status=row["build_status"],
            overall=_overall(row["aesthetic_scores"]),
            versions=int(row["versions"]),
            messages=int(row["messages"]),
            tokens=int(row["tokens"] or 0),
            cost=float(row["cost"] or 0),
        )
        for row in found
    ]


def sessions_table(rows: list[SessionRow]) -> Table:
    """Lay the rows out for the terminal."""
    table = Table(
        title="Sessions, read back with SQL",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for name in ("session", "type", "status"):
        table.add_column(name, no_wrap=True)
    for name in ("score", "pages", "msgs", "tokens", "usd"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        colour = {"success": "green", "failed": "red"}.get(row.build_status, "yellow")
        table.add_row(
            escape(row.title),
            row.product_type or "",
            f"[{colour}]{row.build_status}[/{colour}]",
            "" if row.overall is None else f"{row.overall:.1f}",
            str(row.versions),
            str(row.messages),
            f"{row.tokens:,}",
            f"{row.cost:.4f}",
        )
    return table


def _overall(scores: Any) -> float | None:
    # SQLite and MySQL hand JSON out as text, PostgreSQL's driver as a dictionary.
    parsed = json.loads(scores) if isinstance(scores, str | bytes) else scores
    return float(parsed["overall"]) if parsed else None


def _plain_url(database: str) -> URL:
    if "://" not in database:
        return URL.create("sqlite", database=database)
    url = make_url(database)
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
