"""Databases and directories that cannot be reached or used: the errors name them."""

from __future__ import annotations

import asyncio
import threading
import traceback
from pathlib import Path

import pytest
from sqlalchemy import make_url

from langgraph_session_saver import (
    DatabaseUnavailableError,
    SessionSaver,
    SessionSaverError,
    StoragePermissionError,
)
from tests.support.backends import Backend
from tests.support.servers import free_port
from tests.support.workloads import on

pytestmark = pytest.mark.empty_database

VARIABLE = "LANGGRAPH_SESSION_SAVER_URL"


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


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_all_hosts_of_a_database_that_is_down_are_named(driver: str) -> None:
    hosts = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    url = f"postgresql+{driver}://me:never-to-be-shown@/db?host={hosts[0]}&host={hosts[1]}"
    async with SessionSaver.from_conn_string(url) as saver:
        with pytest.raises(DatabaseUnavailableError, match=f"at {','.join(hosts)}/db") as caught:
            await saver.aget_tuple(on("1"))
    assert "never-to-be-shown" not in str(caught.value)


@pytest.mark.parametrize("backend_name", ["postgresql"], indirect=True)
@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "asyncpg"])
async def test_a_database_that_does_not_exist_is_named(backend: Backend, driver: str) -> None:
    url = make_url(backend.url).set(drivername=f"postgresql+{driver}", database="never_made")
    async with SessionSaver.from_conn_string(url) as saver:
        with pytest.raises(DatabaseUnavailableError, match='"never_made" does not exist'):
            await saver.aget_tuple(on("1"))


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
