"""A call of each public method that names a thread or session, and a thread to call them on."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.sessions.repository import SessionRepository
from langgraph_session_saver.sessions.state import SessionState
from langgraph_session_saver.sessions.threads import ThreadRepository
from tests.support.rows import checkpoint_id, config, put

Calls = Mapping[str, Callable[[SessionSaver, str], Awaitable[Any]]]
"""By method, a call of its async twin with the id of a thread and session."""


async def all_of(items: AsyncIterator[Any]) -> list[Any]:
    """The items of an async iterator."""
    return [item async for item in items]


async def _imported(saver: SessionSaver, name: str) -> Any:
    other = InMemorySaver()
    await put(other, 1, {"note": 1}, config(name, checkpoint_ns=""))
    return await saver.aimport_from(other)


def _at(name: str) -> Any:
    return config(name, checkpoint_ns="", checkpoint_id=checkpoint_id(1))


READS: Calls = {
    "saver.get": lambda saver, name: saver.aget(config(name)),
    "saver.get_tuple": lambda saver, name: saver.aget_tuple(_at(name)),
    "saver.list": lambda saver, name: all_of(saver.alist(config(name))),
    "saver.get_delta_channel_history": lambda saver, name: saver.aget_delta_channel_history(
        config=config(name), channels=["note"]
    ),
    "saver.history": lambda saver, name: saver.ahistory(name),
    "saver.diff": lambda saver, name: saver.adiff(name, checkpoint_id(1)),
    "saver.copy_thread": lambda saver, name: saver.acopy_thread(name, "copy"),
    "sessions.get": lambda saver, name: saver.sessions.aget(name),
    "sessions.messages": lambda saver, name: saver.sessions.amessages(name, removed=True),
    "sessions.versions": lambda saver, name: saver.sessions.aversions(name),
    "sessions.version": lambda saver, name: saver.sessions.aversion(name),
    "sessions.token_usage": lambda saver, name: saver.sessions.atoken_usage(name),
    "sessions.usage_summary": lambda saver, name: saver.sessions.ausage_summary(session_id=name),
    "sessions.errors": lambda saver, name: saver.sessions.aerrors(name),
    "threads.get": lambda saver, name: saver.threads.aget(name),
    "threads.copy": lambda saver, name: saver.threads.acopy(name, "copy"),
    "state.load_state": lambda saver, name: saver.state.aload_state(name),
    "state.metadata": lambda saver, name: saver.state.ametadata(name),
    "state.routing": lambda saver, name: saver.state.arouting(name),
    "state.model_usage": lambda saver, name: saver.state.amodel_usage(name),
}
"""Reads of a thread or session; a copy reads its source, and makes another thread of it."""

CHANGES: Calls = {
    "saver.put": lambda saver, name: put(saver, 2, SECOND_STEP, _at(name)),
    "saver.put_writes": lambda saver, name: saver.aput_writes(_at(name), [("note", 1)], "task"),
    "saver.delete_thread": lambda saver, name: saver.adelete_thread(name),
    "saver.copy_thread": lambda saver, name: saver.acopy_thread("own", name),
    "saver.prune": lambda saver, name: saver.aprune([name]),
    "saver.import_from": _imported,
    "sessions.create": lambda saver, name: saver.sessions.acreate(name),
    "sessions.update": lambda saver, name: saver.sessions.aupdate(name, title="Mine"),
    "sessions.delete": lambda saver, name: saver.sessions.adelete(name),
    "sessions.add_message": lambda saver, name: saver.sessions.aadd_message(name, "user", "Hi"),
    "sessions.add_version": lambda saver, name: saver.sessions.aadd_version(name, "<p>"),
    "sessions.rollback": lambda saver, name: saver.sessions.arollback(name, 0),
    "sessions.pin": lambda saver, name: saver.sessions.apin(name, 0),
    "sessions.unpin": lambda saver, name: saver.sessions.aunpin(name, 0),
    "sessions.add_token_usage": lambda saver, name: saver.sessions.aadd_token_usage(
        name, agent_type="a", model="m", input_tokens=1, output_tokens=1
    ),
    "threads.copy": lambda saver, name: saver.threads.acopy("own", name),
    "threads.delete": lambda saver, name: saver.threads.adelete(name),
    "state.save_state": lambda saver, name: saver.state.asave_state(name, {"note": 2}),
    "state.clear_state": lambda saver, name: saver.state.aclear_state(name),
    "state.update_build_status": lambda saver, name: saver.state.aupdate_build_status(
        name, "failed"
    ),
    "state.update_metadata": lambda saver, name: saver.state.aupdate_metadata(
        name, graph_state=None
    ),
    "state.update_routing": lambda saver, name: saver.state.aupdate_routing(name, None),
    "state.update_model_usage": lambda saver, name: saver.state.aupdate_model_usage(name, None),
}
"""Changes of a thread or session; some make it, from the thread `own` if it is a copy."""

CALLS: Calls = {**READS, **CHANGES}
"""All of them; of a copy, that which makes the thread it names."""

USAGE: Any = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
MAKING = frozenset(("saver.copy_thread", "saver.import_from", "sessions.create", "threads.copy"))
"""The changes that make the thread or session which they name."""

FIRST_STEP: Mapping[str, Any] = {
    "note": 1,
    "html": "<h1>",
    "build_status": "success",
    "messages": [AIMessage("Hello", id="1", usage_metadata=USAGE)],
}
SECOND_STEP: Mapping[str, Any] = {
    "note": 2,
    "html": "<h2>",
    "build_status": "failed",
    "messages": [*FIRST_STEP["messages"], AIMessage("Bye", id="2", usage_metadata=USAGE)],
}


async def fill_thread(saver: SessionSaver, name: str, **named: Any) -> None:
    """Make a thread and session with something in every table."""
    where = await put(saver, 0, {"note": 0}, config(name, **named))
    where = await put(saver, 1, FIRST_STEP, where, run_id=f"run of {name}")
    await saver.aput_writes(where, [("__error__", "ValueError('out of flour')")], "task")
    await saver.state.aupdate_routing(name, {"product_type": "card"})
    await saver.state.aupdate_model_usage(name, {"writer": "a model"})


def public_methods() -> set[str]:
    """Every public name of a saver and its repositories, without the async twins."""
    found = set[str]()
    classes = {
        "saver": SessionSaver,
        "sessions": SessionRepository,
        "threads": ThreadRepository,
        "state": SessionState,
    }
    for part, cls in classes.items():
        names = {name for name, _ in inspect.getmembers(cls) if not name.startswith("_")}
        twins = {f"a{name}" for name in names}
        found |= {f"{part}.{name}" for name in names - twins}
    return found
