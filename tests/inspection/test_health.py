"""`health`: its report on a database in use, empty, outdated or missing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from sqlalchemy import Engine, event

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.schema.tables import SCHEMA_VERSION, build_tables
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.savers import SaverFactory
from tests.support.servers import free_port
from tests.support.workloads import on

BACKENDS_AND_FACES = EACH_ONCE
DIALECTS = {"sqlite": "sqlite", "postgresql": "postgresql", "mariadb": "mysql"}
SQLITE = pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)


async def test_a_database_in_use_is_described(make_saver: SaverFactory, backend: Backend) -> None:
    saver = make_saver()
    await saver.aput(on("thread"), empty_checkpoint(), {"source": "input"}, {})

    health = await saver.ahealth()

    assert health.reachable
    assert health.is_current
    assert health.reason is None
    assert health.revision == health.head == SCHEMA_VERSION
    assert health.dialect == DIALECTS[backend.name]
    assert health.server_version is not None
    assert any(character.isdigit() for character in health.server_version)
    assert health.latency_ms is not None
    assert 0 < health.latency_ms < 1000
    assert health.journal_mode == ("delete" if backend.name == "sqlite" else None)
    assert health.isolation_level
    assert {table.name for table in health.tables} == {table.name for table in build_tables()}
    rows = {table.name: table.rows for table in health.tables}
    assert rows["session_checkpoints"] == rows["sessions"] == 1
    assert rows["session_errors"] == 0
    assert all(table.bytes for table in health.tables)
    assert health.bytes == sum(table.bytes or 0 for table in health.tables)
    assert health.measured
    assert json.loads(json.dumps(health.to_dict()))["tables"][0].keys() == {
        "name", "rows", "bytes"
    }  # fmt: skip


@pytest.mark.empty_database
async def test_an_empty_database_is_described_and_stays_empty(
    make_saver: SaverFactory, sql: Sql, backend: Backend
) -> None:
    health = await make_saver().ahealth()
    assert (health.reachable, health.is_current, health.revision) == (True, False, None)
    assert health.tables == ()
    tables = {
        "sqlite": "SELECT name FROM sqlite_master",
        "postgresql": "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
        "mariadb": "SHOW TABLES",
    }
    assert sql(tables[backend.name]) == []


async def test_only_tables_with_the_savers_prefix_count(make_saver: SaverFactory) -> None:
    await make_saver(table_prefix="a_").asetup()
    await make_saver(table_prefix="b_").asetup()
    health = await make_saver(table_prefix="a_").ahealth()
    assert {table.name[:2] for table in health.tables} == {"a_"}


async def test_a_quick_check_does_not_scan_the_tables(make_saver: SaverFactory) -> None:
    saver = make_saver()
    await saver.asetup()
    health = await saver.ahealth(sizes=False)
    assert health.is_current
    assert (health.tables, health.measured) == ((), None)


async def test_an_older_schema_is_reported(make_saver: SaverFactory, sql: Sql) -> None:
    await make_saver().asetup()
    sql("UPDATE session_saver_alembic_version SET version_num = '0002'")
    health = await make_saver().ahealth()
    assert (health.revision, health.is_current) == ("0002", False)


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+asyncpg", "mysql", "mysql+asyncmy"])
async def test_a_server_that_is_down_is_reported_without_its_password(scheme: str) -> None:
    url = f"{scheme}://ada:secret@127.0.0.1:{free_port()}/app"
    async with SessionSaver.from_conn_string(url) as saver:
        health = await saver.ahealth()
    assert not health.reachable
    assert not health.is_current
    assert health.reason is not None
    assert "cannot be reached" in health.reason
    assert "secret" not in repr(health)
    assert health.head == SCHEMA_VERSION


@pytest.mark.parametrize("backend_name", ["postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize("face", ["sync"], indirect=True)
async def test_a_connection_to_a_restarted_server_is_replaced(
    make_saver: SaverFactory, backend: Backend
) -> None:
    saver = make_saver()
    assert (await saver.ahealth()).reachable
    assert backend.server is not None
    if not backend.server.controllable:
        pytest.skip("this server is not the tests' own")
    backend.server.stop()
    down = await saver.ahealth()
    backend.server.start()
    up = await saver.ahealth()
    assert (down.reachable, up.reachable) == (False, True)


@SQLITE
def test_a_file_that_is_no_database_is_reported(backend: Backend) -> None:
    assert backend.path is not None
    backend.path.write_text("not a database, and longer than a header of one" * 20)
    with SessionSaver(backend.engine()) as saver:
        health = saver.health()
    assert not health.reachable
    assert "not a database" in str(health.reason)


@SQLITE
def test_pool_use_does_not_count_the_check_itself(backend: Backend) -> None:
    engine = backend.engine()
    saver = SessionSaver(engine)
    with engine.connect(), engine.connect():
        pool = saver.health().pool
    assert (pool.kind, pool.in_use) == ("QueuePool", 2)
    assert pool.size == 5


@SQLITE
def test_without_dbstat_the_lengths_of_values_are_counted(backend: Backend) -> None:
    engine = backend.engine()
    hide_dbstat(engine)
    with SessionSaver(engine) as saver:
        saver.put(on("thread"), empty_checkpoint(), {"source": "input"}, {})
        health = saver.health()
    assert "no dbstat" in str(health.measured)
    sizes = {table.name: table.bytes for table in health.tables}
    assert sizes["session_errors"] == 0
    assert 50 < (sizes["session_checkpoints"] or 0) < 1_000
    assert replace(health, tables=()).bytes == 0


def hide_dbstat(engine: Engine) -> None:
    """Make SQLite refuse `dbstat`, as a build without it does."""
    import sqlite3  # noqa: PLC0415

    def authorize(_action: int, name: str | None, *_rest: str | None) -> int:
        return sqlite3.SQLITE_DENY if name == "dbstat" else sqlite3.SQLITE_OK

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.set_authorizer(authorize)
