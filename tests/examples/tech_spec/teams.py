"""A team at work with the agent, in a test's process or in one to be killed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import selectinload

from examples.tech_spec.catalogue import Category
from examples.tech_spec.database import make_engine
from examples.tech_spec.document import TEMPLATES
from examples.tech_spec.errors import NotPendingError
from examples.tech_spec.fixtures import install, read_documents, read_job
from examples.tech_spec.graph import (
    Researcher,
    Writer,
    build_graph,
    research_catalogue,
    write_offline,
)
from examples.tech_spec.models import DesignDecision, DesignJob, DesignOutput, TechSpecSession
from examples.tech_spec.projections import PROJECTIONS
from examples.tech_spec.runs import Runs
from examples.web.database import reading, transaction
from examples.web.models import new_id
from langgraph_session_saver import Projection, SessionSaver
from tests.examples.stopping import StopAt

USER = "ada"
WHY = "We know it."


class Team:
    """Users of the agent in one process."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        research: Researcher = research_catalogue,
        write: Writer = write_offline,
        projections: Mapping[str, Projection | None] = PROJECTIONS,
    ) -> None:
        self.engine = engine
        self.saver = SessionSaver(engine, projections=projections, single_writer=True)
        self.graph = build_graph(self.saver, engine=engine, research=research, write=write)
        self.runs = Runs(engine, self.graph)

    async def start(self, name: str = "clinic") -> str:
        """Start a job for a fixture's design, and wait until it asks."""
        design = read_job(name)
        return await self.start_for(design.id, design.project_id)

    async def start_for(self, design_job_id: str, project_id: str) -> str:
        """Start a job, and wait until it asks."""
        session_id = await self.runs.start(USER, project_id, design_job_id)
        await self.runs.wait()
        return session_id

    async def state(self, session_id: str) -> Any:
        """The state of a job's graph."""
        return await self.graph.aget_state({"configurable": {"thread_id": session_id}})

    async def values(self, session_id: str) -> dict[str, Any]:
        """The values of a job's channels."""
        return dict((await self.state(session_id)).values)

    async def shown(self, session_id: str) -> TechSpecSession:
        """A job as other systems see it: its row, and those that belong to it."""
        owned = (
            TechSpecSession.research,
            TechSpecSession.conversation,
            TechSpecSession.documents,
            TechSpecSession.errors,
        )
        async with reading(self.engine) as orm:
            options = [selectinload(each) for each in owned]
            return await orm.get_one(TechSpecSession, session_id, options=options)

    async def decide(
        self, session_id: str, category: str, technology: str, user_id: str = USER
    ) -> None:
        """Decide, and wait for what follows."""
        await self.runs.decide(session_id, user_id, category, technology, WHY)
        await self.runs.wait()

    async def decide_next(self, session_id: str, place: int = 0) -> None:
        """Decide the first question for the option of a place in the ranking."""
        values = await self.values(session_id)
        category = values["pending"][0]
        technology = values["research"][category]["researched_options"][place]["name"]
        await self.decide(session_id, category, technology)

    async def finish(self, session_id: str, place: int = 0) -> dict[str, Any]:
        """Decide all that is asked; returns the values at the end."""
        while (await self.values(session_id))["pending"]:
            await self.decide_next(session_id, place)
        return await self.values(session_id)


async def install_designs(url: str) -> None:
    """Put the fixtures' designs into a database."""
    engine = make_engine(url)
    await install(engine)
    await engine.dispose()


async def add_design(
    engine: AsyncEngine, decisions: Mapping[Category, str], **documents: str
) -> DesignJob:
    """Add a design like the clinic's, with other decisions and documents."""
    design = DesignJob(id=new_id(), project_id=new_id(), status="completed")
    of_job = {"design_job_id": design.id}
    async with transaction(engine) as orm:
        orm.add(design)
        await orm.flush()
        for kind, content in {**read_documents("clinic"), **documents}.items():
            orm.add(DesignOutput(**of_job, document_type=kind, content=content))
        for kind, value in decisions.items():
            orm.add(DesignDecision(**of_job, decision_type=kind, value=value))
    return design


async def add_session(engine: AsyncEngine, name: str = "clinic") -> str:
    """Add a job that no process has begun."""
    design = read_job(name)
    ids = {"project_id": design.project_id, "design_job_id": design.id, "user_id": USER}
    async with transaction(engine) as orm:
        orm.add(session := TechSpecSession(id=new_id(), **ids))
    return session.id


def parts_of(values: dict[str, Any]) -> dict[str, str]:
    """The parts of the newest version of a document."""
    return {part: values["document"][part] for part in TEMPLATES}


def said(values: dict[str, Any]) -> list[tuple[str, str]]:
    """A conversation."""
    return [(message.type, message.text) for message in values.get("messages", ())]


# -- in a process of its own ---------------------------------------------------------------------


async def work_until_killed(url: str, session_id: str, number: int) -> None:
    """Take up a job, and decide until a step of it; with the number 0, to the end."""
    engine = make_engine(url)
    team = Team(engine, projections={**PROJECTIONS, "stop": StopAt(session_id, number)})
    await team.runs.resume()
    await team.runs.wait()
    while (await team.values(session_id))["pending"]:
        with suppress(NotPendingError):  # what the process before has stored without its step
            await team.decide_next(session_id)
    await engine.dispose()
    print("finished", flush=True)
