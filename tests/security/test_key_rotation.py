"""Changing the key of a database: while graphs run, and after the process was killed."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from sqlalchemy import text

from langgraph_session_saver import InvalidConfigError, KeyRing, SerializationError, SessionSaver
from tests.security.rotating import NEW_KEY, OLD_KEY, with_both, with_key
from tests.support.backends import EACH_ONCE, Backend
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


async def notes(saver: SessionSaver) -> list[str]:
    """What every thread holds, with its writes."""
    found = [one async for one in saver.alist(None)]
    values = [one.checkpoint["channel_values"]["note"].strip() for one in found]
    assert all([w[2].strip() for w in one.pending_writes or ()] == ["written"] for one in found)
    return sorted(values)


async def test_all_values_get_the_new_key(make_saver: SaverFactory) -> None:
    await fill(make_saver(serde=with_key(OLD_KEY)), 3)

    done = await make_saver(serde=with_both()).areencrypt()

    assert (done.changed, done.kept, done.in_clear) == (3 * VALUES, 0, 0)
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


async def test_values_in_clear_are_counted_and_left(make_saver: SaverFactory) -> None:
    await fill(make_saver(), 1)

    done = await make_saver(serde=with_both()).areencrypt()

    assert (done.changed, done.kept, done.in_clear) == (0, 0, VALUES)
    assert await notes(make_saver()) == ["note 0"]


async def test_a_value_that_no_key_decrypts_is_named(make_saver: SaverFactory) -> None:
    await fill(make_saver(serde=with_key(b"a third key 16by")), 1)

    with pytest.raises(SerializationError, match=r"session_\w+ thread_key=.*none of the 2 keys"):
        await make_saver(serde=with_both()).areencrypt()


@pytest.mark.parametrize("serde", [None, with_key(NEW_KEY)], ids=["none", "one key"])
async def test_a_saver_without_both_keys_is_told_what_to_pass(
    make_saver: SaverFactory, serde: Any
) -> None:
    with pytest.raises(InvalidConfigError, match=r"KeyRing\(new, old\)"):
        await make_saver(serde=serde).areencrypt()


def test_a_ring_of_one_key_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="one older"):
        KeyRing(with_key(NEW_KEY).cipher)


async def test_graphs_run_while_keys_change(make_saver: SaverFactory) -> None:
    await fill(make_saver(serde=with_key(OLD_KEY)), 5)
    old = make_saver(serde=with_key(OLD_KEY))
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


async def test_a_rotation_that_is_killed_is_run_again(
    make_saver: SaverFactory, backend: Backend, zygote: Zygote
) -> None:
    threads = 40
    await fill(make_saver(serde=with_key(OLD_KEY)), threads)
    child = zygote.spawn("tests.security.rotating:rotate", {"url": backend.url})
    child.wait_for("thread 5")
    child.kill()
    assert child.wait() == -signal.SIGKILL
    saver = make_saver(serde=with_both())
    assert len(await notes(saver)) == threads  # readable in between

    done = await saver.areencrypt()

    assert done.kept >= 5 * VALUES
    assert done.changed + done.kept == threads * VALUES
    assert len(await notes(make_saver(serde=with_key(NEW_KEY)))) == threads
    with backend.engine().connect() as conn:
        assert conn.execute(text("SELECT count(*) FROM session_writes")).scalar_one() == threads
