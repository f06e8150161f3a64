"""Runs on pruned threads: resume, replay and fork find everything they need."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

import pytest
from langgraph.channels import DeltaChannel
from langgraph.graph import START, StateGraph
from langgraph.types import Command
from typing_extensions import TypedDict

from tests.retention.runs import ASKING, LINE, Run
from tests.support.backends import EACH_ONCE, Sql
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
from tests.support.kept import in_tables
from tests.support.rows import chain, config, fails, listed, run
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


class Often(TypedDict, total=False):
    items: Annotated[list[str], DeltaChannel(extended, snapshot_frequency=4)]


@pytest.mark.parametrize("count", [1, 3])
async def test_several_waiting_tools_are_answered_one_by_one(
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
async def test_nested_subgraphs_resume_with_each_answer(
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


async def test_the_namespaces_of_subgraph_calls_are_removed_with_the_calling_root(
    make_saver: SaverFactory, sql: Sql
) -> None:
    builder = line_of(("call", line_of(("inner", says("inner"))).compile()))
    beside = Run(make_saver, builder, 2, sql)

    for turn in range(6):
        await beside.invoke({"log": [f"{turn}"]})

    namespaces = {ns for ns, _ in (await beside.check()).listed}
    assert len(namespaces) <= 2


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_a_stateful_subgraph_is_replayed_from_every_kept_checkpoint(
    make_saver: SaverFactory, sql: Sql, count: int
) -> None:
    inner = line_of(("inner", says("inner"))).compile(checkpointer=True)
    beside = Run(make_saver, line_of(("call", inner), ("after", says("after"))), count, sql)
    for turn in range(4):
        await beside.invoke({"log": [f"{turn}"]})

    for name in in_tables(sql, "kept").roots:
        if name in in_tables(sql, "kept").roots:  # an earlier replay may have pruned it
            at = thread("kept", checkpoint_id=name)
            await beside.driver.invoke(None, at)
            await beside.check()


def remembering(memory: Any) -> StateGraph[Any]:
    """A graph with a stateful subgraph, reached directly or by a detour if the state says so."""

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
async def test_a_fork_on_another_path_finds_the_subgraphs_state_from_before_its_origin(
    make_saver: SaverFactory, sql: Sql, count: int
) -> None:
    beside = Run(make_saver, remembering(ASKING), count, sql)
    await beside.invoke({"log": ["one"]})
    await beside.invoke(Command(resume="1"))
    await beside.invoke({"log": ["two"]})  # the fork must not see this state of the subgraph
    past = thread("kept", checkpoint_id=in_tables(sql, "kept").roots[0])

    beside.driver = beside.another_process()
    fork = await beside.driver.update(past, {"big": "detour"}, as_node="first")
    await beside.driver.invoke(None, fork)
    await beside.check()
    ended = await beside.invoke(Command(resume="2"))

    assert ended["log"][-3:] == ["who? 2", "after", "after"]


@pytest.mark.parametrize("count", [2, 5])
async def test_a_fork_is_replayed_with_the_subgraphs_state_from_before_its_origin(
    make_saver: SaverFactory, sql: Sql, count: int
) -> None:
    beside = Run(make_saver, REMEMBERING, count, sql)
    for turn in range(2):
        await beside.invoke({"log": [f"{turn}"]})
    oldest = thread("kept", checkpoint_id=in_tables(sql, "kept").roots[-1])
    fork = await beside.driver.update(oldest, {"log": ["forked"]}, as_node="first")
    for turn in range(count - 1):  # the origin of the fork is pruned, the fork stays
        await beside.driver.update(beside.config, {"log": [f"by hand {turn}"]}, as_node="after")
    await beside.check()

    ended = await beside.driver.invoke(None, fork)

    assert ended["log"][-2:] == ["inner", "after"]
    await beside.check()


async def test_a_copied_checkpoint_needs_nothing_that_was_pruned(
    make_saver: SaverFactory, sql: Sql
) -> None:
    beside = Run(make_saver, REMEMBERING, 1, sql)
    await beside.invoke({"log": ["in"], "big": "x" * 3_000}, interrupt_after=["first"])

    copy = await beside.driver.update(beside.config, None, as_node="__copy__")
    await beside.check()
    ended = await beside.driver.invoke(None, copy)

    assert (ended["log"][-1], ended["big"]) == ("after", "x" * 3_000)
    await beside.check()


async def test_a_checkpoint_can_be_copied_after_its_pruned_parent_was_looked_for(
    make_saver: SaverFactory,
) -> None:
    await run(chain(make_saver(keep_last=1), {"note": 1}, {"note": 2}), {})
    saver = make_saver(keep_last=1)  # another process, which did not make the parent
    graph = chain(saver, {"note": 1}, {"note": 2})
    found = await saver.aget_tuple(config())
    assert found is not None
    assert found.parent_config is not None
    assert await saver.aget_tuple(found.parent_config) is None

    copy = await graph.aupdate_state(config(), None, as_node="__copy__")

    copied = await saver.aget_tuple(copy)
    assert copied is not None
    assert copied.checkpoint["channel_values"] == {"note": 2}


@pytest.mark.parametrize("count", [1, 3])
async def test_a_waiting_subgraph_call_resumes_after_its_calling_root_was_pruned(
    make_saver: SaverFactory, sql: Sql, count: int
) -> None:
    call = line_of(("ask", ask("deep?")), ("told", says("told"))).compile()
    beside = Run(make_saver, remembering(line_of(("call", call))), count, sql)
    await beside.invoke({"log": ["in"]})
    for turn in range(count):  # each makes the subgraph due again
        await beside.driver.update(beside.config, {"log": [f"by hand {turn}"]}, as_node="first")
        await beside.check()
    beside.driver = beside.another_process()
    await beside.invoke(None)

    ended = await beside.invoke(Command(resume="yes"))

    assert ended["log"][-2:] == ["told", "after"]


async def test_a_fork_from_the_oldest_kept_checkpoint_outlives_its_origin(
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


async def test_manual_updates_count_as_checkpoints(make_saver: SaverFactory, sql: Sql) -> None:
    beside = Run(make_saver, LINE, 3, sql)
    await beside.invoke({"log": ["in"]})

    for number in range(5):
        await beside.driver.update(beside.config, {"log": [f"{number}"]}, as_node="one")
        await beside.check()

    ended = await beside.invoke(None)
    assert ended["log"][4:] == ["0", "1", "2", "3", "4", "two", "three"]


@pytest.mark.parametrize("count", [1, 2])
async def test_runs_with_exit_durability_are_pruned_alike(
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


async def test_hidden_ancestors_are_not_listed_and_are_removed_after_the_next_snapshot(
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
