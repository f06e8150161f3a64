"""The graph that works on any stage in any kind of session. The thread is the session.

    user_interaction   propose -> ask -> propose -> ask -> … write -> write -> … propose -> ask
    review             mark -> mark -> … propose -> ask -> write -> write -> …
    agent_autonomous   choose -> choose -> … write -> write -> …

A run's `configurable` says which stage and session it is about (`Target`); LangGraph puts that into
the metadata of each checkpoint, where projections find it. The work is cut into small steps, each
saved with what it projects: whoever looks sees the stage grow, and a process that was killed
loses one step.
"""

import asyncio
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.types import interrupt
from pydantic import BaseModel, TypeAdapter, ValidationError

from examples.genesis.configs import Text, fields_of
from examples.genesis.models import GenesisStage, SessionKind
from examples.genesis.story import review
from examples.genesis.story.brief import Brief
from examples.genesis.story.language import capital, sentence
from examples.genesis.story.options import label, options, question
from examples.genesis.story.prose import heading_of, sections
from examples.genesis.writers import Writer, story_writer
from examples.web.runs import Graph

STANDS = "it stands"
"""The answer that accepts a result; another one names fields to decide again."""

ALL, NONE = "all of them", "none of them"
"""Answers to a review's suggestions; another one names fields."""


class Question(TypedDict):
    """What the writer is asked: the value of the interrupt, and of the channel `question`."""

    about: str
    """A field of the config, "result" or "suggestions"."""
    text: str
    options: list[str]


class State(TypedDict, total=False):
    """The channels."""

    messages: Annotated[list[AnyMessage], add_messages]
    seed: str
    take: int
    """How many sessions the stage had before: each is offered other options."""
    facts: dict[str, str]
    """The decisions of the stages before, by field."""
    config: dict[str, str]
    """The decisions of this stage, by field."""
    parts: list[dict[str, str]]
    """The sections that are written."""
    total: int
    """How many sections there will be."""
    result: dict[str, Any] | None
    """The prose, when all of it is written."""
    question: Question | None
    """What the writer has not answered yet."""
    stands: bool
    """Whether the writer has accepted the result."""
    marks: list[dict[str, Any]]
    suggestions: dict[str, str]
    iterations: int
    """How often something was decided."""


class Target(BaseModel):
    """What a run is about: in the `configurable` of the run, and the metadata of checkpoints."""

    session_id: str
    owner_id: str
    flow_id: str
    stage_id: str
    stage: GenesisStage
    session_kind: SessionKind

    @property
    def config(self) -> RunnableConfig:
        """The config of a run."""
        values = {"thread_id": self.session_id, **self.model_dump(mode="json")}
        return {"configurable": values, "recursion_limit": 200}


def opening(kind: SessionKind, text: str, draft: State, before: State) -> State:
    """The input of a run that a message starts.

    Args:
        kind: The kind of the session.
        text: The message.
        draft: What it begins with: seed, take, facts, config and result.
        before: The state that the session has: a conversation goes on with its config and result.
    """
    start: State = {
        **draft, "messages": [HumanMessage(text)], "question": None, "stands": False, "marks": [],
        "suggestions": {}, "iterations": before.get("iterations", 0),
    }  # fmt: skip
    if kind is SessionKind.USER_INTERACTION and "config" in before:
        start["config"], start["result"] = before["config"], before["result"]
    start["parts"] = start["result"]["sections"] if start["result"] else []
    return start


def build_graph(
    saver: BaseCheckpointSaver[Any] | None, writer: Writer = story_writer, *, pause: float = 0
) -> Graph:
    """Build the graph.

    Args:
        saver: Where the sessions are stored.
        writer: Who writes the prose; by default the story generator.
        pause: Seconds that each step of work takes longer, so that it can be watched.
    """
    nodes = _Nodes(writer, pause)
    builder: Any = StateGraph(State)
    for node in (nodes.propose, nodes.ask, nodes.choose, nodes.write, nodes.mark):
        builder.add_node(node.__name__, node)
    builder.add_edge("propose", "ask")
    for name in (START, "ask", "choose", "write", "mark"):
        builder.add_conditional_edges(name, _next, ["propose", "choose", "write", "mark", END])
    graph: Graph = builder.compile(checkpointer=saver)
    return graph


def _next(state: State, config: RunnableConfig) -> str:
    return next_node(_target(config), state)


def next_node(target: Target, state: State) -> str:
    """The node that comes first in a run, or after a step without a question."""
    kind = target.session_kind
    if kind is SessionKind.REVIEW and len(state["marks"]) < len(review.CRITERIA):
        return "mark"
    if kind is not SessionKind.REVIEW and _open_fields(target, state):
        return "propose" if kind is SessionKind.USER_INTERACTION else "choose"
    if not state["result"]:
        return "write"
    is_settled = state["stands"] or kind is not SessionKind.USER_INTERACTION
    return END if is_settled and not state["suggestions"] else "propose"


def _target(config: RunnableConfig) -> Target:
    return Target.model_validate(config["configurable"])


