"""Writes of tasks: a small change of a large value is stored as a delta."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Overwrite

from langgraph_session_saver import CorruptBlobError, HistoryLostError, SessionSaver
from langgraph_session_saver.encoding.chains import (
    CHANGED,
    Value,
    frame_write,
    held_by,
    unframe_write,
)
from langgraph_session_saver.inspection.queries import DatabaseQueries
from langgraph_session_saver.inspection.values import NamespaceReader
from langgraph_session_saver.schema.tables import build_tables
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.graphs import Delta, Log, ScriptRunner, line_of, thread, underlying
from tests.support.rows import new_checkpoint
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE

quick = settings(max_examples=200, derandomize=True, deadline=None, database=None)

CONFIG = thread("t", checkpoint_ns="")
PAGE = "".join(random.Random(1).choices("abcdefghij", k=30_000))
"""A text that does not compress well."""


def page(number: int) -> str:
    """The page after a number of changes."""
    return PAGE.replace(PAGE[:20], f"change {number}", 1)


def edits(state: Log) -> Log:
    number = state.get("number", 0) + 1
    return {"big": page(number), "number": number}


GRAPH = line_of(("edit", edits), ("edit again", edits))


# -- frames -------------------------------------------------------------------------------------

texts = st.binary(max_size=40) | st.integers(0, 9).map(lambda n: random.Random(n).randbytes(3_000))


def value_of(data: bytes, typ: str = "msgpack") -> Value:
    return Value(b"k" * 16, (typ, data), root=b"k" * 16, root_size=len(data))


@quick
@example([b"a" * 3_000], [b"a" * 3_000, b"b"])
@example([b"\xdc", b"\x01"], [b"\x00" * 3_000])  # not MessagePack: a truncated list
@given(st.lists(texts, max_size=4), st.lists(texts, max_size=4))
def test_a_write_reads_back_whatever_base_it_is_stored_against(
    before: list[bytes], after: list[bytes]
) -> None:
    held, data = value_of(b"".join(before)), b"".join(before[:2] + after)

    framed = frame_write(("msgpack", data), held)

    assert held_by(framed) in {None, held.key}
    assert unframe_write(framed, lambda _: held if held_by(framed) else None) == data


@pytest.mark.parametrize(
    ("held", "typ", "data"),
    [
        (None, "msgpack", b"a" * 5_000),
        (value_of(b"a" * 5_000, "json"), "msgpack", b"a" * 5_000),
        (value_of(b"a" * 50_000), "msgpack", b"a" * 5_000),
        (value_of(random.Random(1).randbytes(5_000)), "msgpack", random.Random(2).randbytes(5_000)),
    ],
    ids=["nothing", "another type", "much larger", "another text"],
)
def test_a_write_unlike_its_channels_value_is_stored_whole(
    held: Value | None, typ: str, data: bytes
) -> None:
    framed = frame_write((typ, data), held)

    assert held_by(framed) is None
    assert unframe_write(framed, lambda _: None) == data


def test_a_damaged_change_or_one_of_another_base_is_refused() -> None:
    held = value_of(b"a" * 5_000)
    framed = frame_write(("msgpack", b"a" * 4_999 + b"b"), held)

    with pytest.raises(HistoryLostError, match="is not in the database"):
        unframe_write(framed, lambda _: None)
    with pytest.raises(CorruptBlobError, match="no change of blob"):
        unframe_write(framed, lambda _: value_of(b"a"))
    with pytest.raises(CorruptBlobError):
        unframe_write(framed[:17], lambda _: held)


# -- in a thread --------------------------------------------------------------------------------


def kinds(sql: Sql) -> list[int]:
    """The frame kinds of the large writes to the page's channel, in order."""
    rows = sql(
        "SELECT data FROM session_writes WHERE channel IN ('big', 'items')"
        " ORDER BY checkpoint_id, idx"
    )
    return [bytes(row["data"])[0] for row in rows]


def sizes(sql: Sql) -> list[int]:
    return [
        len(row["data"]) for row in sql("SELECT data FROM session_writes WHERE channel = 'big'")
    ]


async def listed(saver: BaseCheckpointSaver[Any], config: Any = CONFIG) -> list[Any]:
    return [found async for found in saver.alist(config)]


def written(found: list[Any]) -> list[list[tuple[str, Any]]]:
    return [[(channel, value) for _, channel, value in one.pending_writes] for one in found]


async def shown(saver: SessionSaver, checkpoint_id: str) -> list[Any]:
    """The writes that the command `show` prints for a checkpoint."""
    inner: Any = underlying(saver)
    script = NamespaceReader(inner._context, inner.serde, "t", "").view(checkpoint_id)
    return [write.value for write in (await inner._script_runner.arun(script)).writes]


async def ran(saver: BaseCheckpointSaver[Any], *, is_sync: bool | None = None) -> None:
    driver = ScriptRunner(GRAPH, saver, is_sync=is_sync)
    for _ in range(3):
        await driver.invoke({"log": ["x"]}, thread("t"), durability="sync")


async def test_a_small_change_of_a_page_writes_few_bytes(
    make_saver: SaverFactory, sql: Sql
) -> None:
    await ran(make_saver())

    first, *others = sorted(sizes(sql), reverse=True)
    assert first > 10_000
    assert len(others) == 5
    assert max(others) < 100


