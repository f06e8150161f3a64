"""`projections=`: renamed, switched off, functions and projection classes."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypedDict

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

from langgraph_session_saver import InvalidConfigError, Projection, Step
from tests.projection.samples import pages, talk
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.rows import chain, config, counts, from_json, one, put, run, transcript
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


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


async def test_a_custom_projection_fills_a_custom_table(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    OWN_TABLES.create_all(backend.engine())
    saver = make_saver(projections={"items": ScoreRows()})

    where = config(session_id="s")
    await run(chain(saver, {"items": [3]}, {"items": [4]}), {}, where)

    rows = sql("SELECT number, session_id, points FROM app_scores ORDER BY number")
    assert [tuple(row.values()) for row in rows] == [(0, "s", 3), (1, "s", 4)]
    assert one(sql, "sessions")["skill_id"] == "2 scores"


async def test_custom_rows_are_written_in_the_checkpoints_transaction(
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
async def test_an_unknown_projection_is_refused(
    make_saver: SaverFactory, option: Any, words: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        make_saver(projections=option)

    assert all(word in str(caught.value) for word in words)
