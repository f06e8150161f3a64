"""The graph that makes a technical requirements document of a design. The thread is the job.

    load_design -> analyze_gaps -> research of each gap -> recommend -> await_decisions
                        └─────────(no gap)─────────┐     └──(no question)──┐    │
                                                   └────> write_document <─┴────┘
                                         (below the mark) ↑     ↓
                              completed | failed <- validate_document

A stage is the node that comes next. The nodes are small steps, each saved with what it projects:
whoever looks sees the job go on, and a process that was killed loses one step.
"""

import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from operator import add, or_
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import GraphBubbleUp, NodeError
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import RetryPolicy, Send, interrupt
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.tech_spec.catalogue import Category, Option, load
from examples.tech_spec.design import (
    load_design_agent_outputs,
    load_design_decisions,
    validate_design_job_completed,
)
from examples.tech_spec.document import Brief, Choice, Document, write_document
from examples.tech_spec.errors import NotPendingError, TechSpecError, UnknownOptionError
from examples.tech_spec.models import JobStatus, Stage
from examples.tech_spec.ranking import Ranked, assess, rank, words
from examples.tech_spec.requirements import Need, Requirements, read_requirements
from examples.tech_spec.validation import MARK, Finding, validate
from examples.web.database import reading
from examples.web.models import utc_now

Graph = CompiledStateGraph[Any, Any, Any, Any]

COMPLETENESS = 80
"""The user is asked until this percentage of the needed categories is settled."""

TRIES = 3
"""How many versions of the document are written, at most."""

TRANSIENT = (ConnectionError, TimeoutError, OperationalError)
"""Errors after which a node is tried again."""

RETRY = RetryPolicy(initial_interval=0.1, max_attempts=3, jitter=False, retry_on=TRANSIENT)

ENDS = (Stage.COMPLETED, Stage.FAILED)

PROGRESS = {
    Stage.LOAD_DESIGN: 0,
    Stage.ANALYZE_GAPS: 10,
    Stage.RESEARCH: 20,
    Stage.AWAIT_DECISIONS: 40,
    Stage.WRITE_DOCUMENT: 60,
    Stage.VALIDATE_DOCUMENT: 80,
    Stage.COMPLETED: 100,
    Stage.FAILED: 0,
}
"""The percentage of a job that is done when it comes to a stage; it never falls."""

Researcher = Callable[[Category, Need], Awaitable[Sequence[Option]]]
"""Finds the options of a category."""

Writer = Callable[[Brief, Sequence[Finding]], Awaitable[Document]]
"""Writes a version of the document, and mends what was found in the versions before."""


class Answer(TypedDict):
    """A user's decision: what the graph is resumed with."""

    id: str
    category: str
    technology: str
    reasoning: str | None
    user_id: str
    decided_at: datetime


class Gap(TypedDict):
    """What is known of a category that somebody has to decide: columns of `TechResearch`."""

    gap_description: str
    researched_options: list[dict[str, Any]]
    """`Ranked` ones, the best first."""
    selected_technology: str | None
    selection_reasoning: str | None
    decided_by: str | None
    """The user; None if it is the agent."""
    decision_timestamp: datetime | None
    created_at: datetime


def _newest(_: str, new: str) -> str:
    """Take the last value: several tasks of a step may say that the job has failed."""
    return new


class State(TypedDict, total=False):
    """The channels."""

    job_id: str
    stage: Annotated[str, _newest]
    status: Annotated[str, _newest]
    progress: float
    design: dict[str, Any]
    """The outputs of the design agent, and `decisions`."""
    requirements: dict[str, Any]
    completeness: float
    """The percentage of the needed categories that the PRD, the design or the user has settled."""
    research: Annotated[dict[str, Gap], or_]
    """The gaps by category, the heaviest first."""
    pending: list[str]
    """The categories about which the user is asked."""
    messages: Annotated[list[AnyMessage], add_messages]
    document: dict[str, Any]
    """The newest version: its columns, and `findings` of those before."""
    errors: Annotated[list[dict[str, Any]], add]


async def research_catalogue(category: Category, _: Need) -> Sequence[Option]:
    """Take the options of the catalogue that ships with the application."""
    return load()[category].options


async def write_offline(brief: Brief, findings: Sequence[Finding]) -> Document:
    """Write the document without a model."""
    return write_document(brief, [finding.subject for finding in findings])


