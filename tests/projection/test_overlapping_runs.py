"""Runs that overlap on one thread: a double click, two tabs, two processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from langgraph_session_saver import SessionSaver
from tests.projection.samples import pages
from tests.projection.test_model_calls import calls
from tests.support.backends import Backend, Sql
from tests.support.faces import FaceName
from tests.support.graphs import underlying
from tests.support.rows import config, one, transcript
from tests.support.savers import SaverFactory
from tests.support.zygote import Zygote


class Page(MessagesState, total=False):
    html: str


def answer(state: Page) -> dict[str, Any]:
    asked = state["messages"][-1].text
    usage: Any = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    said = AIMessage(f"to {asked}", id=f"a {asked}", usage_metadata=usage)
    return {"messages": [said], "html": f"<p>{asked}"}


def graph_on(saver: Any, node: Callable[..., Any] = answer) -> Any:
    builder: Any = StateGraph(Page)
    return builder.add_node("answer", node).add_edge(START, "answer").compile(checkpointer=saver)


def asking(name: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(f"q {name}", id=f"h {name}")]}


async def ask_at_once(saver: Any, count: int) -> None:
    """Run tasks that overlap: no node answers before all have been asked."""
    barrier = asyncio.Barrier(count)

    async def answer_together(state: Page) -> dict[str, Any]:
        await barrier.wait()
        return answer(state)

    graph = graph_on(saver, answer_together)
    await asyncio.gather(*(graph.ainvoke(asking(str(n)), config()) for n in range(count)))


def ask_in_threads(saver: Any, names: list[str]) -> None:
    """Run threads that overlap: no node answers before all have been asked."""
    barrier = threading.Barrier(len(names))

    def answer_together(state: Page) -> dict[str, Any]:
        barrier.wait()
        return answer(state)

    graph = graph_on(saver, answer_together)
    with ThreadPoolExecutor(len(names)) as executor:
        list(executor.map(lambda name: graph.invoke(asking(name), config()), names))


def ask_in_process(url: str, names: list[str]) -> None:
    with SessionSaver.from_conn_string(url) as saver:
        ask_in_threads(saver, names)


async def assert_all_have_rows(saver: Any, sql: Sql, count: int) -> None:
    """Assert that each run's call, messages and page are stored once, and which are current."""
    state = (await graph_on(saver).aget_state(config())).values
    assert calls(sql) == [(3, 2)] * count
    assert [text for _, text in transcript(sql)] == [m.text for m in state["messages"]]
    said = [text for _, text in [*transcript(sql), *transcript(sql, removed=True)]]
    assert len(said) == len(set(said)) == 2 * count
    shown = [html for _, html, _ in pages(sql)]
    assert len(shown) == len(set(shown)) == count
    assert shown[one(sql, "sessions")["current_version"]] == state["html"]


@pytest.mark.parametrize("count", [2, 20])
async def test_each_of_several_runs_at_once_has_its_rows(
    make_saver: SaverFactory, face: FaceName, sql: Sql, count: int
) -> None:
    saver = make_saver()

    if face == "sync":
        ask_in_threads(underlying(saver), [str(n) for n in range(count)])
    else:
        await ask_at_once(saver, count)

    await assert_all_have_rows(saver, sql, count)


async def test_each_run_of_two_processes_at_once_has_its_rows(
    make_saver: SaverFactory, backend: Backend, zygote: Zygote, sql: Sql
) -> None:
    saver = make_saver()
    await saver.asetup()
    children = [
        zygote.spawn(
            "tests.projection.test_overlapping_runs:ask_in_process",
            {"url": backend.url, "names": [f"{name}{n}" for n in range(10)]},
        )
        for name in "ab"
    ]
    for child in children:
        assert child.wait() == 0, child.text

    await assert_all_have_rows(saver, sql, 20)
