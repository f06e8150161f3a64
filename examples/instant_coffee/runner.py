"""Running a brief: start it, resume it where it was killed, or say that it is done."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, StateSnapshot

from examples.instant_coffee.briefs import Brief
from examples.instant_coffee.graph import Graph, State, initial_state
from examples.instant_coffee.interview import Question

Answerer = Callable[[list[Question]], dict[str, str]]
Listener = Callable[[str, dict[str, Any]], None]


class OpenQuestionError(Exception):
    """The interview asks what the brief has no default for."""


@dataclass(frozen=True)
class Outcome:
    """How a run went.

    Attributes:
        thread_id: The session's thread.
        how: Whether it was started, resumed, tried again after a failure, or already done.
        state: The state it ended in.
        changed: Whether the brief's file changed since the session began.
    """

    thread_id: str
    how: Literal["started", "resumed", "retried", "finished before"]
    state: State
    changed: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the page is published."""
        return self.state.get("build_status") == "success"


def answer_from_defaults(questions: list[Question]) -> dict[str, str]:
    """Answer with the brief's own defaults.

    Raises:
        OpenQuestionError: A question has none.
    """
    for question in questions:
        if question["default"] is None:
            raise OpenQuestionError(
                f"the brief leaves {question['field']!r} open and has no default for it; "
                "add one under defaults, or run with --interactive"
            )
    return {question["field"]: question["default"] or "" for question in questions}


def thread_of(graph: Graph, stem: str, *, fresh: bool = False) -> str:
    """Find the newest thread of a brief, or name the next one where a fresh one is wanted."""
    number = 1
    while _exists(graph, _thread_name(stem, number + 1)):
        number += 1
    if fresh and _exists(graph, _thread_name(stem, number)):
        number += 1
    return _thread_name(stem, number)


def run_brief(
    graph: Graph,
    stem: str,
    brief: Brief,
    *,
    answer: Answerer = answer_from_defaults,
    pass_mark: float = 90,
    rounds: int = 4,
    fresh: bool = False,
    on_step: Listener | None = None,
) -> Outcome:
    """Run a brief to its end.

    Args:
        graph: A compiled graph of `build_graph`.
        stem: The name of the brief's file, from which the thread's name is made.
        brief: The brief.
        answer: Called with the open questions of each interrupt.
        pass_mark: The score from which a page is not refined further.
        rounds: The most rounds of refinement.
        fresh: Begin a new session though there is one.
        on_step: Called with each node's name and update once its step is saved.

    Returns:
        The outcome. A session that was finished is not run again; one that was killed goes on
        from its last step; one that failed begins again in the same thread.
    """
    thread_id = thread_of(graph, stem, fresh=fresh)
    config: RunnableConfig = {"configurable": {"thread_id": thread_id}}
    begin = initial_state(brief, pass_mark, rounds)
    snapshot = graph.get_state(config)
    how = _how(snapshot)
    changed = how != "started" and snapshot.values.get("brief") != begin["brief"]
    if how == "finished before":
        return Outcome(thread_id, how, cast("State", snapshot.values), changed)
    payload: State | Command[Any] | None = None if how == "resumed" else begin
    while True:
        questions = _stream(graph, payload, config, on_step)
        if not questions:
            break
        payload = Command(resume=answer(questions))
    final = cast("State", graph.get_state(config).values)
    return Outcome(thread_id, how, final, changed and how == "resumed")


def _thread_name(stem: str, number: int) -> str:
    return f"instant-coffee/{stem}" + (f"/{number}" if number > 1 else "")


def _exists(graph: Graph, thread_id: str) -> bool:
    return graph.get_state({"configurable": {"thread_id": thread_id}}).created_at is not None


def _how(
    snapshot: StateSnapshot,
) -> Literal["started", "resumed", "retried", "finished before"]:
    if snapshot.created_at is None:
        return "started"
    if snapshot.next:
        return "resumed"
    return "finished before" if snapshot.values.get("build_status") == "success" else "retried"


def _stream(
    graph: Graph,
    payload: State | Command[Any] | None,
    config: RunnableConfig,
    on_step: Listener | None,
) -> list[Question]:
    questions: list[Question] = []
    for chunk in graph.stream(payload, config, stream_mode="updates", durability="sync"):
        for node, update in chunk.items():
            if node == "__interrupt__":
                questions += [q for asked in update for q in asked.value["questions"]]
            elif on_step:
                on_step(node, update or {})
    return questions
