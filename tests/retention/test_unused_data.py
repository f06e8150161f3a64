"""Blobs and writes that no checkpoint needs: deleted soon, so that storage stays bounded."""

from __future__ import annotations

import operator
from functools import partial
from typing import Annotated, Any

import pytest
from typing_extensions import TypedDict

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.encoding.references import References
from langgraph_session_saver.retention.lineage import Stored
from langgraph_session_saver.retention.policy import Contents, keep_last, unused_blobs
from tests.retention.runs import LINE, Run
from tests.support.backends import EACH_ONCE, Sql
from tests.support.graphs import line_of, thread
from tests.support.kept import SLACK_BLOBS, SLACK_ROWS, orphan_blobs, orphan_writes
from tests.support.rows import STORAGE, config, counts, put
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


class RecentLines(TypedDict, total=False):
    lines: list[str]
    total: Annotated[int, operator.add]


@pytest.mark.parametrize("links", [3, 8, 15, 40])
def test_the_number_of_unused_blobs_is_bounded_for_chains_of_any_length(links: int) -> None:
    contents = Contents(0, {}, {})
    before: bytes | None = None
    for number in range(300):
        key, depth = str(number).encode(), number % links
        refs = References("", (), {"text": key}, None)
        row = Stored(b"", f"{number:06}", "", None, None, None, is_hidden=False, refs=refs)
        step = contents.with_step(number, row, {key: (before if depth else None, depth)})
        contents, before = (
            step.thinned(partial(keep_last, count=4), slack=SLACK_BLOBS).contents,
            key,
        )

        used = [blob for kept in contents.rows.values() for blob in kept.blobs]
        assert len(unused_blobs(contents.blobs, used)) <= SLACK_BLOBS


def test_a_late_older_checkpoint_pushes_out_no_newer_one() -> None:
    contents = Contents(0, {}, {})
    for revision, name in enumerate(["1", "3", "2", "4"]):
        refs = References("", (), {}, None)
        row = Stored(b"", name, "", None, None, None, is_hidden=False, refs=refs)
        contents = contents.with_step(revision, row, {})
        contents = contents.thinned(partial(keep_last, count=2), slack=SLACK_BLOBS).contents

    assert [row.checkpoint_id for row in contents.rows.values()] == ["3", "4"]


async def test_after_a_prune_no_blob_and_no_write_is_left_over(
    make_saver: SaverFactory, sql: Sql
) -> None:
    beside = Run(make_saver, LINE, 2, sql)
    for turn in range(5):
        await beside.invoke({"log": [f"{turn}"], "big": f"{turn}" * 3_000})
    saver = make_saver()

    await saver.aprune(["kept"], strategy="keep_last", keep_last=2)

    kept = await beside.check()
    assert not await orphan_blobs(saver, sql, "kept", kept)
    assert not orphan_writes(sql, "kept", kept)


async def test_late_writes_for_a_pruned_checkpoint_are_not_stored(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver(keep_last=1)
    first = await put(saver, 1, {"note": 1})
    await put(saver, 2, {"note": 2}, first)

    await saver.aput_writes(first, [("note", 5)], "late")

    assert counts(sql)["session_writes"] == 0


async def test_late_writes_of_a_saver_that_keeps_everything_are_removed_at_the_next_step(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver, other = make_saver(keep_last=1), make_saver()
    first = await put(saver, 1, {"note": 1})
    second = await put(saver, 2, {"note": 2}, first)
    await other.aput_writes(first, [("note", 5)], "late")
    assert counts(sql)["session_writes"] == 1

    await put(saver, 3, {"note": 3}, second)

    assert counts(sql)["session_writes"] == 0


async def test_writes_that_arrive_before_their_checkpoint_stay(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver(keep_last=1)
    first = await put(saver, 1, {"note": 1})
    early = config(checkpoint_ns="", checkpoint_id="1f0a0000-0000-6000-8000-000000000003")
    await saver.aput_writes(early, [("note", 5)], "early")
    second = await put(saver, 2, {"note": 2}, first)

    await put(saver, 3, {"note": 3}, second)

    found = await saver.aget_tuple(config())
    assert found is not None
    assert found.pending_writes == [("early", "note", 5)]


async def test_three_hundred_steps_store_no_more_than_one_hundred(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver, where = make_saver(keep_last=5), config(checkpoint_ns="")
    most: list[tuple[int, int]] = []
    for number in range(1, 301):
        where = await put(saver, number, {"note": f"{number:06} " * 200, "number": number}, where)
        await saver.aput_writes(where, [("note", number)], f"task {number}")
        stored = counts(sql)
        data = sql("SELECT sum(length(data)) AS n FROM session_blobs")[0]["n"]
        most.append((sum(stored[table] for table in STORAGE), int(data)))

    rows, data = map(max, zip(*most[:100], strict=True))
    later_rows, later_data = map(max, zip(*most[100:], strict=True))
    assert later_rows <= rows <= 1 + 5 * (1 + 2 + 1) + SLACK_ROWS
    assert later_data <= 1.2 * data


def test_six_hundred_steps_make_the_file_no_larger_than_three_hundred(
    tmp_path: Any,
) -> None:
    path = tmp_path / "flat.db"

    def step(state: RecentLines) -> RecentLines:
        number = state.get("total", 0)
        return {"lines": [*state.get("lines", []), f"{number:06} " * 10][-40:], "total": 1}

    with SessionSaver.from_conn_string(str(path), keep_last=5) as saver:
        graph = line_of(*[(f"n{i}", step) for i in range(8)], state=RecentLines).compile(
            checkpointer=saver
        )
        sizes = []
        for _ in range(2):
            for _ in range(30):
                graph.invoke({"total": 0}, thread("flat"), durability="sync")
            with saver._runner.sync_engine.connect() as conn:
                conn.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            sizes.append(path.stat().st_size)

    assert sizes[1] <= sizes[0] * 1.1
