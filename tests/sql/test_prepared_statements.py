"""PostgreSQL statements: which are prepared, and that psycopg need not parse them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from psycopg import _queries
from sqlalchemy import URL, Engine, create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from langgraph_session_saver import SessionSaver
from tests.support.backends import Backend
from tests.support.graphs import line_of, says
from tests.support.workloads import on

ONE_CONNECTION = {"pool_size": 1, "max_overflow": 0}


def prepared_by_steps(saver: SessionSaver, engine: Engine) -> int:
    """Save and read ten times, on the one connection of an engine; count what it has prepared."""
    config: Any = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}
    for _ in range(10):
        config = saver.put(config, empty_checkpoint(), {}, {})
        saver.put_writes(config, [("answer", 1)], "task")
        saver.get_tuple(config)
    with engine.connect() as conn:
        return int(conn.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one())


@pytest.mark.parametrize("backend_name", ["postgresql"], indirect=True)
@pytest.mark.parametrize(("threshold", "prepares"), [(None, False), (0, True)])
def test_an_engine_of_the_application_decides_whether_statements_are_prepared(
    backend: Backend, threshold: int | None, *, prepares: bool
) -> None:
    engine = backend.engine(**ONE_CONNECTION, connect_args={"prepare_threshold": threshold})
    saver = SessionSaver(engine)
    assert (prepared_by_steps(saver, engine) > 0) is prepares


# -- parsed by psycopg -----------------------------------------------------------------------------


def on_raw_cursors(url: URL) -> SessionSaver:
    """A saver over an engine that uses psycopg's raw cursors, as the documents advise."""
    is_async = url.get_dialect().is_async
    make: Any = create_async_engine if is_async else create_engine
    cursor = psycopg.AsyncRawCursor if is_async else psycopg.RawCursor
    return SessionSaver(
        make(url, paramstyle="numeric_dollar", connect_args={"cursor_factory": cursor})
    )


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
