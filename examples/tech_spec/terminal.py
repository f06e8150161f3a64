"""One job in a terminal: its progress, its questions, and what came of it."""

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.prompt import Prompt
from rich.table import Table
from sqlalchemy import select

from examples.tech_spec import resources
from examples.tech_spec.catalogue import Category
from examples.tech_spec.fixtures import ensure
from examples.tech_spec.models import (
    GeneratedTRDDocument,
    JobStatus,
    TechResearch,
    TechSpecSession,
)
from examples.tech_spec.rendering import to_markdown
from examples.tech_spec.resources import Resources
from examples.web.database import reading

USER = "terminal"
"""Who starts and decides here."""

OPEN = (JobStatus.PENDING, JobStatus.IN_PROGRESS, JobStatus.PAUSED)

console = Console(highlight=False)
notes = Console(stderr=True, highlight=False)


class Answer(NamedTuple):
    """A decision, and why."""

    technology: str
    reasoning: str | None = None


Decide = Callable[[TechResearch], Answer]
"""Chooses an option of a gap."""


def take_first(gap: TechResearch) -> Answer:
    """Take the option that is ranked first."""
    return Answer(gap.researched_options[0]["name"], "It is ranked first.")


def ask(gap: TechResearch) -> Answer:
    """Ask whoever is at the terminal."""
    options = gap.researched_options
    shown = Table("", "option", "score", "for it", "against it", title=_label(gap))
    for number, option in enumerate(options, start=1):
        against = option["violations"] + option["warnings"]
        texts = (
            option["name"],
            f"{option['score']:g}",
            *map("; ".join, (option["reasons"], against)),
        )
        shown.add_row(str(number), *map(escape, texts))
    notes.print(escape(gap.gap_description), shown, sep="\n")
    numbers = [str(number) for number in range(1, len(options) + 1)]
    chosen = Prompt.ask("Which one", choices=numbers, default="1", console=notes)
    reasoning = Prompt.ask("Why (empty: no reason)", default="", show_default=False, console=notes)
    return Answer(options[int(chosen) - 1]["name"], reasoning or None)


def write(url: str, design: str, decide: Decide) -> JobStatus:
    """Write the document of a design, and print the decisions and the document.

    Each part of the work opens and closes the database: none is kept waiting for an answer.
    """
    answers: Mapping[str, Answer] = {}
    while True:
        session, document = asyncio.run(_work(url, design, answers))
        if session.status is not JobStatus.PAUSED:
            break
        gaps = {gap.technology_category: gap for gap in session.research}
        answers = {name: decide(gaps[name]) for name in session.session_data["pending"]}
    _print(session, document)
    return session.status


async def _work(
    url: str, design: str, answers: Mapping[str, Answer]
) -> tuple[TechSpecSession, GeneratedTRDDocument | None]:
    """Work on the job of a design until it asks or ends."""
    async with resources.opened(url) as shared:
        (job,) = await ensure(shared.engine, design)
        session_id = await _unfinished(shared, job.id)
        if session_id is None:
            session_id = await shared.runs.start(USER, job.project_id, job.id)
        for category, answer in answers.items():
            await shared.runs.decide(session_id, USER, category, *answer)
        session = await _watch(shared, session_id)
        return session, await shared.document(session_id) if session.documents else None


async def _unfinished(shared: Resources, design_job_id: str) -> str | None:
    """The job that was stopped midway."""
    query = select(TechSpecSession.id).where(
        TechSpecSession.design_job_id == design_job_id,
        TechSpecSession.user_id == USER,
        TechSpecSession.status.in_(OPEN),
    )
    async with reading(shared.engine) as orm:
        found: str | None = await orm.scalar(query.order_by(TechSpecSession.created_at.desc()))
    return found


async def _watch(shared: Resources, session_id: str) -> TechSpecSession:
    """Show how far a job is, as its row tells, until it asks or ends."""
    columns = (TextColumn("{task.description:<18}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=notes) as progress:
        bar = progress.add_task("starting", total=100)
        work = asyncio.create_task(shared.runs.wait())
        while True:
            done, _ = await asyncio.wait((work,), timeout=0.1)
            session = await shared.session(session_id)
            stage = (session.current_stage or "starting").replace("_", " ")
            progress.update(bar, completed=session.progress_percentage, description=stage)
            if done:  # and not only since the row was read
                return session


def _print(session: TechSpecSession, document: GeneratedTRDDocument | None) -> None:
    decisions = Table("category", "technology", "why", title="Decisions")
    for gap in session.research:
        texts = (_label(gap), gap.selected_technology or "-", gap.selection_reasoning or "")
        decisions.add_row(*map(escape, texts))
    console.print(decisions)
    if document:
        text = to_markdown(document)
        console.print(Markdown(text)) if console.is_terminal else typer.echo(text)
        score = f"{document.quality_score:g}" if document.quality_score is not None else "none"
        notes.print(f"Version {document.version}, score {score}, of session {session.id}")
    for error in session.errors:
        if not error.recovered:
            notes.print(f"[red]{error.node} failed:[/] {escape(error.message)}", soft_wrap=True)


def _label(gap: TechResearch) -> str:
    return Category(gap.technology_category).label
