"""`messages` rows: what a list of messages becomes, and how edits and removals show."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypedDict

from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from sqlalchemy import select

from langgraph_session_saver import MessageRows, SessionSaver
from langgraph_session_saver.schema.tables import build_tables
from tests.projection.samples import spent, talk
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.rows import chain, counts, one, put, run, transcript
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


async def test_messages_become_rows_of_users_and_assistants(saver: SessionSaver, sql: Sql) -> None:
    said = [
        SystemMessage("be brief", id="s"),
        HumanMessage("hello", id="h"),
        AIMessage("hi 👋", id="a"),
        ToolMessage("42", tool_call_id="x", id="t"),
    ]

    await run(chain(saver, {"messages": said}), {})

    assert transcript(sql) == [("user", "hello"), ("assistant", "hi 👋")]
    assert [row["message_id"] for row in sql("SELECT message_id FROM messages ORDER BY id")] == [
        "h",
        "a",
    ]


async def test_system_and_tool_messages_become_rows_when_they_are_mapped(
    make_saver: SaverFactory, sql: Sql
) -> None:
    rule = MessageRows(roles={"system": "system", "tool": "tool", "human": "user"})
    said = [
        SystemMessage("be brief", id="s"),
        HumanMessage("hello", id="h"),
        AIMessage("hi", id="a"),
        ToolMessage("42", tool_call_id="x", id="t"),
    ]

    await run(chain(make_saver(projections={"messages": rule}), {"messages": said}), {})

    assert transcript(sql) == [("system", "be brief"), ("user", "hello"), ("tool", "42")]


async def test_an_edited_message_keeps_its_row(saver: SessionSaver, sql: Sql) -> None:
    graph = chain(saver, {"messages": talk("a", "b")}, {"messages": [HumanMessage("A!", id="m0")]})

    await run(graph, {})

    assert transcript(sql) == [("user", "A!"), ("assistant", "b")]


async def test_a_removed_message_is_marked(saver: SessionSaver, backend: Backend, sql: Sql) -> None:
    before = datetime.now(UTC)

    await run(chain(saver, {"messages": talk("a", "b")}, {"messages": [RemoveMessage("m0")]}), {})

    assert transcript(sql) == [("assistant", "b")]
    assert transcript(sql, removed=True) == [("user", "a")]
    t = build_tables().messages
    with backend.engine().connect() as conn:
        removed_at = conn.execute(select(t.c.removed_at).where(t.c.message_id == "m0")).scalar_one()
    assert before <= removed_at <= datetime.now(UTC)


async def test_a_message_that_comes_back_is_no_longer_marked(saver: SessionSaver, sql: Sql) -> None:
    graph = chain(
        saver,
        {"messages": talk("a")},
        {"messages": [RemoveMessage("m0")]},
        {"messages": talk("a again")},
    )

    await run(graph, {})

    assert transcript(sql) == [("user", "a again")]
    assert transcript(sql, removed=True) == []


async def test_messages_without_ids_are_identified_by_position(
    make_saver: SaverFactory, sql: Sql
) -> None:
    class Plain(TypedDict, total=False):
        messages: list[Any]

    first = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    graph = chain(make_saver(), {"messages": first}, {"messages": first[:1]}, state=Plain)

    await run(graph, {"messages": []})

    assert transcript(sql) == [("user", "a")]
    assert transcript(sql, removed=True) == [("assistant", "b")]


async def test_content_blocks_become_their_text(saver: SessionSaver, sql: Sql) -> None:
    blocks: list[Any] = [
        {"type": "text", "text": "one "},
        {"type": "image_url", "image_url": {"url": "data:,"}},
        "two",
    ]

    await run(chain(saver, {"messages": [HumanMessage(blocks, id="h")]}), {})

    assert transcript(sql) == [("user", "one two")]


async def test_saving_a_step_twice_adds_no_row(saver: SessionSaver, sql: Sql) -> None:
    values = {"messages": [*talk("a"), spent("writer", 3, 4, id="u")], "html": "<p>"}
    await put(saver, 1, values)
    before = counts(sql)

    await put(saver, 1, values)

    assert counts(sql) == before
    assert before["messages"] == 2


async def test_a_second_process_that_continues_adds_no_duplicate_row(
    make_saver: SaverFactory, sql: Sql
) -> None:
    said = [*talk("a"), spent("writer", 3, 4, id="u")]
    await run(chain(make_saver(), {"messages": said, "html": "<p>"}), {})

    await run(chain(make_saver(), {"messages": [HumanMessage("more", id="n")]}), {"note": 1})

    assert transcript(sql) == [("user", "a"), ("assistant", "hi"), ("user", "more")]
    assert (counts(sql)["token_usage"], counts(sql)["versions"]) == (1, 1)


async def test_a_value_that_is_no_message_list_is_recorded_as_an_error(
    make_saver: SaverFactory, sql: Sql
) -> None:
    class Odd(TypedDict, total=False):
        messages: Any

    await run(chain(make_saver(), {"messages": 17}, state=Odd), {})

    assert "channel 'messages' holds 17" in one(sql, "session_errors")["message"]
