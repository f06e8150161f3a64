"""`saver.state`: session columns written manually and by the steps of a graph."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.types import Command, interrupt

from langgraph_session_saver import (
    AestheticScore,
    BuildInfo,
    BuildStatus,
    GraphState,
    HistoryLostError,
    InvalidConfigError,
    ModelUsage,
    ProjectionError,
    RoutingMetadata,
    SessionSaver,
    ValueTooLargeError,
)
from tests.support.backends import EACH_ONCE, Sql
from tests.support.rows import chain, config, fails, from_json, listed, one, run
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE
LARGE = {"pages": [{"html": "ü" * 500} for _ in range(40)]}
SCORE: dict[str, Any] = {
    "overall": 80,
    "dimensions": dict.fromkeys(
        ("visualHierarchy", "colorHarmony", "spacingConsistency", "alignment", "readability",
         "mobileAdaptation"), 70,
    ),
}  # fmt: skip


def on_sqlite(test: Any) -> Any:
    """Run a test once, on SQLite, for what is the same on every database and face."""
    test = pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)(test)
    return pytest.mark.parametrize("face", ["sync"], indirect=True)(test)


@dataclass
class Plan:
    steps: list[str]


# -- state by hand --------------------------------------------------------------------------------


async def test_a_state_is_saved_loaded_and_cleared(saver: SessionSaver, sql: Sql) -> None:
    await saver.sessions.acreate("s")
    state = {"plan": Plan(["knead", "bake"]), "of": {"n": 1.5}, "text": "ü\x00", "none": None}

    assert await saver.state.aload_state("s") is None
    assert await saver.state.asave_state("s", state)

    assert await saver.state.aload_state("s") == {
        "plan": {"steps": ["knead", "bake"]}, "of": {"n": 1.5}, "text": "ü\ufffd", "none": None,
    }  # fmt: skip
    assert await saver.state.aclear_state("s")
    assert await saver.state.aload_state("s") is None
    assert one(sql, "sessions")["graph_state"] is None


async def test_a_large_state_saved_manually_is_stored_whole(saver: SessionSaver) -> None:
    await saver.sessions.acreate("s")

    assert await saver.state.asave_state("s", LARGE)

    assert await saver.state.aload_state("s") == LARGE


@on_sqlite
async def test_methods_that_change_a_session_return_whether_it_exists(saver: SessionSaver) -> None:
    assert not await saver.state.asave_state("s", {})
    assert not await saver.state.aclear_state("s")
    assert not await saver.state.aupdate_build_status("s", BuildStatus.FAILED)
    assert not await saver.state.aupdate_metadata("s", build_artifacts=None)
    assert not await saver.state.aupdate_routing("s", None)
    assert not await saver.state.aupdate_model_usage("s", None)
    assert await saver.state.aload_state("s") is None
    assert await saver.state.ametadata("s") is None
    assert await saver.state.arouting("s") is None
    assert await saver.state.amodel_usage("s") is None


@on_sqlite
async def test_a_loaded_state_can_be_passed_to_a_graph(saver: SessionSaver) -> None:
    await saver.sessions.acreate("s")
    await saver.state.asave_state("s", {"note": "from the form", "items": [1]})

    graph = chain(saver, lambda state: {"items": [len(state["note"])]})
    result = await run(graph, await saver.state.aload_state("s"), config("t", session_id="s"))

    assert result["items"] == [1, 13]
    assert await saver.state.aload_state("s") == {"note": "from the form", "items": [1, 13]}


# -- state of a graph -----------------------------------------------------------------------------


async def test_load_state_resolves_values_that_the_column_refers_to(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver()
    await run(chain(saver, {"other": LARGE, "note": "small"}), {"messages": [("user", "hi")]})

    column = from_json(one(sql, "sessions")["graph_state"])
    assert column["other"].keys() == {"$ref"}
    for reader in (saver, make_saver()):
        assert await reader.state.aload_state("t") == {"note": "small", "other": LARGE}


@on_sqlite
async def test_load_state_includes_channels_that_did_not_fit(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver(projections={"graph_state": GraphState(exclude=["hidden"])})
    values = {f"channel {n:04}": f"{n:040}" for n in range(400)}
    made = {
        **empty_checkpoint(),
        "channel_values": {**values, "hidden": 1, "messages": []},
        "channel_versions": dict.fromkeys([*values, "hidden", "messages"], "1.5"),
    }
    checkpoint: Any = made
    await saver.aput(config(), checkpoint, {}, checkpoint["channel_versions"])

    assert from_json(one(sql, "sessions")["graph_state"])["$omitted"] > 0
    assert await saver.state.aload_state("t") == values


@on_sqlite
async def test_a_state_whose_checkpoint_is_deleted_is_not_loaded_partially(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(chain(saver, {"other": LARGE}), {})
    sql("PRAGMA foreign_keys = OFF")
    for table in ("session_writes", "session_checkpoints"):
        sql(f"DELETE FROM {table}")

    await fails(saver.state.aload_state("t"), HistoryLostError, "'t'", "gone")


@on_sqlite
async def test_a_value_deeper_than_databases_take_is_loaded(saver: SessionSaver) -> None:
    deep: Any = "bottom"
    for _ in range(60):
        deep = [deep]
    await run(chain(saver, {"other": deep}), {})

    assert await saver.state.aload_state("t") == {"other": deep}


# -- by hand and by steps -------------------------------------------------------------------------


async def test_columns_set_manually_have_no_checkpoint_until_the_next_step(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver, other = make_saver(), make_saver()
    built = {"build_status": "success", "other": "x", "aesthetic_scores": SCORE,
             "routing": {"skill_id": "bake"}, "title": "By the graph"}  # fmt: skip
    await run(chain(saver, built), {})
    of_graph = one(sql, "sessions")

    for by in (other, saver):
        assert await by.state.aupdate_build_status("t", BuildInfo(status=BuildStatus.FAILED))
        assert await by.state.asave_state("t", {"other": "by hand"})
        assert await by.state.aupdate_metadata("t", aesthetic_scores=None)
        assert await by.state.aupdate_routing("t", RoutingMetadata(skill_id="hand"))
        await by.sessions.aupdate("t", title="By hand")
        by_hand = one(sql, "sessions")
        assert (by_hand["checkpoint_id"], by_hand["build_status"]) == (None, "failed")

        await run(chain(saver, {"messages": [("user", "no other channel")]}), {})

        row = one(sql, "sessions")
        assert row["checkpoint_id"] == (await listed(saver, config()))[0]
        for name in ("build_status", "graph_state", "aesthetic_scores", "skill_id"):
            assert row[name] == of_graph[name], name
        assert row["title"] == "By hand"


async def test_columns_set_manually_during_an_interrupt_are_written_by_the_next_step(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver, other = make_saver(), make_saver()
    graph = chain(
        saver, {"build_status": "building", "note": 1}, lambda _: {"note": interrupt("?")}
    )
    await run(graph, {})
    await other.state.aupdate_build_status("t", "failed")
    await other.state.aclear_state("t")

    await run(graph, Command(resume=1))

    row = one(sql, "sessions")
    assert (row["build_status"], from_json(row["graph_state"])) == (
        "building", {"build_status": "building", "note": 1},
    )  # fmt: skip
    assert row["checkpoint_id"] == (await listed(saver, config()))[0]


async def test_concurrent_manual_changes_and_steps_are_all_stored(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver, other = make_saver(), make_saver()
    await run(chain(saver, {"note": 0}), {})

    async def go_on() -> None:
        for number in range(1, 6):
            said = [("user", str(number))]
            await run(chain(saver, {"note": number, "messages": said, "html": f"<p>{number}"}), {})

    async def change() -> None:
        for number in range(5):
            await other.state.aupdate_build_status("t", "failed")
            await other.sessions.aadd_version("t", f"<p>by hand {number}")
            await other.sessions.aadd_message("t", "user", "by hand")
            await other.sessions.aupdate("t", owner_id="ada")

    await asyncio.gather(go_on(), change())
    await run(chain(saver, {"note": "last"}), {})

    row = one(sql, "sessions")
    assert row["checkpoint_id"] == (await listed(saver, config()))[0]
    assert from_json(row["graph_state"])["note"] == "last"
    assert [v.version for v in await saver.sessions.aversions("t")] == list(range(10))
    assert len(await saver.sessions.amessages("t")) == 10


@on_sqlite
async def test_the_next_step_replaces_a_manual_state_under_keep_last(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver, other = make_saver(keep_last=2), make_saver()
    await run(chain(saver, {"build_status": "building"}, {"note": 1}), {})
    await other.state.aupdate_build_status("t", "failed")

    await run(chain(saver, {"note": 2}), {})

    assert one(sql, "sessions")["build_status"] == "building"
    assert len(await listed(saver, config())) == 2


@on_sqlite
async def test_a_session_s_next_thread_writes_its_columns_when_the_first_is_deleted(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(chain(saver, {"note": 1, "build_status": "failed"}), {}, config("a", session_id="s"))
    await run(chain(saver, {"note": 2, "build_status": "success"}), {}, config("b", session_id="s"))
    await saver.adelete_thread("a")

    await run(chain(saver, {"messages": [("user", "hi")]}), {}, config("b"))

    row = one(sql, "sessions")
    assert (row["build_status"], from_json(row["graph_state"])["note"]) == ("success", 2)


@on_sqlite
async def test_a_build_set_manually_leaves_readable_references(
    saver: SessionSaver,
) -> None:
    await run(chain(saver, {"other": LARGE}), {})
    await saver.state.aupdate_build_status("t", "failed")

    assert await saver.state.aload_state("t") == {"other": LARGE}


# -- metadata -------------------------------------------------------------------------------------


async def test_metadata_is_updated_field_by_field(saver: SessionSaver) -> None:
    await saver.sessions.acreate("s")
    score = AestheticScore.model_validate(SCORE)

    assert await saver.state.aupdate_metadata("s", build_status="building", aesthetic_scores=score)
    assert await saver.state.aupdate_metadata("s", graph_state={"a": 1}, build_artifacts={"n": 1})
    found = await saver.state.ametadata("s")

    assert found is not None
    assert (found.build_status, found.aesthetic_scores) == (BuildStatus.BUILDING, score)
    assert (found.graph_state, found.build_artifacts) == ({"a": 1}, {"n": 1})
    assert await saver.state.aupdate_metadata("s", aesthetic_scores=None, graph_state=None)
    cleared = await saver.state.ametadata("s")
    assert cleared is not None
    assert (cleared.graph_state, cleared.aesthetic_scores) == (None, None)
    assert cleared.build_artifacts == {"n": 1}


async def test_scores_and_artifacts_set_manually_may_be_any_json_object(
    saver: SessionSaver,
) -> None:
    scores, artifacts = {"overall": 80, "why": ["clear"]}, {"$type": "site", "urls": {}}
    await saver.sessions.acreate("s", build_artifacts=artifacts)
    await saver.sessions.aupdate("s", aesthetic_scores={})

    assert await saver.state.aupdate_metadata("s", aesthetic_scores=scores)

    found = await saver.state.ametadata("s")
    assert found is not None
    assert (found.aesthetic_scores, found.build_artifacts) == (scores, artifacts)
    record = await saver.sessions.aget("s")
    assert record is not None
    assert (record.aesthetic_scores, record.build_artifacts) == (scores, artifacts)


async def test_metadata_reads_a_score_of_a_known_form_with_all_that_it_has(
    saver: SessionSaver,
) -> None:
    await saver.sessions.acreate("s", aesthetic_scores={**SCORE, "judge": "m-1"})

    found = await saver.state.ametadata("s")

    assert found is not None
    assert found.aesthetic_scores == AestheticScore.model_validate({**SCORE, "judge": "m-1"})


async def test_routing_and_models_are_updated_field_by_field(saver: SessionSaver) -> None:
    await saver.sessions.acreate("s")

    await saver.state.aupdate_routing(
        "s", RoutingMetadata(product_type="card", complexity="simple")
    )
    await saver.state.aupdate_routing("s", {"complexity": None, "doc_tier": "standard"})
    await saver.state.aupdate_model_usage("s", ModelUsage(writer="m" * 2048))
    await saver.state.aupdate_model_usage("s", {"classifier": "m-1"})

    routing = RoutingMetadata(product_type="card", doc_tier="standard")
    assert await saver.state.arouting("s") == routing
    assert await saver.state.amodel_usage("s") == ModelUsage(writer="m" * 2048, classifier="m-1")
    await saver.state.aupdate_routing("s", None)
    assert await saver.state.arouting("s") == RoutingMetadata()


@on_sqlite
async def test_update_build_stores_the_artifacts(saver: SessionSaver) -> None:
    await saver.sessions.acreate("s")

    built = BuildInfo(status=BuildStatus.SUCCESS, pages=["index.html"], dist_path="/dist")
    await saver.state.aupdate_build_status("s", built)

    found = await saver.sessions.aget("s")
    assert found is not None
    assert found.build_status == "success"
    assert found.build_artifacts == {"pages": ["index.html"], "dist_path": "/dist"}


# -- bad input ------------------------------------------------------------------------------------


@on_sqlite
async def test_a_value_that_fits_no_column_is_refused_before_anything_is_written(
    saver: SessionSaver, sql: Sql
) -> None:
    await saver.sessions.acreate("s")
    before = one(sql, "sessions")
    state: Any = saver.state
    reference = {"$ref": {"channel": "a", "version": "1"}}
    deep: Any = {}
    for _ in range(40):
        deep = {"in": deep}
    for call, words in (
        (state.asave_state("s", [1]), "list"),
        (state.asave_state("s", {"a": reference}), "only a reference"),
        (state.asave_state("s\x00", {}), "NUL"),
        (state.aload_state(""), "empty"),
        (state.aupdate_build_status("s", "done"), "'done'"),
        (state.aupdate_metadata("s", colour="red"), "'colour'"),
        (state.aupdate_metadata("s", aesthetic_scores={"overall": 200}), "aesthetic_scores"),
        (state.aupdate_routing("s", {"product_type": "x" * 51}), "product_type"),
        (state.aupdate_routing("s", {"product": "x"}), "'product'"),
        (state.aupdate_model_usage("s", 5), "int"),
    ):
        await fails(call, InvalidConfigError, words)
    await fails(state.asave_state("s", deep), ValueTooLargeError, "28 levels")
    assert one(sql, "sessions") == before


@on_sqlite
async def test_columns_written_by_others_are_not_read_as_metadata(
    saver: SessionSaver, sql: Sql
) -> None:
    await saver.sessions.acreate("s")
    sql("UPDATE sessions SET build_status = 'done'")

    await fails(saver.state.ametadata("s"), ProjectionError, "'s'", "build_status")
