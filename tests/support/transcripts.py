"""What a session's rows say of its messages, beside what the graph's state says."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.types import StateSnapshot

from langgraph_session_saver import MessageRecord, SessionSaver
from tests.support.paging import all_records

ROLES = {"human": "user", "ai": "assistant"}


async def assert_rows_show(saver: SessionSaver, state: StateSnapshot) -> None:
    """Assert that the `messages` rows are the messages of a thread's latest state, in its order.

    Args:
        saver: One with `a…` methods on every face, as `make_saver` gives.
        state: What `get_state` gives; the thread is its session's only one.
    """
    found = await all_records(saver.sessions.amessages, session_id=session_of(state))
    messages = state.values.get("messages", [])
    shown = map(shown_by, found)
    said = (said_by(message, index) for index, message in enumerate(messages))
    different = [pair for pair in zip_longest(shown, said) if pair[0] != pair[1]]
    assert not different, f"rows and messages that differ: {different}"


async def assert_usage_shows(saver: SessionSaver, states: Iterable[StateSnapshot]) -> None:
    """Assert one `token_usage` row for each answer of a model that was ever among the messages.

    Args:
        saver: As for `assert_rows_show`.
        states: What `get_state_history` gives; the thread is its session's only one.
    """
    states = list(states)
    paid = {
        message.id: (message.name or "unknown", message.usage_metadata["input_tokens"])
        for state in states
        for message in state.values.get("messages", [])
        if isinstance(message, AIMessage) and message.usage_metadata
    }
    found = await all_records(saver.sessions.atoken_usage, session_id=session_of(states[0]))
    shown = [(row.agent_type, row.input_tokens) for row in found]
    assert sorted(shown) == sorted(paid.values()), f"paid for: {paid}, rows: {shown}"


def session_of(state: StateSnapshot) -> str:
    session_id: str = state.config["configurable"]["thread_id"]
    return session_id


def shown_by(record: MessageRecord) -> dict[str, Any]:
    """What a row shows of its message."""
    return {
        "id": record.message_id,
        "role": record.role,
        "name": record.name,
        "text": record.content,
        "calls": record.tool_calls,
        "answers": record.tool_call_id,
    }


def said_by(message: BaseMessage, index: int) -> dict[str, Any]:
    """What the row of a message has to show."""
    calls = [
        {name: call[name] for name in ("name", "args", "id", "error") if name in call}
        for kind in ("tool_calls", "invalid_tool_calls")
        for call in getattr(message, kind, [])
    ]
    return {
        "id": message.id or f"#{index}",
        "role": ROLES.get(message.type, message.type),
        "name": message.name,
        "text": text_of(message),
        "calls": calls or None,
        "answers": getattr(message, "tool_call_id", None),
    }


def text_of(message: BaseMessage) -> str:
    """A message's text, with references in place of what is not text."""
    if isinstance(message.content, str):
        return message.content
    return "".join(map(_text_of_block, message.content_blocks))


def _text_of_block(block: Any) -> str:
    if block["type"] == "text":
        return str(block["text"])
    if "url" in block:
        return f"[{block['type']}: {block['url']}]"
    if "base64" in block:
        size = len(base64.b64decode(block["base64"]))
        return f"[{block['type']}: {block['mime_type']}, {size:,} bytes]"
    return ""
