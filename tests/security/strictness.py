"""A program that stores a dataclass and reads it in each way, as strict as the environment says."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from langgraph_session_saver import SerializationError, SessionSaver

AT: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
OTHER: Any = {"configurable": {"thread_id": "other", "checkpoint_ns": ""}}
IN_WRITES: Any = {"configurable": {"thread_id": "in writes", "checkpoint_ns": ""}}


@dataclass
class Page:
    title: str


class State(TypedDict, total=False):
    page: Page


def builder() -> StateGraph[Any]:
    made: StateGraph[Any] = StateGraph(State)
    made.add_node("write", lambda _state: {"page": Page("home")})
    made.add_edge(START, "write")
    return made


def said(read: Callable[[], Any]) -> str:
    """What a way of reading gives, or the error that it raises."""
    try:
        return repr(read())
    except SerializationError as exc:
        return str(exc)


def main(file: str) -> None:
    with SessionSaver.from_conn_string(file) as saver:
        graph = builder().compile(checkpointer=saver)
        graph.invoke({}, AT)
        builder().compile(checkpointer=saver, interrupt_before=["write"]).invoke({}, IN_WRITES)
        waiting: Any = saver.get_tuple(IN_WRITES)
        saver.put_writes(waiting.config, [("page", Page("home"))], "task")
        other = InMemorySaver()
        builder().compile(checkpointer=other).invoke({}, OTHER)

    with SessionSaver.from_conn_string(file) as saver:
        listed = saver.with_allowlist([(__name__, "Page")])
        found = {
            "get_tuple": said(lambda: values_of(saver.get_tuple(AT))),
            "aget_tuple": said(lambda: values_of(asyncio.run(saver.aget_tuple(AT)))),
            "list": said(lambda: values_of(next(iter(saver.list(AT))))),
            "writes": said(lambda: write_of(saver.get_tuple(IN_WRITES))),
            "import_from": said(lambda: imported(saver, other)),
            "with_allowlist": said(lambda: values_of(listed.get_tuple(AT))),
            "get_state": said(
                lambda: builder().compile(checkpointer=saver).get_state(AT).values["page"]
            ),
        }
    sys.stdout.write(json.dumps(found))


def imported(saver: SessionSaver, other: InMemorySaver) -> Any:
    saver.import_from(other)
    return values_of(saver.get_tuple(OTHER))


def values_of(found: Any) -> Any:
    return found.checkpoint["channel_values"]["page"]


def write_of(found: Any) -> Any:
    return found.pending_writes[-1][2]
