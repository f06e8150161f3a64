"""`keep_last`, `prune`, `sweep` and `keep_versions`, on real graphs, counted in the tables."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from sqlalchemy import create_engine
from typing_extensions import TypedDict

from langgraph_session_saver import InvalidConfigError, SessionSaver
from langgraph_session_saver.checkpointer.maintenance import Counts
from langgraph_session_saver.encoding.references import References
from langgraph_session_saver.retention.contents import Contents, unused_blobs
from langgraph_session_saver.retention.lineage import Origin, Stored, caller_of, origin_of
from langgraph_session_saver.retention.policy import keep_last, keep_latest, keep_since
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.faces import SyncFaceAdapter
from tests.support.graphs import (
    DELTA,
    Log,
    ScriptRunner,
    ask,
    extended,
    line_of,
    nested,
    says,
    thread,
)
from tests.support.kept import (
    SLACK_BLOBS,
    SLACK_ROWS,
    Beside,
    Kept,
    check_kept,
    in_tables,
    orphan_blobs,
    orphan_writes,
)
from tests.support.rows import (
    STORAGE,
    chain,
    checkpoint,
    checkpoint_id,
    config,
    counts,
    fails,
    from_json,
    listed,
    one,
    put,
    run,
)
from tests.support.savers import SaverFactory
from tests.support.zygote import Zygote

BACKENDS_AND_FACES = EACH_ONCE


class Often(TypedDict, total=False):
    items: Annotated[list[str], DeltaChannel(extended, snapshot_frequency=4)]


class TwoGenerationCache(TypedDict, total=False):
    lines: list[str]
    total: Annotated[int, operator.add]


LINE = line_of(*[(name, says(name)) for name in ("one", "two", "three")])
ASKING = line_of(("before", says("before")), ("ask", ask("who?")), ("after", says("after")))


class Run:
    """A graph on a thread of a saver that prunes, beside one that keeps everything."""

    def __init__(
        self, make_saver: SaverFactory, builder: Any, count: int, sql: Sql, name: str = "kept"
    ) -> None:
        self.everything = InMemorySaver()
        self.reader = make_saver()
        self.config: Any = thread(name)
        self._make, self._builder = make_saver, builder
        self._count, self._sql, self._name = count, sql, name
        self.driver = self.another_process()

    def another_process(self) -> ScriptRunner:
        """The graph in another process, whose saver keeps as many."""
        saver = self._make(keep_last=self._count)
        beside = Beside(saver, self.everything)
        return ScriptRunner(self._builder, beside, is_sync=isinstance(saver, SyncFaceAdapter))

    async def check(self) -> Kept:
        return await check_kept(self.reader, self.everything, self._sql, self._name, self._count)

    async def invoke(self, given: Any, **options: Any) -> Any:
        """Run in turn in this process, then check."""
        result = await self.driver.invoke(given, self.config, **options)
        await self.check()
        return result


# -- how many -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 7])
async def test_after_each_run_exactly_the_newest_few_checkpoints_are_in_the_tables(
    make_saver: SaverFactory, sql: Sql, count: int
) -> None:
    beside = Run(make_saver, LINE, count, sql)

    for turn in range(4):
        await beside.invoke({"log": [f"turn {turn}"], "big": f"{turn}" * 2_000})

        assert len(in_tables(sql, "kept").roots) == min(count, 5 * (turn + 1))
        rows = sql("SELECT count(*) AS n FROM session_checkpoints")[0]["n"]
        assert rows == len(await listed(beside.reader, beside.config)) == min(count, 5 * turn + 5)


async def test_at_any_time_in_a_run_there_are_no_more_than_the_newest_few(
    make_saver: SaverFactory, sql: Sql
) -> None:
    seen: list[int] = []

    def look(_state: Any) -> Any:
        seen.append(sql("SELECT count(*) AS n FROM session_checkpoints")[0]["n"])
        return {}

    await run(chain(make_saver(keep_last=2), *[look] * 6), {})

    assert seen == [2] * 6


async def test_fewer_checkpoints_than_are_kept_all_stay(make_saver: SaverFactory, sql: Sql) -> None:
    beside = Run(make_saver, LINE, 50, sql)

    await beside.invoke({"log": ["in"]})

    assert len(in_tables(sql, "kept").roots) == 5


async def test_each_thread_keeps_its_own(make_saver: SaverFactory, sql: Sql) -> None:
    graph = chain(make_saver(keep_last=2), {"note": 1}, {"note": 2})

    for name in ("a", "b", "c"):
        await run(graph, {}, config(name))

    assert [len(in_tables(sql, name).roots) for name in ("a", "b", "c")] == [2, 2, 2]


async def test_a_smaller_number_thins_a_thread_out_at_its_next_step(
    make_saver: SaverFactory, sql: Sql
) -> None:
    await run(chain(make_saver(), {"note": 1}, {"note": 2}), {})
    assert len(in_tables(sql, "t").roots) == 4

    await run(chain(make_saver(keep_last=1), {"note": 3}), {})

    assert len(in_tables(sql, "t").roots) == 1


async def test_a_thread_that_kept_few_goes_on_with_a_saver_that_keeps_all(
    make_saver: SaverFactory, sql: Sql
) -> None:
    beside = Run(make_saver, LINE, 2, sql)
    await beside.invoke({"log": ["in"]})
    keeps_all = make_saver()

    ended = await ScriptRunner(LINE, keeps_all).invoke({"log": ["again"]}, beside.config)

    assert ended["log"] == ["in", "one", "two", "three", "again", "one", "two", "three"]
    assert len(in_tables(sql, "kept").roots) == 2 + 5


async def test_a_thread_kept_whole_by_one_saver_and_thinned_by_another_goes_on_in_both(
    make_saver: SaverFactory, sql: Sql
) -> None:
    few, whole = ScriptRunner(LINE, make_saver(keep_last=1)), ScriptRunner(LINE, make_saver())
    at, log = thread("both"), []
    for turn in range(6):
        log += [f"{turn}", "one", "two", "three"]
        driver = few if turn % 2 else whole

        ended = await driver.invoke({"log": [f"{turn}"], "big": f"{turn}" * 900}, at)

        assert (ended["log"], ended["big"]) == (log, f"{turn}" * 900)


# -- what survives ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
async def test_several_tools_that_wait_for_an_answer_are_answered_one_by_one(
    make_saver: SaverFactory, sql: Sql, count: int
) -> None:
    builder: StateGraph[Any] = StateGraph(Log)
    for name in ("one", "two", "three"):
        builder.add_node(name, ask(f"{name}?"))
        builder.add_edge(START, name)
    beside = Run(make_saver, builder, count, sql)
    await beside.invoke({"log": []})
    for answer in ("a", "b"):
        waiting = (await beside.driver.state(beside.config)).interrupts
        beside.driver = beside.another_process()
        await beside.invoke(Command(resume={waiting[0].id: answer}))
    (last,) = (await beside.driver.state(beside.config)).interrupts

    ended = await beside.invoke(Command(resume={last.id: "c"}))

    assert len(ended["log"]) == 3
    assert sorted(line[-1] for line in ended["log"]) == ["a", "b", "c"]


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("checkpointer", [None, True], ids=["stateless", "stateful"])
async def test_nested_subgraphs_that_ask_go_on_with_each_answer(
    make_saver: SaverFactory, sql: Sql, checkpointer: Any, count: int
) -> None:
    beside = Run(make_saver, nested(checkpointer), count, sql)
    given: Any = {"log": ["in"], "number": 0}
    for turn in range(6):
        beside.driver = beside.another_process()
        await beside.invoke(given)
        given = Command(resume=str(turn))
        if not (await beside.driver.state(beside.config, subgraphs=True)).next:
            break

    assert turn in range(1, 6)
    await beside.check()


async def test_the_namespaces_of_calls_go_with_the_root_checkpoint_that_called(
    make_saver: SaverFactory, sql: Sql
) -> None:
    builder = line_of(("call", line_of(("inner", says("inner"))).compile()))
    beside = Run(make_saver, builder, 2, sql)

    for turn in range(6):
        await beside.invoke({"log": [f"{turn}"]})

    namespaces = {ns for ns, _ in (await beside.check()).listed}
    assert len(namespaces) <= 2


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_a_subgraph_with_a_memory_of_its_own_is_replayed_from_every_kept_checkpoint(
    make_saver: SaverFactory, sql: Sql, count: int
) -> None:
    inner = line_of(("inner", says("inner"))).compile(checkpointer=True)
    beside = Run(make_saver, line_of(("call", inner), ("after", says("after"))), count, sql)
    for turn in range(4):
        await beside.invoke({"log": [f"{turn}"]})

    for name in in_tables(sql, "kept").roots:
        if name in in_tables(sql, "kept").roots:  # an earlier replay may have pushed it out
            at = thread("kept", checkpoint_id=name)
            await beside.driver.invoke(None, at)
            await beside.check()


def remembering(memory: Any) -> StateGraph[Any]:
    """A subgraph with a memory of its own, reached at once, or by a detour if the state says so."""

    def goes_on(state: Log) -> str:
        return "detour" if state.get("big") == "detour" else "memory"

    builder: StateGraph[Any] = StateGraph(Log)
    for name in ("first", "detour", "longer", "longest", "after"):
        builder.add_node(name, says(name))
    builder.add_node("memory", memory.compile(checkpointer=True))
    builder.add_edge(START, "first")
    builder.add_conditional_edges("first", goes_on, ["detour", "memory"])
    for before, after in pairwise(("detour", "longer", "longest", "memory", "after")):
        builder.add_edge(before, after)
    return builder


REMEMBERING = remembering(line_of(("inner", says("inner"))))


@pytest.mark.parametrize("count", [1, 2, 4])
async def test_a_fork_that_goes_another_way_finds_the_memory_from_before_what_it_was_made_from(
    make_saver: SaverFactory, sql: Sql, count: int
) -> None:
    beside = Run(make_saver, remembering(ASKING), count, sql)
    await beside.invoke({"log": ["one"]})
    await beside.invoke(Command(resume="1"))
    await beside.invoke({"log": ["two"]})  # what its memory holds by now, the fork must not see
    past = thread("kept", checkpoint_id=in_tables(sql, "kept").roots[0])

    beside.driver = beside.another_process()
    fork = await beside.driver.update(past, {"big": "detour"}, as_node="first")
    await beside.driver.invoke(None, fork)
    await beside.check()
    ended = await beside.invoke(Command(resume="2"))

    assert ended["log"][-3:] == ["who? 2", "after", "after"]


@pytest.mark.parametrize("count", [2, 5])
async def test_a_fork_is_replayed_from_the_memory_before_what_it_was_made_from(
    make_saver: SaverFactory, sql: Sql, count: int
) -> None:
    beside = Run(make_saver, REMEMBERING, count, sql)
    for turn in range(2):
        await beside.invoke({"log": [f"{turn}"]})
    oldest = thread("kept", checkpoint_id=in_tables(sql, "kept").roots[-1])
    fork = await beside.driver.update(oldest, {"log": ["forked"]}, as_node="first")
    for turn in range(count - 1):  # what the fork was made from goes, the fork itself stays
        await beside.driver.update(beside.config, {"log": [f"by hand {turn}"]}, as_node="after")
    await beside.check()

    ended = await beside.driver.invoke(None, fork)

    assert ended["log"][-2:] == ["inner", "after"]
    await beside.check()


async def test_a_copy_of_a_checkpoint_needs_nothing_that_went(
    make_saver: SaverFactory, sql: Sql
) -> None:
    beside = Run(make_saver, REMEMBERING, 1, sql)
    await beside.invoke({"log": ["in"], "big": "x" * 3_000}, interrupt_after=["first"])

    copy = await beside.driver.update(beside.config, None, as_node="__copy__")
    await beside.check()
    ended = await beside.driver.invoke(None, copy)

    assert (ended["log"][-1], ended["big"]) == ("after", "x" * 3_000)
    await beside.check()


@pytest.mark.parametrize("count", [1, 3])
async def test_a_call_that_a_memory_waits_for_goes_on_though_the_root_that_called_is_gone(
    make_saver: SaverFactory, sql: Sql, count: int
) -> None:
    call = line_of(("ask", ask("deep?")), ("told", says("told"))).compile()
    beside = Run(make_saver, remembering(line_of(("call", call))), count, sql)
    await beside.invoke({"log": ["in"]})
    for turn in range(count):  # each makes the memory due again
        await beside.driver.update(beside.config, {"log": [f"by hand {turn}"]}, as_node="first")
        await beside.check()
    beside.driver = beside.another_process()
    await beside.invoke(None)

    ended = await beside.invoke(Command(resume="yes"))

    assert ended["log"][-2:] == ["told", "after"]


async def test_a_fork_from_the_oldest_kept_checkpoint_outlives_what_it_was_made_from(
    make_saver: SaverFactory, sql: Sql
) -> None:
    beside = Run(make_saver, LINE, 3, sql)
    await beside.invoke({"log": ["in"], "big": "x" * 3_000})
    oldest = in_tables(sql, "kept").roots[-1]

    fork = await beside.driver.update(
        thread("kept", checkpoint_id=oldest), {"log": ["forked"], "big": "y" + "x" * 2_999}
    )
    await beside.check()
    ended = await beside.driver.invoke(None, fork)

    kept = await beside.check()
    assert oldest not in kept.roots
    assert ended["log"][:3] == ["in", "one", "forked"]
    assert ended["big"] == "y" + "x" * 2_999


async def test_updates_by_hand_count_as_checkpoints(make_saver: SaverFactory, sql: Sql) -> None:
    beside = Run(make_saver, LINE, 3, sql)
    await beside.invoke({"log": ["in"]})

    for number in range(5):
        await beside.driver.update(beside.config, {"log": [f"{number}"]}, as_node="one")
        await beside.check()

    ended = await beside.invoke(None)
    assert ended["log"][4:] == ["0", "1", "2", "3", "4", "two", "three"]


@pytest.mark.parametrize("count", [1, 2])
async def test_runs_that_are_stored_at_their_exit_only_are_kept_alike(
    make_saver: SaverFactory, sql: Sql, count: int
) -> None:
    beside = Run(make_saver, ASKING, count, sql)
    for turn in range(3):
        await beside.invoke({"log": [f"{turn}"]}, durability="exit")
        beside.driver = beside.another_process()
        ended = await beside.invoke(Command(resume="me"), durability="exit")

    assert ended["log"] == [
        line for turn in range(3) for line in (f"{turn}", "before", "who? me", "after")
    ]


@pytest.mark.parametrize("count", [1, 3])
async def test_a_delta_channel_is_rebuilt_from_ancestors_that_are_no_longer_listed(
    make_saver: SaverFactory, sql: Sql, count: int
) -> None:
    beside = Run(make_saver, DELTA, count, sql)
    for _ in range(5):
        await beside.invoke({"items": ["in"], "rare": ["in"]})
    kept = await beside.check()
    assert kept.hidden

    beside.driver = beside.another_process()
    ended = await beside.invoke({"items": ["last"]})

    whole = await ScriptRunner(DELTA, beside.everything, is_sync=True).state(beside.config)
    found = await ScriptRunner(DELTA, make_saver()).state(beside.config)
    assert ended == found.values == whole.values
    assert len(ended["rare"]) == 5 + 18


async def test_ancestors_that_are_hidden_cannot_be_seen_and_go_when_the_channel_is_stored_whole(
    make_saver: SaverFactory, sql: Sql
) -> None:
    def adds(_state: Any) -> Any:
        return {"items": ["more"]}

    beside = Run(make_saver, line_of(("one", adds), ("two", adds), state=Often), 2, sql)
    hidden = []
    for _ in range(8):
        await beside.invoke({"items": ["in"]})
        kept = await beside.check()
        hidden.append(len(kept.hidden))
        assert len(await listed(beside.reader, beside.config)) == 2

    assert max(hidden) <= 8


async def test_a_failed_node_runs_again_from_the_only_kept_checkpoint(
    make_saver: SaverFactory, sql: Sql
) -> None:
    broken = [True]

    def node(_state: Any) -> Any:
        if broken:
            raise ValueError("out of flour")
        return {"log": ["baked"]}

    beside = Run(make_saver, line_of(("one", says("one")), ("bake", node)), 1, sql)
    await fails(beside.driver.invoke({"log": ["in"]}, beside.config), ValueError)
    await beside.check()
    broken.clear()

    beside.driver = beside.another_process()
    assert (await beside.invoke(None))["log"] == ["in", "one", "baked"]


# -- several at once ----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 5])
async def test_two_savers_with_runs_in_flight_on_one_thread_leave_the_newest_few(
    make_saver: SaverFactory, sql: Sql, count: int
) -> None:
    everything, reader = InMemorySaver(), make_saver()
    drivers = []
    for _ in range(2):
        saver = make_saver(keep_last=count)
        beside = Beside(saver, everything, checks=False)
        drivers.append(ScriptRunner(LINE, beside, is_sync=isinstance(saver, SyncFaceAdapter)))

    async def turns(driver: ScriptRunner, name: str) -> Any:
        for turn in range(4):
            given = {"log": [f"{name}{turn}"], "big": name * 1_500}
            ended = await driver.invoke(given, thread("shared"))
        return ended

    if drivers[0].is_sync:
        pairs = zip(drivers, "ab", strict=True)
        calls = [asyncio.to_thread(asyncio.run, turns(driver, name)) for driver, name in pairs]
    else:
        calls = [turns(driver, name) for driver, name in zip(drivers, "ab", strict=True)]
    ended = await asyncio.gather(*calls)

    assert [values["log"][-3:] for values in ended] == [["one", "two", "three"]] * 2
    kept = await check_kept(reader, everything, sql, "shared", count)
    assert len(kept.roots) == count


def take_kept_turns(url: str, name: str, turns: int, count: int) -> None:
    """In a process: turns on a thread, each step also kept whole in tables of their own."""
    engine = create_engine(url)
    pruned = SessionSaver(engine, keep_last=count)
    everything = SessionSaver(engine, table_prefix="whole_")
    graph = LINE.compile(checkpointer=Beside(pruned, everything, checks=False))
    for turn in range(turns):
        given: Any = {"log": [f"{name} {turn}"], "big": name * 1_500}
        graph.invoke(given, thread("shared"), durability="sync")
    engine.dispose()


async def test_two_processes_on_one_thread_leave_the_newest_few_as_they_were(
    backend: Backend, zygote: Zygote, sql: Sql
) -> None:
    with (
        SessionSaver(backend.engine()) as reader,
        SessionSaver(backend.engine(), table_prefix="whole_") as everything,
    ):
        reader.setup()
        everything.setup()
        arguments = {"url": backend.url, "turns": 5, "count": 4}
        children = [
            zygote.spawn(
                "tests.retention.test_retention:take_kept_turns", {**arguments, "name": name}
            )
            for name in ("a", "b")
        ]
        for child in children:
            assert child.wait() == 0, child.text

        face: Any = SyncFaceAdapter(reader)
        kept = await check_kept(face, everything, sql, "shared", 4)
        assert len(kept.roots) == 4
        assert sql("SELECT count(*) AS n FROM whole_session_checkpoints") == [{"n": 50}]


async def test_a_thread_pruned_away_from_a_run_in_flight_is_stored_whole(
    make_saver: SaverFactory, sql: Sql
) -> None:
    other = make_saver()

    async def prune(_state: Any) -> Any:
        for number in (1, 2, 3):
            await other.aput(thread("kept", checkpoint_ns=""), *_made_late(number))
        await other.aprune(["kept"], strategy="keep_last", keep_last=1)
        return {"log": ["pruned"]}

    builder = line_of(("one", says("one")), ("prune", prune), ("two", says("two")))
    graph = builder.compile(checkpointer=_plain(make_saver()))
    given: Any = {"log": ["in"], "big": "x" * 2_000}

    ended = await graph.ainvoke(given, thread("kept"), durability="sync")

    assert ended["log"] == ["in", "one", "pruned", "two"]
    assert sql("SELECT count(*) AS n FROM session_blobs WHERE base_key IS NULL")[0]["n"] > 0


async def test_a_value_that_was_stored_as_a_change_stays_one_when_all_of_a_state_is_stored_again(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver, text = make_saver(), "a text that changes in one place " * 100
    at = await put(saver, 1, {"text": f"{text}1"})
    at = await put(saver, 2, {"text": f"{text}2"}, at)
    sql("DELETE FROM session_checkpoints")  # as a prune by another process may
    unchanged = checkpoint(2, {"text": f"{text}2"}) | {"id": checkpoint_id(3)}
    at = await saver.aput(at, unchanged, {"source": "loop", "step": 3}, {})

    await put(saver, 4, {"text": f"{text}4"}, at)

    depths = {
        bytes(row["blob_key"]): (row["depth"], row["base_key"] and bytes(row["base_key"]))
        for row in sql("SELECT blob_key, base_key, depth FROM session_blobs")
    }
    assert len(depths) == 3
    assert all(depth == (1 + depths[base][0] if base else 0) for depth, base in depths.values())


def _made_late(number: int) -> tuple[Any, Any, Any]:
    return empty_checkpoint(), {"source": "loop", "step": number}, {}


def _plain(saver: Any) -> BaseCheckpointSaver[Any]:
    inner: BaseCheckpointSaver[Any] = saver.saver if isinstance(saver, SyncFaceAdapter) else saver
    return inner


# -- what goes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("links", [3, 8, 15, 40])
def test_the_blobs_of_a_chain_that_ended_wait_for_no_more_than_others_do(links: int) -> None:
    contents = Contents(0, {}, {})
    before: bytes | None = None
    for number in range(300):
        key, depth = str(number).encode(), number % links
        refs = References("", (), {"text": key}, None)
        row = Stored(b"", f"{number:06}", "", None, None, None, is_hidden=False, refs=refs)
        step = contents.with_step(number, row, {key: (before if depth else None, depth)})
        contents, before = step.keeping_last(4, SLACK_BLOBS).contents, key

        used = [blob for kept in contents.rows.values() for blob in kept.blobs]
        assert len(unused_blobs(contents.blobs, used)) <= SLACK_BLOBS


def test_a_checkpoint_that_was_overtaken_pushes_out_no_newer_one() -> None:
    contents = Contents(0, {}, {})
    for revision, name in enumerate(["1", "3", "2", "4"]):
        refs = References("", (), {}, None)
        row = Stored(b"", name, "", None, None, None, is_hidden=False, refs=refs)
        contents = contents.with_step(revision, row, {}).keeping_last(2, SLACK_BLOBS).contents

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


async def test_writes_that_come_for_a_pruned_checkpoint_are_not_kept(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver(keep_last=1)
    first = await put(saver, 1, {"note": 1})
    await put(saver, 2, {"note": 2}, first)

    await saver.aput_writes(first, [("note", 5)], "late")

    assert counts(sql)["session_writes"] == 0


async def test_late_writes_of_a_saver_that_keeps_everything_go_with_the_next_step(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver, other = make_saver(keep_last=1), make_saver()
    first = await put(saver, 1, {"note": 1})
    second = await put(saver, 2, {"note": 2}, first)
    await other.aput_writes(first, [("note", 5)], "late")
    assert counts(sql)["session_writes"] == 1

    await put(saver, 3, {"note": 3}, second)

    assert counts(sql)["session_writes"] == 0


async def test_writes_that_come_before_their_checkpoint_stay(
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


async def test_no_more_is_stored_after_three_hundred_steps_than_after_one_hundred(
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


def test_the_file_is_no_larger_after_six_hundred_steps_than_after_three_hundred(
    tmp_path: Any,
) -> None:
    path = tmp_path / "flat.db"

    def step(state: TwoGenerationCache) -> TwoGenerationCache:
        number = state.get("total", 0)
        return {"lines": [*state.get("lines", []), f"{number:06} " * 10][-40:], "total": 1}

    with SessionSaver.from_conn_string(str(path), keep_last=5) as saver:
        graph = line_of(*[(f"n{i}", step) for i in range(8)], state=TwoGenerationCache).compile(
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


# -- prune --------------------------------------------------------------------------------------


async def test_prune_keeps_as_many_as_the_saver_keeps_unless_it_is_told(
    make_saver: SaverFactory, sql: Sql
) -> None:
    await run(chain(make_saver(), *[{"note": n} for n in range(8)]), {})
    saver = make_saver(keep_last=4)

    await saver.aprune(["t"], strategy="keep_last", keep_last=6)
    assert len(in_tables(sql, "t").roots) == 6
    await saver.aprune(["t"], strategy="keep_last")

    assert len(in_tables(sql, "t").roots) == 4


async def test_prune_to_the_last_few_without_a_number_is_refused(
    make_saver: SaverFactory, sql: Sql
) -> None:
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


@pytest.mark.parametrize("ids", ["t", None, 5], ids=repr)
async def test_one_id_in_place_of_several_is_refused_before_anything_goes(ids: Any) -> None:
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
def test_a_number_to_keep_that_is_no_whole_number_from_one_on_is_refused(
    option: str, count: Any
) -> None:
    with pytest.raises(InvalidConfigError, match=f"{option} is .*whole number from 1"):
        SessionSaver.from_conn_string(":memory:", **{option: count})


@pytest.mark.parametrize("count", BAD_COUNTS, ids=repr)
async def test_a_number_to_prune_to_that_is_no_whole_number_is_refused(count: Any) -> None:
    with SessionSaver.from_conn_string(":memory:") as saver:
        with pytest.raises(InvalidConfigError, match=r"keep_last is .*whole number from 1"):
            saver.prune(["t"], strategy="keep_last", keep_last=count)
        with pytest.raises(InvalidConfigError, match=r"keep_last is .*whole number from 1"):
            await saver.aprune(["t"], strategy="keep_last", keep_last=count)


# -- sweep --------------------------------------------------------------------------------------


async def aged(make_saver: SaverFactory, sql: Sql, name: str, days: int) -> None:
    """A thread of four checkpoints that nothing was written to for some days."""
    saver = make_saver()
    where = config(name)
    moment = datetime.now(UTC) - timedelta(days=days)
    for number in range(1, 5):
        made, about, versions = _made(number, moment)
        where = await saver.aput(where if number > 1 else config(name), made, about, versions)
        await saver.aput_writes(where, [("note", number)], f"task {number}")
    sql(
        "UPDATE session_threads SET updated_at = :moment WHERE thread_id = :name",
        moment=moment.replace(tzinfo=None), name=name,
    )  # fmt: skip


def _made(number: int, moment: datetime) -> tuple[Any, Any, Any]:
    made = checkpoint(number, {"note": f"{number} " * 300, "number": number})
    made["ts"] = (moment + timedelta(hours=number)).isoformat()
    return made, {"source": "loop", "step": number}, made["channel_versions"]


def sizes(sql: Sql) -> tuple[int, int, int]:
    found = counts(sql)
    return (found["session_threads"], found["session_checkpoints"], found["session_blobs"])


@pytest.mark.parametrize(
    "limits",
    [
        {"older_than": timedelta(days=5)},
        {"idle_for": timedelta(days=5)},
        {"older_than": timedelta(days=2), "idle_for": timedelta(days=20)},
        {"older_than": timedelta(days=300)},
    ],
    ids=["age", "idle", "both", "neither"],
)
async def test_a_dry_sweep_counts_what_a_sweep_then_removes(
    make_saver: SaverFactory, sql: Sql, limits: Any
) -> None:
    for name, days in (("old", 30), ("middle", 10), ("young", 1)):
        await aged(make_saver, sql, name, days)
    saver, before = make_saver(), counts(sql)

    told = await saver.asweep(**limits, dry_run=True)
    assert counts(sql) == before
    removed = await saver.asweep(**limits)

    left = counts(sql)
    assert removed == told
    assert removed.deleted_threads == before["session_threads"] - left["session_threads"]
    assert removed.checkpoints == before["session_checkpoints"] - left["session_checkpoints"]
    assert removed.blobs == before["session_blobs"] - left["session_blobs"]
    assert await saver.asweep(**limits) == Counts()


async def test_a_sweep_by_age_leaves_the_newest_checkpoint_of_an_old_thread(
    make_saver: SaverFactory, sql: Sql
) -> None:
    await aged(make_saver, sql, "old", 30)
    await aged(make_saver, sql, "young", 1)
    saver = make_saver()

    removed = await saver.asweep(older_than=timedelta(days=7))

    assert (removed.threads, removed.checkpoints, removed.deleted_threads) == (1, 3, 0)
    assert len(in_tables(sql, "old").roots) == 1
    assert len(in_tables(sql, "young").roots) == 4
    found = await saver.aget_tuple(config("old"))
    assert found is not None
    assert found.checkpoint["channel_values"]["number"] == 4
    assert found.pending_writes == [("task 4", "note", 4)]


async def test_a_sweep_of_the_idle_removes_their_threads_and_sessions(
    make_saver: SaverFactory, sql: Sql
) -> None:
    await aged(make_saver, sql, "old", 30)
    await aged(make_saver, sql, "young", 1)

    removed = await make_saver().asweep(idle_for=timedelta(days=7))

    assert (removed.threads, removed.deleted_threads, removed.checkpoints) == (1, 1, 4)
    assert one(sql, "session_threads")["thread_id"] == "young"
    assert one(sql, "sessions")["id"] == "young"


async def test_a_swept_thread_goes_on(make_saver: SaverFactory, sql: Sql) -> None:
    saver = make_saver()
    graph = chain(saver, {"items": ["a"]}, {"items": ["b"]})
    await run(graph, {"items": ["in"]})
    sql("UPDATE session_threads SET updated_at = updated_at")

    await make_saver().asweep(older_than=timedelta(microseconds=1))

    assert len(in_tables(sql, "t").roots) == 1
    ended = await run(graph, {"items": ["again"]})
    assert ended["items"] == ["in", "a", "b", "again", "a", "b"]


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"dry_run": True},
        {"older_than": timedelta()},
        {"older_than": timedelta(days=-1)},
        {"older_than": 5},
        {"older_than": "5 days"},
        {"idle_for": timedelta()},
        {"idle_for": 3.5},
        {"idle_for": datetime(2026, 1, 1, tzinfo=UTC)},
        {"older_than": timedelta(days=1), "idle_for": -1},
    ],
    ids=repr,
)
async def test_a_sweep_without_a_limit_that_makes_sense_is_refused(limits: Any) -> None:
    with SessionSaver.from_conn_string(":memory:") as saver:
        await put(saver, 1, {"note": 1})
        with pytest.raises(InvalidConfigError, match=r"older_than|idle_for"):
            saver.sweep(**limits)
        with pytest.raises(InvalidConfigError, match=r"older_than|idle_for"):
            await saver.asweep(**limits)
        assert len(await listed(saver, config())) == 1


async def test_a_sweep_of_an_empty_database_counts_nothing(make_saver: SaverFactory) -> None:
    assert await make_saver().asweep(older_than=timedelta(days=1)) == Counts()


async def test_a_sweep_goes_through_more_threads_than_it_looks_up_at_a_time() -> None:
    with SessionSaver.from_conn_string(":memory:") as saver:
        for number in range(450):
            await put(saver, 1, {}, config(f"t{number}"))

        told = saver.sweep(idle_for=timedelta(microseconds=1))

        assert told == Counts(threads=450, checkpoints=450, blobs=0, deleted_threads=450)


# -- keep_versions ------------------------------------------------------------------------------


def pages(sql: Sql) -> list[int]:
    return [row["version"] for row in sql("SELECT version FROM versions ORDER BY version")]


def some_pages(saver: SessionSaver, first: int, number: int) -> Any:
    return chain(saver, *[{"html": f"<p>{n}"} for n in range(first, first + number)])


@pytest.mark.parametrize("count", [1, 2, 4])
async def test_a_session_keeps_its_newest_pages(
    make_saver: SaverFactory, sql: Sql, count: int
) -> None:
    await run(some_pages(make_saver(keep_versions=count), 0, 6), {})

    assert pages(sql) == list(range(6 - count, 6))
    assert one(sql, "sessions")["current_version"] == 5


async def test_pinned_pages_stay(make_saver: SaverFactory, sql: Sql) -> None:
    saver = make_saver(keep_versions=2)
    await run(some_pages(saver, 0, 2), {})
    sql("UPDATE versions SET pinned = :yes WHERE version = 0", yes=True)

    await run(some_pages(saver, 2, 4), {})

    assert pages(sql) == [0, 4, 5]


async def test_the_current_page_stays_though_others_are_newer(
    make_saver: SaverFactory, sql: Sql
) -> None:
    await run(some_pages(make_saver(keep_versions=2), 0, 2), {}, config("a", session_id="s"))
    sql("UPDATE sessions SET current_version = 0")

    await run(some_pages(make_saver(keep_versions=2), 2, 4), {}, config("b", session_id="s"))

    assert pages(sql) == [0, 4, 5]


async def test_numbers_of_pages_are_never_used_again(make_saver: SaverFactory, sql: Sql) -> None:
    saver = make_saver(keep_versions=1)
    seen: list[int] = []
    for first in range(0, 9, 3):
        await run(some_pages(saver, first, 3), {})
        seen += pages(sql)

    assert seen == [2, 5, 8]


async def test_each_session_keeps_its_own_pages(make_saver: SaverFactory, sql: Sql) -> None:
    saver = make_saver(keep_versions=2)
    for name in ("a", "b"):
        await run(some_pages(saver, 0, 3), {}, config(name))

    rows = sql("SELECT session_id, version FROM versions ORDER BY session_id, version")
    assert [(row["session_id"], row["version"]) for row in rows] == [
        ("a", 1), ("a", 2), ("b", 1), ("b", 2),
    ]  # fmt: skip


async def test_pages_stay_when_their_checkpoints_go(make_saver: SaverFactory, sql: Sql) -> None:
    await run(some_pages(make_saver(keep_last=1), 0, 5), {})

    assert pages(sql) == [0, 1, 2, 3, 4]


async def test_what_steps_projected_stays_when_their_checkpoints_go(
    make_saver: SaverFactory, sql: Sql
) -> None:
    updates = [{"items": [n], "messages": [("user", f"{n}")], "title": f"{n}"} for n in range(4)]

    await run(chain(make_saver(keep_last=1), *updates), {})

    assert counts(sql)["messages"] == 4
    assert one(sql, "sessions")["title"] == "3"
    assert from_json(one(sql, "sessions")["graph_state"])["items"] == [0, 1, 2, 3]


# -- what a thread is doing ---------------------------------------------------------------------


def _once_the_answer_is_saved(sql: Sql) -> dict[str, Any]:
    """The thread's row; LangGraph saves an answer in the background while the node runs."""
    for _ in range(500):
        row = one(sql, "session_threads")
        if row["status"] != "interrupted":
            break
    return row


