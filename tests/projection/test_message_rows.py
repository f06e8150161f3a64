"""`messages` rows: what a list of messages becomes, and how edits and removals show."""

from __future__ import annotations

import operator
from datetime import UTC, datetime
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from sqlalchemy import select

from langgraph_session_saver import MessageRows, SessionSaver
from langgraph_session_saver.projection.content import content_of, text_of
from langgraph_session_saver.schema.tables import build_tables
from tests.projection.samples import spent, talk
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.rows import chain, config, counts, from_json, put, run, transcript
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


async def test_every_message_becomes_a_row(saver: SessionSaver, sql: Sql) -> None:
    said = [
        SystemMessage("be brief", id="s"),
        HumanMessage("hello", id="h"),
        AIMessage("hi 👋", id="a"),
        ToolMessage("42", tool_call_id="x", id="t"),
        ChatMessage(content="well", role="critic", id="c"),
    ]

    await run(chain(saver, {"messages": said}), {})

    assert transcript(sql) == [
        ("system", "be brief"),
        ("user", "hello"),
        ("assistant", "hi 👋"),
        ("tool", "42"),
        ("critic", "well"),
    ]
    ids = sql("SELECT message_id FROM messages ORDER BY position")
    assert [row["message_id"] for row in ids] == ["s", "h", "a", "t", "c"]


async def test_rows_show_who_speaks_and_which_tools_are_called(
    saver: SessionSaver, sql: Sql
) -> None:
    call = {"name": "look_up", "args": {"q": "tea", "n": 2.5}, "id": "c1", "type": "tool_call"}
    bad = {"name": "look_up", "args": "{q", "id": "c2", "error": "no JSON"}
    said = [
        AIMessage("", tool_calls=[call], invalid_tool_calls=[bad], name="agent", id="a"),
        ToolMessage("green", tool_call_id="c1", name="look_up", id="t"),
    ]

    await run(chain(saver, {"messages": said}), {})

    asks, answers = sql("SELECT name, tool_calls, tool_call_id FROM messages ORDER BY position")
    assert from_json(asks.pop("tool_calls")) == [
        {"name": "look_up", "args": {"q": "tea", "n": 2.5}, "id": "c1"},
        {"name": "look_up", "args": "{q", "id": "c2", "error": "no JSON"},
    ]
    assert asks == {"name": "agent", "tool_call_id": None}
    assert answers == {"name": "look_up", "tool_calls": None, "tool_call_id": "c1"}


async def test_many_tool_calls_at_once_have_their_rows(saver: SessionSaver, sql: Sql) -> None:
    calls = [{"name": "f", "args": {"n": n}, "id": f"c{n}"} for n in range(12)]
    said = [AIMessage("", tool_calls=[call], id=call["id"]) for call in calls]

    await run(chain(saver, {"messages": said}), {})

    found = (await saver.sessions.amessages("t")).items
    assert [one.tool_calls for one in found] == [[call] for call in calls]


@pytest.mark.parametrize("count", [1, 12], ids=["one message", "many at once"])
async def test_tool_calls_are_json_and_null_where_nothing_is_called(
    saver: SessionSaver, sql: Sql, count: int
) -> None:
    calls = [{"name": "f", "args": {"n": n}, "id": f"c{n}"} for n in range(count)]
    said = [AIMessage("", tool_calls=[call], id=call["id"]) for call in calls]

    await run(chain(saver, {"messages": [HumanMessage("go", id="h"), *said]}), {})

    asked, *rows = await saver.sessions.amessages("t")
    assert [row.tool_calls for row in (asked, *rows)] == [None, *([call] for call in calls)]
    null = sql("SELECT message_id FROM messages WHERE tool_calls IS NULL")
    assert [row["message_id"] for row in null] == ["h"]


