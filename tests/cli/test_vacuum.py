"""`db vacuum`, run as a process: what it gives back on each database, and what keeps it from it."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from langgraph_session_saver import SessionSaver
from tests.support.backends import Backend, Sql
from tests.support.cancellation import eventually
from tests.support.command_line import PRELOADED_TOO, CommandLine
from tests.support.rows import chain, config
from tests.support.servers import PASSWORD
from tests.support.zygote import Zygote

SQLITE = pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)
POSTGRESQL = pytest.mark.parametrize("backend_name", ["postgresql"], indirect=True)
MARIADB = pytest.mark.parametrize("backend_name", ["mariadb"], indirect=True)
SERVERS = pytest.mark.parametrize("backend_name", ["postgresql", "mariadb"], indirect=True)

HOLDING = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "LOCK TABLE messages IN ACCESS EXCLUSIVE MODE",
    "mariadb": "LOCK TABLES messages WRITE",
}
"""How another connection takes a lock on each database."""
PURGED = (
    "SELECT data_free FROM information_schema.tables WHERE table_schema = database() "
    "AND table_name = 'session_writes' AND data_free > 0"
)
"""Rows once MariaDB has freed the space of deleted rows, which it does a while later."""


@pytest.fixture(scope="module")
def program() -> Iterator[Zygote]:
    """Forks processes in which the command line is imported."""
    with Zygote(PRELOADED_TOO) as zygote:
        yield zygote


@pytest.fixture
def cli(program: Zygote, tmp_path: Path, backend: Backend) -> CommandLine:
    """The command line on a database that once held four times as much as now."""
    with SessionSaver.from_conn_string(backend.url) as saver:
        fill(saver, 4)
        empty(saver, 3)
    return CommandLine(program, tmp_path, LANGGRAPH_SESSION_SAVER_URL=backend.url)


def fill(saver: SessionSaver, threads: int) -> None:
    graph = chain(saver, {"note": secrets.token_bytes(1_000_000), "messages": [("ai", "kept")]})
    for number in range(threads):
        graph.invoke({}, config(str(number)))


def empty(saver: SessionSaver, threads: int) -> None:
    for number in range(threads):
        saver.delete_thread(str(number))


def test_vacuum_gives_space_back_and_keeps_all_rows(
    cli: CommandLine, backend: Backend, sql: Sql
) -> None:
    done = cli("db", "vacuum", "--full", "--json")

    assert (done.code, done.err) == (0, "")
    before, after = done.json["before"], done.json["after"]
    assert after["bytes"] < before["bytes"] / 2
    assert (after["free"] or 0) < (before["free"] or 1)
    assert not after["dead_rows"]
    assert sql("SELECT content FROM messages") == [{"content": "kept"}]
    assert cli("doctor").code == 0
    assert cli("db", "check").code == 0


def test_a_dry_run_says_how_much_is_free_and_changes_nothing(
    cli: CommandLine, backend: Backend
) -> None:
    held = backend.path.read_bytes() if backend.path else None

    told = cli("db", "vacuum", "--dry-run", "--json").json

    assert told["after"] is None
    unused = told["before"]["dead_rows" if backend.name == "postgresql" else "free"]
    assert unused > (0 if backend.name == "postgresql" else 1_000_000)
    assert held == (backend.path.read_bytes() if backend.path else None)


@POSTGRESQL
def test_postgresql_makes_the_space_of_dead_rows_free_without_full(cli: CommandLine) -> None:
    done = cli("db", "vacuum", "--json").json
    assert done["before"]["dead_rows"] > 0
    assert done["after"]["dead_rows"] == 0


@POSTGRESQL
def test_a_role_that_does_not_own_the_tables_is_told_so(
    cli: CommandLine, backend: Backend, sql: Sql
) -> None:
    name = f"reader_{secrets.token_hex(4)}"
    sql(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    try:
        sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
        url = make_url(backend.url).set(username=name, password=PASSWORD)
        done = cli("db", "vacuum", "--url", url.render_as_string(hide_password=False))
    finally:
        sql(f"DROP OWNED BY {name}")
        sql(f"DROP ROLE {name}")
    assert (done.code, done.out.count("vacuum it")) == (0, 10)


@MARIADB
async def test_a_user_who_may_not_see_the_files_gets_estimates(
    cli: CommandLine, backend: Backend, sql: Sql
) -> None:
    """MariaDB shows the sizes of files to users with the privilege PROCESS."""
    name = f"app_{secrets.token_hex(4)}"
    sql(f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
    try:
        sql(f"GRANT ALL ON {make_url(backend.url).database}.* TO {name}@'127.0.0.1'")
        url = make_url(backend.url).set(username=name, password=PASSWORD)
        engine = create_engine(url)
        with engine.connect() as conn, pytest.raises(DBAPIError, match="PROCESS"):
            conn.execute(text("SELECT * FROM information_schema.innodb_sys_tablespaces"))
        engine.dispose()
        assert await eventually(lambda: bool(sql(PURGED)), 60)
        done = cli("db", "vacuum", "--json", "--url", url.render_as_string(hide_password=False))
    finally:
        sql(f"DROP USER {name}@'127.0.0.1'")

    assert (done.code, done.err) == (0, "")
    before, after = done.json["before"], done.json["after"]
    assert before["free"] > 1_000_000
    assert after["bytes"] < before["bytes"]


def test_a_lock_that_another_connection_holds_is_an_error(
    cli: CommandLine, backend: Backend
) -> None:
    other = backend.engine(isolation_level="AUTOCOMMIT")
    with other.connect() as conn:
        if backend.name == "postgresql":
            conn.execute(text("BEGIN"))
        conn.execute(text(HOLDING[backend.name]))
        done = cli("db", "vacuum", "--wait", "0.5")
        conn.execute(text("UNLOCK TABLES" if backend.name == "mariadb" else "ROLLBACK"))

    assert (done.code, done.out) == (4, "")
    assert "another connection held a lock that this needs for 0.5 seconds" in done.err
    assert cli("db", "vacuum").code == 0


# -- SQLite ----------------------------------------------------------------------------------------


@SQLITE
def test_an_incremental_vacuum_cuts_off_all_free_pages(
    cli: CommandLine, backend: Backend, sql: Sql
) -> None:
    assert cli("db", "vacuum", "--incremental").code == 0
    assert sql("PRAGMA auto_vacuum") == [{"auto_vacuum": 2}]
    with SessionSaver.from_conn_string(backend.url) as saver:
        fill(saver, 6)
        empty(saver, 6)
    done = cli("db", "vacuum", "--incremental", "--json").json

    assert done["before"]["free"] > 1_000 * 4096  # more than one transaction cuts off
    assert done["after"]["free"] == 0
    assert backend.path is not None
    assert backend.path.stat().st_size == done["after"]["bytes"]


@SQLITE
def test_a_reader_that_keeps_the_file_large_is_told_of(cli: CommandLine, backend: Backend) -> None:
    assert backend.path is not None
    with closing(sqlite3.connect(backend.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchone()
        large = backend.path.stat().st_size
        done = cli("db", "vacuum", "--wait", "0.1")
        assert done.code == 0
        assert "another connection still reads the database as it was" in done.out
        assert backend.path.stat().st_size == large
        reader.execute("COMMIT")
    assert backend.path.stat().st_size < large / 2


@SERVERS
def test_an_incremental_vacuum_is_refused_elsewhere(cli: CommandLine) -> None:
    done = cli("db", "vacuum", "--incremental")
    assert (done.code, done.out) == (2, "")
    assert "is for SQLite" in done.err


@SQLITE
def test_options_that_exclude_each_other_are_refused(cli: CommandLine) -> None:
    assert cli("db", "vacuum", "--full", "--incremental").code == 2
