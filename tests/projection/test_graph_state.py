"""`sessions.graph_state`: the latest values as JSON, within a limit."""

from __future__ import annotations

import json
import types
from dataclasses import dataclass
from typing import Any, TypedDict

import pytest

from langgraph_session_saver import GraphState, SessionSaver
from langgraph_session_saver.projection.graph_state import GRAPH_STATE_BYTES
from tests.projection.samples import graph_state, talk
from tests.support.backends import EACH_ONCE, Sql
from tests.support.rows import chain, config, run
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


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