async def test_a_thread_that_waited_runs_when_the_answer_arrives_and_is_done_at_its_end(
    make_saver: SaverFactory, sql: Sql
) -> None:
    seen: list[Any] = []

    def node(_state: Any) -> Any:
        answer = interrupt("which colour?")
        row = _once_the_answer_is_saved(sql)
        seen.append((row["status"], row["status_node"], row["status_step"]))
        return {"note": answer}

    graph = chain(make_saver(), {"other": 1}, node, {"other": 2})
    await run(graph, {})
    waiting = one(sql, "session_threads")
    assert (waiting["status"], waiting["status_node"], waiting["status_step"]) == (
        "interrupted", "step2", 2,
    )  # fmt: skip
    assert waiting["status_since"] is not None

    await run(graph, Command(resume="red"))

    assert seen == [("running", "step2", 2)]
    done = one(sql, "session_threads")
    assert (done["status"], done["status_node"], done["status_step"]) == ("done", None, 3)
    assert done["status_since"] > waiting["status_since"]


def explode(_state: Any) -> Any:
    raise ValueError("out of flour")


async def test_an_error_names_the_step_and_the_run_that_it_happened_in(
    make_saver: SaverFactory, sql: Sql
) -> None:
    graph = chain(make_saver(), {"note": 1}, explode)

    await fails(run(graph, {}, config(run_id="run 7")), ValueError)

    error, row = one(sql, "session_errors"), one(sql, "session_threads")
    assert (error["step"], error["run_id"], error["recovered_at"]) == (2, "run 7", None)
    assert (row["status"], row["status_node"], row["status_step"]) == ("error", "step2", 2)


