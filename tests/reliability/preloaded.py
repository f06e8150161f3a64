"""A WSGI application for `gunicorn --preload`: its saver and graph are made before the fork."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from langgraph.graph import START, MessagesState, StateGraph

from langgraph_session_saver import SessionSaver

BEFORE = "before the fork"


def answer(state: MessagesState) -> Any:
    """Answer the last message."""
    return {"messages": [("ai", f"answer to {state['messages'][-1].content}")]}


builder = StateGraph(MessagesState)
builder.add_node("answer", answer)
builder.add_edge(START, "answer")
graph = builder.compile(
    checkpointer=SessionSaver.from_conn_string(os.environ["PRELOADED_DATABASE"])
)


def ask(thread_id: str, question: str) -> int:
    """Take a turn on a thread; the number of messages that it then has."""
    where: Any = {"configurable": {"thread_id": thread_id}}
    given: Any = {"messages": [("human", question)]}
    return len(graph.invoke(given, where)["messages"])


ask(BEFORE, "does it work?")


def application(
    environ: Mapping[str, Any], start_response: Callable[..., object]
) -> Iterable[bytes]:
    """Take a turn on the thread that the path names; the process and the number of messages."""
    thread_id = environ["PATH_INFO"].removeprefix("/")
    told = {"pid": os.getpid(), "messages": ask(thread_id, environ["QUERY_STRING"])}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]
