"""Compiled graphs on every backend, through every face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Durability, Send, interrupt
from typing_extensions import TypedDict

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.errors import HistoryLostError, SerializationError
from tests.support.faces import SyncFaceAdapter
from tests.support.graphs import (
    DELTA,
    Delta,
    Log,
    ScriptRunner,
    ask,
    counts,
    engine_of,
    line_of,
    nested,
    says,
    thread,
    underlying,
)
from tests.support.savers import SaverFactory
from tests.support.statements import recorded_statements


def described(state: Any) -> Any:
    """A state snapshot without ids and times."""
    return {
        "values": state.values,
        "next": state.next,
        "step": (state.metadata or {}).get("step"),
        "source": (state.metadata or {}).get("source"),
        "interrupts": [item.value for item in state.interrupts],
        "tasks": [(item.name, item.path, repr(item.error), item.result) for item in state.tasks],
    }


# -- interrupts ---------------------------------------------------------------------------------


async def test_an_interrupted_graph_resumes_in_another_process(
    make_saver: SaverFactory,
) -> None:
    builder = line_of(("before", says("before")), ("ask", ask("who?")), ("after", says("after")))
    config = thread("interrupted")
    first = await ScriptRunner(builder, make_saver()).invoke({"log": ["in"]}, config)
    assert [item.value for item in first["__interrupt__"]] == ["who?"]

    other = ScriptRunner(builder, make_saver())
    assert [item.value for item in (await other.state(config)).interrupts] == ["who?"]
    answered = await other.invoke(Command(resume="me"), config)

    assert answered["log"] == ["in", "before", "who? me", "after"]
    assert (await other.state(config)).next == ()


async def test_several_interrupts_of_one_step_can_be_answered_one_by_one_or_together(
    make_saver: SaverFactory,
) -> None:
    builder: StateGraph[Any] = StateGraph(Log)
    for name in ("one", "two", "three"):
        builder.add_node(name, ask(f"{name}?"))
        builder.add_edge(START, name)
    driver, config = ScriptRunner(builder, make_saver()), thread("several")
    await driver.invoke({"log": []}, config)
    pending = (await driver.state(config)).interrupts
    assert sorted(item.value for item in pending) == ["one?", "three?", "two?"]
    by_question = {item.value: item.id for item in pending}

    await driver.invoke(Command(resume={by_question["two?"]: "2"}), config)
    left = (await driver.state(config)).interrupts
    answers = {by_question["one?"]: "1", by_question["three?"]: "3"}
    answered = await driver.invoke(Command(resume=answers), config)

    assert sorted(item.value for item in left) == ["one?", "three?"]
    assert sorted(answered["log"]) == ["one? 1", "three? 3", "two? 2"]


async def test_two_interrupts_of_one_node_are_answered_in_order(
    make_saver: SaverFactory,
) -> None:
    def twice(state: Log) -> Log:
        return {"log": [interrupt("first?"), interrupt("second?")]}

    driver, config = ScriptRunner(line_of(("twice", twice)), make_saver()), thread("twice")
    await driver.invoke({"log": []}, config)
    await driver.invoke(Command(resume="a"), config)

    answered = await driver.invoke(Command(resume="b"), config)

    assert answered["log"] == ["a", "b"]


# -- fan-out ------------------------------------------------------------------------------------


async def test_a_failed_fan_out_resumes_without_rerunning_finished_tasks(
    make_saver: SaverFactory,
) -> None:
    ran: list[str] = []
    broken = [True]

    def fine(state: Log) -> Log:
        ran.append("fine")
        return {"log": ["fine"]}

    def fails(state: Log) -> Log:
        ran.append("fails")
        if broken:
            raise RuntimeError("no good")
        return {"log": ["mended"]}

    builder: StateGraph[Any] = StateGraph(Log)
    builder.add_node("a", fine)
    builder.add_node("b", fails)
    builder.add_node("join", says("joined"))
    builder.add_edge(START, "a")
    builder.add_edge(START, "b")
    builder.add_edge(["a", "b"], "join")
    config = thread("fan-out")
    # In turn: in parallel, it would depend on timing which of the two had finished.
    serial: Any = {**config, "max_concurrency": 1}
    with pytest.raises(RuntimeError, match="no good"):
        await ScriptRunner(builder, make_saver()).invoke({"log": []}, serial)
    broken.clear()

    again = ScriptRunner(builder, make_saver())
    failed = {item.name: item.error for item in (await again.state(config)).tasks}
    ended = await again.invoke(None, config)

    assert "no good" in str(failed["b"])
    assert ran == ["fine", "fails", "fails"]
    assert ended["log"] == ["fine", "mended", "joined"]


async def test_only_the_failed_send_tasks_run_again(make_saver: SaverFactory) -> None:
    ran: list[int] = []
    broken = [True]

    def spread(state: Log) -> list[Send]:
        return [Send("work", {"number": number}) for number in range(5)]

    def work(state: Log) -> Log:
        number = state["number"]
        ran.append(number)
        if broken and number == 4:
            raise RuntimeError("four")
        return {"log": [f"did {number}"]}

    builder: StateGraph[Any] = StateGraph(Log)
    builder.add_node("begin", says("begin"))
    builder.add_node("work", work)
    builder.add_node("end", says("end"))
    builder.add_edge(START, "begin")
    builder.add_conditional_edges("begin", spread, ["work"])
    builder.add_edge("work", "end")
    config: Any = {**thread("sends"), "max_concurrency": 1}
    with pytest.raises(RuntimeError, match="four"):
        await ScriptRunner(builder, make_saver()).invoke({"log": []}, config)
    broken.clear()

    ended = await ScriptRunner(builder, make_saver()).invoke(None, config)

    assert sorted(ran) == [0, 1, 2, 3, 4, 4]
    assert ended["log"] == ["begin", *(f"did {number}" for number in range(5)), "end"]


# -- history ------------------------------------------------------------------------------------


async def travel(driver: ScriptRunner) -> list[Any]:
    """Run, go back, fork twice, and continue in each branch."""
    config = thread("travel")
    await driver.invoke({"log": ["in"], "big": "x" * 3_000}, config)
    past = await driver.history(config)
    at = next(state for state in past if state.next == ("two",))
    left = await driver.update(at.config, {"log": ["left"], "big": "x" * 3_000 + "left"})
    right = await driver.update(at.config, {"log": ["right"], "big": "right" + "x" * 3_000})
    ended = [await driver.invoke(None, left), await driver.invoke(None, right)]
    replayed = await driver.invoke(None, at.config)
    states = [described(state) for state in await driver.history(config)]
    return [*ended, replayed, *states]


async def test_forks_and_time_travel_match_the_memory_saver(
    make_saver: SaverFactory,
) -> None:
    builder = line_of(*[(name, says(name)) for name in ("one", "two", "three")])

    ours = await travel(ScriptRunner(builder, make_saver()))
    theirs = await travel(ScriptRunner(builder, InMemorySaver(), is_sync=True))

    assert ours == theirs


async def test_a_run_from_a_checkpoint_that_does_not_exist_is_refused(
    make_saver: SaverFactory,
) -> None:
    driver = ScriptRunner(line_of(("one", says("one"))), make_saver())
    nowhere = thread("nowhere", checkpoint_id="1ef00000-0000-6000-8000-000000000000")

    with pytest.raises(LookupError, match="has no checkpoint"):
        await driver.invoke({"log": ["in"]}, nowhere)

    assert (await driver.state(thread("nowhere"))).values == {}


# -- subgraphs ----------------------------------------------------------------------------------


async def dive(make: Callable[[], ScriptRunner]) -> list[Any]:
    config, seen = thread("nested"), []
    given: Any = {"log": ["in"], "number": 0}
    for answer in range(6):
        driver = make()
        values = await driver.invoke(given, config)
        state = await driver.state(config, subgraphs=True)
        seen.append((values["log"], values["number"], state.next))
        given = Command(resume=str(answer))
        if not state.next:
            break
    return [*seen, *(described(state) for state in await make().history(config))]


@pytest.mark.parametrize("checkpointer", [None, True], ids=["stateless", "stateful"])
async def test_nested_subgraphs_interrupt_and_resume_like_the_memory_saver(
    make_saver: SaverFactory, checkpointer: Any
) -> None:
    builder, memory = nested(checkpointer), InMemorySaver()

    ours = await dive(lambda: ScriptRunner(builder, make_saver()))
    theirs = await dive(lambda: ScriptRunner(builder, memory, is_sync=True))

    assert len(ours) > 5
    assert [without_paths(item) for item in ours] == [without_paths(item) for item in theirs]


def without_paths(item: Any) -> Any:
    if isinstance(item, dict):
        return {key: value for key, value in item.items() if key != "tasks"}
    return item


# -- DeltaChannel -------------------------------------------------------------------------------


async def delta_script(driver: ScriptRunner, prune: Callable[[], Any] | None) -> list[Any]:
    config = thread("delta")
    for _ in range(5):
        await driver.invoke({"items": ["in"]}, config)
    past = await driver.history(config)
    seen = [described(state) for state in past]
    fork = await driver.update(past[6].config, {"items": ["forked"]}, as_node="two")
    seen.append(await driver.invoke(None, fork))
    if prune is not None:
        await prune()
        assert len(await driver.history(config)) == 1
    seen += [described(await driver.state(config))]
    seen.append(await driver.invoke({"rare": ["after"]}, config))
    return [*seen, described(await driver.state(config))]


@pytest.mark.parametrize("is_pruned", [False, True], ids=["kept", "pruned"])
async def test_a_delta_channel_graph_reads_like_the_memory_saver(
    make_saver: SaverFactory, is_pruned: bool
) -> None:
    saver = make_saver()

    async def prune() -> None:
        await saver.aprune(["delta"], strategy="keep_latest")

    ours = await delta_script(ScriptRunner(DELTA, saver), prune if is_pruned else None)
    theirs = await delta_script(ScriptRunner(DELTA, InMemorySaver(), is_sync=True), None)

    assert ours == theirs


async def test_delta_channel_history_takes_the_same_number_of_queries_for_fifty_steps_as_for_five(
    make_saver: SaverFactory,
) -> None:
    saver, config = make_saver(), thread("long")
    driver, cold = ScriptRunner(DELTA, saver), make_saver()
    taken: list[list[str]] = []
    for _ in range(2):
        await driver.invoke({"items": ["in"]}, config)
        await cold.aget_delta_channel_history(config=config, channels=["items", "rare"])
        with recorded_statements(engine_of(cold)) as statements:
            await cold.aget_delta_channel_history(config=config, channels=["items", "rare"])
        taken.append(statements)
        for _ in range(12):
            await driver.invoke({"items": ["in"]}, config)

    assert len(taken[1]) <= 5
    assert len(taken[1]) <= len(taken[0]) + 1


async def test_delta_channel_history_matches_the_memory_saver(make_saver: SaverFactory) -> None:
    saver, memory, config = make_saver(), InMemorySaver(), thread("history")
    for driver in (ScriptRunner(DELTA, saver), ScriptRunner(DELTA, memory, is_sync=True)):
        for _ in range(3):
            await driver.invoke({"items": ["in"]}, config)
    channels = ["items", "rare", "number", "no such channel"]

    ours = await saver.aget_delta_channel_history(config=config, channels=channels)
    theirs = memory.get_delta_channel_history(config=config, channels=channels)

    def plain(history: Any) -> Any:
        return {
            channel: (repr(found.get("seed")), [write[1:] for write in found["writes"]])
            for channel, found in history.items()
        }

    assert plain(ours) == plain(theirs)


# -- durability ---------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_every_durability_mode_stores_the_whole_final_state(
    make_saver: SaverFactory, durability: Durability
) -> None:
    builder = line_of(("one", says("one")), ("ask", ask("?")), ("two", says("two")))
    config = thread("durable")
    given = {"log": ["in"], "big": "y" * 2_000}
    await ScriptRunner(builder, make_saver()).invoke(given, config, durability=durability)

    ended = await ScriptRunner(builder, make_saver()).invoke(
        Command(resume="!"), config, durability=durability
    )

    state = await ScriptRunner(builder, make_saver()).state(config)
    assert state.values == ended == {
        "log": ["in", "one", "? !", "two"],
        "number": 2,
        "big": "y" * 2_000,
    }  # fmt: skip
    checkpoints = len(await ScriptRunner(builder, make_saver()).history(config))
    assert checkpoints == (2 if durability == "exit" else 5)


# -- threads that are deleted in mid-run --------------------------------------------------------


def deleting(deleter: SessionSaver, name: str) -> Any:
    """A node that deletes its own thread, as another process might."""

    def sync_node(state: Any) -> Any:
        deleter.delete_thread(name)
        return {"number": 100}

    async def async_node(state: Any) -> Any:
        await deleter.adelete_thread(name)
        return {"number": 100}

    return sync_node if isinstance(deleter, SyncFaceAdapter) else async_node


async def test_a_run_whose_thread_is_deleted_meanwhile_stores_its_whole_state(
    make_saver: SaverFactory,
) -> None:
    builder = line_of(
        ("one", says("one")), ("delete", deleting(make_saver(), "gone")), ("two", says("two"))
    )
    config = thread("gone")
    given = {"log": ["in"], "big": "z" * 4_000}

    ended = await ScriptRunner(builder, make_saver()).invoke(given, config, durability="sync")

    reader = ScriptRunner(builder, make_saver())
    assert ended == {"log": ["in", "one", "two"], "number": 101, "big": "z" * 4_000}
    assert (await reader.state(config)).values == ended
    again = await reader.invoke({"log": ["again"]}, config)
    assert again["log"] == ["in", "one", "two", "again", "one", "two"]


async def test_a_delta_channel_raises_when_its_thread_is_deleted_during_the_run(
    make_saver: SaverFactory,
) -> None:
    builder = line_of(
        ("one", counts), ("delete", deleting(make_saver(), "lost")), ("two", counts), state=Delta
    )

    with pytest.raises(HistoryLostError, match="'rare'"):
        await ScriptRunner(builder, make_saver()).invoke(
            {"rare": ["in"]}, thread("lost"), durability="sync"
        )


# -- the functional API -------------------------------------------------------------------------


async def test_an_entrypoint_resumes_without_rerunning_finished_tasks(
    make_saver: SaverFactory,
) -> None:
    ran: list[int] = []

    @task
    def square(number: int) -> int:
        ran.append(number)
        return number * number

    def flow_with(saver: Any) -> Any:
        if saver is underlying(saver):

            @entrypoint(checkpointer=saver)
            async def flow(number: int, *, previous: Any = None) -> Any:
                squared = await square(number)
                extra = interrupt("more?")
                return entrypoint.final(value=squared + extra, save=[previous, squared])

            return flow

        @entrypoint(checkpointer=underlying(saver))
        def sync_flow(number: int, *, previous: Any = None) -> Any:
            squared = square(number).result()
            extra = interrupt("more?")
            return entrypoint.final(value=squared + extra, save=[previous, squared])

        return sync_flow

    async def run(given: Any) -> Any:
        saver = make_saver()
        flow = flow_with(saver)
        if saver is underlying(saver):
            return await flow.ainvoke(given, thread("flow"))
        return flow.invoke(given, thread("flow"))

    await run(7)
    first = await run(Command(resume=1))
    await run(3)
    second = await run(Command(resume=0))

    assert (first, second) == (50, 9)
    assert ran == [7, 3]
    saved = await make_saver().aget_tuple(thread("flow"))
    assert saved is not None
    assert saved.checkpoint["channel_values"]["__previous__"] == [[None, 49], 9]


# -- types that may be rebuilt ------------------------------------------------------------------


@dataclass
class Page:
    title: str


class Typed(TypedDict, total=False):
    page: Page


def writes_a_page(state: Typed) -> Typed:
    return {"page": Page("home")}


TYPED = line_of(("write", writes_a_page), state=Typed)
STRICT: list[tuple[str, str]] = []


async def test_a_type_that_is_not_allowed_raises_an_error_that_names_it(
    make_saver: SaverFactory,
) -> None:
    config = thread("strict")
    await ScriptRunner(TYPED, make_saver()).invoke({}, config)
    strict = make_saver(serde=JsonPlusSerializer(allowed_msgpack_modules=STRICT))

    with pytest.raises(
        SerializationError, match=r"'page'.*'tests\.acceptance\.test_graphs', 'Page'"
    ):
        await strict.aget_tuple(config)


async def test_a_saver_with_an_allowlist_shares_storage_and_builds_the_listed_types(
    make_saver: SaverFactory,
) -> None:
    config = thread("listed")
    strict = make_saver(serde=JsonPlusSerializer(allowed_msgpack_modules=STRICT))
    listed = strict.with_allowlist([("tests.acceptance.test_graphs", "Page")])
    await ScriptRunner(TYPED, make_saver()).invoke({}, config)

    found = await listed.aget_tuple(config)

    assert found is not None
    assert found.checkpoint["channel_values"]["page"] == Page("home")
