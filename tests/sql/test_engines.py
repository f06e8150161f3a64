"""Callers' engines: what the saver leaves alone, restores and refuses."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from sqlalchemy import Engine, NullPool, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from langgraph_session_saver import InvalidConfigError, SessionSaver, SessionSaverError
from langgraph_session_saver.sql.compiled import is_observed
from tests.sql.one_step import asave_one, save_one
from tests.support.backends import Backend, Sql, checked_out
from tests.support.graphs import engine_of
from tests.support.savers import SaverFactory
from tests.support.workloads import finish, on

pytestmark = pytest.mark.empty_database


async def test_a_callers_engine_is_never_disposed(
    make_saver: SaverFactory, backend: Backend
) -> None:
    own = backend.async_engine() if make_saver.face == "async" else backend.engine()
    disposed: list[Any] = []
    sync_engine = own.sync_engine if isinstance(own, AsyncEngine) else own
    event.listen(sync_engine, "engine_disposed", disposed.append)
    saver = make_saver(engine=own)
    await asave_one(saver)
    if make_saver.face == "sync":
        saver.close()
    else:
        await saver.aclose()
    async with make_saver(engine=own) as second:
        await asave_one(second, "2")
    assert disposed == []
    assert checked_out(own) == 0


async def test_a_closed_saver_raises(make_saver: SaverFactory) -> None:
    async with make_saver() as saver:
        await asave_one(saver)
    with pytest.raises(InvalidConfigError, match="closed"):
        await saver.aget_tuple(on("1"))
    with pytest.raises(InvalidConfigError, match="closed"):
        await saver.aput(on("1"), empty_checkpoint(), {}, {})
    with pytest.raises(InvalidConfigError, match="closed"):
        [item async for item in saver.alist(on("1"))]


def test_closing_twice_is_harmless(backend: Backend) -> None:
    with SessionSaver.from_conn_string(backend.url) as saver:
        save_one(saver)
        saver.close()
    assert checked_out(engine_of(saver)) == 0


async def test_an_async_saver_can_be_closed_from_sync_code(backend: Backend) -> None:
    saver = SessionSaver.from_conn_string(backend.async_url)
    await asave_one(saver)
    await saver.aclose()
    saver.close()
    assert checked_out(engine_of(saver)) == 0


def test_isolation_level_and_pragmas_of_the_engine_are_restored(backend: Backend) -> None:
    engine = backend.engine(pool_size=1, max_overflow=0)
    before = _settings(engine)
    with SessionSaver(engine) as saver:
        finish(saver, "1")
    assert _settings(engine) == before


async def test_isolation_level_of_an_async_engine_is_restored(backend: Backend) -> None:
    engine = backend.async_engine(pool_size=1, max_overflow=0)
    before = await _level(engine)
    async with SessionSaver(engine) as saver:
        await asave_one(saver)
    assert await _level(engine) == before


def _settings(engine: Engine) -> list[Any]:
    with engine.connect() as conn:
        return _settings_of(conn)


def _settings_of(conn: Any) -> list[Any]:
    asked = {
        "sqlite": ["PRAGMA foreign_keys", "PRAGMA synchronous", "PRAGMA busy_timeout"],
        "postgresql": ["SHOW transaction_isolation", "SHOW default_transaction_isolation"],
        "mysql": ["SELECT @@tx_isolation", "SELECT @@autocommit", "SELECT @@sql_mode"],
    }[conn.dialect.name]
    found = [conn.exec_driver_sql(statement).scalar() for statement in asked]
    if conn.dialect.name == "sqlite":
        found.append(conn.connection.driver_connection.isolation_level)
    return [*found, conn.get_isolation_level()]


LEVELS = {
    "sqlite": ["AUTOCOMMIT", "SERIALIZABLE", "READ UNCOMMITTED"],
    "postgresql": ["AUTOCOMMIT", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"],
    "mariadb": ["AUTOCOMMIT", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"],
}
EVERY_LEVEL = sorted({level for levels in LEVELS.values() for level in levels})


@pytest.mark.parametrize("level", EVERY_LEVEL)
async def test_writes_are_one_transaction_whatever_the_engines_isolation_level(
    make_saver: SaverFactory, backend: Backend, sql: Sql, level: str
) -> None:
    if level not in LEVELS[backend.name]:
        pytest.skip(f"{backend.name} has no {level}")
    make = backend.async_engine if make_saver.face == "async" else backend.engine
    own = make(isolation_level=level, pool_size=1, max_overflow=0)
    before = await _level(own)
    saver = make_saver(engine=own)
    await asave_one(saver)
    # The last statement of a put fails, so nothing of it may be stored.
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"html": "<p>lost</p>"}
    checkpoint["channel_versions"] = {"html": saver.get_next_version(None, None)}
    sql("DROP TABLE versions")
    with pytest.raises(SessionSaverError, match="versions"):
        await saver.aput(on("2"), checkpoint, {}, dict(checkpoint["channel_versions"]))
    assert sql("SELECT id FROM sessions") == [{"id": "1"}]
    assert len(sql("SELECT checkpoint_id FROM session_checkpoints")) == 1
    assert sql("SELECT channel FROM session_blobs") == []
    assert await _level(own) == before


async def _level(engine: Engine | AsyncEngine) -> list[Any]:
    if isinstance(engine, Engine):
        return _settings(engine)
    async with engine.connect() as conn:
        return await conn.run_sync(_settings_of)


@pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)
def test_an_engine_with_sqlalchemys_begin_recipe_works(backend: Backend, sql: Sql) -> None:
    engine = backend.engine()

    @event.listens_for(engine, "connect")
    def no_driver_begin(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(conn: Any) -> None:
        conn.exec_driver_sql("BEGIN")

    with SessionSaver(engine) as saver:
        for _ in range(2):
            finish(saver, "1")
        with engine.begin() as conn:  # the application goes on as before
            conn.exec_driver_sql("CREATE TABLE own (id INTEGER)")
            assert conn.connection.driver_connection.in_transaction  # type: ignore[union-attr]
        saver.delete_thread("1")
    assert sql("SELECT id FROM sessions") == []
    assert sql("SELECT id FROM own") == []
    with engine.connect() as conn:
        assert conn.connection.driver_connection.isolation_level is None  # type: ignore[union-attr]


@pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)
@pytest.mark.parametrize("switch", ["ON", "OFF"])
def test_foreign_keys_are_enforced_only_for_the_saver(backend: Backend, switch: str) -> None:
    engine = backend.engine(pool_size=1, max_overflow=0)

    @event.listens_for(engine, "connect")
    def set_pragma(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.execute(f"PRAGMA foreign_keys={switch}")

    seen = []

    @event.listens_for(engine, "before_cursor_execute")
    def look(conn: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("INSERT INTO session_checkpoints"):
            seen.append(conn.connection.driver_connection.execute("PRAGMA foreign_keys").fetchone())

    with SessionSaver(engine) as saver:
        save_one(saver)
        checkpoint = empty_checkpoint()
        with pytest.raises(InvalidConfigError):
            saver.put(on(""), checkpoint, {}, {})
    assert seen == [(1,)]
    with engine.connect() as conn:
        assert conn.exec_driver_sql("PRAGMA foreign_keys").scalar() == (switch == "ON")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("do_connect", False),  # as for a token requested for each connection
        ("do_execute", True),
        ("handle_error", True),
        ("before_cursor_execute", True),
        ("commit", True),
    ],
)
def test_only_listeners_for_statements_count_as_listeners(name: str, *, expected: bool) -> None:
    engine = create_engine("sqlite://")
    event.listen(engine, name, lambda *_arguments: None)

    with engine.connect() as conn:
        assert is_observed(conn) is expected


def test_a_pool_that_gives_each_thread_a_memory_database_is_refused() -> None:
    engine = create_engine("sqlite://", poolclass=SingletonThreadPool)
    with pytest.raises(InvalidConfigError, match="poolclass="):
        SessionSaver(engine)
    engine.dispose()


def test_a_memory_database_without_a_pool_is_refused() -> None:
    engine = create_engine("sqlite://", poolclass=NullPool)
    with pytest.raises(InvalidConfigError, match="poolclass="):
        SessionSaver(engine)
    engine.dispose()


def test_a_memory_database_in_a_static_pool_works() -> None:
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    with SessionSaver(engine) as saver:
        finish(saver, "1")
        worker = threading.Thread(target=save_one, args=(saver, "2"))
        worker.start()
        worker.join()
        assert {item.config["configurable"]["thread_id"] for item in saver.list(None)} == {"1", "2"}
    engine.dispose()


def test_an_unsupported_database_is_refused_by_name() -> None:
    engine = create_engine("mssql+pymssql://host/db", module=sqlite3)  # any driver will do
    with pytest.raises(InvalidConfigError, match="'mssql' is not supported"):
        SessionSaver(engine)