async def test_an_error_in_a_subgraph_names_the_roots_step(
    make_saver: SaverFactory, sql: Sql
) -> None:
    builder = line_of(("one", says("one")), ("inner", chain(None, {"note": 1}, explode)))
    driver = ScriptRunner(builder, make_saver())

    await fails(driver.invoke({"log": []}, thread("t")), ValueError)

    assert one(sql, "session_errors")["step"] == 2


async def test_an_error_is_recovered_once_the_thread_goes_on(
    make_saver: SaverFactory, sql: Sql
) -> None:
    broken = [True]

    def node(_state: Any) -> Any:
        if broken:
            raise ValueError("out of flour")
        assert one(sql, "session_errors")["recovered_at"] is None
        return {"note": 2}

    await fails(run(chain(make_saver(), {"note": 1}, node), {}), ValueError)
    failed = one(sql, "session_errors")
    assert failed["recovered_at"] is None
    broken.clear()

    await run(chain(make_saver(), {"note": 1}, node), None)

    recovered = one(sql, "session_errors")
    assert recovered["recovered_at"] >= failed["created_at"]
    assert one(sql, "session_threads")["status"] == "done"


async def test_a_second_error_leaves_the_first_recovered_and_is_not_so_itself(
    make_saver: SaverFactory, sql: Sql
) -> None:
    problems = iter(["no flour", None, "no sugar"])

    def node(_state: Any) -> Any:
        problem = next(problems)
        if problem:
            raise ValueError(problem)
        return {"note": 1}

    graph = chain(make_saver(), node, {"other": 1})
    await fails(run(graph, {}), ValueError)
    await run(graph, None)
    await fails(run(graph, {"note": 0}), ValueError)

    rows = sql("SELECT message, recovered_at FROM session_errors ORDER BY id")
    assert [(row["message"], row["recovered_at"] is None) for row in rows] == [
        ("no flour", False), ("no sugar", True),
    ]  # fmt: skip