def opening(job_id: str) -> State:
    """The input of a job's first run."""
    return {"job_id": job_id, **_at(Stage.LOAD_DESIGN, {})}


def build_graph(
    saver: BaseCheckpointSaver[Any] | None,
    *,
    engine: AsyncEngine,
    research: Researcher = research_catalogue,
    write: Writer = write_offline,
) -> Graph:
    """Build the graph.

    Args:
        saver: Where the jobs are stored.
        engine: The database with the design agent's tables.
        research: Who finds the options of a category.
        write: Who writes the document.
    """
    nodes, failures = _Nodes(engine, research, write), _Failures()
    builder: Any = StateGraph(State)
    builder.set_node_defaults(retry_policy=RETRY, error_handler=failures.handle)
    stages = [stage.value for stage in Stage if stage not in ENDS]
    for name in (*stages, "recommend"):
        builder.add_node(name, failures.noting(getattr(nodes, name)))
        if name != Stage.RESEARCH:
            builder.add_conditional_edges(name, _next, [*stages, END])
    builder.add_conditional_edges(START, _next, [*stages, END])
    builder.add_edge("research", "recommend")
    graph: Graph = builder.compile(checkpointer=saver)
    return graph


def _next(state: State) -> str | list[Send]:
    """The node of the stage; the research of each gap is a task of its own."""
    if state["stage"] == Stage.RESEARCH:
        known = {"requirements": state["requirements"]}
        gaps = state["research"].items()
        return [Send("research", {**known, "research": {name: gap}}) for name, gap in gaps]
    return END if state["stage"] in ENDS else state["stage"]


def _at(stage: Stage, state: State, status: JobStatus = JobStatus.IN_PROGRESS) -> State:
    """The channels that say where the job stands."""
    progress = max(state.get("progress", 0), PROGRESS[stage])
    return {"stage": stage.value, "status": status.value, "progress": progress}


def require_pending(state: State, category: str, technology: str) -> None:
    """Check a decision.

    Raises:
        NotPendingError: The user is not asked about the category.
        UnknownOptionError: The technology is not among the category's options.
    """
    pending = state.get("pending", [])
    if category not in pending:
        raise NotPendingError(
            f"{category!r} is not to be decided now; what is: {', '.join(pending) or 'nothing'}",
            pending=pending,
        )
    known = _names(state["research"][category])
    if technology not in known:
        raise UnknownOptionError(
            f"{technology!r} is no option for {category}: choose one of {', '.join(known)}",
            category=category,
            known=known,
        )


