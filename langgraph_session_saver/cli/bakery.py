"""The graph that `demo` runs: it plans a page, asks for a colour, and builds it. No model."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, interrupt

ASKS = {
    "demo-bakery": "A landing page for my bakery, please.",
    "demo-florist": "A page for my flower shop. It is called <Petal>.",
    "demo-garage": "A booking page for my garage.",
}
"""What is asked for, by thread: one is built, one fails, one waits for an answer."""

_PRICES = {"small": (0.15e-6, 0.6e-6), "large": (2.5e-6, 10e-6)}


class Page(MessagesState, total=False):
    """The graph's state; each of these channels becomes rows or columns."""

    title: str
    build_status: str
    product_type: str
    colour: str
    html: str


class UnprintableNameError(ValueError):
    """A name that no page can show."""


def price(model: str, input_tokens: int, output_tokens: int) -> float:
    """What a call would cost, in US dollars."""
    into, out = _PRICES[model]
    return input_tokens * into + output_tokens * out


def plan(state: Page) -> dict[str, Any]:
    """Say what is going to be built."""
    asked = str(state["messages"][-1].content)
    kind = "booking" if "booking" in asked else "landing"
    said = _says("planner", "small", f"A {kind} page: a headline, a picture, a button.", 40, 15)
    return {
        "messages": [said],
        "build_status": "building",
        "product_type": kind,
    }


def ask(state: Page) -> dict[str, Any]:
    """Ask for a colour, and wait until somebody answers."""
    del state
    return {"colour": interrupt("Which colour should the button have?")}


def build(state: Page) -> dict[str, Any]:
    """Build the page."""
    asked = str(state["messages"][0].content)
    if "<" in asked:
        raise UnprintableNameError("a name with < in it cannot be put on a page")
    html = f"<h1>{asked}</h1><button style='background:{state['colour']}'>Order</button>"
    said = _says("builder", "large", f"Here it is, in {state['colour']}.", 320, 140)
    return {"messages": [said], "html": html, "build_status": "success"}


def _says(agent: str, model: str, text: str, into: int, out: int) -> AIMessage:
    used = UsageMetadata(input_tokens=into, output_tokens=out, total_tokens=into + out)
    return AIMessage(text, name=agent, usage_metadata=used, response_metadata={"model_name": model})


def run_all(saver: BaseCheckpointSaver[str], threads: list[str]) -> None:
    """Run the graph in these threads, as far as each gets."""
    builder = StateGraph(Page).add_node(plan).add_node(ask).add_node(build)
    builder.add_edge(START, "plan").add_edge("plan", "ask").add_edge("ask", "build")
    graph: CompiledStateGraph[Page, None, Page, Page] = builder.compile(checkpointer=saver)
    for name in threads:
        config: RunnableConfig = {"configurable": {"thread_id": name, "owner_id": "ada"}}
        title = name.removeprefix("demo-").capitalize()
        graph.invoke({"messages": [HumanMessage(ASKS[name], id="asked")], "title": title}, config)
        if name == "demo-garage":
            continue
        try:
            graph.invoke(Command(resume="tomato"), config)
        except UnprintableNameError:
            continue  # it is what this thread is for
