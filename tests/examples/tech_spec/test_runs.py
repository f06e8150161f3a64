"""Runs: jobs that are started, decided, stopped and taken up again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from langgraph.types import Command
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.tech_spec.database import make_engine
from examples.tech_spec.document import Brief, Document
from examples.tech_spec.errors import (
    DesignJobError,
    DesignJobNotFoundError,
    DesignJobUnfinishedError,
    MissingDocumentsError,
    NotPendingError,
    TechSpecError,
    UnknownOptionError,
)
from examples.tech_spec.graph import write_offline
from examples.tech_spec.models import DesignJob, JobStatus, Stage, TechSpecSession
from examples.tech_spec.validation import Finding
from examples.web.database import reading, transaction
from examples.web.models import new_id
from tests.examples.tech_spec.briefs import COMPLETE
from tests.examples.tech_spec.teams import USER, WHY, Team, add_session
from tests.support.backends import Backend
from tests.support.zygote import Zygote

pytestmark = pytest.mark.usefixtures("designs")

on_one_database = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
async def team(engine: AsyncEngine) -> AsyncIterator[Team]:
    team = Team(engine)
    yield team
    await team.runs.aclose()


class SlowWriter:
    """Waits until it may write."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.may_write = asyncio.Event()

    async def __call__(self, brief: Brief, findings: Sequence[Finding]) -> Document:
        self.began.set()
        await self.may_write.wait()
        return await write_offline(brief, findings)


async def decisions_of(team: Team, session_id: str) -> list[str]:
    """The users who have decided something, in order."""
    shown = await team.shown(session_id)
    told = (each for each in shown.conversation if each.message_type == "decision")
    return [(each.details or {})["user_id"] for each in told]


# -- three jobs -----------------------------------------------------------------------------------


async def test_two_jobs_run_to_their_ends_and_one_is_refused_for_what_is_missing(
    team: Team,
) -> None:
    for name in COMPLETE:
        session_id = await team.start(name)
        await team.finish(session_id)
        shown = await team.shown(session_id)
        assert (shown.status, shown.documents[-1].quality_score) == (JobStatus.COMPLETED, 100)

    with pytest.raises(MissingDocumentsError, match="lacks ux_flow, screen_specs") as refused:
        await team.start("garden")
    assert refused.value.members == {"missing": ["ux_flow", "screen_specs"]}


@on_one_database
@pytest.mark.parametrize(
    ("status", "is_of_project", "error"),
    [
        (None, True, DesignJobNotFoundError),
        ("completed", False, DesignJobNotFoundError),
        ("in_progress", True, DesignJobUnfinishedError),
    ],
)
async def test_a_design_that_is_missing_foreign_or_unfinished_is_refused(
    team: Team, status: str | None, is_of_project: bool, error: type[DesignJobError]
) -> None:
    design_job_id, project_id = new_id(), new_id()
    if status:
        async with transaction(team.engine) as orm:
            orm.add(DesignJob(id=design_job_id, project_id=project_id, status=status))

    with pytest.raises(error):
        await team.runs.start(USER, project_id if is_of_project else new_id(), design_job_id)

    query = select(func.count()).where(TechSpecSession.design_job_id == design_job_id)
    async with reading(team.engine) as orm:
        assert await orm.scalar(query) == 0


# -- decisions ------------------------------------------------------------------------------------


@on_one_database
@pytest.mark.parametrize(
    ("category", "technology", "error", "text"),
    [
        (
            "payments",
            "Stripe",
            NotPendingError,
            "'payments' is not to be decided now; what is: auth",
        ),
        ("caching", "Redis", NotPendingError, "'caching' is not to be decided now"),
        ("astrology", "Redis", NotPendingError, "'astrology' is not to be decided now"),
        ("database", "Oracle", UnknownOptionError, "choose one of PostgreSQL, MariaDB, SQLite"),
    ],
)
async def test_a_decision_that_was_not_asked_for_changes_nothing(
    team: Team, category: str, technology: str, error: type[TechSpecError], text: str
) -> None:
    session_id = await team.start()
    before = (await team.state(session_id)).config

    with pytest.raises(error, match=text):
        await team.decide(session_id, category, technology)

    assert (await team.state(session_id)).config == before


@on_one_database
async def test_nothing_is_to_be_decided_in_a_job_that_there_is_not_or_that_is_over(
    team: Team,
) -> None:
    session_id = await team.start()
    await team.finish(session_id)

    for each in (session_id, new_id()):
        with pytest.raises(NotPendingError, match="what is: nothing"):
            await team.decide(each, "database", "PostgreSQL")


@on_one_database
async def test_nothing_is_to_be_decided_while_the_document_is_written(engine: AsyncEngine) -> None:
    writer = SlowWriter()
    team = Team(engine, write=writer)
    session_id = await team.start()
    while len((await team.values(session_id))["pending"]) > 1:
        await team.decide_next(session_id)
    await team.runs.decide(session_id, USER, "deployment", "Kubernetes")
    await writer.began.wait()

    with pytest.raises(NotPendingError, match="what is: nothing"):
        await team.runs.decide(session_id, USER, "deployment", "Kubernetes")

    shown = await team.shown(session_id)
    assert (shown.status, shown.current_stage) == (JobStatus.IN_PROGRESS, Stage.WRITE_DOCUMENT)
    writer.may_write.set()
    await team.runs.wait()


