"""Running all briefs with their progress on the terminal."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from examples.instant_coffee.briefs import Brief
from examples.instant_coffee.graph import Graph
from examples.instant_coffee.interview import Question
from examples.instant_coffee.runner import (
    Answerer,
    OpenQuestionError,
    Outcome,
    answer_from_defaults,
    run_brief,
    thread_of,
)

# route, interview, expand, start_build, generate, score, publish; refinement adds to them.
_STEPS = 7
_DOING = {
    "route": "interviewing",
    "interview": "planning",
    "expand": "starting",
    "start_build": "writing",
    "generate": "scoring",
    "refine": "scoring",
    "fail": "failed",
}


@dataclass(frozen=True)
class Settings:
    """How briefs are run."""

    answer: Answerer
    pass_mark: float = 90
    rounds: int = 4
    fresh: bool = False


def run_all(
    graph: Graph, briefs: dict[str, Brief], settings: Settings, console: Console
) -> tuple[dict[str, str], list[str]]:
    """Run briefs one after another, showing each step.

    Args:
        graph: The compiled page builder.
        briefs: Briefs by the stem of their file.
        settings: How to run them.
        console: Where to show progress.

    Returns:
        Why each brief that was not published was not, by stem; and the threads of all.
    """
    failed: dict[str, str] = {}
    threads: list[str] = []
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[doing]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        for stem, brief in briefs.items():
            task = progress.add_task(escape(stem), total=_STEPS, doing="routing")
            try:
                outcome = _run_one(graph, stem, brief, settings, progress=progress, task=task)
            except OpenQuestionError as error:
                progress.update(task, doing="[yellow]waiting for an answer")
                failed[stem] = str(error)
                threads.append(thread_of(graph, stem))
                continue
            progress.update(task, completed=_STEPS, total=_STEPS, doing=_summary(outcome))
            threads.append(outcome.thread_id)
            if not outcome.succeeded:
                failed[stem] = _reason(outcome)
    return failed, threads


def _run_one(
    graph: Graph,
    stem: str,
    brief: Brief,
    settings: Settings,
    *,
    progress: Progress,
    task: TaskID,
) -> Outcome:
    def on_step(node: str, update: dict[str, Any]) -> None:
        if node == "refine":
            progress.update(task, total=(progress.tasks[task].total or 0) + 2)
        doing = _DOING.get(node, "publishing")
        if scores := update.get("aesthetic_scores"):
            doing = f"scored {scores['overall']:g}"
        progress.update(task, advance=1, doing=doing)

    def answer(questions: list[Question]) -> dict[str, str]:
        if settings.answer is answer_from_defaults:
            return answer_from_defaults(questions)
        # A prompt and a live display would write over each other.
        progress.stop()
        try:
            return settings.answer(questions)
        finally:
            progress.start()

    return run_brief(
        graph,
        stem,
        brief,
        answer=answer,
        pass_mark=settings.pass_mark,
        rounds=settings.rounds,
        fresh=settings.fresh,
        on_step=on_step,
    )


def _summary(outcome: Outcome) -> str:
    if not outcome.succeeded:
        return "[red]failed"
    score = outcome.state["aesthetic_scores"]["overall"]
    note = "" if outcome.how == "started" else f", {outcome.how}"
    if outcome.changed:
        note += "; the brief has changed since, --fresh builds it anew"
    return f"[green]published[/green] at {score:g}{note}"


def _reason(outcome: Outcome) -> str:
    return str(outcome.state.get("build_artifacts", {}).get("error", "the run did not end"))
