"""The graph of `demo`: it plans a page, asks for a colour, and builds the page, without a model."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

REQUESTS = {
    "demo-bakery": "A landing page for my bakery, please.",
    "demo-florist": "A page for my flower shop. It is called <Petal>.",
    "demo-garage": "A booking page for my garage.",
}
"""The request of each thread: the first succeeds, the second fails, the third is interrupted."""

PRICES = {"small": {"input": 0.15, "output": 0.6}, "large": {"input": 2.5, "output": 10.0}}
"""US dollars for a million tokens."""


class Page(MessagesState, total=False):
    """The graph's state; each channel is projected into rows or columns."""

    title: str
    build_status: str
    product_type: str
    colour: str
    html: str


class UnprintableNameError(ValueError):
    """A name cannot be shown on a page."""


def plan(state: Page) -> dict[str, Any]:
    """Describe the page to build."""
    kind = "booking" if "booking" in str(state["messages"][-1].content) else "landing"
    answer = f"A {kind} page: a headline, a picture, a button."
    message = _message("planner", "small", answer, 40, 15)
    return {"messages": [message], "build_status": "building", "product_type": kind}


def ask(state: Page) -> dict[str, Any]:
    """Interrupt the graph to ask for a colour."""
    del state
    return {"colour": interrupt("Which colour should the button have?")}


def build(state: Page) -> dict[str, Any]:
    """Build the page."""
    request = str(state["messages"][0].content)
    if "<" in request:
        raise UnprintableNameError("a name with < in it cannot be put on a page")
    html = f"<h1>{request}</h1><button style='background:{state['colour']}'>Order</button>"
    message = _message("builder", "large", f"Here it is, in {state['colour']}.", 320, 140)
    return {"messages": [message], "html": html, "build_status": "success"}


def _message(agent: str, model: str, text: str, into: int, out: int) -> AIMessage:
    used = UsageMetadata(input_tokens=into, output_tokens=out, total_tokens=into + out)
    return AIMessage(text, name=agent, usage_metadata=used, response_metadata={"model_name": model})


def run_all(saver: BaseCheckpointSaver[str], threads: list[str]) -> None:
    """Run the graph in these threads, each as far as it gets."""
    builder = StateGraph(Page).add_node(plan).add_node(ask).add_node(build)
    builder.add_edge(START, "plan").add_edge("plan", "ask").add_edge("ask", "build")
    graph = builder.compile(checkpointer=saver)
    for name in threads:
        config: RunnableConfig = {"configurable": {"thread_id": name, "owner_id": "ada"}}
        title = name.removeprefix("demo-").capitalize()
        request = HumanMessage(REQUESTS[name], id="request")
        graph.invoke({"messages": [request], "title": title}, config)
        if name == "demo-garage":
            continue
        try:
            graph.invoke(Command(resume="tomato"), config)
        except UnprintableNameError:
            continue  # expected: this thread shows an error
