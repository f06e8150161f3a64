"""`DeltaChannel`s: projections see their values, though LangGraph stores only what was written."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Annotated, Any, NamedTuple, TypedDict

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage
from langgraph.channels import DeltaChannel
from langgraph.graph import START, StateGraph
from langgraph.graph.message import (
    REMOVE_ALL_MESSAGES,
    _messages_delta_reducer,
    add_messages,
)
from langgraph.types import Command, Overwrite, interrupt

from langgraph_session_saver import Projection, SessionSaver, Step
from langgraph_session_saver.projection.reduce import reduce_messages, reduce_writes
from tests.projection.samples import graph_state, spent, talk
from tests.support.backends import EACH_ONCE, Backend, BackendName, Sql
from tests.support.graphs import ScriptRunner, engine_of, extended
from tests.support.rows import chain, config, counts, from_json, one, run, transcript
from tests.support.savers import SaverFactory
from tests.support.statements import recorded_statements

BACKENDS_AND_FACES = EACH_ONCE
EXAMPLES: dict[BackendName, int] = {"sqlite": 12, "postgresql": 4, "mariadb": 4}


def merged(facts: Mapping[str, Any] | None, writes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A reducer that the saver cannot guess: None removes a name."""
    found = dict(facts or {})
    for write in writes:
        found |= write
    return {name: fact for name, fact in found.items() if fact is not None}


def merged_with(facts: Mapping[str, Any] | None, write: Mapping[str, Any]) -> dict[str, Any]:
    return merged(facts, [write])


def added(messages: list[Any] | None, writes: Sequence[Any]) -> Any:
    """`add_messages` for a `DeltaChannel`: some versions of LangGraph's own keep what
    `REMOVE_ALL_MESSAGES` removes."""
    add: Any = add_messages
    return reduce(add, writes, messages or [])


class Deltas(TypedDict, total=False):
    messages: Annotated[list[Any], DeltaChannel(_messages_delta_reducer, snapshot_frequency=5)]
    items: Annotated[list[str], DeltaChannel(extended, snapshot_frequency=2)]
    facts: Annotated[dict[str, Any], DeltaChannel(merged, snapshot_frequency=1_000)]
    other: Any


def says_hi(_state: Deltas) -> Deltas:
    return {"messages": [AIMessage("hi")]}


async def test_what_is_appended_to_messages_has_rows_and_usage(
    saver: SessionSaver, sql: Sql
) -> None:
    graph = chain(saver, {"messages": [spent("writer", 3, 2, id="a")]}, state=Deltas)

    for turn in range(7):
        said = [HumanMessage(f"hello {turn}", id=f"h{turn}")]
        await run(graph, {"messages": said})

    assert transcript(sql)[0] == ("user", "hello 0")
    assert [text for role, text in transcript(sql) if role == "user"][-1] == "hello 6"
    assert (counts(sql)["messages"], counts(sql)["token_usage"]) == (8, 1)
    assert counts(sql)["session_errors"] == 0


async def test_another_process_continues_the_rows(make_saver: SaverFactory, sql: Sql) -> None:
    for turn in range(4):
        graph = chain(make_saver(), {"messages": [AIMessage("hi", id=f"a{turn}")]}, state=Deltas)
        await run(graph, {"messages": [HumanMessage("hello", id=f"h{turn}")]})

    assert transcript(sql) == [("user", "hello"), ("assistant", "hi")] * 4


async def test_what_another_process_wrote_before_it_failed_has_rows(
    make_saver: SaverFactory, sql: Sql
) -> None:
    fail: set[str] = {"two", "three"}
    builder: Any = StateGraph(Deltas)
    for name in ("one", "two", "three"):

        def node(_state: Deltas, name: str = name) -> Deltas:
            if name in fail:
                raise ValueError(name)
            return {"messages": [AIMessage(name, id=name)]}

        builder.add_node(name, node)
        builder.add_edge(START, name)
    here, there = (builder.compile(checkpointer=make_saver()) for _ in range(2))

    for graph, value in ((here, {"messages": []}), (there, None)):
        with pytest.raises(ValueError, match="t"):
            await run(graph, value)
        fail.discard("two")
    fail.clear()
    await run(here, None)

    assert sorted(transcript(sql)) == [("assistant", name) for name in ("one", "three", "two")]


