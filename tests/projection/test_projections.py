"""What steps project: real graphs run, and plain SQL finds the rows."""

from __future__ import annotations

import json
import logging
import operator
import types
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Overwrite, Send, interrupt
from pydantic import BaseModel
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError

from langgraph_session_saver import (
    BuildInfo,
    BuildStatus,
    GraphState,
    InvalidConfigError,
    MessageRows,
    ModelUsage,
    PageVersions,
    Projection,
    ProjectionError,
    RoutingMetadata,
    SessionColumns,
    SessionSaver,
    Step,
)
from langgraph_session_saver.projection.graph_state import GRAPH_STATE_BYTES
from langgraph_session_saver.schema.tables import build_tables
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.rows import (
    TABLES,
    Graph,
    State,
    chain,
    checkpoint_id,
    config,
    counts,
    fails,
    from_json,
    one,
    put,
    run,
    transcript,
)
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE

MARKS = {
    "visualHierarchy": 80,
    "colorHarmony": 70,
    "spacingConsistency": 90,
    "alignment": 85,
    "readability": 75,
    "mobileAdaptation": 60,
}
OLDER_MARKS = {"typography": 4, "contrast": 3, "layout": 5, "color": 4, "cta": 2}
SECRET = "swordfish-4711"
A_SECRET_KEY = b"0123456789abcdef"


def talk(*texts: str) -> list[AIMessage | HumanMessage]:
    """Messages with ids m0, m1 …, a human's and an assistant's in turn."""
    return [
        (AIMessage if n % 2 else HumanMessage)(content, id=f"m{n}")
        for n, content in enumerate(texts)
    ]


def spent(name: str | None, tokens_in: int, tokens_out: int, **fields: Any) -> AIMessage:
    """A model's message that says what it used."""
    usage: Any = {
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
    }
    about = {"model_name": "m-1"}
    return AIMessage("hi", name=name, usage_metadata=usage, response_metadata=about, **fields)


# -- columns ------------------------------------------------------------------------------------


async def test_a_build_status_is_in_sql_before_the_next_step_runs(
    saver: SessionSaver, sql: Sql
) -> None:
    seen: list[str] = []

    def look(_state: State) -> dict[str, Any]:
        seen.append(one(sql, "sessions")["build_status"])
        return {"build_status": "success"}

    await run(chain(saver, {"build_status": "building"}, look, look), {})

    assert seen == ["building", "success"]
    assert one(sql, "sessions")["build_status"] == "success"


async def test_a_build_status_may_be_an_enum(saver: SessionSaver, sql: Sql) -> None:
    await run(chain(saver, {"build_status": BuildStatus.FAILED}), {})

    assert one(sql, "sessions")["build_status"] == "failed"


async def test_a_build_info_fills_the_status_and_the_artefacts(
    saver: SessionSaver, sql: Sql
) -> None:
    started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    info = BuildInfo(
        status=BuildStatus.SUCCESS, pages=["index.html"], dist_path="/srv", started_at=started
    )

    await run(chain(saver, {"build_status": info}), {})

    row = one(sql, "sessions")
    assert row["build_status"] == "success"
    assert from_json(row["build_artifacts"]) == {
        "pages": ["index.html"],
        "dist_path": "/srv",
        "started_at": "2026-01-02T03:04:05Z",
    }


async def test_a_mapping_with_a_status_is_a_build_info(saver: SessionSaver, sql: Sql) -> None:
    await run(chain(saver, {"build_status": {"status": "failed", "error": "no disk"}}), {})

    row = one(sql, "sessions")
    assert (row["build_status"], from_json(row["build_artifacts"])) == (
        "failed",
        {"error": "no disk"},
    )


async def test_build_artifacts_may_be_a_mapping(saver: SessionSaver, sql: Sql) -> None:
    await run(chain(saver, {"build_artifacts": {"pages": ["ä.html"], "size": 3}}), {})

    assert from_json(one(sql, "sessions")["build_artifacts"]) == {"pages": ["ä.html"], "size": 3}


class Artifacts(BaseModel):
    pages: list[str]


async def test_build_artifacts_may_be_a_model(saver: SessionSaver, sql: Sql) -> None:
    await run(chain(saver, {"build_artifacts": Artifacts(pages=["a.html"])}), {})

    assert from_json(one(sql, "sessions")["build_artifacts"]) == {"pages": ["a.html"]}


async def test_aesthetic_scores_are_stored_with_their_suggestions(
    saver: SessionSaver, sql: Sql
) -> None:
    hint = {"dimension": "alignment", "severity": "warning", "message": "x", "autoFixable": True}
    scores = {"overall": 77, "dimensions": MARKS, "suggestions": [hint], "passThreshold": 70}

    await run(chain(saver, {"aesthetic_scores": scores}), {})

    assert from_json(one(sql, "sessions")["aesthetic_scores"]) == scores