class _Nodes:
    """The nodes. Each returns what it changes; none has any other effect."""

    def __init__(self, engine: AsyncEngine, research: Researcher, write: Writer) -> None:
        self._engine = engine
        self._research = research
        self._write = write

    async def load_design(self, state: State) -> State:
        """Load what the design agent has left."""
        async with reading(self._engine) as orm:
            await validate_design_job_completed(orm, state["job_id"])
            outputs = await load_design_agent_outputs(orm, state["job_id"])
            decisions = await load_design_decisions(orm, state["job_id"])
        return {"design": {**outputs, "decisions": decisions}, **_at(Stage.ANALYZE_GAPS, state)}

    async def analyze_gaps(self, state: State) -> State:
        """Find the needed categories that neither the PRD nor the design settles."""
        requirements = read_requirements(state["design"]["prd"])
        settled = _settled(state["design"], requirements)
        gaps = {c: need for c, need in requirements.needed.items() if c not in settled}
        heaviest_first = sorted(gaps, key=lambda category: -gaps[category].weight)
        update: State = {
            "requirements": requirements.model_dump(mode="json"),
            "research": {c.value: _gap(c, gaps[c]) for c in heaviest_first},
            "completeness": _completeness(requirements, len(gaps)),
            "pending": [],
        }
        return update | _at(Stage.RESEARCH if gaps else Stage.WRITE_DOCUMENT, state)

    async def research(self, state: State) -> State:
        """Find and rank the options of one category."""
        ((category, gap),) = state["research"].items()
        requirements = _requirements(state)
        need = requirements.needs[Category(category)]
        found = await self._research(Category(category), need)
        options = [each.model_dump() for each in rank(found, need, requirements)]
        return {"research": {category: {**gap, "researched_options": options}}}

    async def recommend(self, state: State) -> State:
        """Ask about the heaviest gaps; for the others, take the option that is ranked first."""
        if state["stage"] == Stage.FAILED:  # a category could not be researched
            return {}
        requirements, gaps = _requirements(state), state["research"]
        update: State = {"research": {}, "pending": [], "messages": []}
        for place, (category, gap) in enumerate(gaps.items()):
            if _completeness(requirements, len(gaps) - place) < COMPLETENESS:
                update["pending"].append(category)
                update["messages"].append(_question(category, gap))
            else:
                best, why = _names(gap)[0], "It is ranked first."
                update["research"][category] = _settle(gap, best, why)
                text = f"{gap['gap_description']} I take {best}."
                update["messages"].append(_says(text, "assumption", category))
        if update["pending"]:
            return update | _at(Stage.AWAIT_DECISIONS, state, JobStatus.PAUSED)
        return update | _at(Stage.WRITE_DOCUMENT, state)

    async def await_decisions(self, state: State) -> State:
        """Wait for one decision."""
        pending, research = state["pending"], state["research"]
        answer: Answer = interrupt({"pending": {c: _names(research[c]) for c in pending}})
        category, technology = answer["category"], answer["technology"]
        why, user_id, time = answer["reasoning"], answer["user_id"], answer["decided_at"]
        try:
            require_pending(state, category, technology)
        except TechSpecError as exc:  # another process was faster
            return {"messages": [_says(str(exc), "refusal", category)]}
        told = {"technology": technology, "user_id": user_id}
        said = _says(f"{technology}. {why or ''}", "decision", category, HumanMessage, **told)
        said.id, said.additional_kwargs["timestamp"] = answer["id"], time
        left = [each for each in pending if each != category]
        count = sum(gap["decided_by"] is None for gap in research.values()) - 1
        update: State = {
            "research": {category: _settle(research[category], technology, why, user_id, time)},
            "pending": left,
            "completeness": _completeness(_requirements(state), count),
            "messages": [said],
        }
        if not left:
            return update | _at(Stage.WRITE_DOCUMENT, state)
        step = (PROGRESS[Stage.WRITE_DOCUMENT] - state["progress"]) / len(pending)
        return update | {"progress": state["progress"] + step}

    async def write_document(self, state: State) -> State:
        """Write the next version, and mend what was found in those before."""
        nothing: Any = {"version": 0, "findings": [], "validation_report": {"findings": []}}
        before = state.get("document", nothing)
        found = [*before["findings"], *before["validation_report"]["findings"]]
        told = [Finding.model_validate(each) for each in found]
        document = {
            **await self._write(brief_of(state), told),
            "version": before["version"] + 1,
            "quality_score": None,
            "validation_report": None,
            "findings": found,
            "created_at": utc_now(),
        }
        said = _says(f"I have written version {document['version']} of the document.", "document")
        return {"document": document, "messages": [said], **_at(Stage.VALIDATE_DOCUMENT, state)}

    async def validate_document(self, state: State) -> State:
        """Score the document: it stands, is written again, or the job has failed."""
        document = state["document"]
        report = validate(document, brief_of(state))
        text = f"Version {document['version']} scores {report.score} of 100; {MARK} are needed."
        lines = [text, *(f"- {finding.text}" for finding in report.findings)]
        scored = {"quality_score": report.score, "validation_report": report.model_dump()}
        update: State = {
            "document": {**document, **scored},
            "messages": [_says("\n".join(lines), "validation", kind=SystemMessage)],
        }
        if report.score >= MARK:
            return update | _at(Stage.COMPLETED, state, JobStatus.COMPLETED)
        if document["version"] < TRIES:
            return update | _at(Stage.WRITE_DOCUMENT, state)
        return update | _at(Stage.FAILED, state, JobStatus.FAILED)


# -- what is settled ------------------------------------------------------------------------------


def brief_of(state: State) -> Brief:
    """What the document is written from: all technologies that are chosen."""
    choices = _settled(state["design"], requirements := _requirements(state))
    for category, gap in state["research"].items():
        chosen = gap["researched_options"][_names(gap).index(str(gap["selected_technology"]))]
        by: Any = "the user" if gap["decided_by"] else "the agent"
        choices[Category(category)] = Choice(Ranked(**chosen), by, gap["selection_reasoning"])
    ordered = {category: choices[category] for category in Category if category in choices}
    return Brief(state["design"], requirements, ordered)


