"""URLs and callers' engines: what is opened, left alone and refused, and the error messages."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from psycopg import _queries
from sqlalchemy import URL, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from langgraph_session_saver import (
    DatabaseUnavailableError,
    InvalidConfigError,
    SessionSaver,
    SessionSaverError,
    StoragePermissionError,
    WrongFaceError,
)
from langgraph_session_saver.sql.compiled import is_observed
from tests.schema.test_setup import BLOCKER
from tests.support.backends import Backend, Sql, checked_out
from tests.support.graphs import engine_of, line_of, says
from tests.support.savers import SaverFactory
from tests.support.servers import free_port
from tests.support.workloads import finish, on

pytestmark = pytest.mark.empty_database
ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "LANGGRAPH_SESSION_SAVER_URL"


def save_one(saver: SessionSaver, thread_id: str = "1") -> None:
    saver.put(on(thread_id), empty_checkpoint(), {}, {})
    assert saver.get_tuple(on(thread_id)) is not None


async def asave_one(saver: SessionSaver, thread_id: str = "1") -> None:
    await saver.aput(on(thread_id), empty_checkpoint(), {}, {})
    assert await saver.aget_tuple(on(thread_id)) is not None


def on_raw_cursors(url: URL) -> SessionSaver:
    """A saver over an engine that uses psycopg's raw cursors, as the documents advise."""
    is_async = url.get_dialect().is_async
    make: Any = create_async_engine if is_async else create_engine
    cursor = psycopg.AsyncRawCursor if is_async else psycopg.RawCursor
    return SessionSaver(
        make(url, paramstyle="numeric_dollar", connect_args={"cursor_factory": cursor})
    )


# -- URLs ------------------------------------------------------------------------------------


def test_a_url_with_a_driver_is_used_unchanged(backend: Backend) -> None:
    with SessionSaver.from_conn_string(backend.url) as saver:
        save_one(saver)
        assert engine_of(saver).url == make_url(backend.url)


async def test_a_url_with_an_async_driver_serves_the_async_face(backend: Backend) -> None:
    async with SessionSaver.from_conn_string(backend.async_url) as saver:
        await asave_one(saver)
        assert engine_of(saver).url == make_url(backend.async_url)


