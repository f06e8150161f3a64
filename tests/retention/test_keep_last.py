"""`keep_last`: how many checkpoints a thread has after each step."""

from __future__ import annotations

from typing import Any

import pytest

from tests.retention.runs import LINE, Run
from tests.support.backends import EACH_ONCE, Sql
from tests.support.graphs import ScriptRunner, thread
from tests.support.kept import in_tables
from tests.support.rows import chain, config, counts, from_json, listed, one, run
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


@pytest.mark.parametrize("count", [1, 2, 3, 7])
async def test_after_each_run_exactly_the_newest_checkpoints_are_in_the_tables(
    make_saver: SaverFactory, sql: Sql, count: int
) -> None:
    beside = Run(make_saver, LINE, count, sql)

    for turn in range(4):
        await beside.invoke({"log": [f"turn {turn}"], "big": f"{turn}" * 2_000})

        assert len(in_tables(sql, "kept").roots) == min(count, 5 * (turn + 1))
        rows = sql("SELECT count(*) AS n FROM session_checkpoints")[0]["n"]
        assert rows == len(await listed(beside.reader, beside.config)) == min(count, 5 * turn + 5)


async def test_during_a_run_no_more_than_the_newest_checkpoints_are_stored(
    make_saver: SaverFactory, sql: Sql
) -> None:
    seen: list[int] = []

    def look(_state: Any) -> Any:
        seen.append(sql("SELECT count(*) AS n FROM session_checkpoints")[0]["n"])
        return {}

    await run(chain(make_saver(keep_last=2), *[look] * 6), {})

    assert seen == [2] * 6


async def test_checkpoints_fewer_than_keep_last_all_stay(
    make_saver: SaverFactory, sql: Sql
) -> None:
    beside = Run(make_saver, LINE, 50, sql)

    await beside.invoke({"log": ["in"]})

    assert len(in_tables(sql, "kept").roots) == 5


async def test_each_thread_keeps_its_newest_checkpoints(make_saver: SaverFactory, sql: Sql) -> None:
    graph = chain(make_saver(keep_last=2), {"note": 1}, {"note": 2})

    for name in ("a", "b", "c"):
        await run(graph, {}, config(name))

    assert [len(in_tables(sql, name).roots) for name in ("a", "b", "c")] == [2, 2, 2]


async def test_a_smaller_keep_last_takes_effect_at_the_next_step(
    make_saver: SaverFactory, sql: Sql
) -> None:
    await run(chain(make_saver(), {"note": 1}, {"note": 2}), {})
    assert len(in_tables(sql, "t").roots) == 4

    await run(chain(make_saver(keep_last=1), {"note": 3}), {})

    assert len(in_tables(sql, "t").roots) == 1


async def test_a_pruned_thread_continues_with_a_saver_that_keeps_everything(
    make_saver: SaverFactory, sql: Sql
) -> None:
    beside = Run(make_saver, LINE, 2, sql)
    await beside.invoke({"log": ["in"]})
    keeps_all = make_saver()

    ended = await ScriptRunner(LINE, keeps_all).invoke({"log": ["again"]}, beside.config)

    assert ended["log"] == ["in", "one", "two", "three", "again", "one", "two", "three"]
    assert len(in_tables(sql, "kept").roots) == 2 + 5


async def test_a_thread_continues_when_only_one_of_two_savers_prunes_it(
    make_saver: SaverFactory, sql: Sql
) -> None:
    few, whole = ScriptRunner(LINE, make_saver(keep_last=1)), ScriptRunner(LINE, make_saver())
    at, log = thread("both"), []
    for turn in range(6):
        log += [f"{turn}", "one", "two", "three"]
        driver = few if turn % 2 else whole

        ended = await driver.invoke({"log": [f"{turn}"], "big": f"{turn}" * 900}, at)

        assert (ended["log"], ended["big"]) == (log, f"{turn}" * 900)


async def test_projected_rows_stay_when_their_checkpoints_are_pruned(
    make_saver: SaverFactory, sql: Sql
) -> None:
    updates = [{"items": [n], "messages": [("user", f"{n}")], "title": f"{n}"} for n in range(4)]

    await run(chain(make_saver(keep_last=1), *updates), {})

    assert counts(sql)["messages"] == 4
    assert one(sql, "sessions")["title"] == "3"
    assert from_json(one(sql, "sessions")["graph_state"])["items"] == [0, 1, 2, 3]