def _settled(design: Mapping[str, Any], requirements: Requirements) -> dict[Category, Choice]:
    """The technologies that the PRD or a decision about the design names."""
    decisions = {each["type"]: each for each in design["decisions"]}
    settled = {}
    for category, need in requirements.needed.items():
        decision = decisions.get(category, {})
        if name := need.decided or decision.get("value"):
            chosen = assess(load()[category].option(name), need, requirements)
            by: Any = "the PRD" if need.decided else "the design"
            settled[category] = Choice(chosen, by, decision.get("reasoning"))
    return settled


def _requirements(state: State) -> Requirements:
    return Requirements.model_validate(state["requirements"])


def _completeness(requirements: Requirements, gaps: int) -> float:
    """The percentage of the needed categories that are settled, if this many are not."""
    count = len(requirements.needed)
    return 100 * (count - gaps) / count if count else 100


def _gap(category: Category, need: Need) -> Gap:
    wanted = f"It must offer {words(need.capabilities)}." if need.capabilities else ""
    text = " ".join(filter(None, (load()[category].question, need.text, wanted)))
    gap: Any = {"gap_description": text, "researched_options": [], "created_at": utc_now()}
    return _settle(gap, None, None)


def _names(gap: Gap) -> list[str]:
    """The options, the best one first."""
    return [option["name"] for option in gap["researched_options"]]


def _settle(
    gap: Gap,
    technology: str | None,
    reasoning: str | None,
    user_id: str | None = None,
    time: datetime | None = None,
) -> Gap:
    return {
        **gap,
        "selected_technology": technology,
        "selection_reasoning": reasoning,
        "decided_by": user_id,
        "decision_timestamp": time or (utc_now() if technology else None),
    }


# -- what is said, and what fails -----------------------------------------------------------------


def _says(
    text: str,
    message_type: str,
    category: str | None = None,
    kind: type[AIMessage | HumanMessage | SystemMessage] = AIMessage,
    **metadata: Any,
) -> AIMessage | HumanMessage | SystemMessage:
    told = {"message_type": message_type, "category": category, "metadata": metadata}
    return kind(text.strip(), additional_kwargs={**told, "timestamp": utc_now()})


def _question(category: str, gap: Gap) -> AnyMessage:
    text = gap["gap_description"]
    for each in gap["researched_options"]:
        text += f"\n- {each['name']} ({each['score']:g} of 100): {each['summary']}"
    return _says(text, "question", category, options=_names(gap))


class _Failures:
    """Puts the failures of nodes into the channel `errors`: a saver sees only the last one."""

    def __init__(self) -> None:
        self._last: dict[str, Exception] = {}
        """Why a task is tried again, by its id."""

    def noting(self, node: Callable[[State], Awaitable[State]]) -> Any:
        """The node, which notes from what it has recovered."""

        async def run(state: State, runtime: Runtime[None]) -> State:
            info: Any = runtime.execution_info
            try:
                update = await node(state)
            except GraphBubbleUp:
                raise
            except Exception as exc:
                self._last[info.task_id] = exc
                raise
            if failure := self._last.pop(info.task_id, None):
                noted = _failure(info.task_id, node.__name__, failure, info.node_attempt - 1)
                update["errors"] = [{**noted, "recovered": True, "recovery_strategy": "retry"}]
            return update

        return run

    async def handle(self, state: State, runtime: Runtime[None], error: NodeError) -> State:
        """End the job: a node has failed for good."""
        del state
        info: Any = runtime.execution_info
        self._last = {task: exc for task, exc in self._last.items() if exc is not error.error}
        retries = RETRY.max_attempts - 1 if isinstance(error.error, TRANSIENT) else 0
        noted = _failure(info.task_id, error.node, error.error, retries)
        return {"errors": [noted], "stage": Stage.FAILED.value, "status": JobStatus.FAILED.value}


def _failure(task_id: str, node: str, exc: BaseException, retries: int) -> dict[str, Any]:
    """A failure for good: columns of `AgentErrorLog`, and the id that its row's is derived from."""
    return {
        "id": task_id,
        "node": node,
        "error_type": type(exc).__name__[:50],
        "message": str(exc),
        "stack_trace": "".join(traceback.format_exception(exc)),
        "retry_count": retries,
        "recovered": False,
        "recovery_strategy": "fail_job",
        "created_at": utc_now(),
    }
