"""`list`: what is read, deserialised and held in memory for each checkpoint."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from langgraph.checkpoint.base import ChannelVersions, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.checkpointer import listing
from langgraph_session_saver.encoding.chains import Value, resolve
from langgraph_session_saver.errors import HistoryLostError
from tests.support.backends import Backend, Sql
from tests.support.graphs import engine_of, thread, underlying
from tests.support.savers import SaverFactory
from tests.support.statements import hook, recorded_statements

CONFIG = thread("t", checkpoint_ns="")
STEPS = 20
LARGE = 40_000


class Counting(JsonPlusSerializer):
    """Counts the large values that it deserialises."""

    def __init__(self) -> None:
        super().__init__()
        self.large = 0

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        self.large += len(data[1]) > LARGE
        return super().loads_typed(data)


async def save(saver: SessionSaver, *, replace: bool = False) -> list[dict[str, Any]]:
    """Save steps that append to, replace and keep channels. Return their values."""
    rng, config = Random(0), CONFIG
    doc: list[Any] = [rng.randbytes(LARGE)]
    kept = ["kept", rng.randbytes(LARGE)]
    saved: list[dict[str, Any]] = []
    versions: ChannelVersions = {}
    for step in range(STEPS):
        doc = [rng.randbytes(LARGE)] if replace else [*doc, step]
        new: ChannelVersions = {"doc": saver.get_next_version(None, None)}
        if not step:
            new["kept"] = saver.get_next_version(None, None)
        versions = {**versions, **new}
        checkpoint = empty_checkpoint()
        checkpoint["id"] = str(uuid6())
        checkpoint["channel_values"] = {"doc": doc, "kept": kept}
        checkpoint["channel_versions"] = versions
        config = await saver.aput(config, checkpoint, {"step": step}, new)
        saved.append(checkpoint["channel_values"])
    return saved


async def steps_of(saver: SessionSaver, **options: Any) -> list[Any]:
    return [item.metadata["step"] async for item in saver.alist(CONFIG, **options)]


async def test_a_value_is_deserialised_only_when_its_checkpoint_is_reached(
    make_saver: SaverFactory,
) -> None:
    saved = await save(make_saver())
    serde = Counting()

    made = []
    async for item in make_saver(serde=serde).alist(CONFIG):
        made.append(serde.large)
        assert item.checkpoint["channel_values"] == saved.pop()

    assert made == [2 * number for number in range(1, STEPS + 1)]


async def test_a_listing_resolves_a_shared_blob_once_per_page_into_separate_objects(
    make_saver: SaverFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = await save(make_saver())
    rebuilt: list[bytes] = []

    def noted(key: bytes, *rest: Any) -> Value:
        rebuilt.append(key)
        return resolve(key, *rest)

    monkeypatch.setattr(listing, "resolve", noted)
    async for item in make_saver().alist(CONFIG):
        values = item.checkpoint["channel_values"]
        assert values == saved.pop()
        values["kept"].clear()

    # The shared value once on each of the pages of 4, 8 and 8.
    assert len(rebuilt) == STEPS + 3
    assert len(set(rebuilt)) == STEPS + 1


async def test_a_page_is_three_statements_and_its_size_doubles(make_saver: SaverFactory) -> None:
    await save(make_saver())
    cold = make_saver()
    await cold.asetup()

    with recorded_statements(engine_of(cold)) as statements:
        sent = [len(statements) async for _ in cold.alist(CONFIG)]

    assert sent == [3] * 4 + [6] * 8 + [9] * 8


async def test_a_short_listing_of_cached_values_takes_two_statements(
    make_saver: SaverFactory,
) -> None:
    warm, cold = make_saver(), make_saver()
    await save(warm)
    await cold.asetup()
    sent: list[list[str]] = []

    for saver in (warm, cold):
        with recorded_statements(engine_of(saver)) as statements:
            assert await steps_of(saver, limit=10) == list(range(STEPS))[:-11:-1]
        sent.append(statements)

    assert sent[0] == ["SELECT session_checkpoints", "SELECT session_writes"]
    assert len(sent[1]) == 3


async def test_the_statement_for_a_page_is_compiled_once(
    make_saver: SaverFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = make_saver()
    await save(saver)
    await steps_of(saver)
    pages: Any = underlying(saver)._context.storage.checkpoints._select_page  # type: ignore[attr-defined]
    compiled = pages.cache_info().misses

    assert len(await steps_of(saver)) == STEPS
    assert pages.cache_info().misses == compiled


@pytest.mark.parametrize("size", [300_000, 3_000_000])
def test_a_page_shrinks_to_the_byte_limit(
    sync_saver: SessionSaver, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    rng, config = Random(1), CONFIG
    for step in range(30 if size < 1_000_000 else 7):
        checkpoint = empty_checkpoint()
        checkpoint["id"] = str(uuid6())
        checkpoint["channel_values"] = {"doc": rng.randbytes(size)}
        versions: ChannelVersions = {"doc": sync_saver.get_next_version(None, None)}
        checkpoint["channel_versions"] = versions
        config = sync_saver.put(config, checkpoint, {"step": step}, versions)
    pages: list[int] = []
    turn = listing.Listing._read_page

    def noted(self: listing.Listing, serde: Any) -> Any:
        yield from turn(self, serde)
        pages.append(len(self.waiting))
        assert self.weight <= max(pages[0] * (size + 2_000), listing.PAGE_BYTES)

    monkeypatch.setattr(listing.Listing, "_read_page", noted)
    steps = [item.metadata["step"] for item in sync_saver.list(CONFIG)]

    assert steps == sorted(steps, reverse=True)
    assert pages == ([4, 8, 13, 5] if size < 1_000_000 else [4, 1, 1, 1, 0])


async def test_a_checkpoint_pruned_while_its_page_is_read_is_not_listed(
    make_saver: SaverFactory, backend: Backend
) -> None:
    await save(make_saver(), replace=True)
    other = SessionSaver(backend.engine())
    saver = make_saver()

    def prune(_conn: Any) -> None:
        other.prune(["t"], strategy="keep_last", keep_last=2)

    with hook(engine_of(saver), "links", prune):
        found = await steps_of(saver)

    assert found == [STEPS - 1, STEPS - 2]


async def test_listing_leaves_out_a_checkpoint_whose_blob_was_deleted_manually(
    make_saver: SaverFactory, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    await save(make_saver())
    [newest] = sql("SELECT blob_key FROM session_blobs ORDER BY depth DESC LIMIT 1")
    sql("DELETE FROM session_blobs WHERE blob_key = :key", key=newest["blob_key"])

    assert await steps_of(make_saver()) == [*range(STEPS - 2, -1, -1)]
    assert len(caplog.records) == 1
    assert "channel 'doc'" in caplog.text
    with pytest.raises(HistoryLostError, match="'doc'"):
        await make_saver().aget_tuple(CONFIG)