async def test_aesthetic_scores_of_the_older_form_get_their_total(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(chain(saver, {"aesthetic_scores": {"dimensions": OLDER_MARKS}}), {})

    stored = from_json(one(sql, "sessions")["aesthetic_scores"])
    assert (stored["total"], stored["dimensions"]) == (18, OLDER_MARKS)


async def test_each_routing_channel_is_a_column(saver: SessionSaver, sql: Sql) -> None:
    wanted = {
        "product_type": "ecommerce",
        "complexity": "medium",
        "skill_id": "static-ecommerce-v1",
        "doc_tier": "standard",
        "style_reference_mode": "style_only",
    }

    await run(chain(saver, *({name: value} for name, value in wanted.items())), {})

    row = one(sql, "sessions")
    assert {name: row[name] for name in wanted} == wanted


@pytest.mark.parametrize("form", [dict, RoutingMetadata.model_validate], ids=["mapping", "model"])
async def test_a_routing_channel_fills_all_routing_columns(
    make_saver: SaverFactory, sql: Sql, form: Any
) -> None:
    routing = {"product_type": "card", "complexity": "simple", "skill_id": "s-1"}

    await run(chain(make_saver(), {"routing": form(routing)}), {})

    row = one(sql, "sessions")
    assert {name: row[name] for name in routing} == routing
    assert (row["doc_tier"], row["style_reference_mode"]) == (None, None)


@pytest.mark.parametrize("form", [dict, ModelUsage.model_validate], ids=["mapping", "model"])
async def test_model_usage_fills_a_column_for_each_role(
    make_saver: SaverFactory, sql: Sql, form: Any
) -> None:
    url = "https://models.example/" + "x" * 2000
    usage = {"classifier": "c-1", "writer": url, "style_refiner": "r-1"}

    await run(chain(make_saver(), {"model_usage": form(usage)}), {})

    row = one(sql, "sessions")
    assert {role: row[f"model_{role}"] for role in usage} == usage
    assert (row["model_expander"], row["model_validator"]) == (None, None)


async def test_a_title_replaces_the_default_one(saver: SessionSaver, sql: Sql) -> None:
    before: list[str] = []

    def name_it(_state: State) -> dict[str, Any]:
        before.append(one(sql, "sessions")["title"])
        return {"title": "Café 🌍"}

    await run(chain(saver, name_it), {})

    assert before == ["Untitled session"]
    assert one(sql, "sessions")["title"] == "Café 🌍"


async def test_a_channel_that_a_step_does_not_change_keeps_its_column(
    saver: SessionSaver, sql: Sql
) -> None:
    graph = chain(saver, {"product_type": "card"}, {"note": 1})

    await run(graph, {})
    await run(chain(saver, {"note": 2}), {"other": 1})

    assert one(sql, "sessions")["product_type"] == "card"


async def test_an_explicit_none_clears_columns(saver: SessionSaver, sql: Sql) -> None:
    full = {
        "product_type": "card",
        "model_usage": {"writer": "w"},
        "build_artifacts": {"a": 1},
        "aesthetic_scores": {"overall": 1, "dimensions": MARKS},
        "build_status": "failed",
        "title": "T",
    }

    await run(chain(saver, full, dict.fromkeys(full)), {})

    row = one(sql, "sessions")
    empty = ("product_type", "model_writer", "build_artifacts", "aesthetic_scores")
    assert [row[name] for name in empty] == [None] * 4
    assert (row["build_status"], row["title"]) == ("pending", "Untitled session")


async def test_columns_name_the_checkpoint_they_come_from(saver: SessionSaver, sql: Sql) -> None:
    graph = chain(saver, {"build_status": "building"}, {"note": 1})

    await run(graph, {})

    state = await graph.aget_state(config())
    assert one(sql, "sessions")["checkpoint_id"] == state.config["configurable"]["checkpoint_id"]


async def test_an_overwrite_is_read_as_its_value(make_saver: SaverFactory, sql: Sql) -> None:
    class Parts(TypedDict, total=False):
        items: Annotated[list[Any], operator.add]

    rule = SessionColumns("items", lambda items: {"skill_id": "-".join(items)}, reduced=True)
    saver = make_saver(projections={"items": rule})

    await run(chain(saver, {"items": ["a"]}, {"items": Overwrite(["b", "c"])}, state=Parts), {})

    assert one(sql, "sessions")["skill_id"] == "b-c"


# -- messages -----------------------------------------------------------------------------------


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


async def test_messages_without_ids_are_known_by_their_place(
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


async def test_a_step_that_is_saved_twice_adds_no_row(saver: SessionSaver, sql: Sql) -> None:
    values = {"messages": [*talk("a"), spent("writer", 3, 4, id="u")], "html": "<p>"}
    await put(saver, 1, values)
    before = counts(sql)

    await put(saver, 1, values)

    assert counts(sql) == before
    assert before["messages"] == 2


async def test_a_second_process_that_goes_on_repeats_no_row(
    make_saver: SaverFactory, sql: Sql
) -> None:
    said = [*talk("a"), spent("writer", 3, 4, id="u")]
    await run(chain(make_saver(), {"messages": said, "html": "<p>"}), {})

    await run(chain(make_saver(), {"messages": [HumanMessage("more", id="n")]}), {"note": 1})

    assert transcript(sql) == [("user", "a"), ("assistant", "hi"), ("user", "more")]
    assert (counts(sql)["token_usage"], counts(sql)["versions"]) == (1, 1)


async def test_something_that_is_no_message_list_is_recorded(
    make_saver: SaverFactory, sql: Sql
) -> None:
    class Odd(TypedDict, total=False):
        messages: Any

    await run(chain(make_saver(), {"messages": 17}, state=Odd), {})

    assert "channel 'messages' holds 17" in one(sql, "session_errors")["message"]


# -- tokens -------------------------------------------------------------------------------------


async def test_usage_metadata_becomes_token_usage(saver: SessionSaver, sql: Sql) -> None:
    said = [spent("writer", 100, 20, id="a"), spent(None, 1, 2, id="b")]

    await run(chain(saver, {"messages": said}), {})

    rows = sql("SELECT * FROM token_usage ORDER BY id")
    named = ("agent_type", "model", "input_tokens", "output_tokens", "total_tokens", "cost_usd")
    assert [tuple(row[name] for name in named) for row in rows] == [
        ("writer", "m-1", 100, 20, 120, 0.0),
        ("unknown", "m-1", 1, 2, 3, 0.0),
    ]


async def test_pricing_sets_the_cost(make_saver: SaverFactory, sql: Sql) -> None:
    def price(model: str, tokens_in: int, tokens_out: int) -> float:
        assert model == "m-1"
        return tokens_in * 0.001 + tokens_out * 0.01

    await run(chain(make_saver(pricing=price), {"messages": [spent("w", 100, 20, id="a")]}), {})

    assert one(sql, "token_usage")["cost_usd"] == pytest.approx(0.3)


async def test_pricing_that_fails_costs_nothing_and_is_recorded(
    make_saver: SaverFactory, sql: Sql
) -> None:
    def price(model: str, tokens_in: int, tokens_out: int) -> float:
        raise LookupError(f"no price for {model}")

    await run(chain(make_saver(pricing=price), {"messages": [spent("w", 1, 2, id="a")]}), {})

    assert one(sql, "token_usage")["cost_usd"] == 0.0
    assert "no price for m-1" in one(sql, "session_errors")["message"]


async def test_usage_without_counts_is_recorded_and_the_step_saved(
    make_saver: SaverFactory, sql: Sql
) -> None:
    class Plain(TypedDict, total=False):
        messages: list[Any]

    odd = {"role": "assistant", "content": "hi", "usage_metadata": {"total_tokens": "three"}}
    graph = chain(make_saver(), {"messages": [odd]}, state=Plain)

    await run(graph, {})

    assert (await graph.aget_state(config())).values == {"messages": [odd]}
    assert transcript(sql) == [("assistant", "hi")]
    assert "usage" in one(sql, "session_errors")["message"]


# -- pages --------------------------------------------------------------------------------------


def pages(sql: Sql) -> list[tuple[int, str, str | None]]:
    rows = sql("SELECT version, html, description FROM versions ORDER BY version")
    return [(row["version"], row["html"], row["description"]) for row in rows]


async def test_pages_are_numbered_from_zero(saver: SessionSaver, sql: Sql) -> None:
    second = {"html": "<p>2", "description": "bigger"}

    await run(chain(saver, {"html": "<p>1"}, {"html": second}, {"note": 1}), {})

    assert pages(sql) == [(0, "<p>1", None), (1, "<p>2", "bigger")]
    assert one(sql, "sessions")["current_version"] == 1


async def test_an_unchanged_page_makes_no_version(saver: SessionSaver, sql: Sql) -> None:
    await run(chain(saver, {"html": "<p>1"}, {"html": "<p>1"}), {})

    assert pages(sql) == [(0, "<p>1", None)]


async def test_no_page_makes_no_version(saver: SessionSaver, sql: Sql) -> None:
    await run(chain(saver, {"html": None}), {})

    assert pages(sql) == []
    assert counts(sql)["session_errors"] == 0


async def test_a_large_page_is_stored_whole(saver: SessionSaver, sql: Sql) -> None:
    page = "<p>ä🌍</p>" * 30_000

    await run(chain(saver, {"html": page}), {})

    assert pages(sql) == [(0, page, None)]


async def test_numbers_of_deleted_pages_are_not_taken_again_by_a_fork(
    saver: SessionSaver, sql: Sql
) -> None:
    graph = chain(saver, {"html": "<p>1"}, {"html": "<p>2"})
    await run(graph, {})
    older = [state async for state in graph.aget_state_history(config())][1]

    await graph.aupdate_state(older.config, {"html": "<p>3"}, as_node="step2")

    assert [version for version, _, _ in pages(sql)] == [0, 1, 2]
    assert one(sql, "sessions")["current_version"] == 2


# -- graph state --------------------------------------------------------------------------------


def graph_state(sql: Sql) -> Any:
    return from_json(one(sql, "sessions")["graph_state"])


@dataclass
class Point:
    x: int
    y: float


async def test_graph_state_is_the_latest_values_as_json(saver: SessionSaver, sql: Sql) -> None:
    values = {"note": {"a": [1, None, True]}, "other": Point(1, 2.5), "items": ["x"]}

    await run(chain(saver, {**values, "messages": talk("a"), "html": "<p>"}, {"note": 2}), {})

    assert graph_state(sql) == {"note": 2, "other": {"x": 1, "y": 2.5}, "items": ["x"]}


async def test_graph_state_leaves_out_what_is_excluded(make_saver: SaverFactory, sql: Sql) -> None:
    saver = make_saver(projections={"graph_state": GraphState(exclude=["note"])})

    await run(chain(saver, {"note": 1, "other": 2}), {})

    assert graph_state(sql) == {"other": 2}


async def test_graph_state_holds_only_what_is_included(make_saver: SaverFactory, sql: Sql) -> None:
    saver = make_saver(projections={"graph_state": GraphState(include=["note"])})

    await run(chain(saver, {"note": 1, "other": 2}), {})

    assert graph_state(sql) == {"note": 1}


async def test_a_large_value_is_a_reference_in_the_graph_state(
    saver: SessionSaver, sql: Sql
) -> None:
    graph = chain(saver, {"note": "x" * 5_000, "other": 1})

    await run(graph, {})

    found = await saver.aget_tuple(config())
    assert found is not None
    version = found.checkpoint["channel_versions"]["note"]
    assert graph_state(sql)["note"] == {"$ref": {"channel": "note", "version": version}}
    assert graph_state(sql)["other"] == 1


def _with_300_channels(namespace: dict[str, Any]) -> None:
    namespace["__annotations__"] = {f"channel{n:03}": Any for n in range(300)}


async def test_graph_state_never_takes_more_than_its_limit(
    make_saver: SaverFactory, sql: Sql
) -> None:
    many: Any = types.new_class("Many", (TypedDict,), {"total": False}, _with_300_channels)
    values = {f"channel{n:03}": "y" * (n * 6) for n in range(300)}

    await run(chain(make_saver(), values, state=many), {})

    state = graph_state(sql)
    assert len(json.dumps(state)) <= GRAPH_STATE_BYTES
    assert state["channel001"] == "y" * 6
    assert len(state) == 301 - state["$omitted"]


async def test_a_deeply_nested_value_is_saved(saver: SessionSaver, sql: Sql) -> None:
    deep: Any = 1
    for _ in range(60):
        deep = {"a": deep}
    graph = chain(saver, {"note": deep})

    await run(graph, {})

    assert (await graph.aget_state(config())).values["note"] == deep
    assert set(graph_state(sql)) == {"note"}


async def test_graph_state_is_written_only_when_it_changes(
    make_saver: SaverFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = make_saver(projections={"graph_state": GraphState(include=["note"])})
    written: list[bool] = []
    projector = saver._context.projector
    project = projector.project

    def watch(*args: Any, **options: Any) -> Any:
        changes = project(*args, **options)
        written.append("graph_state" in changes.columns)
        return changes

    monkeypatch.setattr(projector, "project", watch)
    await run(chain(saver, {"note": 1}, {"other": 1}, {"note": 2}), {})

    # The input, the start, and the three steps.
    assert written == [True, False, True, False, True]


# -- errors -------------------------------------------------------------------------------------


def explode(_state: Any) -> dict[str, Any]:
    raise ValueError("out of flour")


async def test_an_error_of_a_node_becomes_a_row(saver: SessionSaver, sql: Sql) -> None:
    graph = chain(saver, {"note": 1}, explode)

    await fails(run(graph, {}, config(session_id="s")), ValueError, "out of flour")

    row = one(sql, "session_errors")
    assert (row["kind"], row["node"], row["type"]) == ("error", "step2", "ValueError")
    assert (row["message"], row["session_id"], row["thread_id"]) == ("out of flour", "s", "t")
    assert "in explode" in row["stack"]
    assert row["checkpoint_id"] == one(sql, "session_threads")["checkpoint_id"]


async def test_an_error_sets_the_status_of_the_thread(saver: SessionSaver, sql: Sql) -> None:
    await fails(run(chain(saver, {"note": 1}, explode), {}), ValueError)

    row = one(sql, "session_threads")
    assert (row["status"], row["status_node"]) == ("error", "step2")


async def test_an_error_that_passes_through_a_subgraph_is_one_row(
    saver: SessionSaver, sql: Sql
) -> None:
    inner = chain(None, {"note": 1}, explode)
    outer: Any = StateGraph(State)
    outer.add_node("inner", inner)
    outer.add_edge(START, "inner")
    graph: Graph = outer.compile(checkpointer=saver)

    await fails(run(graph, {}), ValueError)

    row = one(sql, "session_errors")
    assert (row["node"], row["message"]) == ("inner/step2", "out of flour")
    assert one(sql, "session_threads")["status"] == "error"


async def test_the_error_of_a_send_task_names_its_node(saver: SessionSaver, sql: Sql) -> None:
    def bake(value: Any) -> dict[str, Any]:
        if value == "bread":
            raise ValueError("out of flour")
        return {"items": [value]}

    builder: Any = StateGraph(State)
    builder.add_node("plan", lambda _state: {})
    builder.add_node("bake", bake)
    builder.add_edge(START, "plan")
    fan = lambda _state: [Send("bake", "cake"), Send("bake", "bread")]  # noqa: E731
    builder.add_conditional_edges("plan", fan, ["bake"])
    graph: Graph = builder.compile(checkpointer=saver)

    await fails(run(graph, {}), ValueError)

    assert one(sql, "session_errors")["node"] == "bake"
    assert one(sql, "session_threads")["status_node"] == "bake"


async def test_an_error_that_is_raised_again_on_resume_is_one_row(
    saver: SessionSaver, sql: Sql
) -> None:
    graph = chain(saver, explode)
    await fails(run(graph, {}), ValueError)

    await fails(run(graph, None), ValueError)

    assert counts(sql)["session_errors"] == 1


async def test_errors_have_no_rows_where_they_are_switched_off(
    make_saver: SaverFactory, sql: Sql
) -> None:
    await fails(run(chain(make_saver(projections={"errors": None}), explode), {}), ValueError)

    assert counts(sql)["session_errors"] == 0
    assert one(sql, "session_threads")["status"] == "error"


# -- status -------------------------------------------------------------------------------------


def ask(_state: Any) -> dict[str, Any]:
    return {"note": interrupt("which colour?")}


async def test_a_thread_is_pending_while_it_runs_and_done_at_its_end(
    saver: SessionSaver, sql: Sql
) -> None:
    seen: list[tuple[str, str | None]] = []

    def look(_state: State) -> dict[str, Any]:
        row = one(sql, "session_threads")
        seen.append((row["status"], row["status_node"]))
        return {}

    await run(chain(saver, look, look), {})

    assert seen == [("pending", "step1"), ("pending", "step2")]
    row = one(sql, "session_threads")
    assert (row["status"], row["status_node"]) == ("done", None)


async def test_an_interrupt_sets_the_status_until_it_is_answered(
    saver: SessionSaver, sql: Sql
) -> None:
    graph = chain(saver, {"other": 1}, ask)
    await run(graph, {})
    row = one(sql, "session_threads")
    assert (row["status"], row["status_node"]) == ("interrupted", "step2")
    assert counts(sql)["session_errors"] == 0

    await run(graph, Command(resume="red"))

    assert one(sql, "session_threads")["status"] == "done"


async def test_an_interrupt_in_a_subgraph_sets_the_status(saver: SessionSaver, sql: Sql) -> None:
    outer: Any = StateGraph(State)
    outer.add_node("inner", chain(None, ask))
    outer.add_edge(START, "inner")
    graph: Graph = outer.compile(checkpointer=saver)

    await run(graph, {})

    row = one(sql, "session_threads")
    assert row["status"] == "interrupted"
    assert row["status_node"] in {"inner", "inner/step1"}


async def test_a_static_breakpoint_leaves_the_thread_pending(saver: SessionSaver, sql: Sql) -> None:
    graph = chain(saver, {"other": 1}, {"note": 1})

    await run(graph, {}, interrupt_before=["step2"])

    row = one(sql, "session_threads")
    assert (row["status"], row["status_node"]) == ("pending", "step2")


@pytest.mark.parametrize(
    ("channel", "status"), [("__error__", "error"), ("__interrupt__", "interrupted")]
)
async def test_a_late_put_never_clears_what_its_writes_have_set(
    make_saver: SaverFactory, sql: Sql, channel: str, status: str
) -> None:
    saver = make_saver()
    first = await put(saver, 1, {"note": 1})
    named = config(checkpoint_ns="", checkpoint_id=checkpoint_id(2))
    await saver.aput_writes(named, [(channel, ValueError("x"))], "task", "~__pregel_pull, node")

    await put(saver, 2, {"note": 2}, first)

    row = one(sql, "session_threads")
    assert (row["status"], row["status_node"]) == (status, "node")
    assert row["checkpoint_id"] == checkpoint_id(2)
    await put(saver, 3, {"note": 3}, named)
    assert one(sql, "session_threads")["status"] == "done"


async def test_writes_that_come_before_the_first_put_make_the_thread(
    saver: SessionSaver, sql: Sql
) -> None:
    named = config(checkpoint_ns="", checkpoint_id=checkpoint_id(1), session_id="s")

    await saver.aput_writes(named, [("__error__", ValueError("x"))], "task", "~__pregel_pull, n")

    assert one(sql, "session_threads")["status"] == "error"
    assert one(sql, "sessions")["id"] == "s"
    assert one(sql, "session_errors")["node"] == "n"


async def test_an_error_outweighs_an_interrupt_of_the_same_step(
    saver: SessionSaver, sql: Sql
) -> None:
    await put(saver, 1, {"note": 1})
    named = config(checkpoint_ns="", checkpoint_id=checkpoint_id(1))

    await saver.aput_writes(named, [("__error__", ValueError("x"))], "a", "~__pregel_pull, bad")
    await saver.aput_writes(named, [("__interrupt__", ["?"])], "b", "~__pregel_pull, asks")

    row = one(sql, "session_threads")
    assert (row["status"], row["status_node"]) == ("error", "bad")


async def test_an_error_of_an_older_step_leaves_the_status(saver: SessionSaver, sql: Sql) -> None:
    first = await put(saver, 1, {"note": 1})
    await put(saver, 2, {"note": 2}, first)

    await saver.aput_writes(first, [("__error__", ValueError("x"))], "a", "~__pregel_pull, bad")

    assert one(sql, "session_threads")["status"] == "done"
    assert counts(sql)["session_errors"] == 1


# -- choosing -----------------------------------------------------------------------------------


class Own(TypedDict, total=False):
    chat: Annotated[list[Any], operator.add]
    messages: Any
    phase: Any
    page: Any
    html: Any
    score: Any


async def test_built_in_projections_can_be_renamed(make_saver: SaverFactory, sql: Sql) -> None:
    renamed = {"chat": "messages", "phase": "build_status", "page": "html"}
    saver = make_saver(projections=renamed)

    values = {"chat": talk("a"), "phase": "building", "page": "<p>", "messages": 1, "html": 2}
    await run(chain(saver, values, state=Own), {})

    assert transcript(sql) == [("user", "a")]
    assert one(sql, "sessions")["build_status"] == "building"
    assert pages(sql) == [(0, "<p>", None)]
    assert counts(sql)["session_errors"] == 0


async def test_a_projection_can_be_switched_off(make_saver: SaverFactory, sql: Sql) -> None:
    off = dict.fromkeys(("messages", "html", "build_status", "graph_state"))
    saver = make_saver(projections=off)

    values = {"messages": talk("a"), "html": "<p>", "build_status": "failed", "title": "T"}
    await run(chain(saver, values), {})

    row = one(sql, "sessions")
    assert (row["build_status"], row["graph_state"], row["title"]) == ("pending", None, "T")
    assert (counts(sql)["messages"], counts(sql)["versions"]) == (0, 0)


async def test_all_projections_can_be_switched_off(make_saver: SaverFactory, sql: Sql) -> None:
    values = {"messages": talk("a"), "html": "<p>", "build_status": "failed", "title": "T"}

    await run(chain(make_saver(projections=False), values), {})

    row = one(sql, "sessions")
    assert (row["build_status"], row["graph_state"]) == ("pending", None)
    assert row["title"] == "Untitled session"
    assert [counts(sql)[table] for table in ("messages", "versions", "token_usage")] == [0, 0, 0]


async def test_a_function_turns_a_value_into_columns(make_saver: SaverFactory, sql: Sql) -> None:
    def read(score: int) -> Mapping[str, Any]:
        return {"aesthetic_scores": {"overall": score}, "complexity": "simple"}

    await run(chain(make_saver(projections={"score": read}), {"score": 7}, state=Own), {})

    row = one(sql, "sessions")
    assert (from_json(row["aesthetic_scores"]), row["complexity"]) == ({"overall": 7}, "simple")


OWN_TABLES = MetaData()
SCORES = Table(
    "app_scores",
    OWN_TABLES,
    Column("thread_id", String(100), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("session_id", String(255), nullable=False),
    Column("points", Integer, nullable=False),
)


class ScoreRows(Projection):
    channels = ("items",)
    table = SCORES

    def rows(self, step: Step) -> Iterable[Mapping[str, Any]]:
        items = step.values["items"]
        return [
            {"thread_id": step.thread_id, "number": n, "points": points}
            for n, points in enumerate(items)
        ]

    def columns(self, step: Step) -> Mapping[str, Any]:
        return {"skill_id": f"{len(step.values['items'])} scores"}


async def test_a_projection_of_ones_own_fills_a_table_of_ones_own(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    OWN_TABLES.create_all(backend.engine())
    saver = make_saver(projections={"items": ScoreRows()})

    where = config(session_id="s")
    await run(chain(saver, {"items": [3]}, {"items": [4]}), {}, where)

    rows = sql("SELECT number, session_id, points FROM app_scores ORDER BY number")
    assert [tuple(row.values()) for row in rows] == [(0, "s", 3), (1, "s", 4)]
    assert one(sql, "sessions")["skill_id"] == "2 scores"


async def test_rows_of_ones_own_are_written_with_their_checkpoint_or_not_at_all(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    OWN_TABLES.create_all(backend.engine())
    saver = make_saver(projections={"items": ScoreRows()})
    first = await put(saver, 1, {"items": [1]})
    before = counts(sql)

    with pytest.raises(Exception, match=r"(?i)null"):
        await put(saver, 2, {"items": [2, None], "title": "T", "messages": talk("a")}, first)

    assert counts(sql) == before
    assert sql("SELECT points FROM app_scores") == [{"points": 1}]
    assert one(sql, "sessions")["title"] == "Untitled session"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"chat": "mesages"}, ("'chat'", "'mesages'", "messages")),
        ({"chat": 3}, ("'chat'", "3", "function")),
        ("messages", ("maps channels to rules",)),
    ],
)
async def test_a_projection_that_there_is_not_is_refused(
    make_saver: SaverFactory, option: Any, words: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        make_saver(projections=option)

    assert all(word in str(caught.value) for word in words)


# -- whose steps project ------------------------------------------------------------------------


async def test_only_the_first_thread_of_a_session_projects_columns(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(chain(saver, {"build_status": "building"}), {}, config("one", session_id="s"))

    second = {"build_status": "failed", "title": "Second", "messages": talk("b")}
    await run(chain(saver, second), {}, config("two", session_id="s"))

    row = one(sql, "sessions")
    assert (row["build_status"], row["title"]) == ("building", "Untitled session")
    assert one(sql, "messages")["content"] == "b"


async def test_a_subgraphs_namespace_projects_nothing(saver: SessionSaver, sql: Sql) -> None:
    class Inner(TypedDict, total=False):
        title: Any
        messages: Annotated[list[Any], operator.add]
        html: Any

    class Outer(TypedDict, total=False):
        note: Any

    inner = chain(None, {"title": "Inner", "messages": talk("x"), "html": "<p>"}, state=Inner)

    async def call(_state: Outer) -> dict[str, Any]:
        await inner.ainvoke({"title": "In"})
        return {"note": 1}

    await run(chain(saver, call, state=Outer), {})

    assert sql("SELECT count(*) AS n FROM session_checkpoints WHERE checkpoint_ns <> ''") != [
        {"n": 0}
    ]
    assert one(sql, "sessions")["title"] == "Untitled session"
    assert (counts(sql)["messages"], counts(sql)["versions"]) == (0, 0)


async def test_an_older_checkpoint_never_projects_over_a_newer_one(
    saver: SessionSaver, sql: Sql
) -> None:
    first = await put(saver, 1, {"title": "One", "messages": talk("a")})
    await put(saver, 3, {"title": "Three", "messages": talk("a", "b"), "html": "<p>3"}, first)

    await put(saver, 2, {"title": "Two", "messages": talk("a"), "html": "<p>2"}, first)

    assert one(sql, "sessions")["title"] == "Three"
    assert transcript(sql) == [("user", "a"), ("assistant", "b")]
    assert pages(sql) == [(0, "<p>3", None)]
    assert one(sql, "session_threads")["checkpoint_id"] == checkpoint_id(3)


async def test_rows_show_the_head_of_a_fork(saver: SessionSaver, sql: Sql) -> None:
    graph = chain(
        saver,
        {"title": "One", "messages": talk("a"), "html": "<p>1"},
        {"title": "Two", "messages": talk("a", "b"), "html": "<p>2"},
    )
    await run(graph, {})
    after_step1 = [state async for state in graph.aget_state_history(config())][1]

    await graph.aupdate_state(after_step1.config, {"note": "forked"}, as_node="step1")

    row = one(sql, "sessions")
    assert (row["title"], row["current_version"]) == ("One", 0)
    assert transcript(sql) == [("user", "a")]
    assert transcript(sql, removed=True) == [("assistant", "b")]
    assert [version for version, _, _ in pages(sql)] == [0, 1]
    assert graph_state(sql)["note"] == "forked"


async def test_a_step_of_another_process_in_between_is_taken_into_account(
    make_saver: SaverFactory, sql: Sql
) -> None:
    here, there = make_saver(), make_saver()
    start = await put(here, 1, {"messages": talk("a"), "title": "One"})
    await put(there, 2, {"messages": talk("a", "b"), "title": "Two", "html": "<p>2"}, start)

    # It follows the same parent, so it is another branch, and this process knows only that one.
    await put(here, 3, {"messages": talk("a", "B"), "note": 3, "title": "One"}, start)

    assert transcript(sql) == [("user", "a"), ("assistant", "B")]
    assert one(sql, "sessions")["title"] == "One"
    assert graph_state(sql) == {"note": 3, "title": "One"}


async def test_processes_that_take_turns_show_the_latest_of_both(
    make_saver: SaverFactory, sql: Sql
) -> None:
    here, there = make_saver(), make_saver()
    at = await put(here, 1, {"messages": talk("a")})
    at = await put(there, 2, {"messages": talk("a", "b"), "note": 2}, at)
    at = await put(here, 3, {"messages": [*talk("a", "b")[1:], *talk("x", "y", "c")[2:]]}, at)

    await put(there, 4, {"title": "Four", "messages": talk("a", "b", "c")}, at)

    assert sorted(transcript(sql)) == [("assistant", "b"), ("user", "a"), ("user", "c")]
    assert transcript(sql, removed=True) == []
    assert one(sql, "sessions")["title"] == "Four"


# -- encryption ---------------------------------------------------------------------------------


def in_clear(backend: Backend) -> list[str]:
    """The columns in which the secret can be read."""
    engine = backend.engine()
    needle, found = SECRET.encode(), []
    with engine.connect() as conn:
        for table in inspect(engine).get_table_names():
            for row in conn.execute(text(f"SELECT * FROM {table}")).mappings():
                for column, value in row.items():
                    data = value if isinstance(value, bytes) else repr(value).encode()
                    if needle in data:
                        found.append(f"{table}.{column}")
    return found


def encrypting() -> EncryptedSerializer:
    return EncryptedSerializer.from_pycryptodome_aes(key=A_SECRET_KEY)


def spill(_state: State) -> dict[str, Any]:
    raise ValueError(SECRET)


def ask_secret(_state: State) -> dict[str, Any]:
    return {"note": interrupt(SECRET)}


SPILT = {
    "note": SECRET,
    "title": SECRET,
    "messages": [HumanMessage(SECRET, id="m"), spent(SECRET, 1, 2, id="u")],
    "html": f"<p>{SECRET}",
    "build_artifacts": {SECRET: SECRET},
    "product_type": SECRET,
    "build_status": SECRET,
}


@pytest.mark.parametrize("last", [spill, ask_secret], ids=["error", "interrupt"])
async def test_under_encryption_nothing_is_in_clear(
    make_saver: SaverFactory, backend: Backend, sql: Sql, last: Any
) -> None:
    graph = chain(make_saver(serde=encrypting()), SPILT, last)

    with suppress(ValueError):
        await run(graph, {"other": SECRET}, {**config(), "metadata": {"customer": SECRET}})

    assert (await graph.aget_state(config())).values["note"] == SECRET
    assert in_clear(backend) == []
    assert one(sql, "session_threads")["status"] in {"error", "interrupted"}
    assert [counts(sql)[t] for t in ("messages", "versions", "session_errors")] == [0, 0, 0]


async def test_under_encryption_projections_run_when_they_are_asked_for(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    only: dict[str, Any] = dict.fromkeys(
        ("messages", "html", "title", "build_artifacts", "graph_state", "errors", "build_status")
    )
    saver = make_saver(serde=encrypting(), projections=only)

    await run(chain(saver, {**SPILT, "product_type": "card"}), {})

    assert one(sql, "sessions")["product_type"] == "card"
    assert in_clear(backend) == []


# -- values that do not validate ----------------------------------------------------------------

BAD = {
    "build_status": "exploded",
    "aesthetic_scores": {"overall": 700, "dimensions": MARKS},
    "build_artifacts": 7,
    "routing": {"product_type": "x" * 51},
    "model_usage": {"writer": "x" * 2_049},
    "title": "x" * 513,
    "product_type": 3,
    "complexity": "x" * 21,
    "html": 5,
}


@pytest.mark.parametrize("channel", BAD)
async def test_a_bad_value_is_recorded_and_the_checkpoint_saved(
    make_saver: SaverFactory, sql: Sql, caplog: pytest.LogCaptureFixture, channel: str
) -> None:
    graph = chain(make_saver(), {"skill_id": "s-1"}, {channel: BAD[channel], "doc_tier": "d"})

    with caplog.at_level(logging.WARNING, "langgraph_session_saver"):
        await run(graph, {}, config(session_id="s"))

    state = await graph.aget_state(config())
    assert state.values[channel] == BAD[channel]
    row = one(sql, "session_errors")
    assert (row["session_id"], row["thread_id"], row["kind"]) == ("s", "t", "projection")
    assert (row["step"], row["channel"]) == (2, channel)
    assert f"channel {channel!r} holds {repr(BAD[channel])[:100]}" in row["message"]
    assert "which is not " in row["message"]
    assert row["checkpoint_id"] == state.config["configurable"]["checkpoint_id"]
    (record,) = caplog.records
    assert (record.levelname, channel in record.getMessage()) == ("WARNING", True)
    session = one(sql, "sessions")
    assert (session["skill_id"], session["doc_tier"]) == ("s-1", "d")
    assert session["build_status"] == "pending"


async def test_a_bad_value_leaves_the_column_as_it_was(saver: SessionSaver, sql: Sql) -> None:
    await run(chain(saver, {"build_status": "building"}, {"build_status": "exploded"}), {})

    assert one(sql, "sessions")["build_status"] == "building"
    assert "pending, building, success, failed" in one(sql, "session_errors")["message"]


@pytest.mark.parametrize("channel", BAD)
async def test_under_raise_a_bad_write_is_never_stored(
    make_saver: SaverFactory, sql: Sql, channel: str
) -> None:
    graph = chain(make_saver(on_projection_error="raise"), {"note": 1}, {channel: BAD[channel]})

    await fails(run(graph, {}), ProjectionError, f"channel {channel!r}", "which is not ")

    writes = sql("SELECT count(*) AS n FROM session_writes WHERE channel = :c", c=channel)
    assert writes == [{"n": 0}]
    state = await graph.aget_state(config())
    assert (state.values["note"], state.next, channel in state.values) == (1, ("step2",), False)


async def test_under_raise_the_mended_node_runs_again(make_saver: SaverFactory, sql: Sql) -> None:
    answers = iter(["exploded", "success"])
    calls: list[int] = []

    def decide(_state: State) -> dict[str, Any]:
        calls.append(1)
        return {"build_status": next(answers)}

    graph = chain(make_saver(on_projection_error="raise"), {"note": 1}, decide)
    await fails(run(graph, {}), ProjectionError, "'exploded'", "run the thread again")

    await run(graph, None)

    assert len(calls) == 2
    assert one(sql, "sessions")["build_status"] == "success"


async def test_under_raise_a_bad_value_that_a_reducer_made_is_recorded(
    make_saver: SaverFactory, sql: Sql
) -> None:
    class Sums(TypedDict, total=False):
        product_type: Annotated[str, operator.add]

    graph = chain(
        make_saver(on_projection_error="raise"),
        {"product_type": "a" * 30},
        {"product_type": "b" * 30},
        state=Sums,
    )

    await run(graph, {})

    assert one(sql, "sessions")["product_type"] == "a" * 30
    assert one(sql, "session_errors")["channel"] == "product_type"
    assert (await graph.aget_state(config())).values == {"product_type": "a" * 30 + "b" * 30}


async def test_under_raise_a_bad_input_is_refused(make_saver: SaverFactory, sql: Sql) -> None:
    graph = chain(make_saver(on_projection_error="raise"), {"note": 1})

    await fails(run(graph, {"build_status": "exploded"}), ProjectionError, "'exploded'")

    assert one(sql, "sessions")["build_status"] == "pending"
    await run(graph, {"build_status": "building"})
    assert one(sql, "sessions")["build_status"] == "building"


async def test_under_raise_the_values_of_a_checkpoint_are_checked_too(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver(on_projection_error="raise")
    await saver.asetup()

    await fails(put(saver, 1, {"build_status": "exploded"}), ProjectionError, "was not saved")

    assert not any(counts(sql).values())


@pytest.mark.parametrize("policy", ["record", "raise"])
async def test_a_function_that_fails_is_a_value_that_does_not_validate(
    make_saver: SaverFactory, sql: Sql, policy: str
) -> None:
    def read(score: Any) -> Mapping[str, Any]:
        raise KeyError(f"no such score: {score}\x00\ud800")

    saver = make_saver(projections={"score": read}, on_projection_error=policy)
    graph = chain(saver, {"score": 5, "phase": "x"}, state=Own)

    if policy == "raise":
        await fails(run(graph, {}), ProjectionError, "KeyError", "no such score: 5")
    else:
        await run(graph, {})
        assert "no such score: 5" in one(sql, "session_errors")["message"]


# -- text that databases refuse -----------------------------------------------------------------


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


async def test_the_error_of_a_node_may_hold_what_no_database_takes(
    saver: SessionSaver, sql: Sql
) -> None:
    def odd(_state: State) -> dict[str, Any]:
        raise ValueError("a\x00b\ud800c")

    await fails(run(chain(saver, odd), {}), ValueError)

    assert one(sql, "session_errors")["message"] == "a\ufffdb\ufffdc"


# -- the seed tables in plain SQL ---------------------------------------------------------------


def enforcing(backend: Backend) -> Any:
    """A transaction of an application that enforces foreign keys."""
    connection = backend.engine().connect()
    if backend.name == "sqlite":
        connection.exec_driver_sql("PRAGMA foreign_keys=ON")
        connection.commit()
    return connection


TIME = "2026-01-01 00:00:00"
ROWS = {
    "messages": "(session_id, role, content, timestamp) VALUES (:s, 'user', 'x', :t)",
    "versions": "(session_id, version, html, created_at, pinned) VALUES (:s, 7, 'x', :t, false)",
    "token_usage": (
        "(session_id, timestamp, agent_type, model, input_tokens, output_tokens, total_tokens,"
        " cost_usd) VALUES (:s, :t, 'a', 'm', 1, 2, 3, 0.5)"
    ),
    "session_errors": (
        "(session_id, thread_id, checkpoint_ns, kind, message, created_at)"
        " VALUES (:s, 't', '', 'error', 'x', :t)"
    ),
}


async def test_deleting_a_session_in_sql_deletes_all_that_it_owns(
    saver: SessionSaver, backend: Backend, sql: Sql
) -> None:
    words = " ".join(str(n) for n in range(500))
    said = [*talk(words), spent("w", 1, 2, id="u")]
    graph = chain(
        saver,
        {"messages": said, "html": "<p>"},
        {"messages": [HumanMessage("more", id="n")]},
        explode,
    )
    await fails(run(graph, {}), ValueError)
    assert all(counts(sql).values())
    assert sql("SELECT count(*) AS n FROM session_blobs WHERE base_key IS NOT NULL") != [{"n": 0}]

    with enforcing(backend) as conn:
        conn.execute(text("DELETE FROM sessions"))
        conn.commit()

    assert not any(counts(sql).values())


@pytest.mark.parametrize("table", ROWS)
async def test_deleting_a_session_deletes_its_rows(
    sync_saver: SessionSaver, backend: Backend, sql: Sql, table: str
) -> None:
    sync_saver.setup()
    tables = build_tables()
    with enforcing(backend) as conn:
        conn.execute(insert(tables.sessions), [{"id": "s"}, {"id": "other"}])
        for session in ("s", "other"):
            conn.execute(text(f"INSERT INTO {table} {ROWS[table]}"), {"s": session, "t": TIME})
        conn.execute(delete(tables.sessions).where(tables.sessions.c.id == "s"))
        conn.commit()

    assert one(sql, table)["session_id"] == "other"


@pytest.mark.parametrize("table", ROWS)
async def test_a_row_of_no_session_is_refused(
    sync_saver: SessionSaver, backend: Backend, table: str
) -> None:
    sync_saver.setup()

    with enforcing(backend) as conn, pytest.raises(IntegrityError):
        conn.execute(text(f"INSERT INTO {table} {ROWS[table]}"), {"s": "nobody", "t": TIME})


async def test_a_session_has_each_version_once(sync_saver: SessionSaver, backend: Backend) -> None:
    sync_saver.setup()
    tables = build_tables()
    row = {"version": 1, "html": "<p>"}

    with enforcing(backend) as conn:
        conn.execute(insert(tables.sessions), [{"id": "s"}, {"id": "other"}])
        conn.execute(insert(tables.versions), [{"session_id": s, **row} for s in ("s", "other")])
        with pytest.raises(IntegrityError):
            conn.execute(insert(tables.versions), {"session_id": "s", **row})


async def test_a_session_made_in_plain_sql_has_defaults(sync_saver: SessionSaver, sql: Sql) -> None:
    sync_saver.setup()

    sql(
        "INSERT INTO sessions (id, created_at, updated_at) VALUES ('s', :t, :t)",
        t=TIME,
    )

    row = one(sql, "sessions")
    assert (row["title"], row["current_version"]) == ("Untitled session", 0)
    assert (row["build_status"], row["graph_state"], row["build_artifacts"]) == (
        "pending",
        None,
        None,
    )


async def test_a_required_column_refuses_null(sync_saver: SessionSaver, backend: Backend) -> None:
    sync_saver.setup()
    tables = build_tables()

    with enforcing(backend) as conn, pytest.raises(IntegrityError):
        conn.execute(insert(tables.messages), {"session_id": "s", "role": "user", "content": None})


async def test_timestamps_are_aware_and_in_utc(saver: SessionSaver, backend: Backend) -> None:
    before = datetime.now(UTC)
    said = [*talk("a"), spent("w", 1, 2, id="u")]
    graph = chain(saver, {"messages": said, "html": "<p>"}, explode)
    await fails(run(graph, {}), ValueError)
    after = datetime.now(UTC)

    t = build_tables()
    columns = (
        t.sessions.c.created_at,
        t.sessions.c.updated_at,
        t.messages.c.timestamp,
        t.versions.c.created_at,
        t.token_usage.c.timestamp,
        t.errors.c.created_at,
        t.threads.c.status_since,
    )
    with backend.engine().connect() as conn:
        found = [conn.execute(select(column)).scalars().first() for column in columns]

    assert all(moment is not None and before <= moment <= after for moment in found)
    assert all(moment is not None and moment.tzinfo is UTC for moment in found)


async def test_updated_at_moves_with_each_step(saver: SessionSaver, backend: Backend) -> None:
    t = build_tables().sessions
    moments: list[datetime] = []

    def look(_state: State) -> dict[str, Any]:
        with backend.engine().connect() as conn:
            moments.append(conn.execute(select(t.c.updated_at)).scalar_one())
        return {"note": 1}

    await run(chain(saver, look, look, look), {})

    assert moments == sorted(set(moments))
    assert len(moments) == 3


def test_every_table_of_the_package_is_counted_by_these_tests() -> None:
    names = {table.name for table in build_tables()}

    assert names - {"session_saver_alembic_version"} == set(TABLES)


def test_a_page_rule_reads_text_or_a_mapping() -> None:
    rule = PageVersions()

    assert rule.page("<p>") == ("<p>", None)
    assert rule.page({"html": "<p>", "description": "d"}) == ("<p>", "d")
    with pytest.raises(ValueError, match="neither text nor a mapping"):
        rule.page(5)
