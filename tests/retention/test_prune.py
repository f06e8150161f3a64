"""`prune`: strategies, defaults, and refused arguments."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from langgraph_session_saver import InvalidConfigError, SessionSaver
from tests.support.backends import EACH_ONCE, Sql
from tests.support.kept import in_tables
from tests.support.rows import chain, checkpoint, config, counts, fails, listed, put, run
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


async def test_prune_defaults_to_the_savers_keep_last(make_saver: SaverFactory, sql: Sql) -> None:
    await run(chain(make_saver(), *[{"note": n} for n in range(8)]), {})
    saver = make_saver(keep_last=4)

    await saver.aprune(["t"], strategy="keep_last", keep_last=6)
    assert len(in_tables(sql, "t").roots) == 6
    await saver.aprune(["t"], strategy="keep_last")

    assert len(in_tables(sql, "t").roots) == 4


async def test_prune_with_keep_last_needs_a_number(make_saver: SaverFactory, sql: Sql) -> None:
    saver = make_saver()
    await put(saver, 1, {"note": 1})

    await fails(saver.aprune(["t"], strategy="keep_last"), InvalidConfigError, "keep_last")

    assert counts(sql)["session_checkpoints"] == 1


async def test_pruning_a_thread_that_does_not_exist_does_nothing(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver(keep_last=1)
    await put(saver, 1, {"note": 1})
    before = counts(sql)

    await saver.aprune(["nobody"], strategy="keep_last")

    assert counts(sql) == before


@pytest.mark.parametrize(
    "call",
    [
        lambda saver: saver.aprune(["t"]),
        lambda saver: saver.aprune(["t"], strategy="keep_last", keep_last=1),
        lambda saver: saver.asweep(older_than=timedelta(days=1)),
    ],
    ids=["keep_latest", "keep_last", "sweep"],
)
async def test_writes_that_came_before_their_threads_first_checkpoint_stay(
    make_saver: SaverFactory, call: Any
) -> None:
    saver, made = make_saver(), checkpoint(1, {"note": 1})
    await saver.aput_writes(config(checkpoint_id=made["id"]), [("note", 2)], "task")

    await call(saver)

    await saver.aput(config(), made, {}, made["channel_versions"])
    found = await saver.aget_tuple(config())
    assert found is not None
    assert found.pending_writes == [("task", "note", 2)]


@pytest.mark.parametrize("ids", ["t", None, 5], ids=repr)
async def test_a_single_id_instead_of_a_list_is_refused_before_anything_is_deleted(
    ids: Any,
) -> None:
    with SessionSaver.from_conn_string(":memory:") as saver:
        await put(saver, 1, {"note": 1}, run_id="t")
        with pytest.raises(InvalidConfigError, match=r"thread_ids is .*: pass a list of ids"):
            saver.prune(ids, strategy="delete")
        with pytest.raises(InvalidConfigError, match=r"run_ids is .*: pass a list of ids"):
            await saver.adelete_for_runs(ids)
        assert len(await listed(saver, config())) == 1


BAD_COUNTS: tuple[Any, ...] = (0, -1, True, False, 1.5, 2.0, "3", [4])


@pytest.mark.parametrize("option", ["keep_last", "keep_versions"])
@pytest.mark.parametrize("count", BAD_COUNTS, ids=repr)
def test_a_keep_option_that_is_no_positive_whole_number_is_refused(option: str, count: Any) -> None:
    with pytest.raises(InvalidConfigError, match=f"{option} is .*whole number from 1"):
        SessionSaver.from_conn_string(":memory:", **{option: count})


@pytest.mark.parametrize("count", BAD_COUNTS, ids=repr)
async def test_a_prune_count_that_is_no_positive_whole_number_is_refused(count: Any) -> None:
    with SessionSaver.from_conn_string(":memory:") as saver:
        with pytest.raises(InvalidConfigError, match=r"keep_last is .*whole number from 1"):
            saver.prune(["t"], strategy="keep_last", keep_last=count)
        with pytest.raises(InvalidConfigError, match=r"keep_last is .*whole number from 1"):
            await saver.aprune(["t"], strategy="keep_last", keep_last=count)
