"""NUL and lone surrogates in state, rows and metadata."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import HumanMessage

from langgraph_session_saver import SessionSaver
from tests.projection.samples import graph_state, pages, spent
from tests.support.backends import EACH_ONCE, Sql
from tests.support.rows import State, chain, config, fails, from_json, one, put, run, transcript

BACKENDS_AND_FACES = EACH_ONCE


async def test_nul_is_kept_in_the_state_and_replaced_in_rows(saver: SessionSaver, sql: Sql) -> None:
    odd = "a\x00b"
    values = {
        "note": {odd: odd},
        "title": odd,
        "html": {"html": odd, "description": odd},
        "messages": [HumanMessage(odd, id=odd), spent(odd, 1, 2, id="u")],
        "build_status": {"status": "failed", "error": odd},
        "routing": {"product_type": odd},
        "model_usage": {"writer": odd},
    }
    graph = chain(saver, values)

    await run(graph, {})

    state = (await graph.aget_state(config())).values
    assert (state["note"], state["title"]) == ({odd: odd}, odd)
    clean = "a\ufffdb"
    row = one(sql, "sessions")
    assert (row["title"], row["product_type"], row["model_writer"]) == (clean,) * 3
    assert from_json(row["build_artifacts"]) == {"error": clean}
    assert graph_state(sql)["note"] == {clean: clean}
    assert pages(sql) == [(0, clean, clean)]
    assert transcript(sql)[0] == ("user", clean)
    assert one(sql, "token_usage")["agent_type"] == clean


async def test_lone_surrogates_are_replaced_in_rows(saver: SessionSaver, sql: Sql) -> None:
    odd = "a\ud800b"
    await saver.asetup()
    values = {"note": 1, "title": odd, "html": odd, "messages": [HumanMessage(odd, id="m")]}

    await put(saver, 1, values)

    clean = "a\ufffdb"
    assert one(sql, "sessions")["title"] == clean
    assert pages(sql) == [(0, clean, None)]
    assert transcript(sql) == [("user", clean)]


async def test_lone_surrogates_in_the_state_read_back_as_the_serde_writes_them(
    saver: SessionSaver, sql: Sql
) -> None:
    graph = chain(saver, {"note": "a\ud800b"})

    await run(graph, {})

    kept = saver.serde.loads_typed(saver.serde.dumps_typed("a\ud800b"))
    assert (await graph.aget_state(config())).values["note"] == kept
    assert graph_state(sql)["note"] == "a\ufffdb"


async def test_nul_and_lone_surrogates_are_stripped_from_metadata(saver: SessionSaver) -> None:
    where: Any = {**config(), "metadata": {"user": "a\x00b\ud800c"}}

    await run(chain(saver, {"note": 1}), {}, where)

    found = await saver.aget_tuple(config())
    assert found is not None
    assert dict(found.metadata)["user"] == "abc"


async def test_an_error_message_with_unstorable_text_is_stored(
    saver: SessionSaver, sql: Sql
) -> None:
    def odd(_state: State) -> dict[str, Any]:
        raise ValueError("a\x00b\ud800c")

    await fails(run(chain(saver, odd), {}), ValueError)

    assert one(sql, "session_errors")["message"] == "a\ufffdb\ufffdc"
