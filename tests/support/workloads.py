"""Programs for a zygote's children: real graphs over a saver, to be killed in the middle."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from itertools import count
from typing import Annotated, Any, NoReturn

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Durability
from sqlalchemy import NullPool, create_engine, event
from typing_extensions import TypedDict

from langgraph_session_saver import SessionSaver
from tests.support.telling import TellingSaver, tell

Says = Callable[[str], None]


class Build(TypedDict, total=False):
    """A page builder's state."""

    build_status: str
    messages: Annotated[list[AnyMessage], add_messages]
    html: str


def asked(turn: int) -> str:
    """What a person asks for in a turn."""
    return f"page {turn} please: " + f"{turn * 7919:06d} " * 8


def answered(turn: int) -> str:
    """What the builder answers."""
    return f"page {turn} is there: " + f"{turn * 104729:08d} " * 16


def page(turn: int) -> str:
    """The page that a turn makes."""
    return f"<html><body><h1>Page {turn}</h1>" + "<p>same in all</p>" * 20 + "</body></html>"


def outcome(turn: int) -> str:
    """How a turn's build ends: every third one fails."""
    return "failed" if turn % 3 == 2 else "success"


def turn_of(state: Build) -> int:
    """The turn that a state is in, from 0."""
    return sum(message.type == "human" for message in state["messages"]) - 1


def _silent(_what: str) -> None: ...


def build_graph(
    saver: BaseCheckpointSaver[Any], say: Says = _silent
) -> CompiledStateGraph[Build, None, Build, Build]:
    """Four steps a turn; each node says its name before it returns."""

    def take(state: Build) -> Build:
        say("take")
        return {"build_status": "pending"}

    def start(state: Build) -> Build:
        say("start")
        return {"build_status": "building"}

    def render(state: Build) -> Build:
        say("render")
        turn = turn_of(state)
        return {"html": page(turn), "messages": [AIMessage(answered(turn))]}

    def judge(state: Build) -> Build:
        say("judge")
        return {"build_status": outcome(turn_of(state))}

    builder = StateGraph(Build)
    nodes = {"take": take, "start": start, "render": render, "judge": judge}
    for name, node in nodes.items():
        builder.add_node(name, node)
    for before, after in zip([START, *nodes], [*nodes, END], strict=True):
        builder.add_edge(before, after)
    return builder.compile(checkpointer=saver)


def on(thread_id: str) -> Any:
    """The config of a thread."""
    return {"configurable": {"thread_id": thread_id}}


def finish(saver: BaseCheckpointSaver[Any], thread_id: str) -> Build:
    """Resume a thread whose run was killed, or take its next turn; the values at the end."""
    graph, config = build_graph(saver), on(thread_id)
    graph.invoke(_next_input(graph.get_state(config)), config, durability="sync")
    return graph.get_state(config).values  # type: ignore[return-value]


def _next_input(state: Any) -> Build | None:
    """None where there is something to resume, else the next turn."""
    if state.tasks:  # `next` leaves out a task whose writes are stored but not applied
        return None
    turn = turn_of(state.values) + 1 if "messages" in state.values else 0
    return {"messages": [HumanMessage(asked(turn))]}


def build_for_ever(url: str, thread_id: str, durability: Durability) -> NoReturn:
    """Resume the thread and take turn after turn, telling each step and checkpoint; sync."""
    _say("begin")
    saver = TellingSaver.from_conn_string(url)
    graph, config = build_graph(saver, _say), on(thread_id)
    while True:
        graph.invoke(_next_input(graph.get_state(config)), config, durability=durability)


async def abuild_for_ever(url: str, thread_id: str, durability: Durability) -> NoReturn:
    """As `build_for_ever`, async; the URL's driver decides over which engine."""
    _say("begin")
    saver = TellingSaver.from_conn_string(url)
    graph, config = build_graph(saver, _say), on(thread_id)
    while True:
        given = _next_input(await graph.aget_state(config))
        await graph.ainvoke(given, config, durability=durability)


def _say(step: str) -> None:
    tell(step=step)


def build_and_block(url: str, thread_id: str) -> None:
    """Take a turn and stay in the node after the one that says it is building."""

    def block(step: str) -> None:
        if step == "render":
            _tell("blocked")
            signal.pause()

    with SessionSaver.from_conn_string(url) as saver:
        graph = build_graph(saver, block)
        graph.invoke({"messages": [HumanMessage(asked(0))]}, on(thread_id), durability="sync")


def take_turns(url: str, thread_id: str, turns: int, own_engine: bool) -> None:
    """Take some turns on a thread; over an engine of the application's own or a URL."""
    if own_engine:
        engine = create_engine(url, poolclass=NullPool)
        saver = SessionSaver(engine)
    else:
        saver = SessionSaver.from_conn_string(url)
    with saver:
        for _ in range(turns):
            finish(saver, thread_id)
    _tell("done")


def set_up_at(moment: float, url: str, options: dict[str, Any]) -> None:
    """Set a database up at a moment of the clock, so that several processes do it at once."""
    _tell("ready")
    with SessionSaver.from_conn_string(url, **options) as saver:
        time.sleep(max(0.0, moment - time.time()))
        saver.setup()
    _tell("set up")


def _tell(what: str) -> None:
    # One system call: a kill leaves whole lines.
    os.write(1, f"{what}\n".encode())


def set_up_and_die(url: str, statement: int) -> None:
    """Set a database up, and be killed before the so-manieth statement that changes it."""
    left = count(statement, -1)
    engine = create_engine(url)

    @event.listens_for(engine, "before_cursor_execute")
    def die(_conn: Any, _cursor: Any, sql: str, *_rest: Any) -> None:
        if sql.lstrip().startswith(("CREATE", "INSERT", "ALTER")) and next(left) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    SessionSaver(engine).setup()
