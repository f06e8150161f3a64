"""Two runs on one thread: both outcomes are kept, or with `single_writer` only one of them."""

from __future__ import annotations

import json
import signal
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import NullPool

from langgraph_session_saver import SessionSaver, ThreadConflictError
from tests.retention.test_overlapping_runs import node_that_once_awaits
from tests.support.backends import EACH_ONCE, Backend
from tests.support.drivers import ASYNC_DRIVERS, url_of
from tests.support.graphs import Log, ScriptRunner, line_of, says, thread
from tests.support.rows import checkpoint_id, fails, listed, put
from tests.support.savers import SaverFactory
from tests.support.zygote import Child, Zygote

BACKENDS_AND_FACES = EACH_ONCE


def runs_that_overlap(make_saver: SaverFactory, **options: Any) -> ScriptRunner:
    """A graph in whose first run another process runs the same graph on the same thread."""

    async def run_other() -> None:
        await other.invoke({"log": ["other"]}, thread("t"), durability="sync")

    slow = node_that_once_awaits(make_saver.face, run_other, {"log": ["slow"]})
    builder = line_of(("first", says("first")), ("slow", slow))
    overtaken, other = (ScriptRunner(builder, make_saver(**options)) for _ in range(2))
    return overtaken


async def test_both_outcomes_are_kept_as_forks(make_saver: SaverFactory) -> None:
    driver = runs_that_overlap(make_saver)

    ended = await driver.invoke({"log": ["one"]}, thread("t"), durability="sync")

    logs = [state.values.get("log") for state in await driver.history(thread("t"))]
    assert ended["log"] == logs[0] == ["one", "first", "slow"]
    assert ["one", "first", "other", "first", "slow"] in logs


@pytest.mark.parametrize("keep_last", [None, 1])
async def test_a_run_that_was_overtaken_raises_and_the_other_is_the_threads_state(
    make_saver: SaverFactory, keep_last: int | None
) -> None:
    driver = runs_that_overlap(make_saver, single_writer=True, keep_last=keep_last)

    error = await fails(
        driver.invoke({"log": ["one"]}, thread("t"), durability="sync"), ThreadConflictError
    )

    state = await driver.state(thread("t"))
    assert state.values["log"] == ["one", "first", "other", "first", "slow"]
    assert "thread 't'" in str(error)
    assert repr(state.config["configurable"]["checkpoint_id"]) in str(error)


async def test_nothing_that_follows_a_refused_step_is_saved(make_saver: SaverFactory) -> None:
    here, there = make_saver(single_writer=True), make_saver(single_writer=True)
    start = await put(here, 1, {"note": 1})
    await put(there, 2, {"note": 2}, start)
    await fails(put(here, 3, {"note": 3}, start), ThreadConflictError)

    refused = thread("t", checkpoint_ns="", checkpoint_id=checkpoint_id(3))
    await fails(put(here, 4, {"note": 4}, refused), ThreadConflictError)

    assert await listed(here, thread("t")) == [checkpoint_id(2), checkpoint_id(1)]


async def test_an_update_of_an_older_checkpoint_makes_a_fork(make_saver: SaverFactory) -> None:
    driver = ScriptRunner(line_of(("one", says("one"))), make_saver(single_writer=True))
    await driver.invoke({"log": ["in"]}, thread("t"))
    oldest = (await driver.history(thread("t")))[-1]

    fork = await driver.update(oldest.config, {"log": ["forked"]})
    await driver.invoke(None, fork)

    assert (await driver.state(thread("t"))).values["log"] == ["forked", "one"]


async def test_a_thread_that_is_deleted_while_it_runs_is_stored_from_its_next_step_on(
    make_saver: SaverFactory,
) -> None:
    saver: SessionSaver = make_saver(single_writer=True)
    start = await put(saver, 1, {"note": 1})
    await saver.adelete_thread("t")

    await put(saver, 2, {"note": 2}, start)

    assert await listed(saver, thread("t")) == [checkpoint_id(2)]


# -- processes ----------------------------------------------------------------------------------

RACES = 10
ONE_DRIVER_OF_EACH_DATABASE = pytest.mark.parametrize("driver", ["pysqlite", "asyncpg", "pymysql"])


