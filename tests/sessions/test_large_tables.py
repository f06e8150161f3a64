"""What an owner's lists read where 100,000 threads are of others: what is his, found by indexes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple, cast

import pytest
from sqlalchemy import Connection, NullPool, Table, event, text

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.schema.tables import shared_tables
from tests.conftest import MakeBackend
from tests.support.backends import BACKEND_NAMES, Backend, BackendName
from tests.support.rows import checkpoint, config

OTHERS = 100_000
OWN = 20
"""Threads of ada's; no call has named the owner of every other one, but its session is hers."""

NUMBERS = {
    "sqlite": f"(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {OTHERS})"
    " SELECT i FROM n) AS n",
    "postgresql": f"generate_series(1, {OTHERS}) AS n(i)",
    "mariadb": f"(SELECT seq AS i FROM seq_1_to_{OTHERS}) AS n",
}


class Dialect(NamedTuple):
    """How to make names of numbers in SQL, without checking each reference."""

    key: str
    name: str
    hurry: str


DIALECTS = {
    "sqlite": Dialect("randomblob(16)", "'other' || {}", "PRAGMA foreign_keys = OFF"),
    "postgresql": Dialect(
        "decode(md5(n.i::text), 'hex')", "'other' || {}", "SET session_replication_role = replica"
    ),
    "mariadb": Dialect("UNHEX(MD5(n.i))", "CONCAT('other', {})", "SET foreign_key_checks = 0"),
}


def copy(conn: Connection, table: Table, source: str, **changed: str) -> None:
    """Insert the rows of a query, with expressions in place of some of a table's columns."""
    names = [column.name for column in table.c]
    chosen = ", ".join(changed.get(name, f"{table.name}.{name}") for name in names)
    conn.execute(text(f"INSERT INTO {table.name} ({', '.join(names)}) SELECT {chosen} {source}"))


def fill(backend: Backend) -> None:
    """Store ada's threads by calls, and copies of one of them for others in SQL."""
    with SessionSaver(backend.warm_engine()) as saver:
        for n in range(OWN):
            saver.sessions.create(f"s{n}", owner_id="ada")
            owner = {"owner_id": "ada"} if n % 2 else {}
            made = checkpoint(n, {"note": n})
            at = config(f"t{n}", session_id=f"s{n}", checkpoint_ns="", **owner)
            saver.put(at, made, {"source": "loop", "step": n}, made["channel_versions"])
    tables, numbers = shared_tables(), NUMBERS[backend.name]
    key, named, hurry = DIALECTS[backend.name]
    name, one_of_500 = named.format("n.i"), named.format("n.i % 500")
    with backend.engine(poolclass=NullPool).begin() as conn:
        conn.exec_driver_sql(hurry)
        its = f"FROM sessions, {numbers} WHERE sessions.id = 's0'"
        of_session = {"id": name, "owner_id": f"CASE WHEN n.i % 2 = 0 THEN {one_of_500} END"}
        copy(
            conn,
            tables.sessions,
            f"FROM sessions, {numbers} WHERE sessions.id = 's0'",
            **of_session,
        )
        of_thread = {
            "thread_key": key,
            "thread_id": name,
            "session_id": name,
            "owner_id": f"CASE WHEN n.i % 2 = 1 THEN {one_of_500} END",
        }
        its = f"FROM session_threads, {numbers} WHERE session_threads.thread_id = 't0'"
        copy(conn, tables.threads, its, **of_thread)
        its = (
            "FROM session_threads t, session_checkpoints WHERE t.thread_id LIKE 'other%' AND "
            "session_checkpoints.thread_key = "
            "(SELECT thread_key FROM session_threads WHERE thread_id = 't0')"
        )
        copy(conn, tables.checkpoints, its, thread_key="t.thread_key")
    analyse(backend)


def analyse(backend: Backend) -> None:
    """Let the database know how much there is, as it does by itself after a while."""
    tables = "sessions, session_threads, session_checkpoints"
    with backend.engine(isolation_level="AUTOCOMMIT").connect() as conn:
        conn.exec_driver_sql(f"ANALYZE TABLE {tables}" if backend.name == "mariadb" else "ANALYZE")


@pytest.fixture(scope="module", params=BACKEND_NAMES)
def large(request: pytest.FixtureRequest, make_lasting_backend: MakeBackend) -> Backend:
    """A database with a few threads of ada's and many of others. Tests must not change it."""
    backend: Backend = make_lasting_backend(cast("BackendName", request.param))
    fill(backend)
    return backend


LISTS: dict[str, Callable[[SessionSaver], Any]] = {
    "list(None)": lambda saver: list(saver.for_owner("ada").list(None)),
    "list(None, limit=5)": lambda saver: list(saver.for_owner("ada").list(None, limit=5)),
    "threads.list": lambda saver: saver.for_owner("ada").threads.list(limit=5),
    "threads.list of an owner": lambda saver: saver.threads.list(owner_id="ada", limit=5),
    "threads.get": lambda saver: saver.for_owner("ada").threads.get("t0"),
    "sessions.list": lambda saver: saver.for_owner("ada").sessions.list(limit=5),
    "sweep": lambda saver: saver.for_owner("ada").sweep(older_than=timedelta(1), dry_run=True),
}


@pytest.mark.parametrize("what", LISTS)
def test_an_owner_reads_no_more_than_what_is_his(large: Backend, what: str) -> None:
    seen: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        seen.append((statement, parameters))

    engine = large.engine()
    with SessionSaver(engine) as saver:
        saver.for_owner("ada").threads.get("t1")  # after which it is set up
        event.listen(engine, "before_cursor_execute", note)
        LISTS[what](saver)
        event.remove(engine, "before_cursor_execute", note)

    selects = [entry for entry in seen if entry[0].startswith("SELECT")]
    with engine.connect() as conn:
        read = [rows_read(conn, large, *select) for select in selects]
    assert 0 < len(read) < 5 * OWN
    assert sum(read) < 50 * OWN


def rows_read(conn: Connection, backend: Backend, statement: str, parameters: Any) -> float:
    """The rows that a statement reads, of tables and of what it makes of them."""
    if backend.name == "sqlite":
        steps: list[None] = []
        driver: Any = conn.connection.driver_connection
        driver.set_progress_handler(lambda: steps.append(None), 10)  # instructions for a row
        conn.exec_driver_sql(statement, parameters).all()
        driver.set_progress_handler(None, 0)
        return len(steps)
    if backend.name == "postgresql":
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
        [found] = conn.exec_driver_sql(explain, parameters).scalar_one()
        return _rows_of(found["Plan"])
    conn.exec_driver_sql("FLUSH STATUS")
    conn.exec_driver_sql(statement, parameters).all()
    status = conn.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%%'").all()
    return sum(int(value) for _, value in status)


def _rows_of(plan: dict[str, Any]) -> float:
    """The rows that a node of a plan and those below it give, or read and leave out."""
    own = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    below = sum(map(_rows_of, plan.get("Plans", ())))
    return float(own * plan["Actual Loops"] + below)
