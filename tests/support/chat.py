"""The chat that storage is measured with: random words, a fixed amount per turn."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import UUID

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def random_words(rng: Random, characters: int) -> str:
    """Words of two to nine letters, exactly so many characters together."""
    text = ""
    while len(text) < characters:
        text += "".join(rng.choices(LETTERS, k=rng.randint(2, 9))) + " "
    return text[:characters]


class Chat:
    """A graph of one node that answers 200 characters with 800.

    The messages have ids from the start. LangGraph gives one to a message that has none by changing
    it in place, while a checkpoint that holds it is being saved: two savers would see two things.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = Random(seed)
        self.builder: StateGraph[Any] = StateGraph(MessagesState)
        self.builder.add_node("answer", self._answer)
        self.builder.add_edge(START, "answer")
        self.builder.add_edge("answer", END)

    def question(self) -> dict[str, Any]:
        """What a turn is invoked with."""
        return {"messages": [HumanMessage(random_words(self._rng, 200), id=self._id())]}

    def _answer(self, state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(random_words(self._rng, 800), id=self._id())]}

    def _id(self) -> str:
        return str(UUID(int=self._rng.getrandbits(128), version=4))
