"""`saver.sessions`: invalid input is refused before anything is written."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from langgraph_session_saver import InvalidConfigError, SessionSaver


@pytest.fixture
def saver() -> Iterator[SessionSaver]:
    with SessionSaver.from_conn_string(":memory:") as saver:
        saver.sessions.create("s")
        saver.sessions.add_version("s", "<p>")
        yield saver


def cursor(*values: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


BY_TIME = "sessions:updated_at,id:desc"
CALL = {"agent_type": "a", "model": "m", "input_tokens": 1, "output_tokens": 1}


@pytest.mark.parametrize(
    ("method", "arguments", "options", "words"),
    [
        ("create", ["a\x00b"], {}, "NUL"),
        ("create", ["\ud800"], {}, "surrogate"),
        ("create", [""], {}, "empty"),
        ("create", ["x" * 256], {}, "256 characters"),
        ("create", [b"x"], {}, "bytes"),
        ("create", [], {"colour": "red"}, "'colour'"),
        ("create", [], {"id": "x"}, "'id'"),
        ("create", [], {"title": "x" * 513}, "513 characters"),
        ("create", [], {"owner_id": "a\x00"}, "owner_id"),
        ("create", [], {"build_status": "done"}, "'done'"),
        ("get", ["\x00"], {}, "NUL"),
        ("get", [None], {}, "None"),
        ("update", ["s"], {"round_sequence": -1}, "-1"),
        ("update", ["s"], {"round_sequence": True}, "True"),
        ("update", ["s"], {"round_sequence": 2**31}, "2147483648"),
        ("update", ["s"], {"current_version": 3}, "'current_version'"),
        ("update", ["s"], {"status": "x" * 21}, "21 characters"),
        ("update", ["s"], {"scope_type": 5}, "int"),
        ("update", ["s"], {"aesthetic_scores": {"overall": 101}}, "0 to 100"),
        ("update", ["s"], {"aesthetic_scores": 8}, "aesthetic_scores"),
        ("update", ["s"], {"build_artifacts": [1]}, "build_artifacts"),
        ("update", ["s"], {"model_writer": "x" * 2049}, "2048"),
        ("list", [], {"limit": -1}, "-1"),
        ("list", [], {"limit": 0}, "limit"),
        ("list", [], {"limit": "5"}, "'5'"),
        ("list", [], {"limit": 2**70}, "limit"),
        ("list", [], {"order_by": "graph_state"}, "updated_at, created_at"),
        ("list", [], {"order_by": "id; DROP TABLE sessions"}, "order_by"),
        ("list", [], {"build_status": "done"}, "pending, building"),
        ("list", [], {"owner_id": "\x00"}, "NUL"),
        ("list", [], {"product_type": 5}, "int"),
        ("list", [], {"updated_since": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001
        ("list", [], {"updated_before": "yesterday"}, "time zone"),
        ("list", [], {"after": "not a cursor"}, "no cursor"),
        ("list", [], {"after": 5}, "no cursor"),
        ("list", [], {"after": cursor(BY_TIME, "x", "s")}, "no cursor"),
        ("list", [], {"after": cursor(BY_TIME, "2026-01-01T00:00:00", "s")}, "no cursor"),
        ("list", [], {"after": cursor(BY_TIME, "2026-01-01T00:00:00Z", "\x00")}, "no cursor"),
        ("list", [], {"after": cursor(BY_TIME, "2026-01-01T00:00:00Z", 5)}, "no cursor"),
        ("list", [], {"after": cursor(BY_TIME, "2026-01-01T00:00:00Z")}, "another listing"),
        ("list", [], {"after": cursor("messages:id:asc", 5)}, "another listing"),
        ("list", [], {"after": cursor([], 5)}, "another listing"),
        ("messages", ["s"], {"after": cursor("messages:position,id:asc", 1, 2**70)}, "no cursor"),
        ("messages", ["s"], {"after": cursor("messages:position,id:asc", 1, True)}, "no cursor"),
        ("messages", ["\x00"], {}, "NUL"),
        ("add_message", ["s", "robot", "hi"], {}, "'robot'"),
        ("add_message", ["s", "user", None], {}, "NoneType"),
        ("add_message", ["s", "user", "hi"], {"message_id": ""}, "empty"),
        ("add_version", ["s", b"<p>"], {}, "bytes"),
        ("version", ["s", -1], {}, "-1"),
        ("rollback", ["s", True], {}, "True"),
        ("rollback", ["s", 2**40], {}, "version"),
        ("pin", ["s", "0"], {}, "'0'"),
        ("add_token_usage", ["s"], {**CALL, "input_tokens": -1}, "input_tokens"),
        ("add_token_usage", ["s"], {**CALL, "output_tokens": 2**60}, "output_tokens"),
        ("add_token_usage", ["s"], {**CALL, "cost_usd": float("nan")}, "nan"),
        ("add_token_usage", ["s"], {**CALL, "cache_read_tokens": -1}, "cache_read_tokens"),
        ("add_token_usage", ["s"], {**CALL, "reasoning_tokens": 2**60}, "reasoning_tokens"),
        ("add_token_usage", ["s"], {**CALL, "cache_creation_tokens": "1"}, "'1'"),
        ("add_token_usage", ["s"], {**CALL, "cost_usd": "1"}, "'1'"),
        ("add_token_usage", ["s"], {**CALL, "agent_type": "x" * 256}, "256"),
        ("usage_summary", ["hour"], {}, "'hour'"),
        ("usage_summary", [], {"since": 5}, "since"),
        ("errors", ["\x00"], {}, "NUL"),
        ("errors", [], {"limit": None}, "None"),
        ("delete", ["\x00"], {}, "NUL"),
    ],
)
def test_invalid_input_is_refused_and_nothing_changes(
    saver: SessionSaver, method: str, arguments: list[Any], options: dict[str, Any], words: str
) -> None:
    before = saver.sessions.list()

    with pytest.raises(InvalidConfigError, match=words):
        getattr(saver.sessions, method)(*arguments, **options)

    assert saver.sessions.list() == before


def test_a_cursor_of_another_order_is_refused(saver: SessionSaver) -> None:
    saver.sessions.create("t")
    page = saver.sessions.list(limit=1)

    with pytest.raises(InvalidConfigError, match="another listing"):
        saver.sessions.list(after=page.next, descending=False)
    with pytest.raises(InvalidConfigError, match="another listing"):
        saver.sessions.list(after=page.next, order_by="title")


def test_ids_are_any_text_and_case_sensitive(saver: SessionSaver) -> None:
    names = ["A", "a", "á", "a ", "x" * 255, "🥐", "'; DROP TABLE sessions; --"]
    for name in names:
        saver.sessions.create(name)

    found = saver.sessions.list(order_by="id", descending=False, limit=3)
    rest = saver.sessions.list(order_by="id", descending=False, after=found.next)
    assert [s.id for s in (*found, *rest)] == sorted([*names, "s"], key=str.encode)


def test_a_summary_of_nothing_is_empty(saver: SessionSaver) -> None:
    assert saver.sessions.usage_summary() == ()
    assert saver.sessions.usage_summary("day", since=datetime(2026, 1, 1, tzinfo=UTC)) == ()