@on_one_database
async def test_who_resumes_the_graph_with_a_wrong_decision_is_told_and_asked_again(
    team: Team,
) -> None:
    session_id = await team.start()
    answer = {"id": "1", "category": "database", "technology": "Oracle", "reasoning": None}
    who: dict[str, Any] = {"user_id": USER, "decided_at": None}

    config: Any = {"configurable": {"thread_id": session_id}}
    await team.graph.ainvoke(Command(resume={**answer, **who}), config)

    shown = await team.shown(session_id)
    assert (shown.status, shown.errors) == (JobStatus.PAUSED, [])
    assert shown.conversation[-1].message_type == "refusal"
    assert "database" in (await team.state(session_id)).interrupts[0].value["pending"]


@pytest.mark.parametrize("servers", [1, 2])
async def test_of_two_users_who_decide_the_same_at_once_one_is_told_that_it_is_decided(
    database: Backend, team: Team, servers: int
) -> None:
    session_id = await team.start()
    engine = make_engine(database.async_url)
    other = Team(engine) if servers == 2 else team
    chosen = {"ada": "PostgreSQL", "grace": "MariaDB"}

    outcomes = await asyncio.gather(
        *(
            each.runs.decide(session_id, user, "database", technology, WHY)
            for each, (user, technology) in zip((team, other), chosen.items(), strict=True)
        ),
        return_exceptions=True,
    )
    await asyncio.gather(team.runs.wait(), other.runs.wait())
    await engine.dispose()

    (error,) = [each for each in outcomes if each is not None]
    assert isinstance(error, NotPendingError)
    (winner,) = [user for user, each in zip(chosen, outcomes, strict=True) if each is None]
    assert await decisions_of(team, session_id) == [winner]
    shown = await team.shown(session_id)
    selected = {row.technology_category: row.selected_technology for row in shown.research}
    assert selected["database"] == chosen[winner]
    assert len((await team.values(session_id))["pending"]) == 6
    assert shown.status is JobStatus.PAUSED


@pytest.mark.parametrize("servers", [1, 2])
async def test_users_who_decide_different_things_at_once_all_decide(
    database: Backend, team: Team, servers: int
) -> None:
    session_id = await team.start()
    engine = make_engine(database.async_url)
    teams = [team, Team(engine) if servers == 2 else team]
    chosen = {"database": "PostgreSQL", "email": "Postal", "real_time": "Centrifugo"}

    await asyncio.gather(
        *(
            teams[n % 2].runs.decide(session_id, f"user {n}", category, technology)
            for n, (category, technology) in enumerate(chosen.items())
        )
    )
    await asyncio.gather(*(each.runs.wait() for each in teams))
    await engine.dispose()

    assert sorted(await decisions_of(team, session_id)) == ["user 0", "user 1", "user 2"]
    shown = await team.shown(session_id)
    selected = {row.technology_category: row.selected_technology for row in shown.research}
    assert chosen.items() <= selected.items()


# -- jobs that were stopped -----------------------------------------------------------------------


async def test_a_paused_job_goes_on_in_another_process(
    database: Backend, team: Team, zygote: Zygote
) -> None:
    session_id = await team.start()
    given = {"url": database.async_url, "session_id": session_id, "number": 0}

    child = zygote.spawn("tests.examples.tech_spec.teams:work_until_killed", given)
    assert await asyncio.to_thread(child.wait) == 0, child.text

    shown = await team.shown(session_id)
    assert (shown.status, len(shown.documents)) == (JobStatus.COMPLETED, 1)


@on_one_database
async def test_a_job_that_no_process_has_begun_is_taken_up(team: Team) -> None:
    session_id = await add_session(team.engine)

    assert await team.runs.resume() >= 1
    await team.runs.wait()

    assert (await team.shown(session_id)).status is JobStatus.PAUSED


@on_one_database
async def test_a_job_that_a_shutdown_cancelled_is_taken_up_again(engine: AsyncEngine) -> None:
    writer = SlowWriter()
    before = Team(engine, write=writer)
    session_id = await before.start()
    while len((await before.values(session_id))["pending"]) > 1:
        await before.decide_next(session_id)
    await before.runs.decide(session_id, USER, "deployment", "Kubernetes")
    await writer.began.wait()
    await before.runs.aclose()
    assert (await before.state(session_id)).next == (Stage.WRITE_DOCUMENT,)

    after = Team(engine)
    assert await after.runs.resume() >= 1
    await after.runs.wait()

    assert (await after.shown(session_id)).status is JobStatus.COMPLETED


@on_one_database
async def test_a_job_that_waits_for_a_decision_is_not_taken_up(team: Team) -> None:
    session_id = await team.start()
    before = await team.state(session_id)

    await team.runs.resume()
    await team.runs.wait()

    assert (await team.state(session_id)).config == before.config


@on_one_database
async def test_a_run_that_cannot_be_stored_is_logged_and_taken_up_again(
    team: Team, caplog: pytest.LogCaptureFixture
) -> None:
    session_id = await add_session(team.engine)
    without_engine = Team(make_engine("sqlite:////nowhere/agent.db"))
    without_engine.runs._engine = team.engine

    with caplog.at_level(logging.ERROR, "examples.web.runs"):
        await without_engine.runs.resume()
        await without_engine.runs.wait()
    assert f"the run of thread {session_id} failed" in caplog.text

    await team.runs.resume()
    await team.runs.wait()
    assert (await team.shown(session_id)).status is JobStatus.PAUSED
