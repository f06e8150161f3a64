"""`init_db`, `drop_db`, `reset_db`, and transactions and ORM sessions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, inspect, make_url, select, text

from langgraph_session_saver import (
    DatabaseUnavailableError,
    InvalidConfigError,
    NotConfirmedError,
    SchemaError,
    migrate,
)
from langgraph_session_saver.database import (
    check_connection,
    drop_db,
    get_db,
    init_db,
    reset_db,
    transaction,
)
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.schema.tables import build_tables
from tests.support.backends import Backend, Sql

OURS = {table.name for table in build_tables()}
SESSIONS = build_tables().sessions
on_sqlite = pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)


def name_of(backend: Backend) -> str:
    return Path(str(make_url(backend.url).database)).name


def table_names(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def fail_in_a_transaction(target: str | Engine) -> None:
    with transaction(target) as session:
        session.execute(insert(SESSIONS), {"id": "lost"})
        raise ZeroDivisionError


def test_a_database_is_created_reset_and_dropped_and_other_tables_stay(
    backend: Backend, sql: Sql
) -> None:
    engine = backend.engine()
    sql("CREATE TABLE cards (id INTEGER PRIMARY KEY)")
    sql("INSERT INTO cards VALUES (1)")
    for _ in range(2):
        init_db(engine)
    assert migrate.check(engine) == []
    with transaction(engine) as session:
        session.execute(insert(SESSIONS), {"id": "1"})
    init_db(engine)
    assert sql("SELECT id FROM sessions") == [{"id": "1"}]
    reset_db(engine, confirm=name_of(backend))
    assert sql("SELECT id FROM sessions") == []
    assert migrate.check(engine) == []
    drop_db(engine, confirm=name_of(backend))
    assert table_names(engine) == {"cards"}
    assert sql("SELECT id FROM cards") == [{"id": 1}]
    drop_db(engine, confirm=name_of(backend))


@pytest.mark.parametrize("destroy", [drop_db, reset_db])
def test_dropping_and_resetting_require_the_databases_name(
    backend: Backend, destroy: Callable[..., None], sql: Sql
) -> None:
    init_db(backend.url)
    sql("INSERT INTO sessions (id, created_at, updated_at) VALUES ('1', :at, :at)", at=utc_now())
    for wrong in ("", "yes", True):
        with pytest.raises(NotConfirmedError, match=f"pass confirm='{name_of(backend)}'"):
            destroy(backend.url, confirm=wrong)
    with pytest.raises(TypeError, match="confirm"):
        destroy(backend.url)
    assert sql("SELECT id FROM sessions") == [{"id": "1"}]


@on_sqlite
def test_tables_that_are_not_ours_or_that_others_refer_to_are_not_dropped(
    backend: Backend, sql: Sql
) -> None:
    sql("CREATE TABLE sessions (token TEXT PRIMARY KEY)")
    with pytest.raises(SchemaError, match="not ours"):
        drop_db(backend.url, confirm=name_of(backend))
    sql("DROP TABLE sessions")
    init_db(backend.url)
    sql("CREATE TABLE cards (session_id TEXT REFERENCES sessions (id))")
    with pytest.raises(SchemaError, match=r"'cards', which is not ours, refers to 'sessions'"):
        drop_db(backend.url, confirm=name_of(backend))
    assert table_names(backend.engine()) == OURS | {"cards"}


def test_a_transaction_is_committed_and_an_error_rolls_it_back(backend: Backend, sql: Sql) -> None:
    init_db(backend.url)
    for target in (backend.url, backend.engine()):
        with transaction(target) as session:
            session.execute(insert(SESSIONS), {"id": str(type(target))})
        with pytest.raises(ZeroDivisionError):
            fail_in_a_transaction(target)
    assert len(sql("SELECT id FROM sessions")) == 2
    assert sql("SELECT id FROM sessions WHERE id = 'lost'") == []


def test_an_orm_session_rolls_back_what_it_does_not_commit(backend: Backend, sql: Sql) -> None:
    init_db(backend.url)
    for target in (backend.url, backend.engine()):
        with get_db(target) as session:
            session.execute(insert(SESSIONS), {"id": "1"})
            assert session.scalars(select(SESSIONS.c.id)).all() == ["1"]
    assert sql("SELECT id FROM sessions") == []


def test_a_failed_connection_test_shows_no_password(backend: Backend) -> None:
    check_connection(backend.url)
    check_connection(backend.engine())
    if backend.name == "sqlite":
        return
    url = make_url(backend.url).set(port=1, password="secret")
    with pytest.raises(DatabaseUnavailableError, match="cannot be reached") as caught:
        check_connection(url)
    assert "secret" not in str(caught.value)


@on_sqlite
async def test_an_async_target_is_refused_with_advice(backend: Backend) -> None:
    with pytest.raises(InvalidConfigError, match="is async: use a sync driver"):
        check_connection(backend.async_url)
    with pytest.raises(InvalidConfigError, match="use SessionSaver and its a… methods"):
        check_connection(backend.async_engine())  # type: ignore[arg-type]


def test_the_default_database_is_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGGRAPH_SESSION_SAVER_URL", f"sqlite:///{tmp_path}/made/here.db")
    init_db()
    with get_db() as session:
        assert session.execute(text("SELECT count(*) FROM sessions")).scalar() == 0
    drop_db(confirm="here.db")
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700