async def test_rows_show_the_remaining_messages_after_a_run_is_deleted(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver()
    for turn in range(3):
        graph = chain(saver, {"messages": [AIMessage("hi", id=f"a{turn}")]}, state=Deltas)
        said = {"messages": [HumanMessage(f"hello {turn}", id=f"h{turn}")]}
        await run(graph, said, {**config(), "metadata": {"run_id": f"r{turn}"}})

    await make_saver().adelete_for_runs(["r2"])

    shown = [("user", "hello 0"), ("assistant", "hi"), ("user", "hello 1"), ("assistant", "hi")]
    assert transcript(sql) == shown
    assert transcript(sql, removed=True) == [("user", "hello 2"), ("assistant", "hi")]


async def test_a_step_late_in_a_thread_takes_the_statements_of_an_early_one(
    make_saver: SaverFactory,
) -> None:
    saver = make_saver()
    graph = chain(saver, says_hi, {"messages": talk("a")}, state=Deltas)
    taken = []
    for _ in range(24):
        with recorded_statements(engine_of(saver)) as statements:
            await run(graph, {"messages": [HumanMessage("hello")]})
        taken.append(sorted(statements))

    assert taken[-1] == taken[3]  # with as many writes since a snapshot


async def test_nothing_is_replayed_while_a_process_goes_on(
    make_saver: SaverFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = make_saver()
    graph = chain(saver, says_hi, {"items": ["x"]}, state=Deltas)
    monkeypatch.setattr("langgraph_session_saver.checkpointer.delta_values.CheckpointReader", None)

    for _ in range(7):
        await graph.ainvoke({"messages": [HumanMessage("hello")]}, config())


# -- graph_state --------------------------------------------------------------------------------


async def test_graph_state_says_which_channels_are_delta_channels(
    saver: SessionSaver, sql: Sql
) -> None:
    update = {"items": ["x"], "messages": talk("a"), "other": 1}
    graph = chain(saver, update, {"items": ["y"]}, {"other": 2}, state=Deltas)

    await run(graph, {})

    found = await saver.aget_tuple(config())
    assert found is not None
    version = found.checkpoint["channel_versions"]["items"]
    shown = {"items": {"$delta": {"channel": "items", "version": version}}, "other": 2}
    assert graph_state(sql) == shown
    assert await saver.state.aload_state("t") == shown


# -- projections of an application --------------------------------------------------------------


class Names(Projection):
    """Shows the facts' names as the session's skill."""

    channels = ("facts",)

    def columns(self, step: Step) -> Mapping[str, Any]:
        return {"skill_id": " ".join(sorted(step.values["facts"]))}


class ReducedNames(Names):
    def reduce(self, channel: str, value: Any, writes: Sequence[Any]) -> Any:
        assert channel == "facts"
        return merged(value, writes)


async def test_a_function_sees_the_value_at_every_step(make_saver: SaverFactory, sql: Sql) -> None:
    seen: list[Any] = []

    def read(items: list[str]) -> Mapping[str, Any]:
        seen.append(list(items))
        return {"skill_id": "-".join(items)}

    saver = make_saver(projections={"items": read})
    graph = chain(saver, *({"items": [name]} for name in "abc"), state=Deltas)

    await run(graph, {"items": ["in"]})
    await run(graph, {"items": ["again"]})

    assert seen == [["in", *"abc", "again", *"abc"][: n + 1] for n in range(8)]
    assert one(sql, "sessions")["skill_id"] == "in-a-b-c-again-a-b-c"


@pytest.mark.parametrize(("rule", "shown"), [(Names(), "a b"), (ReducedNames(), "b")])
async def test_a_projection_may_bring_the_reducer(
    make_saver: SaverFactory, sql: Sql, rule: Projection, shown: str
) -> None:
    saver = make_saver(projections={"facts": rule})
    graph = chain(saver, {"facts": {"a": 1}}, {"facts": {"a": None, "b": 2}}, state=Deltas)

    await run(graph, {})

    assert one(sql, "sessions")["skill_id"] == shown


async def test_a_projection_of_every_step_sees_all_delta_channels(
    make_saver: SaverFactory, sql: Sql
) -> None:
    class Everything(Projection):
        def columns(self, step: Step) -> Mapping[str, Any]:
            sizes = {name: len(step.values.get(name, ())) for name in ("items", "messages")}
            return {"build_artifacts": sizes}

    saver = make_saver(projections={"all": Everything()})
    updates = (says_hi, {"items": ["x"]}, says_hi, {"items": ["y"]}, says_hi)

    await run(chain(saver, *updates, state=Deltas), {"items": ["in"]})

    artifacts = from_json(one(sql, "sessions")["build_artifacts"])
    assert artifacts == {"items": 3, "messages": 3}


class Broken(Names):
    def columns(self, step: Step) -> Mapping[str, Any]:
        raise KeyError(step.checkpoint_id)


class BrokenReducer(Names):
    def reduce(self, channel: str, value: Any, writes: Sequence[Any]) -> Any:
        raise ValueError("no such fact")


@pytest.mark.parametrize("policy", ["record", "raise"])
@pytest.mark.parametrize("rule", [Broken(), BrokenReducer()])
async def test_a_projection_that_raises_on_a_delta_channel_is_recorded_and_the_thread_goes_on(
    make_saver: SaverFactory, sql: Sql, rule: Projection, policy: Any
) -> None:
    saver = make_saver(projections={"facts": rule}, on_projection_error=policy)
    graph = chain(saver, {"facts": {"a": 1}}, {"messages": talk("x")}, state=Deltas)

    await run(graph, {})

    assert (await graph.aget_state(config())).values["facts"] == {"a": 1}
    row = one(sql, "session_errors")
    assert (row["channel"], row["kind"], row["step"]) == ("facts", "projection", 1)
    assert transcript(sql) == [("user", "x")]


# -- plain and delta channels side by side ------------------------------------------------------


class Plan(NamedTuple):
    """What a run does: the edits of its nodes, and whether it asks."""

    edits: Mapping[str, tuple[str, float]]
    asks: bool


NODES = ("first", "second", "beside", "last")
EDITS = ("none", "say", "say", "talk", "edit", "remove", "clear", "overwrite", "front", "turn")
ADDS = ("none", "say", "talk")

plans = st.builds(
    Plan,
    st.fixed_dictionaries(
        {
            node: st.tuples(st.sampled_from(ADDS if node == "beside" else EDITS), st.floats(0, 0.9))
            for node in NODES
        }
    ),
    st.sampled_from([False, False, True]),
)
ACTIONS = ("run", "run", "run", "update", "fork", "travel", "branch", "other process")
scripts = st.tuples(
    st.sampled_from(["sync", "async", "exit"]),
    st.sampled_from([1, 3, 1_000]),
    st.lists(st.tuples(st.sampled_from(ACTIONS), plans, st.floats(0, 0.99)), max_size=12),
)


def edited(messages: list[BaseMessage], edit: tuple[str, float], name: str) -> Any:
    """An update of messages, the same for the same messages."""
    kind, where = edit
    said = spent("writer", len(name), 1, id=name)
    at = int(where * len(messages))
    before, rest = messages[:at], messages[at:]
    chosen = rest[0] if rest else said
    return {
        "say": [said],
        "talk": [HumanMessage("hello", id=f"h-{name}"), said],
        "edit": [chosen.model_copy(update={"content": f"{chosen.content}!"})],
        "remove": [RemoveMessage(str(chosen.id)), said] if messages else [said],
        "clear": [RemoveMessage(REMOVE_ALL_MESSAGES), said],
        "overwrite": Overwrite([said]),
        "front": [RemoveMessage(REMOVE_ALL_MESSAGES), said, *messages],
        "turn": [RemoveMessage(REMOVE_ALL_MESSAGES), *rest, *before],
    }[kind]


class Twins:
    """A graph with a plain channel and one with a `DeltaChannel`, which do the same."""

    def __init__(self, make_saver: SaverFactory, prefix: str, durability: str, every: int) -> None:
        self.plan = Plan({}, asks=False)
        self.options: dict[str, Any] = {"durability": durability}
        delta = partial(DeltaChannel, snapshot_frequency=every)
        kinds: dict[str, tuple[Any, Any]] = {
            "plain": (add_messages, merged_with),
            "delta": (delta(added), delta(merged)),
        }
        builders = {f"{prefix}-{name}": self._graph(*kind) for name, kind in kinds.items()}
        savers = [make_saver(projections={"facts": ReducedNames()}) for _ in range(2)]
        self.processes = [
            {thread: ScriptRunner(builder, saver) for thread, builder in builders.items()}
            for saver in savers
        ]
        self.count = 0

    def _graph(self, messages: Any, facts: Any) -> Any:
        def fill(namespace: dict[str, Any]) -> None:
            namespace["__annotations__"] = {
                "messages": Annotated[list[Any], messages],
                "facts": Annotated[dict[str, Any], facts],
            }

        state: Any = types.new_class("State", (TypedDict,), {"total": False}, fill)
        builder: Any = StateGraph(state)
        for name in NODES:
            builder.add_node(name, self._node(name))
        builder.add_edge(START, "first")
        for name in ("second", "beside"):
            builder.add_edge("first", name)
            builder.add_edge(name, "last")
        return builder

    def _node(self, name: str) -> Callable[[Any], Any]:
        def node(state: Any) -> Any:
            if name == "last" and self.plan.asks:
                interrupt("go on?")
            if self.plan.edits[name][0] == "none":
                return {"facts": {name: None}}
            messages = state.get("messages") or []
            update = edited(messages, self.plan.edits[name], f"{name}-{self.count}")
            return {"messages": update, "facts": {name: 1, f"{self.count}": self.count % 3 or None}}

        return node

    async def act(self, action: str, plan: Plan, where: float) -> None:
        """Do the same with both."""
        self.plan, self.count = plan, self.count + 1
        if action == "other process":
            self.processes.reverse()
            return
        for thread, driver in self.processes[0].items():
            await self._act(driver, config(thread), action, where)

    async def _act(self, driver: ScriptRunner, at: Any, action: str, where: float) -> None:
        given = {"messages": [HumanMessage("in", id=f"in-{self.count}")]}
        if action == "run":
            waits = (await driver.state(at)).next
            await driver.invoke(Command(resume="yes") if waits else given, at, **self.options)
            return
        past = await driver.history(at)
        if not past:
            return
        state = past[0] if action == "update" else past[int(where * len(past))]
        if action in ("update", "fork"):
            messages = state.values.get("messages") or []
            update = edited(messages, ("edit", where), f"update-{self.count}")
            forked = await driver.update(state.config, {"messages": update}, as_node="first")
            state = state._replace(config=forked)
        if action != "update":
            value = given if action == "branch" else None
            await driver.invoke(value, state.config, **self.options)

    async def compare(self, sql: Sql) -> None:
        plain, delta = self.processes[0]
        assert rows_of(sql, delta) == rows_of(sql, plain)
        state = await self.processes[0][delta].state(config(delta))
        shown = [(m.id, m.content) for m in state.values.get("messages") or []]
        assert transcript_of(sql, delta) == transcript_of(sql, plain) == shown


def transcript_of(sql: Sql, session: str) -> list[tuple[str, str]]:
    """The transcript as the README reads it."""
    rows = sql(
        "SELECT message_id, content FROM messages WHERE session_id = :session "
        "AND removed_at IS NULL ORDER BY position",
        session=session,
    )
    return [(row["message_id"], row["content"]) for row in rows]


def rows_of(sql: Sql, thread: str) -> dict[str, list[Any]]:
    """A thread's projected rows, but for their times."""
    columns = {
        "messages": "message_id, content, removed_at IS NULL AS here, role",
        "token_usage": "input_tokens, total_tokens, agent_type, model",
    }
    found = {
        table: sql(
            f"SELECT {named} FROM {table} JOIN session_threads USING (thread_key) "
            "WHERE thread_id = :thread",
            thread=thread,
        )
        for table, named in columns.items()
    }
    found["sessions"] = sql("SELECT skill_id FROM sessions WHERE id = :thread", thread=thread)
    return {table: sorted(tuple(row.values()) for row in rows) for table, rows in found.items()}


async def test_a_plain_and_a_delta_channel_of_the_same_values_give_the_same_rows(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    loop, number = asyncio.get_running_loop(), iter(range(10_000))

    async def hold(script: tuple[str, int, list[Any]]) -> None:
        durability, every, actions = script
        twins = Twins(make_saver, f"t{next(number)}", durability, every)
        for action in actions:
            await twins.act(*action)
            await twins.compare(sql)

    @settings(
        max_examples=EXAMPLES[backend.name],
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(scripts)
    def check(script: tuple[str, int, list[Any]]) -> None:
        asyncio.run_coroutine_threadsafe(hold(script), loop).result()

    await asyncio.to_thread(check)
    assert counts(sql)["session_errors"] == 0


# -- values from writes -------------------------------------------------------------------------

A, B = HumanMessage("a", id="a"), HumanMessage("b", id="b")
A2 = HumanMessage("A", id="a")


@pytest.mark.parametrize(
    ("value", "writes", "expected"),
    [
        (None, [], None),
        (None, [["x"], ["y"]], ["x", "y"]),
        (["x"], ["y"], ["x", "y"]),
        ([A], [[B], A2], [A2, B]),
        ([A, B], [[RemoveMessage("a")]], [B]),
        ([A], [[RemoveMessage(REMOVE_ALL_MESSAGES), B]], [B]),
        (None, [A, [B]], [A, B]),
        ([A], [Overwrite([B]), [A2]], [B, A2]),
        ([A], [Overwrite(None)], None),
        ({"x": 1}, [{"y": 2}, {"x": 3}], {"x": 3, "y": 2}),
        ({1}, [{2}], {1, 2}),
        ("x", ["y", "z"], "z"),
    ],
)
def test_writes_are_applied_as_langgraph_s_reducers_do(
    value: Any, writes: list[Any], expected: Any
) -> None:
    assert reduce_writes(value, writes) == expected


HI = HumanMessage("hi")


@pytest.mark.parametrize(
    "write",
    ["hi", ("user", "hi"), {"role": "user", "content": "hi"}, HI, (HI,),
     ["hi"], [("user", "hi")], [["user", "hi"]], [{"role": "user", "content": "hi"}]],
    ids=repr,
)  # fmt: skip
def test_what_stands_for_a_message_is_applied_as_one(write: Any) -> None:
    assert reduce_messages(None, [write]) == [HI]


def test_what_is_no_message_is_applied_as_it_is() -> None:
    assert reduce_messages([A], [[1, {"x": 2}], Overwrite([3])]) == [3]
    assert reduce_messages([A], [[1, {"x": 2}]]) == [A, 1, {"x": 2}]


def test_applying_writes_leaves_the_value_before_as_it_was() -> None:
    first = reduce_writes([A], [[B]])

    again = [reduce_writes(first, [[RemoveMessage("a")]]) for _ in range(2)]

    assert (first, again) == ([A, B], [[B], [B]])
