"""PostgreSQL's row-level security as a second wall, with the policies that the document shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from langgraph_session_saver import SessionSaver, StoragePermissionError
from tests.support.backends import Backend
from tests.support.readme import file_block
from tests.support.rows import chain, config, fails, listed, put, run

pytestmark = [
    pytest.mark.parametrize("backend_name", ["postgresql"], indirect=True),
    pytest.mark.empty_database,
]
DOCUMENTED: dict[str, Any] = {}
exec(file_block("tenants.py").body, DOCUMENTED)
OWNER: ContextVar[str] = DOCUMENTED["owner"]
set_owner_at_checkout: Callable[[Engine], None] = DOCUMENTED["set_owner_at_checkout"]


@pytest.fixture
def app_url(backend: Backend) -> Iterator[str]:
    """The URL of a role that does not own the tables, and to which the policies apply."""
    url = make_url(backend.url)
    role = f"app_of_{url.database}"
    policies = file_block("policies.sql").body.replace("TO app;", f'TO "{role}";')
    policies = policies.replace("FROM app;", f'FROM "{role}";')
    with SessionSaver(backend.engine()) as saver:
        saver.setup()
    owners = create_engine(url, isolation_level="AUTOCOMMIT")
    with owners.connect() as conn:
        conn.exec_driver_sql(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'of the app'")
        conn.exec_driver_sql(policies.replace("%", "%%"))
        yield url.set(username=role, password="of the app").render_as_string(hide_password=False)
        conn.exec_driver_sql(f'DROP OWNED BY "{role}"')
        conn.exec_driver_sql(f'DROP ROLE "{role}"')
    owners.dispose()


@contextmanager
def owned_by(owner_id: str) -> Iterator[None]:
    token = OWNER.set(owner_id)
    yield
    OWNER.reset(token)


@pytest.fixture
def app(backend: Backend, app_url: str) -> Iterator[SessionSaver]:
    engine = backend.log.add(create_engine(app_url))
    set_owner_at_checkout(engine)
    with SessionSaver(engine, auto_setup=False) as saver:
        yield saver


ANSWER = {"messages": [("ai", "Hello")], "html": "<h1>", "title": "Bakery"}


async def test_graphs_of_two_owners_run_behind_the_policies(app: SessionSaver) -> None:
    for owner in ("ada", "eve"):
        with owned_by(owner):
            graph = chain(app.for_owner(owner), ANSWER, {"note": 1})
            await run(graph, {"messages": [("user", "Hi")]}, config(owner))
            await run(graph, {"messages": [("user", "Hi again")]}, config(owner))
    with owned_by("ada"):
        assert [thread.thread_id for thread in app.threads.list()] == ["ada"]
        assert len(app.sessions.messages("ada")) == 4


async def test_graphs_run_behind_the_policies_over_an_async_engine(
    backend: Backend, app_url: str
) -> None:
    engine = backend.log.add_async(create_async_engine(app_url))
    set_owner_at_checkout(engine.sync_engine)
    saver = SessionSaver(engine, auto_setup=False)
    with owned_by("ada"):
        await run(chain(saver.for_owner("ada"), ANSWER), {}, config("t"))
        assert len(await listed(saver, config("t"))) == 3
    with owned_by("eve"):
        assert await listed(saver, config("t")) == []


async def test_what_the_saver_is_not_told_the_database_keeps_apart(app: SessionSaver) -> None:
    """The calls name no owner: only the policies stand between."""
    with owned_by("ada"):
        await put(app.for_owner("ada"), 1, ANSWER, config("t"))
    for owner in ("eve", ""):
        with owned_by(owner):
            assert app.get_tuple(config("t")) is None
            assert list(app.list(None)) == []
            assert list(app.threads.list()) == []
            assert list(app.sessions.list()) == []
            assert list(app.sessions.messages("t")) == []
            assert not app.threads.delete("t")
            assert not app.sessions.delete("t")
            await fails(put(app, 2, {"note": 2}, config("t")), StoragePermissionError)
            joining = config("own", session_id="t", owner_id=owner or "eve")
            await fails(put(app, 2, {"note": 2}, joining), StoragePermissionError)
    with owned_by("ada"):
        assert len(await listed(app, config("t"))) == 1


def test_plain_sql_sees_the_owners_rows_only(app: SessionSaver, app_url: str) -> None:
    engine = create_engine(app_url)
    set_owner_at_checkout(engine)
    tables = ("sessions", "session_threads", "session_checkpoints", "session_blobs", "messages")
    with owned_by("ada"):
        chain(app.for_owner("ada"), ANSWER).invoke({}, config("t"))

    def counted() -> list[int]:
        with engine.connect() as conn:
            return [conn.scalar(text(f"SELECT count(*) FROM {name}")) or 0 for name in tables]

    with owned_by("ada"):
        assert all(counted())
    with owned_by("eve"):
        assert not any(counted())
    assert not any(counted())
    engine.dispose()