async def test_only_mapped_messages_become_rows_where_roles_are_given(
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


@pytest.mark.parametrize(
    ("block", "shown"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
            "[image: https://a/b.png]",
        ),
        ({"type": "image_url", "image_url": "https://a/b.png"}, "[image: https://a/b.png]"),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}},
            "[image: image/png, 5 bytes]",
        ),
        ({"type": "image", "url": "https://a/b.png"}, "[image: https://a/b.png]"),
        (
            {"type": "image", "base64": "aGVsbG8=", "mime_type": "image/png"},
            "[image: image/png, 5 bytes]",
        ),
        (
            {"type": "image", "source": {"media_type": "image/gif", "data": "aGk="}},
            "[image: image/gif, 2 bytes]",
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
            "[audio: wav, 2 bytes]",
        ),
        ({"type": "file", "file": {"file_id": "file-7"}}, "[file: file-7]"),
        ({"type": "media", "file_uri": "gs://b/f.pdf"}, "[media: gs://b/f.pdf]"),
        ({"type": "weather"}, "[weather]"),
        ({"type": "thinking", "thinking": "hm"}, ""),
        ({"type": "tool_use", "name": "f", "input": {}, "id": "x"}, ""),
    ],
    ids=repr,
)
def test_content_is_text_and_a_reference_where_it_is_not(block: Any, shown: str) -> None:
    said = {"role": "user", "content": [{"type": "text", "text": "one "}, block, " two"]}

    assert content_of(said) == f"one {shown} two"
    assert text_of(said) == "one  two"


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


async def test_a_channel_without_messages_is_recorded_once_in_a_thread(
    make_saver: SaverFactory, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(TypedDict, total=False):
        messages: Any

    await run(chain(make_saver(), {"messages": 17}, {"messages": 18}, state=Odd), {})
    await run(chain(make_saver(), {"messages": 19}, state=Odd), {})
    await run(chain(make_saver(), {"messages": 20}, state=Odd), {}, config("other"))

    found = sql("SELECT message FROM session_errors ORDER BY id")
    assert ["holds 17" in row["message"] for row in found] == [True, False]
    assert len(caplog.records) == 2


async def test_two_messages_with_one_id_have_two_rows(make_saver: SaverFactory, sql: Sql) -> None:
    class Joined(TypedDict, total=False):
        messages: Annotated[list[Any], operator.add]

    twice = [AIMessage("one", id="a"), AIMessage("two", id="a")]
    more = [HumanMessage("more", id="h"), AIMessage("three", id="a")]
    graph = chain(make_saver(), {"messages": twice}, {"messages": more}, state=Joined)

    await run(graph, {})

    assert [content for _, content in transcript(sql)] == ["one", "two", "more", "three"]


async def test_two_calls_with_one_id_are_both_shown(saver: SessionSaver, sql: Sql) -> None:
    calls: list[Any] = [{"name": name, "args": {}, "id": "c"} for name in ("f", "g")]
    said = [
        AIMessage("", tool_calls=calls, id="a"),
        ToolMessage("F", tool_call_id="c", id="t1"),
        ToolMessage("G", tool_call_id="c", id="t2"),
    ]

    await run(chain(saver, {"messages": said}), {})

    rows = sql("SELECT content, tool_calls, tool_call_id FROM messages ORDER BY position")
    assert from_json(rows[0]["tool_calls"]) == calls
    assert [(row["content"], row["tool_call_id"]) for row in rows[1:]] == [("F", "c"), ("G", "c")]


async def test_ten_thousand_messages_in_one_step_have_rows(saver: SessionSaver, sql: Sql) -> None:
    said = [AIMessage(str(n), id=str(n)) for n in range(10_000)]

    await run(chain(saver, {"messages": said}), {})

    assert [int(content) for _, content in transcript(sql)] == list(range(10_000))


async def test_a_message_of_ten_megabytes_has_its_row(saver: SessionSaver, sql: Sql) -> None:
    text = "tea " * 2_500_000

    await run(chain(saver, {"messages": [AIMessage(text, id="a")]}), {})

    assert transcript(sql) == [("assistant", text)]
