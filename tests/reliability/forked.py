"""Programs that fork after they have used a saver, and run its graph in parent and children."""

from __future__ import annotations

import faulthandler
import multiprocessing
import threading
from collections.abc import Callable
from typing import Any

from langgraph.graph import START, MessagesState, StateGraph
from sqlalchemy import create_engine

from langgraph_session_saver import SessionSaver

CHILDREN = 3
THREADS = 4
TURNS = 5
SECONDS = 60.0


def own_engine(url: str) -> None:
    """Fork with a saver whose engine is its own."""
    graph = graph_of(SessionSaver.from_conn_string(url))
    take_turns(graph, "before", 1)
    _fork_and_run(graph)


def given_engine(url: str) -> None:
    """Fork with a caller's engine: each child disposes of it, as SQLAlchemy documents."""
    engine = create_engine(url)
    graph = graph_of(SessionSaver(engine))
    take_turns(graph, "before", 1)
    _fork_and_run(graph, lambda: engine.dispose(close=False))


def busy_parent(url: str) -> None:
    """Fork while another thread of the parent is in the middle of its own steps."""
    graph = graph_of(SessionSaver.from_conn_string(url))
    take_turns(graph, "before", 1)
    is_over = threading.Event()

    def keep_busy() -> None:
        while not is_over.is_set():
            take_turns(graph, "busy", 1)

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        _fork_and_run(graph)
    finally:
        is_over.set()
        busy.join()


def graph_of(saver: SessionSaver) -> Any:
    """A chat of one node."""
    builder: Any = StateGraph(MessagesState)
    builder.add_node("answer", lambda _state: {"messages": [("ai", "yes")]})
    builder.add_edge(START, "answer")
    return builder.compile(checkpointer=saver)


def take_turns(graph: Any, name: str, turns: int) -> None:
    """Take turns on a thread."""
    for _ in range(turns):
        graph.invoke({"messages": ["?"]}, {"configurable": {"thread_id": name}})


def _fork_and_run(graph: Any, first: Callable[[], object] = bool) -> None:
    """Run the graph in children and parent at once; ends with an error if one fails or hangs."""
    fork = multiprocessing.get_context("fork")
    children = [
        fork.Process(target=_child, args=(graph, f"child {number}", first))
        for number in range(CHILDREN)
    ]
    for child in children:
        child.start()
    _run(graph, "parent")
    for child in children:
        child.join()
    ended = [child.exitcode for child in children]
    if any(ended):
        raise SystemExit(f"the children ended with {ended}")
    take_turns(graph, "after", 1)


def _child(graph: Any, name: str, first: Callable[[], object]) -> None:
    first()
    _run(graph, name)


def _run(graph: Any, name: str) -> None:
    """Take turns on several threads; a process that hangs prints where and ends."""
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    for turn in range(TURNS * THREADS):
        take_turns(graph, f"{name}, thread {turn % THREADS}", 1)
    faulthandler.cancel_dump_traceback_later()