async def test_writes_of_tasks_read_like_those_of_another_saver(
    make_saver: SaverFactory,
) -> None:
    saver, memory = make_saver(), InMemorySaver()
    await ran(saver)
    await ran(memory, is_sync=False)

    expected = written(await listed(memory))
    for reader in (saver, make_saver()):
        found = await listed(reader)
        assert written(found) == expected
        each = [await reader.aget_tuple(one.config) for one in found]
        assert written(each) == expected
    assert sum(value == page(6) for writes in expected for _, value in writes) == 1


async def test_a_copied_thread_has_the_writes_of_its_original(
    make_saver: SaverFactory,
) -> None:
    saver = make_saver()
    await ran(saver)

    await saver.acopy_thread("t", "copy")
    await saver.adelete_thread("t")

    found = await listed(make_saver(), thread("copy", checkpoint_ns=""))
    assert [value for writes in written(found) for _, value in writes].count(page(6)) == 1


async def test_bases_of_writes_stay_with_the_kept_checkpoints(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver(keep_last=3)
    await ran(saver)

    found = await listed(make_saver())

    assert len(found) == 3
    assert [value for writes in written(found) for _, value in writes].count(page(6)) == 1
    assert CHANGED in kinds(sql)


async def test_a_checkpoint_view_shows_the_written_values(make_saver: SaverFactory) -> None:
    saver = make_saver()
    await ran(saver)
    found = await listed(saver)

    assert page(6) in await shown(make_saver(), found[1].checkpoint["id"])


async def test_a_delta_channel_replays_writes_stored_against_its_snapshot(
    make_saver: SaverFactory, sql: Sql
) -> None:
    items = [f"{number} {PAGE[:300]}" for number in range(20)]

    def replace(state: Delta) -> Delta:
        del state
        return {"items": Overwrite([*items[:-1], "the last"])}  # type: ignore[typeddict-item]

    driver = ScriptRunner(line_of(("replace", replace), state=Delta), make_saver())
    for _ in range(4):
        await driver.invoke({"items": items}, thread("t"), durability="sync")

    found = (await ScriptRunner(driver.graph.builder, make_saver()).state(thread("t"))).values
    assert found["items"] == [*items[:-1], "the last"]


def damaged_writes(backend: Backend) -> int:
    with backend.outside.connect() as connection:
        found = DatabaseQueries(build_tables()).find_damage(connection)
    return {what: count for what, count, _ in found}["writes"]


# -- a checkpoint that is put again -------------------------------------------------------------


async def save(saver: SessionSaver, config: Any, checkpoint: Checkpoint) -> None:
    metadata: Any = {"step": 0, "source": "loop"}
    await saver.aput(config, checkpoint, metadata, checkpoint["channel_versions"])


async def test_writes_survive_a_second_put_of_their_checkpoint(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver, other = make_saver(), make_saver()
    checkpoint = new_checkpoint(saver, {"big": page(1)})
    at = thread("t", checkpoint_ns="", checkpoint_id=checkpoint["id"])
    await save(saver, CONFIG, checkpoint)
    await saver.aput_writes(at, [("big", page(2))], "task")
    again = new_checkpoint(other, {"big": "another"}) | {"id": checkpoint["id"]}
    assert kinds(sql) == [CHANGED]

    await save(other, CONFIG, again)
    await save(other, CONFIG, new_checkpoint(other, {"big": "yet another"}) | {"id": again["id"]})
    await save(other, at, new_checkpoint(other, {"note": "the next"}))
    await other.aprune(["t"], strategy="keep_last", keep_last=2)

    for reader in (saver, other, make_saver()):
        found = await reader.aget_tuple(at)
        assert found is not None
        assert found.pending_writes == [("task", "big", page(2))]
        assert written(await listed(reader))[1] == [("big", page(2))]
    assert await shown(make_saver(), checkpoint["id"]) == [page(2)]


async def test_a_write_whose_base_was_deleted_manually_is_named_and_counted_as_damage(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    saver = make_saver()
    checkpoint = new_checkpoint(saver, {"big": page(1)})
    at = thread("t", checkpoint_ns="", checkpoint_id=checkpoint["id"])
    await save(saver, CONFIG, checkpoint)
    await saver.aput_writes(at, [("big", page(2))], "task")
    await save(saver, CONFIG, new_checkpoint(saver, {}) | {"id": checkpoint["id"]})

    assert damaged_writes(backend) == 0
    sql("DELETE FROM session_blobs")

    assert damaged_writes(backend) == 1
    with pytest.raises(HistoryLostError, match=r"task 'task' to channel 'big' at .*: it is"):
        await make_saver().aget_tuple(at)


async def test_a_write_to_a_channel_without_a_value_is_stored_whole(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver()
    before = new_checkpoint(saver, {"big": page(1)})
    at = thread("t", checkpoint_ns="", checkpoint_id=before["id"])
    await save(saver, CONFIG, before)
    after = new_checkpoint(saver, {"note": "x"})
    after["channel_versions"]["big"] = before["channel_versions"]["big"]  # of a graph that had it
    await save(saver, at, after)

    then = thread("t", checkpoint_ns="", checkpoint_id=after["id"])
    await saver.aput_writes(then, [("big", page(2))], "task")

    assert CHANGED not in kinds(sql)


async def test_a_write_to_a_checkpoint_of_a_subgraph_is_stored_whole(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver()
    checkpoint = new_checkpoint(saver, {"big": page(1)})
    await save(saver, thread("t", checkpoint_ns="inner:1"), checkpoint)
    at = thread("t", checkpoint_ns="inner:1", checkpoint_id=checkpoint["id"])

    await saver.aput_writes(at, [("big", page(2))], "task")

    assert CHANGED not in kinds(sql)
