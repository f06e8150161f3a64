"""Session columns: channel values of each built-in rule in the `sessions` row."""

from __future__ import annotations

import operator
from datetime import UTC, datetime
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.types import Overwrite
from pydantic import BaseModel

from langgraph_session_saver import (
    BuildInfo,
    BuildStatus,
    ModelUsage,
    RoutingMetadata,
    SessionColumns,
    SessionSaver,
)
from tests.projection.samples import MARKS
from tests.support.backends import EACH_ONCE, Sql
from tests.support.rows import State, chain, config, from_json, one, run
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE

OLDER_MARKS = {"typography": 4, "contrast": 3, "layout": 5, "color": 4, "cta": 2}


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


OBJECTS: dict[str, dict[str, Any]] = {
    "one number": {"overall": 80},
    "words": {"overall": "good", "why": ["ä 🌍", None]},
    "own names": {"layout": {"grid": 4.5, "$type": "x"}, "$type": "score"},
    "one dimension": {"overall": 80, "dimensions": {"alignment": 85}},
    "marks that are words": {"dimensions": dict.fromkeys(OLDER_MARKS, "good")},
    "nothing": {},
}


@pytest.mark.parametrize("column", ["aesthetic_scores", "build_artifacts"])
@pytest.mark.parametrize("name", OBJECTS)
async def test_scores_and_artifacts_may_be_any_json_object(
    saver: SessionSaver, sql: Sql, column: str, name: str
) -> None:
    await run(chain(saver, {column: OBJECTS[name]}), {})

    assert from_json(one(sql, "sessions")[column]) == OBJECTS[name]
    assert not sql("SELECT * FROM session_errors")


class Verdict(BaseModel):
    overall: float
    hints: list[str]


async def test_scores_may_be_a_model_of_the_application(saver: SessionSaver, sql: Sql) -> None:
    await run(chain(saver, {"aesthetic_scores": Verdict(overall=8, hints=["more air"])}), {})

    stored = from_json(one(sql, "sessions")["aesthetic_scores"])
    assert stored == {"overall": 8, "hints": ["more air"]}


async def test_what_a_known_score_has_besides_is_stored_too(saver: SessionSaver, sql: Sql) -> None:
    scores = {"overall": 77, "dimensions": MARKS, "judge": {"model": "m-1"}}

    await run(chain(saver, {"aesthetic_scores": scores}), {})

    assert from_json(one(sql, "sessions")["aesthetic_scores"]) == scores


async def test_what_a_build_info_has_besides_is_stored_as_artifacts(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(chain(saver, {"build_status": {"status": "success", "url": "https://a.example"}}), {})

    row = one(sql, "sessions")
    assert row["build_status"] == "success"
    assert from_json(row["build_artifacts"]) == {"url": "https://a.example"}


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


async def test_columns_name_their_checkpoint(saver: SessionSaver, sql: Sql) -> None:
    graph = chain(saver, {"build_status": "building"}, {"note": 1})

    await run(graph, {})

    state = await graph.aget_state(config())
    assert one(sql, "sessions")["checkpoint_id"] == state.config["configurable"]["checkpoint_id"]


async def test_an_overwrite_is_projected_as_its_value(make_saver: SaverFactory, sql: Sql) -> None:
    class Parts(TypedDict, total=False):
        items: Annotated[list[Any], operator.add]

    rule = SessionColumns("items", lambda items: {"skill_id": "-".join(items)}, reduced=True)
    saver = make_saver(projections={"items": rule})

    await run(chain(saver, {"items": ["a"]}, {"items": Overwrite(["b", "c"])}, state=Parts), {})

    assert one(sql, "sessions")["skill_id"] == "b-c"