async def test_an_error_stays_though_its_checkpoint_goes(
    make_saver: SaverFactory, sql: Sql
) -> None:
    problems = iter(["no flour", None, None])

    def node(_state: Any) -> Any:
        problem = next(problems)
        if problem:
            raise ValueError(problem)
        return {"note": 1}

    graph = chain(make_saver(keep_last=1), node)
    await fails(run(graph, {}), ValueError)
    await run(graph, None)
    await run(graph, {})

    assert one(sql, "session_errors")["message"] == "no flour"


# -- the choice, purely -------------------------------------------------------------------------


def stored(
    name: int,
    ns: str = "",
    parent: int | None = None,
    root: int | None = None,
    *,
    is_hidden: bool = False,
    caller: tuple[str, str] | None = None,
    replayed: Iterable[str] = (),
    valued: Iterable[str] = (),
) -> Stored:
    """A checkpoint as retention sees it."""
    ts = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=name)).isoformat()
    return Stored(
        ns_key=ns.encode(),
        checkpoint_id=f"{name:04}",
        checkpoint_ns=ns,
        parent_id=None if parent is None else f"{parent:04}",
        root_id=None if root is None else f"{root:04}",
        run_id=None,
        is_hidden=is_hidden,
        refs=References(ts, tuple(replayed), dict.fromkeys(valued, b""), caller),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Stored]:
    """A thread with forks, subgraphs' calls and memories, and a channel that is replayed."""
    rows: list[Stored] = []
    roots: list[int] = []
    for name in range(1, draw(st.integers(1, 25)) + 1):
        kind = draw(st.sampled_from(["root", "root", "root", "call", "memory", "foreign"]))
        if kind == "root" or not roots:
            parent = draw(st.sampled_from([*roots[-1:] * 3, *roots])) if roots else None
            valued = frozenset({"delta"} if draw(st.integers(0, 3)) == 0 else ())
            replayed = frozenset({"delta"})
            rows.append(stored(name, parent=parent, replayed=replayed, valued=valued))
            roots.append(name)
        elif kind == "foreign":
            rows.append(stored(name, "foreign"))
        else:
            root = draw(st.sampled_from([*roots[-1:] * 3, *roots]))
            ns = "memory" if kind == "memory" else f"call:{root}"
            rows.append(stored(name, ns, root=root))
    order: list[Stored] = draw(st.permutations(rows))
    return list(order)


