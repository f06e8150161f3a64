"""The history of the schema, forward and back, from every database that was there before."""

from __future__ import annotations

import pytest
from sqlalchemy import inspect

from langgraph_session_saver import SessionSaver, migrate
from langgraph_session_saver.tables import build_tables
from tests.support.backends import Backend, Sql, run_script
from tests.support.baselines import BASELINES, Baseline, make_baseline, read
from tests.support.shapes import Shape, shape_of
from tests.support.workloads import finish

TABLES = build_tables()
REVISIONS = ["0001", "0002", "0003", "0004"]
_DECLARED: dict[str, Shape] = {}


@pytest.fixture
def declared(backend: Backend) -> Shape:
    """The declared tables, as this backend describes them."""
    if backend.name not in _DECLARED:
        engine = backend.engine()
        TABLES.metadata.create_all(engine)
        _DECLARED[backend.name] = shape_of(engine)
        TABLES.metadata.drop_all(engine)
    return _DECLARED[backend.name]


# -- up and down -----------------------------------------------------------------------------


def test_the_migrated_schema_is_the_declared_one_and_every_way_back_is_the_way_there(
    backend: Backend, declared: Shape
) -> None:
    engine = backend.engine()
    after: dict[str, Shape] = {}
    for revision in REVISIONS:
        migrate.upgrade(engine, revision)
        assert migrate.current(engine) == revision
        after[revision] = shape_of(engine)
    assert after["0004"] == declared
    for revision in reversed(REVISIONS[:-1]):
        migrate.downgrade(engine, revision)
        assert shape_of(engine) == after[revision], revision
    migrate.downgrade(engine, "base")
    assert shape_of(engine).keys() == {TABLES.version.name}
    migrate.upgrade(engine)
    assert shape_of(engine) == declared


# -- adoption --------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_database_of_any_age_is_taken_on_with_all_its_rows(
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


def test_a_database_that_was_taken_on_goes_back_with_all_its_rows(
    backend: Backend, sql: Sql
) -> None:
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


def test_what_the_application_added_to_its_tables_stays(backend: Backend, sql: Sql) -> None:
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


def test_the_script_does_what_the_upgrade_and_the_downgrade_do(
    backend: Backend, declared: Shape
) -> None:
    engine, prefix = backend.engine(), "chat_"
    run_script(backend, migrate.sql(backend.name, table_prefix=prefix))
    version = f"{prefix}{TABLES.version.name}"
    made = shape_of(engine, prefix=prefix)
    del made[TABLES.version.name]  # Alembic names its key
    assert made == {name: it for name, it in declared.items() if name != TABLES.version.name}
    assert migrate.current(engine, table_prefix=prefix) == "0004"
    assert migrate.check(engine, table_prefix=prefix) == []
    run_script(backend, migrate.sql(backend.name, "0004", "base", table_prefix=prefix))
    assert inspect(engine).get_table_names() == [version]
