"""Graphs behind pgbouncer in transaction mode, with two server connections for all."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from langgraph_session_saver import InvalidConfigError, SessionSaver
from tests.support.backends import Backend, Sql
from tests.support.rows import chain, config
from tests.support.servers import free_port

BINARY = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
GRAPHS, STEPS = 16, 6

pytestmark = [
    pytest.mark.parametrize("backend_name", ["postgresql"], indirect=True),
    pytest.mark.skipif(BINARY is None, reason="pgbouncer is not installed"),
]


@pytest.fixture
def address(backend: Backend, tmp_path: Path) -> Iterator[URL]:
    """Where a pgbouncer of this test listens, in front of the test's database."""
    server, port = make_url(backend.url), free_port()
    settings = tmp_path / "pgbouncer.ini"
    settings.write_text(
        "[databases]\n"
        f"{server.database} = host={server.host} port={server.port} user={server.username}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 2\n"
        "ignore_startup_parameters = extra_float_digits\n"
    )
    command = [str(BINARY), str(settings)]
    if os.geteuid() == 0:  # which pgbouncer refuses
        tmp_path.chmod(0o755)
        settings.chmod(0o644)
        command[1:1] = ["-u", pwd.getpwnam("nobody").pw_name]
    log = (tmp_path / "log").open("wb")
    with log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        url = server.set(port=port, query={})
        _wait_for(url)
        yield url
        process.terminate()


@retry(
    retry=retry_if_exception_type(OperationalError),
    stop=stop_after_delay(10),
    wait=wait_fixed(0.02),
    reraise=True,
)
def _wait_for(url: URL) -> None:
    with _engine(url).connect() as conn:
        conn.execute(text("SELECT 1"))


def _engine(url: URL) -> Engine:
    unprepared = {"prepare_threshold": None}
    url = url.set(drivername="postgresql+psycopg")
    return create_engine(url, poolclass=NullPool, connect_args=unprepared)


def graph_on(saver: Any) -> Any:
    return chain(saver, *({"messages": [("ai", str(n))], "note": n} for n in range(STEPS)))


def pooled(address: URL, driver: str) -> SessionSaver:
    url = address.set(drivername=f"postgresql+{driver}", query={"pgbouncer": "true"})
    return SessionSaver.from_conn_string(url)


def test_graphs_in_threads_run_behind_pgbouncer(address: URL, sql: Sql) -> None:
    with pooled(address, "psycopg") as saver, ThreadPoolExecutor(GRAPHS) as executor:
        graph = graph_on(saver)
        list(executor.map(lambda n: graph.invoke({}, config(str(n))), range(GRAPHS)))

    assert sql("SELECT count(*) AS n FROM messages") == [{"n": GRAPHS * STEPS}]


async def test_graphs_in_tasks_run_behind_pgbouncer(address: URL, sql: Sql) -> None:
    async with pooled(address, "psycopg_async") as saver:
        graph = graph_on(saver)
        await asyncio.gather(*(graph.ainvoke({}, config(str(n))) for n in range(GRAPHS)))

    assert sql("SELECT count(*) AS n FROM messages") == [{"n": GRAPHS * STEPS}]


def test_the_servers_sessions_keep_their_settings(address: URL) -> None:
    with pooled(address, "psycopg") as saver:
        graph_on(saver).invoke({}, config())
    with _engine(address).connect() as conn:
        assert conn.execute(text("SHOW plan_cache_mode")).scalar() == "auto"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://localhost/app?pgbouncer=yes", "pgbouncer='yes': use true or false"),
        ("postgresql+asyncpg://localhost/app?pgbouncer=true", r"use postgresql\+psycopg_async://"),
    ],
)
def test_what_does_not_work_is_refused(backend: Backend, url: str, said: str) -> None:
    with pytest.raises(InvalidConfigError, match=said):
        SessionSaver.from_conn_string(url)