pure = settings(max_examples=150, derandomize=True, deadline=None, database=None)


def newest_roots(rows: list[Stored], count: int) -> list[str]:
    names = (row.checkpoint_id for row in rows if not row.checkpoint_ns and not row.is_hidden)
    return sorted(names, reverse=True)[:count]


@pure
@given(histories(), st.integers(1, 8))
def test_the_kept_roots_are_the_newest(rows: list[Stored], count: int) -> None:
    kept = keep_last(rows, count).kept

    assert newest_roots(list(kept), 100) == newest_roots(rows, count)


@pure
@given(histories(), st.integers(1, 8))
def test_all_that_started_from_a_kept_root_stays(rows: list[Stored], count: int) -> None:
    kept = keep_last(rows, count).kept
    roots = set(newest_roots(rows, count))

    assert {row for row in rows if row.root_id in roots} <= kept


@pure
@given(histories(), st.integers(1, 8))
def test_what_a_memory_held_before_any_kept_root_stays(rows: list[Stored], count: int) -> None:
    kept = keep_last(rows, count).kept
    memories = sorted(row.checkpoint_id for row in rows if row.checkpoint_ns == "memory")
    kept_ids = {row.checkpoint_id for row in kept}

    for root in newest_roots(rows, count):
        before = [name for name in memories if name < root]
        assert set(before[-1:]) <= kept_ids


