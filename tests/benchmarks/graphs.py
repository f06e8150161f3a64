"""The graphs that are run, each with all it says made beforehand: nodes only hand it out."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated, Any, TypeAlias
from uuid import UUID

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import _messages_delta_reducer
from langgraph.types import Send
from typing_extensions import TypedDict

from tests.support.chat import random_words

Builder: TypeAlias = StateGraph[Any, Any, Any, Any]


@dataclass(frozen=True)
class Program:
    """A graph and what it is invoked with: good for one run.

    Attributes:
        builder: The graph.
        inputs: What it is invoked with, one after the other.
        units: The turns, rounds or steps that its time is divided by.
        supersteps: What one input may take of them, where that is not three a unit.
    """

    builder: Builder
    inputs: Sequence[Any]
    units: int
    supersteps: int = 0

    @property
    def config(self) -> RunnableConfig:
        """Lets one input take all the steps that it needs."""
        return {"recursion_limit": (self.supersteps or 3 * self.units) + 10}


Written: TypeAlias = Callable[[], Program]
"""Writes a program anew, the same each time."""


class Words:
    """Random text and ids, the same for every saver."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = Random(seed)

    def text(self, characters: int) -> str:
        return random_words(self._rng, characters)

    def identifier(self) -> str:
        return str(UUID(int=self._rng.getrandbits(128), version=4))

    def human(self, characters: int) -> HumanMessage:
        return HumanMessage(self.text(characters), id=self.identifier())

    def answer(self, characters: int) -> AIMessage:
        return AIMessage(self.text(characters), id=self.identifier())


# -- the chat -----------------------------------------------------------------------------------


class DeltaState(TypedDict):
    """`MessagesState` as its author would rewrite it to store what changed."""

    messages: Annotated[list[AnyMessage], DeltaChannel(_messages_delta_reducer)]


def chat(turns: int, *, asked: int = 200, told: int = 800, state: Any = MessagesState) -> Program:
    """One node that answers a human message with one of its own, for so many turns."""
    words = Words()
    answers = iter([words.answer(told) for _ in range(turns)])
    builder: Builder = StateGraph(state)
    builder.add_node("answer", lambda _state: {"messages": [next(answers)]})
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return Program(builder, [{"messages": [words.human(asked)]} for _ in range(turns)], turns)


def delta_chat(turns: int) -> Program:
    """The chat, with the graph rewritten."""
    return chat(turns, state=DeltaState)


# -- a loop -------------------------------------------------------------------------------------


class Notes(TypedDict, total=False):
    """A state of plain values, of which a step changes two."""

    topic: str
    notes: list[dict[str, str]]
    count: int


def loop(steps: int, *, notes: int = 8, characters: int = 200) -> Program:
    """One node that calls itself, and each time replaces one of some notes: 2 KB of state."""
    words = Words()
    pieces = [{"text": words.text(characters)} for _ in range(min(steps, 256))]

    def work(state: Notes) -> Notes:
        count = state["count"]
        changed = list(state["notes"])
        changed[count % notes] = pieces[count % len(pieces)]
        return {"notes": changed, "count": count + 1}

    builder: Builder = StateGraph(Notes)
    builder.add_node("work", work)
    _looping(builder, "work", steps)
    first = [{"text": words.text(characters)} for _ in range(notes)]
    return Program(builder, [{"topic": words.text(300), "notes": first, "count": 0}], steps)


def megabyte(steps: int) -> Program:
    """The loop with 1 MB of state."""
    return loop(steps, notes=1_000, characters=1_000)


def _looping(builder: Builder, node: str, steps: int) -> None:
    """Let a node call itself until the state's `count` says that it is enough."""
    builder.add_edge(START, node)
    builder.add_conditional_edges(
        node, lambda state: node if state["count"] < steps else END, [node, END]
    )


# -- a page builder -----------------------------------------------------------------------------

PAGES = ("home", "about", "menu", "prices", "contact", "booking")


class Site(TypedDict, total=False):
    """Six pages, and how often one was changed."""

    home: str
    about: str
    menu: str
    prices: str
    contact: str
    booking: str
    count: int


