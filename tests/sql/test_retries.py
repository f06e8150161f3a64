"""How long a call pauses before it tries again."""

from __future__ import annotations

from typing import Any

import psycopg
import pymysql
import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from tenacity import Future, RetryCallState, Retrying

from langgraph_session_saver.sql.runner import Runner

POSTGRESQL, MARIADB = "postgresql+psycopg://h/db", "mysql+pymysql://h/db"


@pytest.mark.parametrize(
    ("url", "error", "longest"),
    [
        (MARIADB, pymysql.OperationalError(1213, "Deadlock found"), 0.2),
        (MARIADB, pymysql.OperationalError(2013, "Lost connection"), 2.0),
        (POSTGRESQL, psycopg.errors.DeadlockDetected(), 0.2),
        (POSTGRESQL, psycopg.errors.SerializationFailure(), 0.2),
        (POSTGRESQL, psycopg.errors.CannotConnectNow(), 2.0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_call_pauses_shorter_after_a_conflict_than_in_an_outage(
    monkeypatch: pytest.MonkeyPatch, url: str, error: Exception, longest: float
) -> None:
    monkeypatch.setattr("random.uniform", lambda _low, high: high)
    policy = Runner(create_engine(url))._retry_policy()

    pauses = [policy["wait"](failed(error, attempt)) for attempt in range(1, 21)]

    assert pauses[:3] == [0.02, 0.04, 0.08]
    assert max(pauses) == longest


def failed(error: Exception, attempt: int) -> RetryCallState:
    """The state of a call that has failed so often."""
    state: Any = RetryCallState(Retrying(), None, (), {})
    state.attempt_number, state.outcome = attempt, Future(attempt)
    state.outcome.set_exception(OperationalError("SELECT 1", None, error))
    found: RetryCallState = state
    return found
