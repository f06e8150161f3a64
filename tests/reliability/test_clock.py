"""A host whose clock is behind continues a thread: a clear error, and nothing is lost.

LangGraph makes the ids of checkpoints from the host's clock, and their order is that of the ids.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langgraph_session_saver import ClockError, SessionSaver
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.graphs import ScriptRunner, ask, line_of, nested, says, thread
from tests.support.rows import checkpoint_id, fails, listed, one, put
from tests.support.savers import SaverFactory
from tests.support.zygote import Child, Zygote

BACKENDS_AND_FACES = EACH_ONCE

ASKING = line_of(("before", says("before")), ("ask", ask("who?")), ("after", says("after")))

GRAPHS = {"asking": ASKING, "nested": nested(None), "stateful": nested(True)}

HOUR = 3_600 * 10**9


def run_behind(url: str, name: str, given: Any, keep_last: int | None, *, is_set: bool) -> None:
    """Run a graph in a process whose clock is an hour behind, or was until it is set."""
    if not is_set:
        right = time.time_ns
        time.time_ns = lambda: right() - HOUR
    with SessionSaver.from_conn_string(url, keep_last=keep_last) as saver:
        graph = GRAPHS[name].compile(checkpointer=saver)
        command: Any = (
            {"log": [given]} if name == "asking" and given != "me" else Command(resume=given)
        )
        try:
            print("ended", graph.invoke(command, thread("t"))["log"], flush=True)
        except ClockError as error:
            print("ClockError", error, flush=True)


@pytest.fixture(params=[None, 1], ids=["keeps all", "keeps one"])
def keep_last(request: pytest.FixtureRequest) -> Any:
    return request.param


class Behind:
    """Runs a graph on another host."""

    def __init__(self, zygote: Zygote, backend: Backend, keep_last: int | None) -> None:
        self._zygote, self._url, self._keep_last = zygote, backend.url, keep_last

    def run(self, name: str, given: Any, *, is_set: bool = False) -> str:
        arguments = {"url": self._url, "name": name, "given": given, "is_set": is_set}
        child: Child = self._zygote.spawn(
            "tests.reliability.test_clock:run_behind", {**arguments, "keep_last": self._keep_last}
        )
        assert child.wait() == 0, child.text
        return child.lines[-1]


@pytest.fixture
def behind(zygote: Zygote, backend: Backend, keep_last: int | None) -> Behind:
    return Behind(zygote, backend, keep_last)


async def test_new_input_raises_and_the_thread_stays_as_it_was(
    make_saver: SaverFactory, behind: Behind, keep_last: int | None, sql: Sql
) -> None:
    driver = ScriptRunner(ASKING, make_saver(keep_last=keep_last))
    await driver.invoke({"log": ["in"]}, thread("t"))
    ended = await driver.invoke(Command(resume="me"), thread("t"))
    before = await listed(make_saver(), thread("t"))

    text = behind.run("asking", "more")

    assert text.startswith("ClockError")
    assert "of thread 't' was not saved" in text
    assert " s ahead of this host's" in text
    assert await listed(make_saver(), thread("t")) == before
    assert (await driver.state(thread("t"))).values == ended
    assert one(sql, "session_threads")["status"] == "done"


async def test_the_host_goes_on_once_its_clock_is_set(
    make_saver: SaverFactory, behind: Behind, keep_last: int | None
) -> None:
    driver = ScriptRunner(ASKING, make_saver(keep_last=keep_last))
    await driver.invoke({"log": ["in"]}, thread("t"))
    await driver.invoke(Command(resume="me"), thread("t"))
    assert behind.run("asking", "more").startswith("ClockError")

    assert behind.run("asking", "more", is_set=True).startswith("ended")

    assert (await driver.state(thread("t"))).next == ("ask",)


@pytest.mark.parametrize("name", GRAPHS)
async def test_an_answer_to_an_interrupt_waits_for_another_host(
    make_saver: SaverFactory, behind: Behind, keep_last: int | None, name: str
) -> None:
    driver = ScriptRunner(GRAPHS[name], make_saver(keep_last=keep_last))
    await driver.invoke({"log": ["in"]}, thread("t"))

    assert behind.run(name, "me").startswith("ClockError")

    ended = await driver.invoke(None, thread("t"))
    assert [line for line in ended["log"] if line.endswith("? me")] != []


async def test_a_manual_update_raises(saver: SessionSaver) -> None:
    later = await put(saver, 5, {"note": 5})

    await fails(put(saver, 4, {"note": 4}, later), ClockError)

    assert await listed(saver, thread("t")) == [checkpoint_id(5)]


async def test_what_follows_a_refused_checkpoint_is_refused(saver: SessionSaver) -> None:
    later = await put(saver, 5, {"note": 5})
    await fails(put(saver, 4, {"note": 4}, later), ClockError)
    refused = thread("t", checkpoint_ns="", checkpoint_id=checkpoint_id(4))

    await fails(put(saver, 6, {"note": 6}, refused), ClockError)
    await fails(saver.aput_writes(refused, [("note", 6)], "task"), ClockError)

    assert await listed(saver, thread("t")) == [checkpoint_id(5)]


async def test_ids_that_tell_no_time_may_have_any_order(saver: SessionSaver) -> None:
    at = await put(saver, 5, {"note": 5})
    at["configurable"]["checkpoint_id"] = "z"
    first: Any = {**(await _stored(saver, 5)), "id": "z"}
    await saver.aput(thread("t", checkpoint_ns=""), first, {}, {})

    await put(saver, 6, {"note": 6}, at)

    assert checkpoint_id(6) in await listed(saver, thread("t"))


async def _stored(saver: SessionSaver, number: int) -> Any:
    found = await saver.aget_tuple(thread("t", checkpoint_id=checkpoint_id(number)))
    assert found is not None
    return found.checkpoint


async def test_a_thread_that_another_saver_stored_so_is_imported_as_it_is(
    saver: SessionSaver,
) -> None:
    other: Any = InMemorySaver()
    later = await put(other, 5, {"note": 5}, thread("t", checkpoint_ns=""))
    await put(other, 4, {"note": 4}, later)

    await saver.aimport_from(other)

    assert await listed(saver, thread("t")) == [checkpoint_id(5), checkpoint_id(4)]
