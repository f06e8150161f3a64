"""`setup`: once, by many at a time, and next to tables of others."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from sqlalchemy import Engine, inspect

from langgraph_session_saver import DatabaseUnavailableError, SchemaError, SessionSaver, migrate
from langgraph_session_saver.schema.tables import build_tables
from langgraph_session_saver.sql.dialects import dialect_for
from tests.support.backends import Backend, Sql
from tests.support.savers import SaverFactory
from tests.support.workloads import finish, on
from tests.support.zygote import Zygote

pytestmark = pytest.mark.empty_database
ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 8
WORKLOADS = "tests.support.workloads"
VERSION_TABLE = "session_saver_alembic_version"
OUR_TABLES = {table.name for table in build_tables()}
_UNDISTURBED: dict[str, dict[str, Any]] = {}


def shape(engine: Engine, schema: str | None = None, prefix: str = "") -> dict[str, Any]:
    """The columns, keys and indexes of our tables in a database."""
    inspector = inspect(engine)
    return {
        table.name.removeprefix(prefix): (
            sorted(column["name"] for column in inspector.get_columns(table.name, schema)),
            inspector.get_pk_constraint(table.name, schema)["constrained_columns"],
            sorted(str(i["column_names"]) for i in inspector.get_indexes(table.name, schema)),
            sorted(
                str((key["constrained_columns"], key["referred_columns"]))
                for key in inspector.get_foreign_keys(table.name, schema)
            ),
        )
        for table in build_tables(schema, prefix)
    }


def table_names(engine: Engine, schema: str | None = None) -> set[str]:
    return set(inspect(engine).get_table_names(schema))


@pytest.fixture
def expected(backend: Backend) -> dict[str, Any]:
    """The tables that an undisturbed setup creates on this backend."""
    if backend.name in _UNDISTURBED:
        return _UNDISTURBED[backend.name]
    engine = backend.engine()
    prefix = "undisturbed_"
    with SessionSaver(engine, table_prefix=prefix) as saver:
        saver.setup()
    made = _UNDISTURBED[backend.name] = shape(engine, None, prefix)
    metadata = build_tables(None, prefix).metadata
    metadata.drop_all(engine)
    return made


@contextmanager
def setup_in_another_process(backend: Backend) -> Iterator[None]:
    """Hold the lock that a setup takes."""
    with backend.engine().connect() as conn:
        if backend.name == "sqlite":
            conn.exec_driver_sql("BEGIN IMMEDIATE")
        with dialect_for(conn.dialect).setup_lock(conn):
            yield


# -- at once, again, half --------------------------------------------------------------------


def test_eight_processes_that_set_up_one_database_at_once_end_with_one_schema(
    backend: Backend, zygote: Zygote, expected: dict[str, Any], sql: Sql
) -> None:
    moment = time.time() + 0.5
    arguments = {"moment": moment, "url": backend.url, "options": {}}
    children = [zygote.spawn(f"{WORKLOADS}:set_up_at", arguments) for _ in range(PROCESSES)]
    codes = [child.wait() for child in children]
    assert codes == [0] * PROCESSES, "\n".join(child.text for child in children)
    assert [child.lines for child in children] == [["ready", "set up"]] * PROCESSES
    assert shape(backend.engine()) == expected
    assert len(sql(f"SELECT version_num FROM {VERSION_TABLE}")) == 1


async def test_eight_savers_in_one_process_set_up_one_database_at_once(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    savers = [make_saver() for _ in range(PROCESSES)]
    await asyncio.gather(*(saver.asetup() for saver in savers))
    assert len(sql(f"SELECT version_num FROM {VERSION_TABLE}")) == 1
    assert await savers[0].aget_tuple(on("nothing")) is None


async def test_setting_up_again_changes_nothing(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    saver = make_saver()
    await saver.asetup()
    await saver.aput(on("kept"), empty_checkpoint(), {"source": "input"}, {})
    before = shape(backend.engine()), sql(f"SELECT * FROM {VERSION_TABLE}")
    await saver.asetup()
    await make_saver().asetup()
    assert (shape(backend.engine()), sql(f"SELECT * FROM {VERSION_TABLE}")) == before
    assert len(sql("SELECT * FROM session_checkpoints")) == 1


@pytest.mark.parametrize("made", [1, 4, len(OUR_TABLES)])
def test_a_partial_set_of_tables_is_completed(
    backend: Backend, expected: dict[str, Any], sql: Sql, made: int
) -> None:
    engine = backend.engine()
    metadata = build_tables().metadata
    with engine.begin() as conn:
        for table in metadata.sorted_tables[:made]:
            table.create(conn)
    with SessionSaver(engine) as saver:
        saver.setup()
    assert shape(engine) == expected
    assert len(sql(f"SELECT * FROM {VERSION_TABLE}")) == 1


def test_a_table_without_its_indexes_gets_them(backend: Backend, expected: dict[str, Any]) -> None:
    engine = backend.engine()
    tables = build_tables()
    for table in tables.sessions, tables.threads:
        table.indexes.clear()
    with engine.begin() as conn:
        tables.sessions.create(conn)
        tables.threads.create(conn)
    with SessionSaver(engine) as saver:
        saver.setup()
    assert shape(engine) == expected


@pytest.mark.parametrize("statement", [1, 6, 13])
def test_the_next_setup_completes_one_that_was_killed(
    backend: Backend, zygote: Zygote, expected: dict[str, Any], sql: Sql, statement: int
) -> None:
    child = zygote.spawn(
        f"{WORKLOADS}:set_up_and_die", {"url": backend.url, "statement": statement}
    )
    assert child.wait() == -9, child.text
    engine = backend.engine()
    with SessionSaver(engine) as saver:
        saver.setup()
        finish(saver, "1")
    assert shape(engine) == expected
    assert len(sql(f"SELECT * FROM {VERSION_TABLE}")) == 1


@pytest.mark.parametrize("face", ["sync", "async"], indirect=True)
async def test_a_setup_that_waits_too_long_for_another_ends_with_one_error(
    make_saver: SaverFactory, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langgraph_session_saver.sql.dialects.base.SETUP_WAIT", 1.0)
    saver = make_saver()
    with setup_in_another_process(backend):
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailableError, match=r"for 1 seconds: wait for it"):
            await saver.asetup()
        assert 1.0 <= time.monotonic() - started < 1.8
        with (
            pytest.raises(DatabaseUnavailableError, match="for 1 seconds"),
            backend.engine().begin() as conn,
        ):
            migrate.upgrade(conn)
    await saver.asetup()


@pytest.mark.parametrize("backend_name", ["sqlite", "postgresql"], indirect=True)
def test_a_migration_restores_the_timeout_that_it_changes_while_it_waits(backend: Backend) -> None:
    set_, show = {
        "sqlite": ("PRAGMA busy_timeout=1234", "PRAGMA busy_timeout"),
        "postgresql": ("SET LOCAL lock_timeout = 1234", "SHOW lock_timeout"),
    }[backend.name]
    with backend.engine().connect() as conn, conn.begin():
        conn.exec_driver_sql(set_)
        migrate.upgrade(conn)
        assert str(conn.exec_driver_sql(show).scalar()) in {"1234", "1234ms"}


# -- refusals --------------------------------------------------------------------------------


async def test_without_auto_setup_an_empty_database_is_refused_unchanged(
    make_saver: SaverFactory, backend: Backend
) -> None:
    saver = make_saver(auto_setup=False)
    for _ in range(2):
        command = r"call saver\.setup\(\), or run langgraph-session-saver db upgrade --url"
        with pytest.raises(SchemaError, match=command):
            await saver.aput(on("1"), empty_checkpoint(), {}, {})
    assert table_names(backend.engine()) == set()
    await saver.asetup()
    await saver.aput(on("1"), empty_checkpoint(), {}, {})


async def test_without_auto_setup_a_database_that_is_set_up_is_used(
    make_saver: SaverFactory,
) -> None:
    await make_saver().asetup()
    saver = make_saver(auto_setup=False)
    await saver.aput(on("1"), empty_checkpoint(), {}, {})
    assert await saver.aget_tuple(on("1")) is not None


@pytest.mark.parametrize("auto_setup", [True, False])
async def test_a_schema_newer_than_the_code_is_refused_unchanged(
    make_saver: SaverFactory, sql: Sql, auto_setup: bool
) -> None:
    await make_saver().asetup()
    sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    saver = make_saver(auto_setup=auto_setup)
    with pytest.raises(SchemaError, match=r"9999.*upgrade langgraph-session-saver"):
        await saver.aput(on("1"), empty_checkpoint(), {}, {})
    with pytest.raises(SchemaError, match="9999"):
        await saver.asetup()
    assert sql(f"SELECT version_num FROM {VERSION_TABLE}") == [{"version_num": "9999"}]
    assert sql("SELECT id FROM sessions") == []


async def test_an_unrelated_sessions_table_is_refused_and_untouched(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    sql("CREATE TABLE sessions (token VARCHAR(40) PRIMARY KEY, visits INTEGER)")
    sql("INSERT INTO sessions VALUES ('abc', 3)")
    with pytest.raises(SchemaError, match=r"'sessions'.*not ours.*table_prefix=") as caught:
        await make_saver().aput(on("1"), empty_checkpoint(), {}, {})
    assert "Nothing was changed" in str(caught.value)
    assert table_names(backend.engine()) == {"sessions"}
    assert sql("SELECT * FROM sessions") == [{"token": "abc", "visits": 3}]


# -- side by side ----------------------------------------------------------------------------


async def use_everything(saver: SessionSaver) -> None:
    """Put, put writes, get, list, copy, prune, delete for runs and delete."""
    checkpoint = empty_checkpoint()
    version = saver.get_next_version(None, None)
    checkpoint["channel_values"] = {
        "build_status": "building",
        "html": "<p>one</p>",
        "messages": [HumanMessage("hello", id="h"), AIMessage("there", id="a")],
    }
    checkpoint["channel_versions"] = dict.fromkeys(checkpoint["channel_values"], version)
    versions = dict(checkpoint["channel_versions"])
    metadata: Any = {"source": "loop", "step": 1, "run_id": "run"}
    config = await saver.aput(on("1"), checkpoint, metadata, versions)
    await saver.aput_writes(config, [("html", "<p>two</p>")], "task")
    await saver.aput_writes(config, [("__error__", ValueError("bad"))], "other task")
    found = await saver.aget_tuple(on("1"))
    assert found is not None
    assert found.checkpoint["channel_values"] == checkpoint["channel_values"]
    assert found.pending_writes is not None
    assert len(found.pending_writes) == 2
    assert len([item async for item in saver.alist(None)]) == 1
    await saver.acopy_thread("1", "2")
    await saver.aprune(["2"], strategy="keep_latest")
    assert len([item async for item in saver.alist(on("2"))]) == 1
    await saver.adelete_for_runs(["run"])
    assert await saver.aget_tuple(on("1")) is None
    await saver.aput(on("1"), checkpoint, metadata, versions)


async def test_a_prefix_lets_two_sessions_tables_coexist(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    sql("CREATE TABLE sessions (token VARCHAR(40) PRIMARY KEY, visits INTEGER)")
    sql("INSERT INTO sessions VALUES ('abc', 3)")
    saver = make_saver(table_prefix="chat_")
    await use_everything(saver)
    assert table_names(backend.engine()) == {"sessions"} | {f"chat_{name}" for name in OUR_TABLES}
    assert sql("SELECT id, build_status FROM chat_sessions WHERE id = '1'") == [
        {"id": "1", "build_status": "building"}
    ]
    assert sql("SELECT count(*) AS n FROM chat_messages WHERE session_id = '1'") == [{"n": 2}]
    await saver.adelete_thread("1")
    assert sql("SELECT id FROM chat_sessions WHERE id = '1'") == []
    assert sql("SELECT * FROM sessions") == [{"token": "abc", "visits": 3}]


async def test_two_prefixes_in_one_database_do_not_see_each_other(
    make_saver: SaverFactory,
) -> None:
    one, other = make_saver(table_prefix="one_"), make_saver(table_prefix="other_")
    await use_everything(one)
    await other.asetup()
    assert [item async for item in other.alist(None)] == []
    await use_everything(other)
    await other.adelete_thread("1")
    assert await one.aget_tuple(on("1")) is not None


async def test_a_schema_keeps_the_tables_apart(
    make_saver: SaverFactory, backend: Backend, sql: Sql, other_place: str
) -> None:
    if backend.name == "sqlite":
        pytest.skip("SQLite's schemas are attached files: a saver has one")
    sql("CREATE TABLE sessions (token VARCHAR(40) PRIMARY KEY, visits INTEGER)")
    sql("INSERT INTO sessions VALUES ('abc', 3)")
    saver = make_saver(schema=other_place)
    await use_everything(saver)
    engine = backend.engine()
    assert table_names(engine) == {"sessions"}
    assert table_names(engine, other_place) == OUR_TABLES
    assert sql(f"SELECT id, build_status FROM {other_place}.sessions WHERE id = '1'") == [
        {"id": "1", "build_status": "building"}
    ]
    await saver.adelete_thread("1")
    assert sql(f"SELECT id FROM {other_place}.sessions WHERE id = '1'") == []
    assert sql("SELECT * FROM sessions") == [{"token": "abc", "visits": 3}]


async def test_a_schema_and_a_prefix_can_be_combined(
    make_saver: SaverFactory, backend: Backend, other_place: str
) -> None:
    await use_everything(make_saver(schema=other_place, table_prefix="both_"))
    names = table_names(backend.engine(), other_place)
    assert names == {f"both_{name}" for name in OUR_TABLES}


# -- the package alone -----------------------------------------------------------------------

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = {blocked!r}
sys.meta_path.insert(0, Blocker())
"""
OPTIONAL = {
    "greenlet", "alembic", "psycopg", "psycopg2", "asyncpg", "pymysql", "asyncmy", "aiosqlite",
    "MySQLdb", "typer", "rich",
}  # fmt: skip


def test_the_package_is_imported_and_works_with_its_core_dependencies_alone() -> None:
    program = (
        BLOCKER.replace("{blocked!r}", repr(OPTIONAL))
        + """
from langgraph.checkpoint.base import empty_checkpoint
from langgraph_session_saver import SessionSaver
with SessionSaver.from_conn_string(":memory:") as saver:
    config = {"configurable": {"thread_id": "1"}}
    saver.put(config, empty_checkpoint(), {}, {})
    assert saver.get_tuple(config) is not None
print("works", sorted(BLOCKED & {name.partition(".")[0] for name in sys.modules}))
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "works []\n", done.stdout + done.stderr
