"""Which PostgreSQL statements are prepared: pgbouncer drops them between transactions."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from sqlalchemy import Engine, text

from langgraph_session_saver import SessionSaver
from tests.support.backends import Backend

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