async def run_in_process(
    url: str, name: str, *, is_async: bool, single_writer: bool, waits: bool, runs: int
) -> None:
    """Run a graph on a thread, again and again, and print how each run ends.

    If it `waits`, each run does for SIGUSR1, in the middle.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

    def work(_state: Log) -> Log:
        if waits:
            print("waiting", flush=True)
            signal.sigwait({signal.SIGUSR1})
        return {"log": [f"{name} worked"]}

    saver = SessionSaver.from_conn_string(url, single_writer=single_writer)
    builder = line_of(("first", says("first")), ("work", work))
    driver = ScriptRunner(builder, saver, is_sync=not is_async)
    for _ in range(runs):
        try:
            ended = await driver.invoke({"log": [name]}, thread("t"), durability="sync")
        except ThreadConflictError as error:
            print(json.dumps({"refused": str(error)}), flush=True)
        else:
            print(json.dumps({"ended": ended["log"]}), flush=True)
    await saver.aclose()


def outcomes(child: Child) -> list[dict[str, Any]]:
    """How the runs of a process ended."""
    assert child.wait() == 0, child.text
    return [json.loads(line) for line in child.lines if line.startswith("{")]  # drivers log too


class Processes:
    """Two processes that run a graph on the same thread."""

    def __init__(self, database: Backend, zygote: Zygote, driver: str) -> None:
        self._zygote = zygote
        self._database = database
        self._given = {"url": url_of(database, driver), "is_async": driver in ASYNC_DRIVERS}

    def overlap(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Let one of them run while the other is in the middle; how they and the other ended."""
        one = self._spawn("one", waits=True, runs=1, **options)
        one.wait_for("waiting")
        (other,) = outcomes(self._spawn("other", waits=False, runs=1, **options))
        one.kill(signal.SIGUSR1)
        return outcomes(one)[0], other

    def race(self, **options: Any) -> list[dict[str, Any]]:
        """Let both run again and again; how each run ended."""
        self.history()  # makes the tables
        children = [
            self._spawn(name, waits=False, runs=RACES, **options) for name in ("one", "other")
        ]
        return [outcome for child in children for outcome in outcomes(child)]

    def history(self) -> list[Any]:
        """The states of the thread, the newest first."""
        with SessionSaver(self._database.engine(poolclass=NullPool)) as saver:
            graph = line_of(("first", says("first"))).compile(checkpointer=saver)
            return list(graph.get_state_history(thread("t")))

    def _spawn(self, name: str, **options: Any) -> Child:
        return self._zygote.spawn(
            f"{__name__}:run_in_process",
            {"name": name, "single_writer": False, **self._given, **options},
        )


@pytest.fixture
def processes(database: Backend, zygote: Zygote, driver: str) -> Processes:
    return Processes(database, zygote, driver)


def test_the_outcomes_of_two_processes_are_forks_of_one_checkpoint(processes: Processes) -> None:
    one, other = processes.overlap()

    assert one == {"ended": ["one", "first", "one worked"]}
    assert other == {"ended": ["one", "first", "other", "first", "other worked"]}
    states = processes.history()
    logs = [state.values.get("log") for state in states]
    assert logs[0] == one["ended"]  # its last checkpoint is the newest
    assert other["ended"] in logs
    forked = [known for known, count in children_of(states).items() if count == 2]
    ids = [state.config["configurable"]["checkpoint_id"] for state in states]
    assert [logs[ids.index(known)] for known in forked] == [["one", "first"]]


def test_of_two_processes_the_overtaken_is_told_of_the_others_checkpoint(
    processes: Processes,
) -> None:
    one, other = processes.overlap(single_writer=True)

    newest = processes.history()[0]
    assert newest.values["log"] == other["ended"]
    assert "thread 't'" in one["refused"]
    assert repr(newest.config["configurable"]["checkpoint_id"]) in one["refused"]


@ONE_DRIVER_OF_EACH_DATABASE
def test_each_outcome_of_two_processes_that_race_is_kept(processes: Processes) -> None:
    ended = processes.race()

    logs = [state.values.get("log") for state in processes.history()]
    assert [outcome for outcome in ended if outcome.get("ended") not in logs] == []
    assert len(ended) == 2 * RACES


@ONE_DRIVER_OF_EACH_DATABASE
def test_two_processes_that_race_make_one_line_of_checkpoints(processes: Processes) -> None:
    ended = processes.race(single_writer=True)

    states = processes.history()
    logs = [state.values.get("log") for state in states]
    assert set(children_of(states).values()) == {1}
    assert [each for each in ended if "ended" in each and each["ended"] not in logs] == []
    assert all("thread 't'" in outcome["refused"] for outcome in ended if "refused" in outcome)


def children_of(states: list[Any]) -> Counter[str | None]:
    """How many checkpoints follow each one; None stands before the first."""
    parents = [state.parent_config and state.parent_config["configurable"] for state in states]
    return Counter(parent and parent["checkpoint_id"] for parent in parents)
