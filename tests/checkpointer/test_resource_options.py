"""The options `retry_for` and `cache_bytes`."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from langgraph_session_saver import DatabaseUnavailableError, InvalidConfigError, SessionSaver
from tests.reliability.test_failures import need_control, put, values_of
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.rows import chain, config, run
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE
SERVERS = pytest.mark.parametrize("backend_name", ["postgresql", "mariadb"], indirect=True)


@SERVERS
@pytest.mark.parametrize("seconds", [0, 0.2])
async def test_a_failure_is_retried_for_the_given_time_and_logged_once(
    make_saver: SaverFactory,
    backend: Backend,
    caplog: pytest.LogCaptureFixture,
    seconds: float,
) -> None:
    server = need_control(backend)
    saver = make_saver(retry_for=seconds)
    await put(saver, "1", html="one")
    server.stop()
    caplog.set_level(logging.WARNING, "langgraph_session_saver")

    with pytest.raises(DatabaseUnavailableError):
        await values_of(saver, "1")

    logged = [one.getMessage() for one in caplog.records if one.name == "langgraph_session_saver"]
    assert len(logged) == (1 if seconds else 0)
    assert all(f"retrying for up to {seconds} seconds" in line for line in logged)
    server.start()
    assert await values_of(saver, "1") == {"html": "one"}


@pytest.mark.parametrize("limit", [0, 4_096])
async def test_a_graph_runs_alike_with_little_memory(
    make_saver: SaverFactory, sql: Sql, limit: int
) -> None:
    updates: list[Any] = [{"note": "x" * 2_000 + str(n), "messages": [("ai", "hi")]} for n in "abc"]
    graph = chain(make_saver(cache_bytes=limit), *updates)

    state = await run(graph, {"messages": [("human", "hello")]})

    found = await chain(make_saver(), {"note": 1}).aget_state(config())
    assert found.values == state
    assert len(sql("SELECT id FROM messages")) == 4


@pytest.mark.parametrize(
    ("option", "value"),
    [("retry_for", -1), ("retry_for", float("inf")), ("retry_for", "30"), ("retry_for", True),
     ("cache_bytes", -1), ("cache_bytes", 1.5), ("cache_bytes", None)],
)  # fmt: skip
def test_a_limit_that_is_none_is_refused(option: str, value: Any) -> None:
    with pytest.raises(InvalidConfigError, match=f"{option} is"):
        SessionSaver.from_conn_string(":memory:", **{option: value})
