"""The graph: route, interview, plan, build, score, refine, publish. All it keeps is its state."""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from jinja2 import TemplateError
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import interrupt

from examples.instant_coffee import offline
from examples.instant_coffee.briefs import Brief, ProductType
from examples.instant_coffee.design import Design, design_from_style
from examples.instant_coffee.interview import accept_answers, open_questions
from examples.instant_coffee.pages import render_page
from examples.instant_coffee.plan import write_plan
from examples.instant_coffee.refine import refine_design
from examples.instant_coffee.routing import DocTier, route_brief
from examples.instant_coffee.scoring import AestheticScore, score_page


class PageVersion(TypedDict):
    """A page worth keeping; the `html` channel, projected to a row of `versions`."""

    html: str
    description: str


class Draft(TypedDict):
    """A page that is not judged yet, with the design it was rendered from."""

    html: str
    description: str
    design: dict[str, Any]
    fixed: list[str]


class State(TypedDict, total=False):
    """The state of one session. Channels named like columns are projected by the saver."""

    title: str
    product_type: ProductType
    complexity: str
    skill_id: str
    doc_tier: DocTier
    style_reference_mode: str
    model_usage: dict[str, str]
    build_status: Literal["pending", "building", "success", "failed"]
    build_artifacts: dict[str, Any]
    aesthetic_scores: dict[str, Any]
    messages: Annotated[list[AnyMessage], add_messages]
    html: PageVersion
    brief: dict[str, Any]
    pass_mark: float
    rounds: int
    evidence: list[str]
    facts: dict[str, str]
    plan: str
    design: dict[str, Any]
    draft: Draft
    tried: list[str]
    round: int
    error: str | None


Graph = CompiledStateGraph[State, None, State, State]
Update = dict[str, Any]
Node = Callable[[State], Update]


@dataclass(frozen=True)
class Options:
    """What a run is given beside the brief.

    Attributes:
        dist: The directory that pages are published to.
        delay: Seconds to wait in each node, for watching a run or stopping it midway.
    """

    dist: Path
    delay: float = 0.0


def build_graph(checkpointer: BaseCheckpointSaver[str], options: Options) -> Graph:
    """Compile the page builder.

    Args:
        checkpointer: Where the state of each step is saved.
        options: Where pages go, and how fast.

    Returns:
        A graph that takes the input of `initial_state` and is run with `durability="sync"`.
    """

    def publish_page(state: State, config: RunnableConfig) -> Update:
        time.sleep(options.delay)
        return publish(state, options.dist / session_folder(config["configurable"]["thread_id"]))

    builder = StateGraph(State)
    nodes: dict[str, Node] = {
        "route": route,
        "interview": interview,
        "expand": expand,
        "start_build": start_build,
        "generate": generate,
        "score": score,
        "refine": refine,
        "fail": fail,
    }
    for name, node in nodes.items():
        builder.add_node(name, _delayed(node, options.delay))
    builder.add_node("publish", publish_page)
    builder.add_edge(START, "route")
    builder.add_edge("route", "interview")
    builder.add_edge("interview", "expand")
    builder.add_edge("expand", "start_build")
    builder.add_edge("start_build", "generate")
    builder.add_conditional_edges("generate", after_building, ["score", "fail"])
    builder.add_conditional_edges("score", after_score, ["refine", "publish"])
    builder.add_conditional_edges("refine", after_refine, ["score", "publish", "fail"])
    builder.add_conditional_edges("publish", after_publish, ["fail", END])
    builder.add_edge("fail", END)
    return builder.compile(checkpointer=checkpointer)


def _delayed(node: Node, delay: float) -> RunnableLambda[State, Update]:
    def run(state: State) -> Update:
        time.sleep(delay)
        return node(state)

    return RunnableLambda(run)