@pytest.mark.parametrize("backend_name", ["postgresql"], indirect=True)
@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
@pytest.mark.parametrize("opened", [SessionSaver.from_conn_string, on_raw_cursors])
async def test_psycopg_parses_no_statement_of_a_step(
    backend: Backend,
    driver: str,
    opened: Callable[[URL], SessionSaver],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saver = opened(make_url(backend.url).set(drivername=f"postgresql+{driver}"))
    graph = line_of(("a", says("a")), ("b", says("b"))).compile(checkpointer=saver)
    await graph.ainvoke({"log": ["first"]}, on("1"))
    parsed: list[bytes] = []
    split = _queries._split_query

    def counted(query: bytes, *more: Any) -> Any:
        parsed.append(query)
        return split(query, *more)

    monkeypatch.setattr(_queries, "_split_query", counted)
    await graph.ainvoke({"log": ["second"]}, on("1"))
    assert parsed == []
    assert len([one async for one in saver.alist(on("1"))]) == 8
    await saver.aclose()
    engine = saver._runner.engine
    await engine.dispose() if isinstance(engine, AsyncEngine) else engine.dispose()


def test_a_url_object_works(backend: Backend) -> None:
    with SessionSaver.from_conn_string(make_url(backend.url)) as saver:
        save_one(saver)


@pytest.mark.parametrize("backend_name", ["postgresql", "mariadb"], indirect=True)
def test_a_plain_server_url_gets_the_driver_of_the_extra(backend: Backend) -> None:
    scheme, _, rest = backend.url.partition("://")
    plain = f"{scheme.partition('+')[0]}://{rest}"
    with SessionSaver.from_conn_string(plain) as saver:
        save_one(saver)
        driver = {"postgresql": "psycopg", "mariadb": "pymysql"}[backend.name]
        assert engine_of(saver).dialect.driver == driver


@pytest.mark.parametrize("backend_name", ["postgresql"], indirect=True)
def test_the_short_name_of_postgresql_works(backend: Backend) -> None:
    with SessionSaver.from_conn_string(f"postgres://{backend.url.partition('://')[2]}") as saver:
        save_one(saver)


@pytest.mark.parametrize("backend_name", ["mariadb"], indirect=True)
def test_the_mariadb_scheme_works(backend: Backend) -> None:
    with SessionSaver.from_conn_string(f"mariadb://{backend.url.partition('://')[2]}") as saver:
        save_one(saver)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_bare_path_is_a_file_and_its_directory_is_created(
    kind: Callable[[Path], str | Path], tmp_path: Path
) -> None:
    file = tmp_path / "not yet there" / "app.db"
    with SessionSaver.from_conn_string(kind(file)) as saver:
        save_one(saver)
    assert file.exists()


def test_a_relative_path_is_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with SessionSaver.from_conn_string("app.db") as saver:
        save_one(saver)
    assert (tmp_path / "app.db").exists()


def test_a_tilde_stands_for_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with SessionSaver.from_conn_string("~/app.db") as saver:
        save_one(saver)
    assert (tmp_path / "app.db").exists()


@pytest.mark.parametrize("path", ["a?b.db", "a#b.db", "a%20b.db", "ü ß.db", "a&b=c.db"])
def test_a_path_may_contain_characters_that_are_special_in_a_url(tmp_path: Path, path: str) -> None:
    with SessionSaver.from_conn_string(str(tmp_path / path)) as saver:
        save_one(saver)
    assert (tmp_path / path).exists()


@pytest.mark.parametrize("url", [":memory:", "sqlite://", "sqlite:///:memory:"])
def test_memory_is_one_database_for_all_threads(url: str) -> None:
    with SessionSaver.from_conn_string(url) as saver:
        workers = [threading.Thread(target=save_one, args=(saver, str(n))) for n in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert {item.config["configurable"]["thread_id"] for item in saver.list(None)} == {
            str(n) for n in range(8)
        }


async def test_memory_serves_both_faces_of_one_saver() -> None:
    async with SessionSaver.from_conn_string(":memory:") as saver:
        await asave_one(saver, "async")
        save_one(saver, "sync")
        assert len([item async for item in saver.alist(None)]) == 2


async def test_memory_over_an_async_driver_serves_many_tasks() -> None:
    async with SessionSaver.from_conn_string("sqlite+aiosqlite://") as saver:
        await asyncio.gather(*(asave_one(saver, str(n)) for n in range(8)))
        assert len([item async for item in saver.alist(None)]) == 8


def test_without_a_url_the_environment_names_the_database(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, sql: Sql
) -> None:
    monkeypatch.setenv(VARIABLE, backend.url)
    with SessionSaver.from_conn_string() as saver:
        save_one(saver, "from the environment")
    assert sql("SELECT id FROM sessions") == [{"id": "from the environment"}]


@pytest.mark.parametrize("variable", ["XDG_DATA_HOME", "HOME"])
def test_without_a_url_a_private_file_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in (VARIABLE, "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    with SessionSaver.from_conn_string() as saver:
        save_one(saver)
        file = Path(str(engine_of(saver).url.database))
        assert tmp_path in file.parents
        made = [file, *file.parent.glob(f"{file.name}-*")]
        assert len(made) > 1, "no WAL"
        assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_file_of_the_saver_is_as_durable_as_one_of_the_official_savers(tmp_path: Path) -> None:
    with (
        SessionSaver.from_conn_string(str(tmp_path / "app.db")) as saver,
        engine_of(saver).connect() as conn,
    ):
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        found = {name: conn.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas}
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 10_000,
    }


@pytest.mark.parametrize("url", ["oracle://h/db", "mongodb://h/db", "redis+x://h", "http://x/y"])
def test_an_unknown_scheme_is_named_with_those_that_work(url: str) -> None:
    with pytest.raises(InvalidConfigError, match="unknown URL scheme") as caught:
        SessionSaver.from_conn_string(url)
    assert repr(url.partition("://")[0]) in str(caught.value)
    assert "postgresql://" in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://u:secret@h:port/db", "://secret", "a b://secret@h"])
def test_an_unreadable_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        SessionSaver.from_conn_string(url)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("postgresql://h/db", "psycopg", "postgres"),
        ("postgresql+asyncpg://h/db", "asyncpg", "asyncpg"),
        ("mysql://h/db", "pymysql", "mysql"),
        ("mysql+asyncmy://h/db", "asyncmy", "mysql"),
        ("sqlite+aiosqlite:///x.db", "aiosqlite", "sqlite-async"),
        ("postgresql+psycopg_async://h/db", "psycopg", "postgres"),
        ("sqlite+aiosqlite:///x.db", "greenlet", "sqlite-async"),
        ("postgresql+asyncpg://h/db", "greenlet", "asyncpg"),
        ("mysql+asyncmy://h/db", "greenlet", "mysql"),
        ("mariadb://h/db", "pymysql", "mysql"),
        ("mariadb+asyncmy://h/db", "asyncmy", "mysql"),
        ("mysql+mysqldb://h/db", "MySQLdb", "mysql"),
        ("mysql+mysqlconnector://h/db", "mysql", "mysql"),
        ("mysql+aiomysql://h/db", "aiomysql", "mysql"),
        ("mariadb+mysqldb://h/db", "MySQLdb", "mysql"),
        ("mariadb+mariadbconnector://h/db", "mariadb", "mysql"),
        ("postgresql+psycopg2://h/db", "psycopg2", "postgres"),
        ("postgresql+pg8000://h/db", "pg8000", "postgres"),
    ],
)
def test_a_driver_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, url: str, module: str, extra: str
) -> None:
    program = (
        BLOCKER.replace("{blocked!r}", repr({module}))
        + f"""
import asyncio
from langgraph_session_saver import DriverNotInstalledError, SessionSaver
async def use():
    async with SessionSaver.from_conn_string({url!r}) as saver:
        await saver.asetup()
try:
    asyncio.run(use())
except DriverNotInstalledError as exc:
    assert isinstance(exc, ImportError)
    print(exc)
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"pip install 'langgraph-session-saver[{extra}]'" in done.stdout, done.stderr


# -- a database or a directory that is not there ----------------------------------------------


@pytest.mark.parametrize(
    "scheme",
    ["postgresql", "postgresql+asyncpg", "postgresql+psycopg_async", "mysql", "mysql+asyncmy"],
)
async def test_a_database_that_is_down_is_named_by_host_and_port_without_a_password(
    scheme: str,
) -> None:
    port = free_port()
    url = f"{scheme}://somebody:never-to-be-shown@127.0.0.1:{port}/db"
    async with SessionSaver.from_conn_string(url) as saver:
        with pytest.raises(DatabaseUnavailableError, match=f"127.0.0.1:{port}") as caught:
            await saver.aget_tuple(on("1"))
    assert isinstance(caught.value, ConnectionError)
    assert caught.value.__cause__ is not None
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "never-to-be-shown" not in told


@pytest.mark.parametrize("backend_name", ["mariadb"], indirect=True)
@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
async def test_a_wrong_password_is_not_shown(backend: Backend, driver: str) -> None:
    url = backend.async_url if driver == "asyncmy" else backend.url
    wrong = make_url(url).set(password="never-known")
    assert wrong.get_driver_name() == driver
    async with SessionSaver.from_conn_string(wrong) as saver:
        with pytest.raises(SessionSaverError, match="Access denied") as caught:
            await saver.aget_tuple(on("1"))
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "never-known" not in told


@pytest.mark.parametrize("place", ["below a file", "/proc/1/app", "/proc"])
@pytest.mark.parametrize("scheme", ["", "sqlite:///", "sqlite+aiosqlite:///"])
async def test_a_directory_that_cannot_be_written_is_named(
    tmp_path: Path, place: str, scheme: str
) -> None:
    if place == "below a file":
        (tmp_path / "file").touch()
        directory = tmp_path / "file" / "deeper"
    else:
        directory = Path(place)
    with pytest.raises(StoragePermissionError) as caught:
        async with SessionSaver.from_conn_string(f"{scheme}{directory / 'app.db'}") as saver:
            await saver.asetup()
    assert isinstance(caught.value, PermissionError)
    assert str(directory) in str(caught.value)
    for thread in threading.enumerate():  # aiosqlite's thread reports to the loop that it ends
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join)


def test_a_default_directory_that_cannot_be_created_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(StoragePermissionError, match="file"):
        SessionSaver.from_conn_string()


def test_a_path_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    with (
        SessionSaver.from_conn_string(str(tmp_path)) as saver,
        pytest.raises(SessionSaverError) as caught,
    ):
        saver.setup()
    assert str(tmp_path) in str(caught.value)


def test_a_file_that_is_no_database_is_refused_and_untouched(tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("Dear database, " * 100)
    with (
        SessionSaver.from_conn_string(str(file)) as saver,
        pytest.raises(SessionSaverError, match="not a database"),
    ):
        saver.setup()
    assert file.read_text() == "Dear database, " * 100


# -- the application's own engine --------------------------------------------------------------


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


# -- both faces ------------------------------------------------------------------------------


async def test_a_sync_call_on_the_event_loops_thread_names_the_async_method(
    backend: Backend,
) -> None:
    async with SessionSaver(backend.async_engine()) as saver:
        await asave_one(saver)
        with pytest.raises(WrongFaceError, match="await the a… twin"):
            saver.get_tuple(on("1"))
        with pytest.raises(WrongFaceError):
            saver.put(on("1"), empty_checkpoint(), {}, {})
        with pytest.raises(WrongFaceError):
            list(saver.list(on("1")))
        await asave_one(saver, "2")


async def test_a_sync_call_from_another_thread_runs_on_the_loop_that_used_the_engine(
    backend: Backend,
) -> None:
    async with SessionSaver(backend.async_engine()) as saver:
        await saver.asetup()
        await asyncio.to_thread(finish, saver, "1")
        found = await asyncio.to_thread(lambda: list(saver.list(on("1"))))
        assert len(found) == 6
        assert len([item async for item in saver.alist(on("1"))]) == 6


def test_a_sync_call_over_an_async_engine_without_a_running_loop_raises(backend: Backend) -> None:
    async def use() -> SessionSaver:
        async with SessionSaver.from_conn_string(backend.async_url) as used:
            await asave_one(used)
        return SessionSaver.from_conn_string(backend.async_url)

    with pytest.raises(WrongFaceError, match="no running event loop"):
        SessionSaver.from_conn_string(backend.async_url).setup()
    saver = asyncio.run(use())
    with pytest.raises(WrongFaceError, match="no running event loop"):
        saver.get_tuple(on("1"))


def test_an_async_engine_can_be_used_by_one_loop_after_another(backend: Backend) -> None:
    saver = SessionSaver.from_conn_string(backend.async_url)

    async def use(thread_id: str) -> int:
        await asave_one(saver, thread_id)
        await saver._runner.engine.dispose()  # type: ignore[misc]
        return len([item async for item in saver.alist(None)])

    async def close() -> None:
        await saver.aclose()

    assert asyncio.run(_then_dispose(saver, use("1"))) == 1
    assert asyncio.run(_then_dispose(saver, use("2"))) == 2
    asyncio.run(close())


async def _then_dispose(saver: SessionSaver, work: Any) -> Any:
    try:
        return await work
    finally:
        await saver._runner.engine.dispose()  # type: ignore[misc]


async def test_one_saver_over_an_engine_serves_sync_and_async_calls_together(
    backend: Backend,
) -> None:
    with SessionSaver(backend.engine()) as saver:
        await asyncio.gather(
            *(asave_one(saver, f"async {n}") for n in range(4)),
            *(asyncio.to_thread(save_one, saver, f"sync {n}") for n in range(4)),
        )
        save_one(saver, "on the loop's own thread")
        assert len([item async for item in saver.alist(None)]) == 9
