"""The tables in plain SQL: foreign keys, defaults and timestamps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from sqlalchemy import delete, insert, select, text
from sqlalchemy.exc import IntegrityError

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.schema.tables import build_tables
from tests.projection.samples import explode, spent, talk
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.rows import TABLES, State, chain, counts, fails, one, run

BACKENDS_AND_FACES = EACH_ONCE


def enforcing(backend: Backend) -> Any:
    """A connection of an application that enforces foreign keys."""
    connection = backend.engine().connect()
    if backend.name == "sqlite":
        connection.exec_driver_sql("PRAGMA foreign_keys=ON")
        connection.commit()
    return connection


TIME = "2026-01-01 00:00:00"
ROWS = {
    "messages": "(session_id, role, content, timestamp) VALUES (:s, 'user', 'x', :t)",
    "versions": "(session_id, version, html, created_at, pinned) VALUES (:s, 7, 'x', :t, false)",
    "token_usage": (
        "(session_id, timestamp, agent_type, model, input_tokens, output_tokens, total_tokens,"
        " cost_usd) VALUES (:s, :t, 'a', 'm', 1, 2, 3, 0.5)"
    ),
    "session_errors": (
        "(session_id, thread_id, checkpoint_ns, kind, message, created_at)"
        " VALUES (:s, 't', '', 'error', 'x', :t)"
    ),
}


async def test_deleting_a_session_in_sql_deletes_everything_it_owns(
    saver: SessionSaver, backend: Backend, sql: Sql
) -> None:
    words = " ".join(str(n) for n in range(500))
    said = [*talk(words), spent("w", 1, 2, id="u")]
    graph = chain(
        saver,
        {"messages": said, "html": "<p>"},
        {"messages": [HumanMessage("more", id="n")]},
        explode,
    )
    await fails(run(graph, {}), ValueError)
    assert all(counts(sql).values())
    assert sql("SELECT count(*) AS n FROM session_blobs WHERE base_key IS NOT NULL") != [{"n": 0}]

    with enforcing(backend) as conn:
        conn.execute(text("DELETE FROM sessions"))
        conn.commit()

    assert not any(counts(sql).values())


@pytest.mark.parametrize("table", ROWS)
async def test_deleting_a_session_deletes_its_rows(
    sync_saver: SessionSaver, backend: Backend, sql: Sql, table: str
) -> None:
    sync_saver.setup()
    tables = build_tables()
    with enforcing(backend) as conn:
        conn.execute(insert(tables.sessions), [{"id": "s"}, {"id": "other"}])
        for session in ("s", "other"):
            conn.execute(text(f"INSERT INTO {table} {ROWS[table]}"), {"s": session, "t": TIME})
        conn.execute(delete(tables.sessions).where(tables.sessions.c.id == "s"))
        conn.commit()

    assert one(sql, table)["session_id"] == "other"


@pytest.mark.parametrize("table", ROWS)
async def test_a_row_without_a_session_is_refused(
    sync_saver: SessionSaver, backend: Backend, table: str
) -> None:
    sync_saver.setup()

    with enforcing(backend) as conn, pytest.raises(IntegrityError):
        conn.execute(text(f"INSERT INTO {table} {ROWS[table]}"), {"s": "nobody", "t": TIME})


async def test_a_session_has_each_version_once(sync_saver: SessionSaver, backend: Backend) -> None:
    sync_saver.setup()
    tables = build_tables()
    row = {"version": 1, "html": "<p>"}

    with enforcing(backend) as conn:
        conn.execute(insert(tables.sessions), [{"id": "s"}, {"id": "other"}])
        conn.execute(insert(tables.versions), [{"session_id": s, **row} for s in ("s", "other")])
        with pytest.raises(IntegrityError):
            conn.execute(insert(tables.versions), {"session_id": "s", **row})


async def test_a_session_made_in_plain_sql_has_defaults(sync_saver: SessionSaver, sql: Sql) -> None:
    sync_saver.setup()

    sql(
        "INSERT INTO sessions (id, created_at, updated_at) VALUES ('s', :t, :t)",
        t=TIME,
    )

    row = one(sql, "sessions")
    assert (row["title"], row["current_version"]) == ("Untitled session", 0)
    assert (row["build_status"], row["graph_state"], row["build_artifacts"]) == (
        "pending",
        None,
        None,
    )


async def test_a_required_column_refuses_null(sync_saver: SessionSaver, backend: Backend) -> None:
    sync_saver.setup()
    tables = build_tables()

    with enforcing(backend) as conn, pytest.raises(IntegrityError):
        conn.execute(insert(tables.messages), {"session_id": "s", "role": "user", "content": None})


async def test_timestamps_are_aware_and_in_utc(saver: SessionSaver, backend: Backend) -> None:
    before = datetime.now(UTC)
    said = [*talk("a"), spent("w", 1, 2, id="u")]
    graph = chain(saver, {"messages": said, "html": "<p>"}, explode)
    await fails(run(graph, {}), ValueError)
    after = datetime.now(UTC)

    t = build_tables()
    columns = (
        t.sessions.c.created_at,
        t.sessions.c.updated_at,
        t.messages.c.timestamp,
        t.versions.c.created_at,
        t.token_usage.c.timestamp,
        t.errors.c.created_at,
        t.threads.c.status_since,
    )
    with backend.engine().connect() as conn:
        found = [conn.execute(select(column)).scalars().first() for column in columns]

    assert all(moment is not None and before <= moment <= after for moment in found)
    assert all(moment is not None and moment.tzinfo is UTC for moment in found)


async def test_updated_at_moves_with_each_step(saver: SessionSaver, backend: Backend) -> None:
    t = build_tables().sessions
    moments: list[datetime] = []

    def look(_state: State) -> dict[str, Any]:
        with backend.engine().connect() as conn:
            moments.append(conn.execute(select(t.c.updated_at)).scalar_one())
        return {"note": 1}

    await run(chain(saver, look, look, look), {})

    assert moments == sorted(set(moments))
    assert len(moments) == 3


def test_every_table_of_the_package_is_counted_by_these_tests() -> None:
    names = {table.name for table in build_tables()}

    assert names - {"session_saver_alembic_version"} == set(TABLES)