@pure
@given(histories(), st.integers(1, 8))
def test_all_that_a_replayed_channel_needs_stays(rows: list[Stored], count: int) -> None:
    kept, hidden = keep_last(rows, count)
    by_name = {row.checkpoint_id: row for row in rows if not row.checkpoint_ns}

    assert not kept & hidden
    for row in kept:
        at = row
        while at.replayed and "delta" not in at.valued and at.parent_id is not None:
            at = by_name[at.parent_id]
            assert at in kept | hidden


@pure
@given(histories(), st.integers(1, 8))
def test_calls_whose_root_is_older_than_the_oldest_kept_go(rows: list[Stored], count: int) -> None:
    kept = keep_last(rows, count).kept
    oldest = newest_roots(rows, count)[-1]

    calls = [row for row in kept if row.checkpoint_ns.startswith("call:")]
    assert all(str(row.root_id) >= oldest for row in calls)
    assert sum(row.checkpoint_ns == "foreign" for row in kept) <= count


def test_a_call_stays_as_long_as_the_memory_that_made_it() -> None:
    waiting = stored(2, "memory", root=1)
    call = stored(3, "memory|call:a", root=1, caller=("memory", "0002"))
    deeper = stored(4, "memory|call:a|call:b", root=1, caller=("memory|call:a", "0003"))
    other = stored(5, "memory|call:c", root=1, caller=("memory", "0001"))
    rows = [stored(1), waiting, call, deeper, other, stored(6, parent=1)]

    assert keep_last(rows, 1).kept == {rows[-1], waiting, call, deeper}
    moved_on = stored(7, "memory", root=6)
    assert keep_last([*rows, moved_on, stored(8, parent=6)], 1).kept == {
        waiting, call, deeper, moved_on, stored(8),
    }  # fmt: skip
    assert keep_last([*rows, moved_on, stored(8, parent=6), stored(9, parent=8)], 1).kept == {
        moved_on, stored(9),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("namespace", "caller"),
    [
        ("", None),
        ("node:a", ("", "r")),
        ("node:a|1", ("", "r")),
        ("memory", ("", "r")),
        ("memory|node:a", ("memory", "m")),
        ("memory|node:a|2|node:b", ("memory|node:a|2", "n")),
        ("elsewhere|node:a", None),
    ],
)
def test_the_caller_is_the_parent_from_the_namespace_above(namespace: str, caller: Any) -> None:
    parents = {"": "r", "memory": "m", "memory|node:a|2": "n", "memory|node:a": "o"}

    assert caller_of(namespace, {"parents": parents}) == caller
    assert caller_of(namespace, {}) is None


