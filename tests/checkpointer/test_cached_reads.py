"""Repeated reads: what the caches hold of a checkpoint, and what is read again."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.base import Checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.errors import SerializationError
from tests.support.graphs import thread
from tests.support.rows import new_checkpoint
from tests.support.savers import SaverFactory

CONFIG = thread("t", checkpoint_ns="")

SMALL: dict[str, Any] = {"notes": [{"text": "a"}], "raw": b"bytes", "count": 1, "name": "x" * 99}
LARGE: dict[str, Any] = {"notes": ["x" * (1 << 14)], "words": ["y"], "count": 1}


class Counting(JsonPlusSerializer):
    """Counts what it deserialises, and fails when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded = 0
        self.refuses = False

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        self.loaded += 1
        if self.refuses:
            raise ValueError("refused")
        return super().loads_typed(data)


def checkpoint_of(saver: SessionSaver, values: dict[str, Any]) -> Checkpoint:
    checkpoint = new_checkpoint(saver, values)
    checkpoint["channel_versions"]["empty"] = saver.get_next_version(None, None)
    return checkpoint


async def save(saver: SessionSaver, checkpoint: Checkpoint, **metadata: Any) -> None:
    versions = checkpoint["channel_versions"]
    await saver.aput(CONFIG, checkpoint, {"step": 0, **metadata}, versions)  # type: ignore[typeddict-item]


async def read(saver: SessionSaver) -> Any:
    found = await saver.aget_tuple(CONFIG)
    assert found is not None
    return found


@pytest.mark.parametrize("values", [SMALL, LARGE], ids=["small", "large"])
async def test_repeated_reads_return_the_same_checkpoint_in_every_process(
    make_saver: SaverFactory, values: dict[str, Any]
) -> None:
    saver, other = make_saver(), make_saver()
    checkpoint = checkpoint_of(saver, values)
    await save(saver, checkpoint)

    found = [await read(reader) for reader in (saver, saver, saver, other, other, other)]

    assert all(item == found[0] for item in found)
    assert found[0].checkpoint == checkpoint


async def test_changing_a_returned_checkpoint_does_not_change_the_next_read(
    make_saver: SaverFactory,
) -> None:
    saver = make_saver()
    checkpoint = checkpoint_of(saver, SMALL)
    await save(saver, checkpoint)

    for _ in range(3):
        found = await read(saver)
        assert found.checkpoint == checkpoint
        found.checkpoint["channel_values"]["notes"][0]["text"] = "changed"
        found.checkpoint["channel_versions"].clear()
        found.metadata["step"] = 9


async def test_a_checkpoint_replaced_by_another_process_is_read_anew(
    make_saver: SaverFactory,
) -> None:
    saver, other = make_saver(), make_saver()
    checkpoint = checkpoint_of(saver, SMALL)
    await save(saver, checkpoint)
    for _ in range(2):
        await read(saver)
    again = checkpoint_of(other, {**SMALL, "notes": ["another"]})
    again["id"] = checkpoint["id"]

    await save(other, again, source="update")

    found = await read(saver)
    assert found.checkpoint == again
    assert found.metadata["source"] == "update"


async def test_writes_of_another_process_show_in_a_cached_checkpoint(
    make_saver: SaverFactory,
) -> None:
    saver, other = make_saver(), make_saver()
    checkpoint = checkpoint_of(saver, SMALL)
    await save(saver, checkpoint)
    for _ in range(2):
        assert (await read(saver)).pending_writes == []

    await other.aput_writes(thread("t", checkpoint_id=checkpoint["id"]), [("notes", 1)], "task")

    assert (await read(saver)).pending_writes == [("task", "notes", 1)]


async def test_a_cached_thread_is_gone_after_another_process_deletes_it(
    make_saver: SaverFactory,
) -> None:
    saver, other = make_saver(), make_saver()
    await save(saver, checkpoint_of(saver, SMALL))
    for _ in range(2):
        await read(saver)

    await other.adelete_thread("t")

    assert await saver.aget_tuple(CONFIG) is None


async def test_a_custom_serde_deserialises_each_value(make_saver: SaverFactory) -> None:
    serde = Counting()
    saver = make_saver(serde=serde)
    values = {"notes": ["a"], "words": ["b"], "more": ["c"]}
    await save(saver, checkpoint_of(saver, values))

    for _ in range(2):
        serde.loaded = 0
        assert (await read(saver)).checkpoint["channel_values"] == values
        assert serde.loaded == 2 + len(values)  # with the checkpoint and its metadata


async def test_a_cached_value_that_does_not_deserialise_is_named(
    make_saver: SaverFactory,
) -> None:
    serde = Counting()
    saver = make_saver(serde=serde)
    checkpoint = checkpoint_of(saver, SMALL)
    await save(saver, checkpoint)
    await read(saver)
    serde.refuses = True

    with pytest.raises(SerializationError, match=f"checkpoint '{checkpoint['id']}'"):
        await saver.aget_tuple(CONFIG)
