"""`keep_versions`: which pages of a session stay."""

from __future__ import annotations

from typing import Any

import pytest

from langgraph_session_saver import SessionSaver
from tests.support.backends import EACH_ONCE, Sql
from tests.support.rows import chain, config, one, run
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


def pages(sql: Sql) -> list[int]:
    return [row["version"] for row in sql("SELECT version FROM versions ORDER BY version")]


def some_pages(saver: SessionSaver, first: int, number: int) -> Any:
    return chain(saver, *[{"html": f"<p>{n}"} for n in range(first, first + number)])


@pytest.mark.parametrize("count", [1, 2, 4])
async def test_a_session_keeps_its_newest_pages(
    make_saver: SaverFactory, sql: Sql, count: int
) -> None:
    await run(some_pages(make_saver(keep_versions=count), 0, 6), {})

    assert pages(sql) == list(range(6 - count, 6))
    assert one(sql, "sessions")["current_version"] == 5


async def test_pinned_pages_stay(make_saver: SaverFactory, sql: Sql) -> None:
    saver = make_saver(keep_versions=2)
    await run(some_pages(saver, 0, 2), {})
    sql("UPDATE versions SET pinned = :yes WHERE version = 0", yes=True)

    await run(some_pages(saver, 2, 4), {})

    assert pages(sql) == [0, 4, 5]


async def test_the_current_page_stays_although_others_are_newer(
    make_saver: SaverFactory, sql: Sql
) -> None:
    await run(some_pages(make_saver(keep_versions=2), 0, 2), {}, config("a", session_id="s"))
    sql("UPDATE sessions SET current_version = 0")

    await run(some_pages(make_saver(keep_versions=2), 2, 4), {}, config("b", session_id="s"))

    assert pages(sql) == [0, 4, 5]


async def test_page_numbers_are_never_reused(make_saver: SaverFactory, sql: Sql) -> None:
    saver = make_saver(keep_versions=1)
    seen: list[int] = []
    for first in range(0, 9, 3):
        await run(some_pages(saver, first, 3), {})
        seen += pages(sql)

    assert seen == [2, 5, 8]


async def test_each_session_keeps_its_own_pages(make_saver: SaverFactory, sql: Sql) -> None:
    saver = make_saver(keep_versions=2)
    for name in ("a", "b"):
        await run(some_pages(saver, 0, 3), {}, config(name))

    rows = sql("SELECT session_id, version FROM versions ORDER BY session_id, version")
    assert [(row["session_id"], row["version"]) for row in rows] == [
        ("a", 1), ("a", 2), ("b", 1), ("b", 2),
    ]  # fmt: skip


async def test_pages_stay_when_their_checkpoints_are_pruned(
    make_saver: SaverFactory, sql: Sql
) -> None:
    await run(some_pages(make_saver(keep_last=1), 0, 5), {})

    assert pages(sql) == [0, 1, 2, 3, 4]