def origins(*made: tuple[str, str, int]) -> list[Origin]:
    """Of root checkpoints 1, 2 …, given as the one that each follows, its source and step."""
    known: dict[str, Origin] = {}
    for number, (parent, source, step) in enumerate(made, 1):
        about = {"source": source, "step": step}
        known[f"{number}"] = origin_of(f"{number}", parent or None, about, known.get(parent))
    return list(known.values())


def test_a_run_that_goes_on_from_the_newest_has_nothing_to_look_before() -> None:
    found = origins(("", "input", -1), ("1", "loop", 0), ("2", "input", 1), ("3", "loop", 2))

    assert [origin.run for origin in found] == [None] * 4
    assert [origin.replay for origin in found] == ["1", "2", "3", "4"]


def test_all_steps_of_a_replay_look_before_what_it_started_from() -> None:
    found = origins(("", "input", -1), ("1", "loop", 0), ("1", "fork", 0), ("3", "loop", 1))

    assert [origin.run for origin in found[2:]] == ["1", "1"]
    assert [origin.replay for origin in found[2:]] == ["1", "4"]


def test_a_replay_of_an_update_by_hand_looks_before_what_was_updated() -> None:
    found = origins(("", "loop", 0), ("1", "update", 1), ("2", "fork", 2), ("3", "loop", 3))

    assert [origin.run for origin in found] == [None, "1", "1", "1"]
    assert found[1].replay == "1"