def _open_fields(target: Target, state: State) -> list[str]:
    return [name for name in fields_of(target.stage) if name not in state["config"]]


@dataclass(frozen=True)
class _Nodes:
    """The nodes. Each returns what it changes; none has any other effect."""

    writer: Writer
    pause: float

    async def propose(self, state: State, config: RunnableConfig) -> State:
        """Put the next question."""
        asked = _question(_target(config), state)
        lines = [asked["text"], *(f"{n}. {text}" for n, text in enumerate(asked["options"], 1))]
        return {"question": asked, "messages": [_says("editor", "\n".join(lines))]}

    async def ask(self, state: State) -> State:
        """Wait for the answer to the question, and do what it says."""
        asked, config, suggested = state["question"], state["config"], state["suggestions"]
        assert asked is not None  # noqa: S101 - `propose` has set it
        said = str(interrupt(asked))
        update: State = {"question": None, "messages": [HumanMessage(said)]}
        try:
            answer = _read(asked, said)
        except ValidationError as exc:
            refusal = f"That cannot be used: {exc.errors()[0]['msg']}."
            return {**update, "messages": [HumanMessage(said), _says("editor", refusal)]}
        update["iterations"] = state["iterations"] + 1
        words = answer.lower().rstrip(" .!")
        match asked["about"]:
            case "suggestions":
                taken = {name for name in suggested if words == ALL or name in words}
                decided = config | {name: suggested[name] for name in taken}
                update["suggestions"] = {}
            case "result":
                decided = {name: text for name, text in config.items() if name not in words}
                update["stands"] = words == STANDS
            case field:
                decided = config | {field: answer}
        return update if decided == config else update | _decided(decided)

    async def choose(self, state: State, config: RunnableConfig) -> State:
        """Decide one field without asking."""
        await asyncio.sleep(self.pause)
        field = _open_fields(_target(config), state)[0]
        brief, attempt = _brief(state), (state["take"], state["iterations"])
        choice = brief.draw("choice", field, attempt).choice(options(brief, field, attempt))
        said = _says("agent", f"{question(field)} {sentence(choice)}")
        update: State = {"iterations": state["iterations"] + 1, "messages": [said]}
        return update | _decided(state["config"] | {field: choice})

    async def write(self, state: State, config: RunnableConfig) -> State:
        """Write the next section; after the last one, the result is all of them."""
        await asyncio.sleep(self.pause)
        stage, brief, parts = _target(config).stage, _brief(state), state["parts"]
        planned = sections(brief, stage)
        section = planned[len(parts)]
        message = await self.writer(brief, section)
        parts = [*parts, {"heading": section.heading, "text": str(message.text)}]
        update: State = {"parts": parts, "total": len(planned), "messages": [message]}
        if len(parts) == len(planned):
            update["result"] = {"title": heading_of(brief, stage), "sections": parts}
        return update

    async def mark(self, state: State) -> State:
        """Mark one side of the draft; after the last one, make suggestions."""
        await asyncio.sleep(self.pause)
        marks, brief, draft = state["marks"], _brief(state), state["config"]
        given = review.mark(brief, review.CRITERIA[len(marks)], draft)
        said = capital("{criterion}: {score} of 100. {comment}".format_map(given))
        marks = [*marks, given]
        update: State = {"marks": marks, "messages": [_says("reviewer", said)]}
        if len(marks) == len(review.CRITERIA):
            update["suggestions"] = review.suggestions(brief, draft)
        return update


def _says(name: str, text: str) -> AIMessage:
    return AIMessage(text, name=name)


def _brief(state: State) -> Brief:
    return Brief(state["seed"], state["facts"] | state["config"])


def _decided(config: dict[str, str]) -> State:
    """The update for other decisions: what was written of them is written again."""
    return {"config": config, "result": None, "parts": []}


def _question(target: Target, state: State) -> Question:
    """What the writer is asked next."""
    if target.session_kind is SessionKind.REVIEW:
        lines = [f"For the {label(name)}: {text}" for name, text in state["suggestions"].items()]
        text = " ".join(["Which suggestions do you take?", *map(sentence, lines)])
        choices = [ALL, *(f"the {label(name)}" for name in state["suggestions"]), NONE]
        return Question(about="suggestions", text=text, options=choices)
    if fields := _open_fields(target, state):
        attempt = (state["take"], state["iterations"])
        offered = options(_brief(state), fields[0], attempt)
        return Question(about=fields[0], text=question(fields[0]), options=offered)
    choices = [STANDS, *(f"change the {label(name)}" for name in fields_of(target.stage))]
    text = "Does it stand, or is something to change?"
    return Question(about="result", text=text, options=choices)


_TEXT = TypeAdapter(Text)


def _read(asked: Question, answer: str) -> str:
    """An answer as text that a config takes: an option may be named by its number.

    Raises:
        ValidationError: It is empty or too long.
    """
    controls = {c for c in answer if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cs")}
    answer = _TEXT.validate_python("".join(c for c in answer if c not in controls))
    if answer.isdecimal() and 0 < int(answer) <= len(asked["options"]):
        return asked["options"][int(answer) - 1]
    return answer