def page_builder(steps: int, *, characters: int = 50_000) -> Program:
    """One node that rewrites 500 characters of one page each time, page after page."""
    words = Words()
    parts = [words.text(500) for _ in range(steps)]

    def rewrite(state: Site) -> dict[str, Any]:
        count = state["count"]
        name = PAGES[count % len(PAGES)]
        page: str = state[name]  # type: ignore[literal-required]
        at = 7_919 * count % (characters - 500)
        return {name: page[:at] + parts[count] + page[at + 500 :], "count": count + 1}

    builder: Builder = StateGraph(Site)
    builder.add_node("rewrite", rewrite)
    _looping(builder, "rewrite", steps)
    first = {name: words.text(characters) for name in PAGES}
    return Program(builder, [{**first, "count": 0}], steps)


# -- fan-out ------------------------------------------------------------------------------------


class Gathered(TypedDict, total=False):
    """What many tasks brought together."""

    found: Annotated[list[str], operator.add]
    count: int


def fan_out(rounds: int, *, tasks: int = 50) -> Program:
    """Rounds of parallel tasks, each with an argument of its own and a result of 200 characters."""
    words = Words()
    texts = [words.text(200) for _ in range(tasks)]

    def send(state: Gathered) -> list[Send]:
        return [Send("search", {"number": number}) for number in range(tasks)]

    builder: Builder = StateGraph(Gathered)
    builder.add_node("plan", lambda state: {"count": state["count"] + 1})
    builder.add_node("search", lambda task: {"found": [texts[task["number"]]]})
    builder.add_node("judge", lambda _state: {})
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", send, ["search"])
    builder.add_edge("search", "judge")
    builder.add_conditional_edges(
        "judge", lambda state: "plan" if state["count"] < rounds else END, ["plan", END]
    )
    return Program(builder, [{"found": [], "count": 0}], rounds)


# -- an agent -----------------------------------------------------------------------------------


def agent(turns: int, *, calls: int = 20, characters: int = 8_000) -> Program:
    """A model that calls a tool so often in a turn, and a tool that gives back long texts."""
    words = Words()
    said: list[AIMessage] = []
    for _ in range(turns):
        for _ in range(calls):
            asked = {"name": "read", "args": {"page": words.text(20)}, "id": words.identifier()}
            said.append(AIMessage(words.text(80), id=words.identifier(), tool_calls=[asked]))
        said.append(words.answer(800))
    texts = [words.text(characters) for _ in range(turns * calls)]
    messages, results = iter(said), iter(texts)

    def use(state: MessagesState) -> dict[str, Any]:
        asked: Any = state["messages"][-1]
        identifier = asked.tool_calls[0]["id"]
        return {"messages": [ToolMessage(next(results), id=identifier, tool_call_id=identifier)]}

    def follow(state: MessagesState) -> str:
        answer: Any = state["messages"][-1]
        return "tool" if answer.tool_calls else END

    builder: Builder = StateGraph(MessagesState)
    builder.add_node("model", lambda _state: {"messages": [next(messages)]})
    builder.add_node("tool", use)
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", follow, ["tool", END])
    builder.add_edge("tool", "model")
    inputs = [{"messages": [words.human(200)]} for _ in range(turns)]
    return Program(builder, inputs, turns, supersteps=2 * calls + 2)


# -- a large dict -------------------------------------------------------------------------------


class Document(TypedDict, total=False):
    """One large value."""

    fields: dict[str, str]
    count: int


def large_dict(steps: int, *, fields: int = 500, characters: int = 10_000) -> Program:
    """One node that replaces one of many fields each time: 5 MB of state."""
    words = Words()
    texts = [words.text(characters) for _ in range(steps)]

    def change(state: Document) -> Document:
        count = state["count"]
        changed = {**state["fields"], f"field {7 * count % fields}": texts[count]}
        return {"fields": changed, "count": count + 1}

    builder: Builder = StateGraph(Document)
    builder.add_node("change", change)
    _looping(builder, "change", steps)
    first = {f"field {number}": words.text(characters) for number in range(fields)}
    return Program(builder, [{"fields": first, "count": 0}], steps)
