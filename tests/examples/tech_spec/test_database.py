"""The saver on the agent's engine: projections reach the tables of both schemas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from sqlalchemy import Table, UpdateBase, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.tech_spec.database import schemas_of
from examples.tech_spec.models import (
    SHARED,
    DesignJob,
    JobStatus,
    TechResearch,
    TechSpecSession,
    derived_id,
)
from examples.web.database import reading, transaction
from examples.web.models import new_id
from langgraph_session_saver import Projection, SessionSaver, Step


class State(TypedDict):
    status: str
    gaps: list[str]


class Progress(Projection):
    """The job's status in the agent's schema, and in the design agent's."""

    channels = ("status",)

    def statements(self, step: Step) -> Iterable[UpdateBase]:
        ours = update(TechSpecSession).where(TechSpecSession.id == step.session_id)
        yield ours.values(status=JobStatus(step.values["status"]))
        job = select(TechSpecSession.design_job_id).where(TechSpecSession.id == step.session_id)
        yield (
            update(DesignJob)
            .where(DesignJob.id == job.scalar_subquery())
            .values(status=f"spec {step.values['status']}")
        )


class Gaps(Projection):
    channels = ("gaps",)
    table: Table = TechResearch.__table__  # type: ignore[assignment]

    def rows(self, step: Step) -> Iterable[Mapping[str, Any]]:
        for gap in step.values["gaps"]:
            yield {
                "id": derived_id(step.session_id, gap),
                "technology_category": gap,
                "gap_description": f"Which {gap}?",
                "created_at": step.time,
            }


async def test_a_step_writes_tables_of_both_schemas_in_its_transaction(engine: AsyncEngine) -> None:
    project_id, job_id, session_id = new_id(), new_id(), new_id()
    async with transaction(engine) as orm:
        orm.add(DesignJob(id=job_id, project_id=project_id, status="completed"))
        await orm.flush()
        orm.add(TechSpecSession(id=session_id, project_id=project_id, design_job_id=job_id))
    saver = SessionSaver(engine, projections={"progress": Progress(), "gaps": Gaps()})
    builder = StateGraph(State)
    builder.add_node("analyze", lambda _: {"status": "in_progress", "gaps": ["email", "payments"]})
    builder.add_edge(START, "analyze")
    graph = builder.compile(saver)
    given = State(status="pending", gaps=[])
    await graph.ainvoke(given, {"configurable": {"thread_id": session_id}})
    async with reading(engine) as orm:
        assert (await orm.get_one(TechSpecSession, session_id)).status is JobStatus.IN_PROGRESS
        assert (await orm.get_one(DesignJob, job_id)).status == "spec in_progress"
        query = select(TechResearch.technology_category, TechResearch.researched_options)
        rows = await orm.execute(query.where(TechResearch.session_id == session_id))
        assert sorted(map(tuple, rows)) == [("email", []), ("payments", [])]


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("sqlite:///spec.db", None),
        ("postgresql+psycopg://localhost/spec", "shared"),
        ("mariadb://localhost/spec", "spec_shared"),
        ("mysql+asyncmy://localhost/spec", "spec_shared"),
    ],
)
def test_the_designs_have_a_place_on_each_database(url: str, place: str | None) -> None:
    assert schemas_of(url) == {SHARED: place}