def initial_state(brief: Brief, pass_mark: float = 90, rounds: int = 4) -> State:
    """Make the input that starts a session on a brief."""
    return State(
        title=brief.name,
        build_status="pending",
        brief=brief.model_dump(mode="json"),
        pass_mark=pass_mark,
        rounds=rounds,
        messages=[HumanMessage(content=brief.request.strip())],
        tried=[],
        round=0,
        error=None,
    )


def session_folder(thread_id: str) -> str:
    """Name the folder of a session's page after its thread."""
    return thread_id.rpartition("instant-coffee/")[2].replace("/", "-")


def route(state: State) -> Update:
    """Decide what kind of page it is."""
    brief = _brief(state)
    decision = route_brief(brief)
    said = (
        f"This is a {decision.complexity} {decision.product_type} page, because of "
        f"{', '.join(decision.evidence[:5])}."
    )
    update: Update = {
        "product_type": decision.product_type,
        "complexity": decision.complexity,
        "skill_id": decision.skill_id,
        "doc_tier": decision.doc_tier,
        "evidence": list(decision.evidence),
        "model_usage": {"classifier": offline.CLASSIFIER},
        "messages": [offline.reply("classifier", offline.CLASSIFIER, brief.request, said)],
    }
    if decision.style_reference_mode:
        update["style_reference_mode"] = decision.style_reference_mode
    return update


def interview(state: State) -> Update:
    """Ask for what the brief leaves open; each `interrupt()` waits for answers by field."""
    brief = _brief(state)
    facts = dict(brief.facts)
    messages: list[AnyMessage] = []
    while questions := open_questions(brief, state["product_type"], facts):
        asked = "\n".join(question["question"] for question in questions)
        answers = accept_answers(questions, interrupt({"questions": questions}))
        facts |= answers
        said = "\n".join(f"{field}: {answer}" for field, answer in answers.items())
        messages.append(offline.reply("interviewer", offline.EXPANDER, brief.request, asked))
        messages.append(HumanMessage(content=said or "(no answer)"))
    return {"facts": facts, "messages": messages}


def expand(state: State) -> Update:
    """Write the plan of the page, as long as its document tier asks for."""
    brief = _brief(state)
    plan = write_plan(brief, state["product_type"], state["doc_tier"], state["facts"])
    prompt = brief.model_dump_json()
    return {
        "plan": plan,
        "design": design_from_style(brief.style, state["product_type"]).model_dump(mode="json"),
        "model_usage": state["model_usage"] | {"expander": offline.EXPANDER},
        "messages": [offline.reply("expander", offline.EXPANDER, prompt, plan)],
    }


def start_build(state: State) -> Update:
    """Say that building has begun, in a step of its own, so that a reader sees it."""
    del state
    return {
        "build_status": "building",
        "build_artifacts": {"pages": [], "started_at": _now()},
    }


def generate(state: State) -> Update:
    """Render the first draft."""
    design = Design.model_validate(state["design"])
    try:
        html = _render(state, design)
    except TemplateError as error:
        return {"error": f"the page could not be rendered: {error}"}
    said = f"Wrote the first page, {len(html):,} characters."
    return {
        "draft": _draft(html, design, "First page", []),
        "model_usage": state["model_usage"] | {"writer": offline.WRITER},
        "messages": [offline.reply("writer", offline.WRITER, state["plan"], said, html)],
    }


def score(state: State) -> Update:
    """Judge the draft, and keep it only where it is better than the best so far."""
    draft = state["draft"]
    judged = score_page(draft["html"], state["pass_mark"])
    best = state.get("aesthetic_scores") if state["round"] else None
    before = best["overall"] if best else None
    kept = before is None or judged.overall > before
    update: Update = {
        "model_usage": state["model_usage"] | {"validator": offline.VALIDATOR},
        "messages": [_verdict(draft, judged, before)],
    }
    if not kept:
        return update | {"tried": sorted({*state["tried"], *draft["fixed"]})}
    page = PageVersion(html=draft["html"], description=draft["description"])
    return update | {
        "html": page,
        "design": draft["design"],
        "aesthetic_scores": judged.as_channel(),
        "tried": [],
    }


