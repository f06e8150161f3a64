"""What the graph makes of a design, and that the tables agree with it after each step."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.tech_spec.catalogue import Category, Option
from examples.tech_spec.document import TEMPLATES, Brief, Document
from examples.tech_spec.graph import ENDS, TRIES, research_catalogue, write_offline
from examples.tech_spec.models import AgentErrorLog, JobStatus, Role, Stage
from examples.tech_spec.requirements import Need
from examples.tech_spec.validation import MARK, Finding
from tests.examples.tech_spec.briefs import COMPLETE, brief_of
from tests.examples.tech_spec.teams import WHY, Team, add_design, parts_of, said

ROLES = {"human": Role.USER, "ai": Role.AGENT, "system": Role.SYSTEM}


def best(*left_out: Category) -> dict[Category, str]:
    """The best option for each category of the clinic that its PRD needs, but for some."""
    choices = brief_of("clinic").choices.items()
    return {c: choice.technology.name for c, choice in choices if c not in left_out}


class Unreliable:
    """Researches a category in vain, some times."""

    def __init__(self, error: Exception, times: int, *categories: Category) -> None:
        self._error = error
        self._left = dict.fromkeys(categories, times)

    async def __call__(self, category: Category, need: Need) -> Sequence[Option]:
        if self._left.get(category):
            self._left[category] -= 1
            raise self._error
        return await research_catalogue(category, need)


class Careless:
    """Writes some versions without a database schema."""

    def __init__(self, times: int) -> None:
        self._left = times
        self.told: list[list[str]] = []

    async def __call__(self, brief: Brief, findings: Sequence[Finding]) -> Document:
        self.told.append([finding.subject for finding in findings])
        written = await write_offline(brief, findings)
        self._left -= 1
        return {**written, "database_schema": ""} if self._left >= 0 else written


pytestmark = pytest.mark.usefixtures("designs")

on_one_database = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


# -- a job ----------------------------------------------------------------------------------------


@on_one_database
@pytest.mark.parametrize("name", COMPLETE)
async def test_a_job_asks_and_writes_a_document(engine: AsyncEngine, name: str) -> None:
    team = Team(engine)
    session_id = await team.start(name)
    assert (await team.shown(session_id)).status is JobStatus.PAUSED

    values = await team.finish(session_id)

    shown = await team.shown(session_id)
    assert (shown.status, shown.current_stage, shown.progress_percentage) == (
        JobStatus.COMPLETED, Stage.COMPLETED, 100,
    )  # fmt: skip
    assert values["completeness"] >= 80
    (document,) = shown.documents
    assert (document.version, document.quality_score) == (1, 100)
    chosen = [each.selected_technology for each in shown.research]
    assert all(name in document.trd_content for name in chosen if name)


@on_one_database
async def test_the_heaviest_gaps_are_asked_about_until_80_percent_are_settled(
    engine: AsyncEngine,
) -> None:
    team = Team(engine)
    values = await team.values(await team.start("auction"))

    weights = [
        brief_of("auction").requirements.needs[Category(c)].weight for c in values["research"]
    ]
    assert weights == sorted(weights, reverse=True)
    assert values["completeness"] == 10  # the PRD has settled one of ten
    assert values["pending"] == [*values["research"]][:7]
    left = [*values["research"].values()][7:]
    assert [gap["selected_technology"] for gap in left] == [
        gap["researched_options"][0]["name"] for gap in left
    ]


@on_one_database
async def test_progress_and_completeness_rise_with_each_decision(engine: AsyncEngine) -> None:
    team = Team(engine)
    session_id = await team.start()
    seen = []
    while (values := await team.values(session_id))["pending"]:
        seen.append((values["progress"], values["completeness"]))
        await team.decide_next(session_id)
    seen.append((values["progress"], values["completeness"]))

    assert seen == sorted(set(seen))
    assert (seen[0], seen[-1][0]) == ((40, pytest.approx(100 / 9)), 100)


@on_one_database
async def test_a_job_with_nothing_to_ask_runs_to_its_end(engine: AsyncEngine) -> None:
    design = await add_design(engine, best())
    team = Team(engine)

    session_id = await team.start_for(design.id, design.project_id)

    shown = await team.shown(session_id)
    assert (shown.status, shown.research) == (JobStatus.COMPLETED, [])
    assert [each.message_type for each in shown.conversation] == ["document", "validation"]
    assert "Chosen by the design." in shown.documents[0].trd_content


@on_one_database
async def test_a_small_gap_is_settled_by_the_agent_without_asking(engine: AsyncEngine) -> None:
    design = await add_design(engine, best(Category.CACHING))
    team = Team(engine)

    session_id = await team.start_for(design.id, design.project_id)

    shown = await team.shown(session_id)
    (gap,) = shown.research
    assert (shown.status, gap.selected_technology) == (
        JobStatus.COMPLETED,
        best()[Category.CACHING],
    )
    assert shown.conversation[0].message_type == "assumption"
    assert shown.conversation[0].research_id == gap.id


# -- what a step does to the tables ---------------------------------------------------------------


async def test_the_tables_agree_with_the_checkpoint_after_every_step(engine: AsyncEngine) -> None:
    team = Team(engine)
    team.graph.interrupt_after_nodes = "*"  # a run is one step; `resume` makes the next one
    session_id = await team.start()
    stages = []
    while True:
        await agrees(team, session_id)
        values = await team.values(session_id)
        stages.append(values["stage"])
        if values["stage"] in ENDS:
            break
        if values["status"] == JobStatus.PAUSED:
            await team.decide_next(session_id, place=1)
        else:
            await team.runs.resume()
            await team.runs.wait()

    assert dict.fromkeys(stages).keys() == {*Stage} - {Stage.LOAD_DESIGN, Stage.FAILED}


async def agrees(team: Team, session_id: str) -> None:
    """Check each table against the newest checkpoint."""
    state = await team.state(session_id)
    values, shown = state.values, await team.shown(session_id)
    time = datetime.fromisoformat(state.created_at)
    assert (shown.status, shown.current_stage) == (values["status"], values["stage"])
    assert shown.progress_percentage == pytest.approx(values["progress"])
    assert (shown.updated_at, shown.completed_at) == (time, time if not state.next else None)
    assert shown.session_data == {
        "completeness": values.get("completeness", 0),
        "gaps": [*values.get("research", {})],
        "pending": values.get("pending", []),
        "tries": values.get("document", {}).get("version", 0),
    }
    assert {row.technology_category: _gap(row) for row in shown.research} == {
        name: {key: value for key, value in gap.items() if key != "decided_by"}
        for name, gap in values.get("research", {}).items()
    }
    categories = {row.id: row.technology_category for row in shown.research}
    assert [
        (row.role, row.message, row.message_type, row.details, row.timestamp)
        for row in shown.conversation
    ] == [
        (
            ROLES[each.type],
            each.text,
            *(each.additional_kwargs[k] for k in ("message_type", "metadata", "timestamp")),
        )
        for each in values.get("messages", [])
    ]
    assert [categories.get(row.research_id or "") for row in shown.conversation] == [
        each.additional_kwargs["category"] for each in values.get("messages", [])
    ]
    if document := values.get("document"):
        row = shown.documents[-1]
        assert (len(shown.documents), row.version) == (document["version"], document["version"])
        columns = document.keys() - {"findings"}
        assert columns > {*TEMPLATES, "quality_score", "validation_report"}
        assert {name: getattr(row, name) for name in columns} == {
            name: document[name] for name in columns
        }
    assert shown.errors == []


def _gap(row: Any) -> dict[str, Any]:
    return {
        "gap_description": row.gap_description,
        "researched_options": row.researched_options,
        "selected_technology": row.selected_technology,
        "selection_reasoning": row.selection_reasoning,
        "decision_timestamp": row.decision_timestamp,
        "created_at": row.created_at,
    }


@on_one_database
async def test_a_decision_is_told_with_who_has_made_it(engine: AsyncEngine) -> None:
    team = Team(engine)
    session_id = await team.start()
    await team.decide(session_id, "database", "MariaDB", "grace")

    shown = await team.shown(session_id)
    decision = shown.conversation[-1]
    assert (decision.role, decision.message) == (Role.USER, f"MariaDB. {WHY}")
    assert decision.details == {"technology": "MariaDB", "user_id": "grace"}
    (research,) = [each for each in shown.research if each.id == decision.research_id]
    assert (research.selected_technology, research.selection_reasoning) == ("MariaDB", WHY)
    assert research.decision_timestamp == decision.timestamp


# -- versions -------------------------------------------------------------------------------------


async def test_a_document_below_the_mark_is_written_again_and_every_version_is_kept(
    engine: AsyncEngine,
) -> None:
    careless = TRIES - 1
    design = await add_design(engine, best())
    writer = Careless(careless)
    team = Team(engine, write=writer)

    shown = await team.shown(await team.start_for(design.id, design.project_id))

    assert shown.status is JobStatus.COMPLETED
    assert [row.version for row in shown.documents] == [*range(1, careless + 2)]
    scores = [row.quality_score or 0 for row in shown.documents]
    assert [score >= MARK for score in scores] == [False] * careless + [True]
    assert [not row.database_schema for row in shown.documents] == [True] * careless + [False]
    assert writer.told[0] == []
    assert all("database_schema" in told for told in writer.told[1:])


@on_one_database
async def test_after_three_versions_below_the_mark_the_job_has_failed(engine: AsyncEngine) -> None:
    design = await add_design(engine, best())
    team = Team(engine, write=Careless(99))

    shown = await team.shown(await team.start_for(design.id, design.project_id))

    assert (shown.status, shown.current_stage) == (JobStatus.FAILED, Stage.FAILED)
    assert (len(shown.documents), shown.completed_at is not None) == (TRIES, True)
    assert shown.progress_percentage == 80
    report = shown.documents[-1].validation_report
    assert report is not None
    assert report["findings"][0]["subject"] == "database_schema"


@on_one_database
async def test_choices_against_the_constraints_are_answered_in_the_next_version(
    engine: AsyncEngine,
) -> None:
    team = Team(engine)
    session_id = await team.start()

    values = await team.finish(session_id, place=1)

    shown = await team.shown(session_id)
    first, second = (row.trd_content for row in shown.documents)
    risk = f"MariaDB lacks row security. Chosen by the user: {WHY}"
    assert (risk in first, risk in second, values["status"]) == (False, True, "completed")


# -- nodes that fail ------------------------------------------------------------------------------


async def errors_of(team: Team) -> list[AgentErrorLog]:
    """Start a job; what is logged of it."""
    return (await team.shown(await team.start())).errors


@pytest.mark.parametrize("times", [1, 2])
async def test_a_node_that_recovers_leaves_a_row(engine: AsyncEngine, times: int) -> None:
    error = ConnectionResetError("the registry is not there")
    team = Team(engine, research=Unreliable(error, times, Category.DATABASE))
    session_id = await team.start()

    shown = await team.shown(session_id)
    (row,) = shown.errors
    assert (row.node, row.error_type, row.message) == (
        "research", "ConnectionResetError", "the registry is not there",
    )  # fmt: skip
    assert (row.retry_count, row.recovered, row.recovery_strategy) == (times, True, "retry")
    assert "raise self._error" in str(row.stack_trace)
    assert shown.status is JobStatus.PAUSED


async def test_a_node_that_fails_each_time_ends_the_job_and_leaves_a_row(
    engine: AsyncEngine,
) -> None:
    error = ConnectionResetError("the registry is not there")
    team = Team(engine, research=Unreliable(error, 99, Category.DATABASE))
    session_id = await team.start()

    shown = await team.shown(session_id)
    (row,) = shown.errors
    assert (row.retry_count, row.recovered, row.recovery_strategy) == (2, False, "fail_job")
    assert (shown.status, shown.current_stage) == (JobStatus.FAILED, Stage.FAILED)
    assert shown.completed_at is not None
    assert (await team.state(session_id)).next == ()


@on_one_database
async def test_an_error_that_would_come_again_is_not_tried_again(engine: AsyncEngine) -> None:
    research = Unreliable(ValueError("no such category"), 1, Category.DATABASE)

    (row,) = await errors_of(Team(engine, research=research))

    assert (row.retry_count, row.recovered, row.error_type) == (0, False, "ValueError")


@on_one_database
async def test_each_of_several_failures_in_a_step_leaves_a_row(engine: AsyncEngine) -> None:
    categories = (Category.DATABASE, Category.EMAIL)
    research = Unreliable(ValueError("nothing found"), 1, *categories)

    rows = await errors_of(Team(engine, research=research))

    assert [row.node for row in rows] == ["research"] * 2
    assert len({row.id for row in rows}) == 2


@on_one_database
async def test_a_prd_that_cannot_be_read_fails_the_job_and_says_why(engine: AsyncEngine) -> None:
    design = await add_design(engine, {}, prd="# A product\n\nWithout any constraints.\n")
    team = Team(engine)

    shown = await team.shown(await team.start_for(design.id, design.project_id))

    (row,) = shown.errors
    assert (row.node, row.error_type) == ("analyze_gaps", "RequirementsError")
    assert "the PRD has no section '## Constraints'" in row.message
    assert shown.status is JobStatus.FAILED


@on_one_database
async def test_conversations_are_the_same_for_the_same_decisions(engine: AsyncEngine) -> None:
    team = Team(engine)
    one, other = [await team.finish(await team.start()) for _ in range(2)]

    assert said(one) == said(other)
    assert parts_of(one) == parts_of(other)
