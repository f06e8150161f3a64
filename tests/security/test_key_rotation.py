"""Encrypting a database, and changing its key: while graphs run, and after a killed process."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest
from sqlalchemy import text

from langgraph_session_saver import InvalidConfigError, SerializationError, SessionSaver
from langgraph_session_saver.encoding.pieces import PIECE_BYTES
from tests.security.rotating import NEW_KEY, OLD_KEY, with_both, with_key
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.rows import chain, config, put, run
from tests.support.savers import SaverFactory
from tests.support.zygote import Zygote

BACKENDS_AND_FACES = EACH_ONCE

VALUES = 4
"""Of each checkpoint that `fill` stores: itself, its metadata, a channel and a write."""


async def fill(saver: SessionSaver, threads: int) -> None:
    for n in range(threads):
        at = await put(saver, 1, {"note": f"note {n} ".ljust(99)}, config(f"t{n}"))
        await saver.aput_writes(at, [("note", "written".ljust(99))], "task")


async def notes(saver: SessionSaver, thread_id: str | None = None) -> list[str]:
    """What every thread holds, or one, with its writes."""
    found = [one async for one in saver.alist(config(thread_id) if thread_id else None)]
    values = [one.checkpoint["channel_values"]["note"].strip() for one in found]
    assert all([w[2].strip() for w in one.pending_writes or ()] == ["written"] for one in found)
    return sorted(values)


async def test_all_values_get_the_new_key(make_saver: SaverFactory) -> None:
    await fill(make_saver(serde=with_key(OLD_KEY)), 3)

    done = await make_saver(serde=with_both()).areencrypt()

    assert (done.changed, done.encrypted, done.kept) == (3 * VALUES, 0, 0)
    only_new = make_saver(serde=with_key(NEW_KEY), require_encryption=True)
    assert await notes(only_new) == ["note 0", "note 1", "note 2"]
    with pytest.raises(SerializationError):
        await make_saver(serde=with_key(OLD_KEY)).aget_tuple(config("t0"))


async def test_a_second_call_changes_nothing(make_saver: SaverFactory) -> None:
    await fill(make_saver(serde=with_key(OLD_KEY)), 2)
    saver = make_saver(serde=with_both())
    await saver.areencrypt()

    done = await saver.areencrypt()

    assert (done.changed, done.kept) == (0, 2 * VALUES)


async def test_a_saver_with_both_keys_reads_both_and_writes_the_new_one(
    make_saver: SaverFactory,
) -> None:
    await put(make_saver(serde=with_key(OLD_KEY)), 1, {"note": "old".ljust(99)}, config("old"))
    saver = make_saver(serde=with_both(), require_encryption=True)
    await put(saver, 1, {"note": "new".ljust(99)}, config("new"))

    assert await notes_only(saver) == ["new", "old"]
    assert (await make_saver(serde=with_key(NEW_KEY)).aget_tuple(config("new"))) is not None


async def notes_only(saver: SessionSaver) -> list[str]:
    return sorted(
        [one.checkpoint["channel_values"]["note"].strip() async for one in saver.alist(None)]
    )


@pytest.mark.parametrize("serde", [with_key(NEW_KEY), with_both()], ids=["one key", "two keys"])
async def test_values_in_clear_are_encrypted(
    make_saver: SaverFactory, sql: Sql, serde: Any
) -> None:
    await fill(make_saver(), 1)
    await fill_with_changes(make_saver())
    assert sql("SELECT blob_key FROM session_blobs WHERE base_key IS NOT NULL")

    done = await make_saver(serde=serde).areencrypt()

    assert (done.changed, done.kept) == (0, 0)
    saver = make_saver(serde=with_key(NEW_KEY), require_encryption=True)
    assert await notes(saver, "t0") == ["note 0"]
    assert await grown(saver) == [*range(CHANGES)]
    assert (await saver.areencrypt()).kept == done.encrypted


CHANGES = 80
"""Changes of one value: more than are merged into one."""


async def fill_with_changes(saver: SessionSaver) -> None:
    """Store a list that grows: in clear, values and writes are then changes of others."""
    text = [f"{n}".ljust(40) for n in range(CHANGES)]
    at = config("grown")
    for step in range(CHANGES):
        at = await put(saver, step, {"note": text[: step + 1]}, at)
        await saver.aput_writes(at, [("note", ["x".ljust(2000), *text[: step + 1]])], "task")


async def grown(saver: SessionSaver) -> list[int]:
    """The last item of the list at each checkpoint, oldest first."""
    found = [one async for one in saver.alist(config("grown"))]
    for one in found:
        assert one.pending_writes is not None
        assert one.pending_writes[0][2][1:] == one.checkpoint["channel_values"]["note"]
    return [int(one.checkpoint["channel_values"]["note"][-1]) for one in reversed(found)]


async def test_a_value_in_pieces_and_a_small_change_of_it_are_encrypted(
    make_saver: SaverFactory, sql: Sql
) -> None:
    clear, value = make_saver(), os.urandom(PIECE_BYTES + 1)
    at = await put(clear, 1, {"note": value})
    await put(clear, 2, {"note": value + b"more"}, at)
    own, pieces = "depth >= 0", "depth < 0"
    assert len(sql(f"SELECT blob_key FROM session_blobs WHERE {pieces}")) == 1

    await make_saver(serde=with_key(NEW_KEY)).areencrypt()

    saver = make_saver(serde=with_key(NEW_KEY), require_encryption=True)
    read = [one.checkpoint["channel_values"]["note"] async for one in saver.alist(config())]
    assert [value == read[1], value + b"more" == read[0]] == [True, True]
    for rows in (own, pieces):
        assert len(sql(f"SELECT blob_key FROM session_blobs WHERE {rows}")) == 2


async def test_a_saver_that_writes_in_clear_meanwhile_makes_no_change_of_a_ciphertext(
    make_saver: SaverFactory,
) -> None:
    clear = make_saver()
    text = ["long".ljust(2000)]
    at = await put(clear, 1, {"note": text})
    await make_saver(serde=with_key(NEW_KEY)).areencrypt()

    await put(clear, 2, {"note": [*text, "more"]}, at)

    found = await make_saver(serde=with_key(NEW_KEY)).aget_tuple(config())
    assert found is not None
    assert found.checkpoint["channel_values"]["note"] == [*text, "more"]


async def test_a_value_that_no_key_decrypts_is_named(make_saver: SaverFactory) -> None:
    await fill(make_saver(serde=with_key(b"a third key 16by")), 1)

    with pytest.raises(SerializationError, match=r"session_\w+ thread_key=.*none of the 2 keys"):
        await make_saver(serde=with_both()).areencrypt()


async def test_a_saver_that_does_not_encrypt_is_told_what_to_pass(make_saver: SaverFactory) -> None:
    with pytest.raises(InvalidConfigError, match=r"does not encrypt: pass .*KeyRing\(new, old\)"):
        await make_saver().areencrypt()


@pytest.mark.parametrize("before", [with_key(OLD_KEY), None], ids=["another key", "in clear"])
async def test_graphs_run_meanwhile(make_saver: SaverFactory, before: Any) -> None:
    old = make_saver(serde=before)
    await fill(old, 5)
    steps: list[Any] = [{"note": f"step {n}".ljust(99)} for n in range(5)]
    await run(chain(old, *steps), {}, config("running"))
    saver = make_saver(serde=with_both())
    graph = chain(saver, *steps)

    async def go_on() -> None:
        for _ in range(3):
            await run(graph, {}, config("running"))

    await asyncio.gather(go_on(), make_saver(serde=with_both()).areencrypt())

    only_new = make_saver(serde=with_key(NEW_KEY), require_encryption=True)
    found = [one async for one in only_new.alist(config("running"))]
    assert len(found) == 4 * 7  # the input, and one for each step and the start, of four runs
    state = await chain(only_new, *steps).aget_state(config("running"))
    assert state.values["note"].strip() == "step 4"


@pytest.mark.parametrize("before", [with_key(OLD_KEY), None], ids=["another key", "in clear"])
async def test_a_call_that_is_killed_is_repeated(
    make_saver: SaverFactory, backend: Backend, zygote: Zygote, before: Any
) -> None:
    threads = 40
    await fill(make_saver(serde=before), threads)
    child = zygote.spawn("tests.security.rotating:rotate", {"url": backend.url})
    child.wait_for("thread 5")
    child.kill()
    assert child.wait() == -signal.SIGKILL
    saver = make_saver(serde=with_both())
    assert len(await notes(saver)) == threads  # readable in between

    done = await saver.areencrypt()

    assert done.kept >= 5 * VALUES
    assert done.changed + done.encrypted + done.kept == threads * VALUES
    only_new = make_saver(serde=with_key(NEW_KEY), require_encryption=True)
    assert len(await notes(only_new)) == threads
    with backend.engine().connect() as conn:
        assert conn.execute(text("SELECT count(*) FROM session_writes")).scalar_one() == threads
