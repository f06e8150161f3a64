"""Migrations: up and down, from every earlier version and from an application's tables."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.checkpoint.base import empty_checkpoint
from sqlalchemy import create_engine, inspect, make_url

from langgraph_session_saver import (
    DatabaseUnavailableError,
    InvalidConfigError,
    NotConfirmedError,
    SchemaError,
    SessionSaver,
    StoragePermissionError,
    migrate,
)
from langgraph_session_saver.schema import setup as schema
from langgraph_session_saver.schema.setup import upgrade_command
from langgraph_session_saver.schema.tables import SCHEMA_VERSION, build_tables
from tests.support.backends import EACH_ONCE, Backend, Sql, run_script
from tests.support.baselines import BASELINES, START, Baseline, make_baseline, models, read
from tests.support.rows import chain
from tests.support.savers import SaverFactory
from tests.support.shapes import Shape, shape_of
from tests.support.workloads import finish, on
from tests.support.zygote import Zygote

pytestmark = pytest.mark.empty_database
BACKENDS_AND_FACES = EACH_ONCE
WORKLOADS = "tests.support.workloads"
TABLES = build_tables()
REVISIONS = ["0001", "0002", "0003", "0004", "0005", "0006"]
_DECLARED: dict[str, Shape] = {}


@pytest.fixture
def declared(backend: Backend) -> Shape:
    """The declared tables as this backend reports them."""
    if backend.name not in _DECLARED:
        engine = backend.engine()
        TABLES.metadata.create_all(engine)
        _DECLARED[backend.name] = shape_of(engine)
        TABLES.metadata.drop_all(engine)
    return _DECLARED[backend.name]


# -- up and down -----------------------------------------------------------------------------


def test_the_migrated_schema_is_the_declared_one_and_downgrades_reverse_upgrades(
    backend: Backend, declared: Shape
) -> None:
    engine = backend.engine()
    after: dict[str, Shape] = {}
    for revision in REVISIONS:
        migrate.upgrade(engine, revision)
        assert migrate.current(engine) == revision
        after[revision] = shape_of(engine)
    assert after["0006"] == declared
    for revision in reversed(REVISIONS[:-1]):
        migrate.downgrade(engine, revision)
        assert shape_of(engine) == after[revision], revision
    migrate.downgrade(engine, "base")
    assert shape_of(engine).keys() == {TABLES.version.name}
    migrate.upgrade(engine)
    assert shape_of(engine) == declared


def test_deltas_survive_every_migration_of_their_table(backend: Backend, sql: Sql) -> None:
    engine, values = backend.engine(), [f"{'a long text ' * 50}{number}" for number in range(3)]
    at = on("t")
    for number, value in enumerate(values):
        with SessionSaver(engine) as saver:
            saver.get_tuple(at)
            made = empty_checkpoint()
            made["channel_values"] = {"text": value}
            made["channel_versions"] = {"text": saver.get_next_version(None, None)}
            at = saver.put(at, made, {"step": number}, made["channel_versions"])
        migrate.downgrade(engine, "0004")
        migrate.upgrade(engine)
    assert len(sql("SELECT blob_key FROM session_blobs WHERE base_key IS NOT NULL")) == 2
    with SessionSaver(engine) as saver:
        listed = [found.checkpoint["channel_values"]["text"] for found in saver.list(on("t"))]
    assert listed == values[::-1]


def test_messages_of_an_earlier_revision_get_positions_and_what_they_lacked(
    backend: Backend, sql: Sql
) -> None:
    engine = backend.engine()
    call = {"name": "look_up", "args": {"q": "tea"}, "id": "c"}
    said: list[Any] = [
        ("human", "Which tea?"),
        AIMessage("", tool_calls=[call], id="a"),
        ToolMessage("green", tool_call_id="c", id="t"),
    ]
    with SessionSaver(engine) as saver:
        graph = chain(saver, {"messages": said})
        graph.invoke({}, on("t"))
    with pytest.raises(NotConfirmedError, match="rows of messages"):
        migrate.downgrade(engine, "0005")
    migrate.downgrade(engine, "0005", yes=True)
    sql("DELETE FROM messages WHERE role = 'tool'")  # of which 0005 had no rows
    order = "SELECT content FROM messages ORDER BY {}"
    before = sql(order.format("id"))

    migrate.upgrade(engine)

    assert sql(order.format("position")) == before
    with SessionSaver(engine) as saver:
        chain(saver, {"messages": [("ai", "Green.")]}).invoke({}, on("t"))
        asked, calls, found, answered = saver.sessions.messages("t").items
    assert (asked.content, found.content, answered.content) == ("Which tea?", "green", "Green.")
    assert (calls.tool_calls, found.tool_call_id) == ([call], "c")


# -- adoption --------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_database_of_any_earlier_version_is_adopted_with_all_its_rows(
    backend: Backend, declared: Shape, baseline: Baseline
) -> None:
    engine = backend.engine()
    rows = make_baseline(engine, baseline)
    with SessionSaver(engine) as saver:
        saver.setup()
    assert shape_of(engine) == declared
    for name, expected in rows.items():
        assert read(engine, TABLES.metadata.tables[name], expected[0]) == expected
    with SessionSaver(engine) as saver:
        finish(saver, expected[0]["session_id"])


def test_an_adopted_database_is_downgraded_with_all_its_rows(backend: Backend, sql: Sql) -> None:
    engine = backend.engine()
    rows = make_baseline(engine, "001+002")
    migrate.upgrade(engine)
    migrate.downgrade(engine, "0002")
    newest = "SELECT created_at, product_type FROM sessions ORDER BY updated_at DESC LIMIT 1"
    [session] = sql(newest)
    assert session["product_type"] == "card"
    assert (
        str(session["created_at"])
        == "2025-03-01 12:30:15.123456"[: len(str(session["created_at"]))]
    )
    migrate.upgrade(engine)
    for name, expected in rows.items():
        assert read(engine, TABLES.metadata.tables[name], expected[0]) == expected


def test_columns_and_indexes_of_the_application_stay(backend: Backend, sql: Sql) -> None:
    engine = backend.engine()
    make_baseline(engine, "001")
    sql("ALTER TABLE sessions ADD COLUMN mood VARCHAR(10)")
    sql("UPDATE sessions SET mood = 'merry'")
    sql("CREATE INDEX own_index ON sessions (mood)")
    if backend.name == "sqlite":
        sql("CREATE VIEW merry AS SELECT id FROM sessions WHERE mood = 'merry'")
    migrate.upgrade(engine)
    assert sql("SELECT DISTINCT mood FROM sessions") == [{"mood": "merry"}]
    assert "own_index" in {index["name"] for index in inspect(engine).get_indexes("sessions")}
    assert migrate.check(engine) == []
    migrate.downgrade(engine, "0001")
    assert sql("SELECT DISTINCT mood FROM sessions") == [{"mood": "merry"}]


# -- scripts ---------------------------------------------------------------------------------


def test_the_sql_script_does_the_same_as_upgrade_and_downgrade(
    backend: Backend, declared: Shape
) -> None:
    engine, prefix = backend.engine(), "chat_"
    run_script(backend, migrate.sql(backend.name, table_prefix=prefix))
    made = shape_of(engine, prefix=prefix)
    del made[TABLES.version.name]  # Alembic names the primary key
    assert made == {name: it for name, it in declared.items() if name != TABLES.version.name}
    assert migrate.current(engine, table_prefix=prefix) == "0006"
    assert migrate.check(engine, table_prefix=prefix) == []
    run_script(backend, migrate.sql(backend.name, "0006", "base", table_prefix=prefix))
    # Alembic drops the version table at the end, or keeps it (since 1.20).
    assert set(inspect(engine).get_table_names()) <= {f"{prefix}{TABLES.version.name}"}


# -- transactions and faces --------------------------------------------------------------------


def test_an_upgrade_within_a_transaction_is_rolled_back_with_it(backend: Backend) -> None:
    if backend.name == "mariadb":
        pytest.skip("every change of a table commits")
    engine = backend.engine()
    rows = make_baseline(engine, "001")
    before = shape_of(engine)
    with engine.connect() as conn, conn.begin() as undone:
        migrate.upgrade(conn)
        assert migrate.current(conn) == "0006"
        undone.rollback()
    assert shape_of(engine) == before
    with engine.begin() as conn:
        migrate.upgrade(conn)
    assert migrate.check(engine) == []
    assert len(read(engine, TABLES.messages, ["id"])) == len(rows["messages"])


async def test_setup_adopts_a_database_over_every_kind_of_engine(
    backend: Backend, make_saver: SaverFactory, sql: Sql
) -> None:
    make_baseline(backend.engine(), "001+002+000")
    saver = make_saver()
    await saver.asetup()
    await saver.aput(on("new"), empty_checkpoint(), {}, {})
    assert migrate.check(backend.engine()) == []
    assert sql("SELECT count(*) AS n FROM sessions") == [{"n": 401}]


async def test_an_async_engine_runs_migrations_on_its_connections(backend: Backend) -> None:
    engine = backend.async_engine()
    async with engine.connect() as conn:
        await conn.run_sync(migrate.upgrade)
    async with engine.connect() as conn:
        assert await conn.run_sync(migrate.current) == migrate.head()
        assert await conn.run_sync(migrate.check) == []
    with pytest.raises(InvalidConfigError, match=r"await conn\.run_sync\(upgrade\)"):
        migrate.upgrade(engine)  # type: ignore[arg-type]


def test_eight_processes_that_adopt_one_database_at_once_end_with_one_schema(
    backend: Backend, zygote: Zygote, declared: Shape, sql: Sql
) -> None:
    rows = make_baseline(backend.engine(), "001+002")
    arguments = {"moment": time.time() + 0.5, "url": backend.url, "options": {}}
    children = [zygote.spawn(f"{WORKLOADS}:set_up_at", arguments) for _ in range(8)]
    codes = [child.wait() for child in children]
    assert codes == [0] * 8, "\n".join(child.text for child in children)
    assert shape_of(backend.engine()) == declared
    assert sql(f"SELECT version_num FROM {TABLES.version.name}") == [{"version_num": "0006"}]
    assert len(read(backend.engine(), TABLES.messages, ["id"])) == len(rows["messages"])


def test_tables_outside_the_schema_and_prefix_are_left_alone(backend: Backend, sql: Sql) -> None:
    if backend.name == "sqlite":
        pytest.skip("SQLite's schemas are attached files: a saver has one")
    place: dict[str, Any] = {"schema": f"other_{time.time_ns()}", "table_prefix": "chat_"}
    sql(f"CREATE SCHEMA {place['schema']}")
    engine = backend.engine()
    make_baseline(engine, "001")
    before = shape_of(engine)
    migrate.upgrade(engine, **place)
    assert migrate.current(engine, **place) == "0006"
    assert migrate.check(engine, **place) == []
    assert shape_of(engine) == before
    migrate.downgrade(engine, "base", **place)
    assert inspect(engine).get_table_names(place["schema"]) == [f"chat_{TABLES.version.name}"]
    sql(f"DROP SCHEMA {place['schema']}{' CASCADE' if backend.name == 'postgresql' else ''}")


# -- what is refused ---------------------------------------------------------------------------

on_sqlite = pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)


@on_sqlite
def test_rows_that_do_not_fit_are_named_before_anything_is_changed(
    backend: Backend, sql: Sql
) -> None:
    engine = backend.engine()
    make_baseline(engine, "create_all")
    sql("UPDATE versions SET version = 0 WHERE session_id = 'session 7 é'")
    sql("UPDATE messages SET session_id = 'nobody' WHERE id < 4")
    sql("UPDATE token_usage SET timestamp = 'yesterday' WHERE id = 1")
    sql("UPDATE sessions SET title = :title WHERE id = 'session 8 é'", title="t" * 513)
    before = shape_of(engine)
    with pytest.raises(SchemaError) as caught:
        migrate.upgrade(engine)
    said = str(caught.value)
    assert "versions: 1 version numbers that a session has twice" in said
    assert "0 of 'session 7 é'" in said
    assert "messages: 3 rows whose session does not exist" in said
    assert "token_usage: 1 rows with a timestamp that is not a date and time" in said
    assert "sessions: 1 rows with a title of over 512 characters" in said
    assert "Nothing was changed" in said
    assert shape_of(engine) == before


@on_sqlite
@pytest.mark.parametrize(
    ("table", "differs"),
    [
        ("sessions (id INTEGER PRIMARY KEY, title TEXT)", "id is INTEGER, expected text"),
        ("sessions (token TEXT PRIMARY KEY)", "it lacks created_at, current_version, id, title"),
        (
            (
                "sessions (id TEXT PRIMARY KEY, title TEXT, created_at TEXT, updated_at DATETIME, "
                "current_version INTEGER, tenant TEXT NOT NULL)"
            ),
            "created_at is TEXT, expected a date and time; tenant, which is not ours, is NOT NULL",
        ),
        (
            (
                "messages (id INTEGER PRIMARY KEY, session_id TEXT, role TEXT, content TEXT, "
                "timestamp DATETIME)"
            ),
            "session_id has no foreign key to sessions.id with ON DELETE CASCADE",
        ),
    ],
)
def test_an_unrelated_table_is_refused_with_its_differences(
    backend: Backend, sql: Sql, table: str, differs: str
) -> None:
    sql(f"CREATE TABLE {table}")
    engine = backend.engine()
    before = shape_of(engine)
    for call in (migrate.upgrade, lambda engine: SessionSaver(engine).setup()):
        with pytest.raises(SchemaError, match=re.escape(differs)):
            call(engine)
    assert shape_of(engine) == before


@on_sqlite
def test_a_downgrade_that_would_lose_rows_names_them_and_needs_consent(
    backend: Backend, sql: Sql
) -> None:
    engine = backend.engine()
    with SessionSaver(engine) as saver:
        finish(saver, "1")
    threads, writes = sql("SELECT count(*) AS n FROM session_threads"), "session_writes"
    assert threads == [{"n": 1}]
    with pytest.raises(NotConfirmedError, match="1 rows of session_threads") as caught:
        migrate.downgrade(engine, "0003")
    assert f"rows of {writes}" in str(caught.value)
    assert "yes=True" in str(caught.value)
    assert migrate.check(engine) == []
    migrate.downgrade(engine, "0003", yes=True)
    with pytest.raises(NotConfirmedError, match=r"1 rows of sessions \(graph_state, build_status"):
        migrate.downgrade(engine, "0002")
    migrate.downgrade(engine, "0001", yes=True)
    assert sql("SELECT id FROM sessions") == [{"id": "1"}]
    with pytest.raises(NotConfirmedError, match="1 rows of sessions"):
        migrate.downgrade(engine, "base")


@on_sqlite
def test_unknown_revisions_are_refused(backend: Backend, sql: Sql) -> None:
    engine = backend.engine()
    known = "use one of base, 0001, 0002, 0003, 0004, 0005, 0006 or head"
    for call in (
        lambda: migrate.upgrade(engine, "0099"),
        lambda: migrate.downgrade(engine, "0099"),
        lambda: migrate.sql("sqlite", "0099"),
    ):
        with pytest.raises(SchemaError, match=known):
            call()
    migrate.upgrade(engine)
    sql(f"UPDATE {TABLES.version.name} SET version_num = '0099'")
    for change in (migrate.upgrade, lambda engine: migrate.downgrade(engine, "0001")):
        with pytest.raises(SchemaError, match=r"0099.*upgrade langgraph-session-saver"):
            change(engine)
    assert migrate.current(engine) == "0099"


def test_without_auto_setup_the_error_names_the_command_without_a_password() -> None:
    url = make_url("postgresql+psycopg://ada:secret@db.example:5433/app")
    command = upgrade_command(url, build_tables("chat", "x_"))
    assert command == (
        "langgraph-session-saver db upgrade --url postgresql://ada@db.example:5433/app "
        "--schema chat --table-prefix x_"
    )


@on_sqlite
def test_a_read_only_database_can_be_read_and_is_refused_by_upgrade(backend: Backend) -> None:
    make_baseline(backend.engine(), "001")
    read_only = create_engine(f"sqlite:///file:{backend.path}?mode=ro&uri=true")
    assert migrate.current(read_only) is None
    assert "the table session_threads is missing" in migrate.check(read_only)
    with pytest.raises(StoragePermissionError, match="readonly"):
        migrate.upgrade(read_only)
    read_only.dispose()


@on_sqlite
def test_a_locked_database_is_reported(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langgraph_session_saver.sql.dialects.base.SETUP_WAIT", 0.1)
    holder = backend.engine().connect()
    holder.exec_driver_sql("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailableError, match="database is locked"):
        migrate.upgrade(backend.engine(connect_args={"timeout": 0.05}))
    holder.close()


@on_sqlite
def test_tables_are_not_rebuilt_in_a_transaction_that_enforces_foreign_keys(
    backend: Backend,
) -> None:
    engine = backend.engine()
    make_baseline(engine, "001")
    with engine.connect() as conn:
        conn.exec_driver_sql("PRAGMA foreign_keys=ON")
        conn.commit()
        with conn.begin(), pytest.raises(SchemaError, match="PRAGMA foreign_keys=OFF"):
            migrate.upgrade(conn)
    assert len(read(engine, models().tables["messages"], ["id"])) == 800


# -- small things ------------------------------------------------------------------------------


@on_sqlite
def test_old_datetimes_are_converted_and_missing_ones_are_set(backend: Backend, sql: Sql) -> None:
    engine = backend.engine()
    make_baseline(engine, "001")
    sql("INSERT INTO sessions (id, title) VALUES ('by sql', 'as the documents do')")
    sql("UPDATE messages SET timestamp = NULL WHERE id = 1")
    migrate.upgrade(engine)
    [row] = sql("SELECT created_at, build_status FROM sessions WHERE id = 'by sql'")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.000000", row["created_at"])
    assert row["build_status"] == "pending"
    [message] = sql("SELECT timestamp FROM messages WHERE id = 1")
    assert datetime.fromisoformat(message["timestamp"]).date() >= START.date()


@on_sqlite
def test_ids_of_deleted_rows_are_not_reused(backend: Backend, sql: Sql) -> None:
    engine = backend.engine()
    make_baseline(engine, "001")
    sql("DELETE FROM messages WHERE id > 700")
    migrate.upgrade(engine)
    sql("INSERT INTO messages (session_id, role, content, timestamp) "
        "SELECT id, 'user', 'new', updated_at FROM sessions LIMIT 1")  # fmt: skip
    assert sql("SELECT max(id) AS id FROM messages") == [{"id": 801}]


@pytest.mark.parametrize("backend_name", ["postgresql"], indirect=True)
def test_datetimes_with_a_time_zone_stay_the_same_instants(backend: Backend, sql: Sql) -> None:
    engine = backend.engine()
    rows = make_baseline(engine, "001")
    sql("SET timezone = 'UTC'; ALTER TABLE sessions ALTER updated_at TYPE TIMESTAMPTZ")
    sql(f"ALTER DATABASE {make_url(backend.url).database} SET timezone = 'Asia/Tokyo'")
    migrate.upgrade(engine)
    for name in ("sessions", "messages"):
        expected = rows[name]
        assert read(engine, TABLES.metadata.tables[name], expected[0]) == expected


@on_sqlite
def test_check_names_every_difference(backend: Backend, sql: Sql) -> None:
    engine = backend.engine()
    migrate.upgrade(engine)
    sql("DROP INDEX idx_messages_session")
    sql("DROP TABLE session_writes")
    sql("ALTER TABLE sessions DROP COLUMN scope_type")
    assert sorted(migrate.check(engine)) == [
        "messages lacks the index idx_messages_session",
        "sessions lacks the column scope_type",
        "the table session_writes is missing",
    ]


def test_the_revisions_match_those_known_without_alembic() -> None:
    history = migrate.history()
    assert tuple(item.revision for item in history) == schema.REVISIONS
    assert [item.down_revision for item in history] == [None, *schema.REVISIONS[:-1]]
    assert all(item.summary.endswith((".", "token_usage.", "database.")) for item in history)
    assert migrate.head() == schema.REVISIONS[-1] == SCHEMA_VERSION


# -- broken off ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend_name", ["mariadb"], indirect=True)
@pytest.mark.parametrize("statement", [3, 20, 30, 33])
def test_the_next_upgrade_finishes_one_that_was_killed(
    backend: Backend, zygote: Zygote, declared: Shape, statement: int
) -> None:
    engine = backend.engine()
    rows = make_baseline(engine, "001+002")
    child = zygote.spawn(
        f"{WORKLOADS}:set_up_and_die", {"url": backend.url, "statement": statement}
    )
    assert child.wait() == -9, child.text
    SessionSaver(engine).setup()
    assert shape_of(engine) == declared
    for name, expected in rows.items():
        assert read(engine, TABLES.metadata.tables[name], expected[0]) == expected


@pytest.mark.parametrize("backend_name", ["mariadb"], indirect=True)
def test_foreign_keys_of_other_tables_are_refused_where_they_prevent_a_rebuild(
    backend: Backend, sql: Sql
) -> None:
    engine = backend.engine()
    make_baseline(engine, "001")
    sql("CREATE TABLE cards (session_id VARCHAR(36) REFERENCES sessions (id))")
    before = shape_of(engine)
    with pytest.raises(SchemaError, match="table 'cards', which is not ours"):
        migrate.upgrade(engine)
    assert shape_of(engine) == before
