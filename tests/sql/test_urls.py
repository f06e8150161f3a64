"""URLs and paths of databases: which engine each opens, and what is refused."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex

import pytest
from sqlalchemy import make_url

from langgraph_session_saver import InvalidConfigError, SessionSaver
from tests.schema.test_setup import BLOCKER
from tests.sql.one_step import asave_one, save_one
from tests.support.backends import Backend, Sql
from tests.support.graphs import engine_of

pytestmark = pytest.mark.empty_database
ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "LANGGRAPH_SESSION_SAVER_URL"


def test_a_url_with_a_driver_is_used_unchanged(backend: Backend) -> None:
    with SessionSaver.from_conn_string(backend.url) as saver:
        save_one(saver)
        assert engine_of(saver).url == make_url(backend.url)


async def test_a_url_with_an_async_driver_serves_the_async_face(backend: Backend) -> None:
    async with SessionSaver.from_conn_string(backend.async_url) as saver:
        await asave_one(saver)
        assert engine_of(saver).url == make_url(backend.async_url)


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


@pytest.mark.parametrize("url", ["postgresql://u:{}@h:port/db", "://{}", "a b://{}@h"])
def test_an_unreadable_url_is_refused_without_its_password(url: str) -> None:
    password = token_hex(8)  # which no path in a traceback has
    with pytest.raises(InvalidConfigError) as caught:
        SessionSaver.from_conn_string(url.format(password))
    assert password not in "".join(traceback.format_exception(caught.value))


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