def refine(state: State) -> Update:
    """Render a draft with the worst dimensions of the best page fixed."""
    best = AestheticScore.model_validate(state["aesthetic_scores"])
    design, fixed = refine_design(
        Design.model_validate(state["design"]), state["product_type"], best, set(state["tried"])
    )
    if not fixed:
        return {"draft": state["draft"] | {"fixed": []}, "round": state["rounds"]}
    try:
        html = _render(state, design)
    except TemplateError as error:
        return {"error": f"the page could not be rendered: {error}"}
    description = f"Refined {' and '.join(fixed)}"
    prompt = "\n".join(suggestion.message for suggestion in best.suggestions)
    refiner = offline.STYLE_REFINER
    return {
        "draft": _draft(html, design, description, list(fixed)),
        "round": state["round"] + 1,
        "model_usage": state["model_usage"] | {"style_refiner": refiner},
        "messages": [
            offline.reply("style_refiner", refiner, prompt, f"{description}.", _css(html))
        ],
    }


def publish(state: State, folder: Path) -> Update:
    """Write the best page to its folder, whole or not at all."""
    target = folder / "index.html"
    try:
        _write_atomically(target, state["html"]["html"])
    except OSError as error:
        return {"error": f"{target} could not be written: {error.strerror or error}"}
    overall = state["aesthetic_scores"]["overall"]
    return {
        "build_status": "success",
        "build_artifacts": state["build_artifacts"]
        | {
            "pages": ["index.html"],
            "dist_path": str(folder),
            "completed_at": _now(),
        },
        "messages": [AIMessage(content=f"Published at {overall:g} of 100.", name="publisher")],
    }


def fail(state: State) -> Update:
    """End the build with its reason on record."""
    reason = state.get("error") or "unknown"
    return {
        "build_status": "failed",
        "build_artifacts": state["build_artifacts"] | {"error": reason, "completed_at": _now()},
        "messages": [AIMessage(content=f"The build failed: {reason}", name="publisher")],
    }


def after_building(state: State) -> Literal["score", "fail"]:
    """Send a page on to be scored, an error to its end."""
    return "fail" if state.get("error") else "score"


def after_score(state: State) -> Literal["refine", "publish"]:
    """Refine while the best page is below the pass mark and rounds are left."""
    passed = state["aesthetic_scores"]["overall"] >= state["pass_mark"]
    return "publish" if passed or state["round"] >= state["rounds"] else "refine"


def after_refine(state: State) -> Literal["score", "publish", "fail"]:
    """Publish the best page where nothing was left to fix."""
    if state.get("error"):
        return "fail"
    return "score" if state["draft"]["fixed"] else "publish"


def after_publish(state: State) -> Literal["fail", "__end__"]:
    """End, by way of the failure where the page could not be written."""
    return "fail" if state.get("error") else "__end__"


def _brief(state: State) -> Brief:
    return Brief.model_validate(state["brief"])


def _render(state: State, design: Design) -> str:
    return render_page(_brief(state), state["product_type"], state["facts"], design)


def _draft(html: str, design: Design, description: str, fixed: list[str]) -> Draft:
    return Draft(
        html=html, description=description, design=design.model_dump(mode="json"), fixed=fixed
    )


def _verdict(draft: Draft, judged: AestheticScore, before: float | None) -> AIMessage:
    said = f"{draft['description']}: {judged.overall:g} of 100."
    if before is not None:
        kept = judged.overall > before
        said += f" Kept, it was {before:g}." if kept else f" Not kept, {before:g} is better."
    prompt = draft["html"]
    return offline.reply(
        "validator", offline.VALIDATOR, prompt, said, judged.model_dump_json(exclude_none=True)
    )


def _css(html: str) -> str:
    return html.partition("<style>")[2].partition("</style>")[0]


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _write_atomically(target: Path, content: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
