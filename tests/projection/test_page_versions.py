"""`versions` rows: one for each changed page, numbered from 0."""

from __future__ import annotations

import pytest

from langgraph_session_saver import PageVersions, SessionSaver
from tests.projection.samples import pages
from tests.support.backends import EACH_ONCE, Sql
from tests.support.rows import chain, config, counts, one, put, run

BACKENDS_AND_FACES = EACH_ONCE


async def test_pages_are_numbered_from_zero(saver: SessionSaver, sql: Sql) -> None:
    second = {"html": "<p>2", "description": "bigger"}

    await run(chain(saver, {"html": "<p>1"}, {"html": second}, {"note": 1}), {})

    assert pages(sql) == [(0, "<p>1", None), (1, "<p>2", "bigger")]
    assert one(sql, "sessions")["current_version"] == 1


async def test_an_unchanged_page_makes_no_version(saver: SessionSaver, sql: Sql) -> None:
    await run(chain(saver, {"html": "<p>1"}, {"html": "<p>1"}), {})

    assert pages(sql) == [(0, "<p>1", None)]


async def test_a_page_of_none_makes_no_version(saver: SessionSaver, sql: Sql) -> None:
    await run(chain(saver, {"html": None}), {})

    assert pages(sql) == []
    assert counts(sql)["session_errors"] == 0


async def test_a_large_page_is_stored_whole(saver: SessionSaver, sql: Sql) -> None:
    page = "<p>ä🌍</p>" * 30_000

    await run(chain(saver, {"html": page}), {})

    assert pages(sql) == [(0, page, None)]


async def test_a_fork_does_not_reuse_page_numbers(saver: SessionSaver, sql: Sql) -> None:
    graph = chain(saver, {"html": "<p>1"}, {"html": "<p>2"})
    await run(graph, {})
    older = [state async for state in graph.aget_state_history(config())][1]

    await graph.aupdate_state(older.config, {"html": "<p>3"}, as_node="step2")

    assert [version for version, _, _ in pages(sql)] == [0, 1, 2]
    assert one(sql, "sessions")["current_version"] == 2


async def test_an_older_step_of_a_copy_put_again_adds_no_page(
    saver: SessionSaver, sql: Sql
) -> None:
    """The copy's step has no page of its own: the session has the original's."""
    first = {"html": "<h1>1</h1>"}
    where = await put(saver, 1, first)
    await put(saver, 2, {"html": "<h1>2</h1>"}, where)
    await saver.threads.acopy("t", "copy", session_id="t")

    await put(saver, 1, first, config("copy"))

    assert len(sql("SELECT html FROM versions")) == 2


def test_a_page_rule_reads_text_or_a_mapping() -> None:
    rule = PageVersions()

    assert rule.page("<p>") == ("<p>", None)
    assert rule.page({"html": "<p>", "description": "d"}) == ("<p>", "d")
    with pytest.raises(ValueError, match="neither text nor a mapping"):
        rule.page(5)
