"""Titles of sessions: the first human message, until one is set."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from langgraph_session_saver import MessageRows, SessionSaver
from tests.projection.samples import talk
from tests.support.backends import EACH_ONCE, Sql
from tests.support.rows import chain, config, one, put, run
from tests.support.savers import SaverFactory
from tests.support.statements import recorded_statements, sync_engine_of

BACKENDS_AND_FACES = EACH_ONCE

ASK = ("user", "A page for my bakery")


def said(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def title(sql: Sql) -> str:
    return str(one(sql, "sessions")["title"])


async def test_a_session_gets_its_first_human_message_as_its_title(
    saver: SessionSaver, sql: Sql
) -> None:
    graph = chain(saver, said(("ai", "Which colours?")))

    await run(graph, said(("system", "Be brief."), ASK))
    await run(graph, said(("user", "Blue.")))

    assert title(sql) == "A page for my bakery"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one\n\n two\t three", "one two three"),
        ("x" * 81, "x" * 79 + "…"),
        ("Café 🌍\x00", "Café 🌍\ufffd"),
        ([{"type": "image_url", "image_url": "u"}, {"type": "text", "text": "This"}], "This"),
        (" \n", "Untitled session"),
    ],
    ids=["lines", "long", "unstorable", "blocks", "blank"],
)
async def test_a_title_from_a_message_is_one_short_line(
    saver: SessionSaver, sql: Sql, text: Any, shown: str
) -> None:
    await run(chain(saver, {"note": 1}), said({"role": "user", "content": text}))

    assert title(sql) == shown


async def test_a_session_without_human_messages_has_no_title(saver: SessionSaver, sql: Sql) -> None:
    await run(chain(saver, said(("ai", "Hello."))), said(("system", "Be brief.")))

    assert title(sql) == "Untitled session"


async def test_a_session_that_the_application_made_without_a_title_gets_one(
    saver: SessionSaver, sql: Sql
) -> None:
    await saver.sessions.acreate("t")

    await run(chain(saver, {"note": 1}), said(ASK))

    assert title(sql) == "A page for my bakery"


async def test_a_title_that_was_set_stays(make_saver: SaverFactory, sql: Sql) -> None:
    saver = make_saver()
    await saver.sessions.acreate("t", title="Bakery")

    for by in (saver, make_saver()):
        await run(chain(by, {"note": 1}), said(ASK))
        assert title(sql) == "Bakery"

    await saver.sessions.aupdate("t", title="Ada's bakery")
    await run(chain(saver, {"note": 1}), said(("user", "Blue.")))
    assert title(sql) == "Ada's bakery"


async def test_a_title_of_the_graph_replaces_the_one_from_a_message(
    saver: SessionSaver, sql: Sql
) -> None:
    seen: list[str] = []

    def name_it(_state: Any) -> dict[str, Any]:
        seen.append(title(sql))
        return {"title": "Bakery", **said(("user", "Blue."))}

    await run(chain(saver, name_it, said(("user", "Large."))), said(ASK))

    assert (seen, title(sql)) == (["A page for my bakery"], "Bakery")


async def test_a_session_is_named_after_its_first_thread(saver: SessionSaver, sql: Sql) -> None:
    await run(chain(saver, {"note": 1}), said(ASK), config("one", session_id="s"))
    await run(chain(saver, {"note": 1}), said(("user", "Blue.")), config("two", session_id="s"))

    assert title(sql) == "A page for my bakery"


async def test_a_thread_that_moves_to_a_session_with_a_title_leaves_it_its_title(
    saver: SessionSaver, sql: Sql
) -> None:
    await saver.sessions.acreate("s", title="Bakery")
    await run(chain(saver, {"note": 1}), said(ASK))

    await run(chain(saver, {"note": 2}), {}, config(session_id="s"))

    assert title(sql) == "Bakery"


async def test_a_deleted_thread_leaves_no_message_as_a_title(saver: SessionSaver, sql: Sql) -> None:
    await saver.sessions.acreate("s")
    await saver.sessions.acreate("named", title="Bakery")
    for session in ("s", "named"):
        await run(chain(saver, {"note": 1}), said(ASK), config(session, session_id=session))
        await saver.adelete_thread(session)

    titles = {row["id"]: row["title"] for row in sql("SELECT id, title FROM sessions")}
    assert titles == {"s": "Untitled session", "named": "Bakery"}


LONG_URL = "https://img.example/" + "x" * 2_000


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image_url", "image_url": {"url": "https://img.example/[1].png"}},
         {"type": "text", "text": "A page like [this]"}],
        [{"type": "text", "text": "A page "}, {"type": "image", "url": LONG_URL},
         {"type": "file", "base64": "AAAA", "mime_type": "application/pdf"},
         {"type": "text", "text": "for my bakery"}],
        [{"type": "image", "url": LONG_URL}, {"type": "audio", "url": LONG_URL},
         {"type": "video"}, "A page"],
        "[image] of a page",
    ],
    ids=["an image", "an image within", "several", "only its text"],
)  # fmt: skip
async def test_the_title_of_a_message_with_an_image_goes_with_its_thread(
    saver: SessionSaver, sql: Sql, content: Any
) -> None:
    await saver.sessions.acreate("s")
    where = config("t", session_id="s")
    await put(saver, 1, said(HumanMessage(content, id="1")), where)
    assert title(sql).startswith(("A page", "[image] of a page"))

    await saver.adelete_thread("t")

    assert title(sql) == "Untitled session"


async def test_after_the_deletion_the_next_thread_gives_the_title(
    saver: SessionSaver, sql: Sql
) -> None:
    """Also with a step that brings no message, from a process that knows its thread."""
    first, second = (config(name, session_id="s") for name in ("first", "second"))
    await put(saver, 1, said(HumanMessage("Bread", id="1")), first)
    messages = said(HumanMessage("Cake", id="2"))
    where = await put(saver, 2, messages, second)
    await saver.adelete_thread("first")
    assert title(sql) == "Untitled session"

    await put(saver, 3, {**messages, "note": 3}, where)

    assert title(sql) == "Cake"


async def test_a_copy_of_a_thread_has_the_title_too(saver: SessionSaver, sql: Sql) -> None:
    await run(chain(saver, {"note": 1}), said(ASK))

    await saver.acopy_thread("t", "copy")

    (copied,) = sql("SELECT title FROM sessions WHERE id = 'copy'")
    assert copied["title"] == "A page for my bakery"


async def test_titles_from_messages_can_be_switched_off(make_saver: SaverFactory, sql: Sql) -> None:
    saver = make_saver(projections={"messages": MessageRows(title=False)})

    await run(chain(saver, {"note": 1}), said(ASK))

    assert title(sql) == "Untitled session"
    assert one(sql, "messages")["content"] == "A page for my bakery"


async def test_a_title_takes_no_statement_of_its_own(make_saver: SaverFactory) -> None:
    seen = []
    for name in ("with", "without"):
        saver = make_saver(projections={"messages": MessageRows(title=name == "with")})
        await saver.asetup()
        where = config(name)
        with recorded_statements(sync_engine_of(saver._runner.engine)) as statements:
            for count in (1, 2, 3):
                where = await put(saver, count, {"messages": talk("a", "b", "c")[:count]}, where)
        seen.append(statements)

    assert seen[0] == seen[1]