def test_a_copy_looks_before_what_its_original_follows() -> None:
    found = origins(("", "loop", 0), ("1", "update", 1), ("2", "loop", 2), ("2", "fork", 3))

    assert (found[3].run, found[3].replay) == ("2", "2")


@pure
@given(histories(), st.integers(1, 8))
def test_keeping_again_what_was_kept_changes_nothing(rows: list[Stored], count: int) -> None:
    kept, hidden = keep_last(rows, count)
    left = [*kept, *(replace(row, is_hidden=True) for row in hidden)]

    assert keep_last(left, count) == (kept, hidden)


@pure
@given(histories(), st.integers(1, 8))
def test_keeping_fewer_keeps_no_other(rows: list[Stored], count: int) -> None:
    more, fewer = keep_last(rows, count + 1), keep_last(rows, count)

    roots = {row for row in fewer.kept if not row.checkpoint_ns}
    assert roots <= more.kept
    assert keep_latest(rows).kept <= keep_last(rows, 1).kept


@pure
@given(histories(), st.integers(-1, 30))
def test_keeping_by_age_keeps_the_newest_root_and_all_that_are_young(
    rows: list[Stored], day: int
) -> None:
    cutoff = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)
    roots = newest_roots(rows, 100)
    young = [name for name in roots if int(name) >= day]

    assert newest_roots(list(keep_since(rows, cutoff).kept), 100) == (young or roots[:1])
