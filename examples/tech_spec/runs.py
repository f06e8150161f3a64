"""Runs of the graph: background tasks of a server, which outlive requests, and kills.

A job runs until the user has to decide, and from the last decision to its end. Once `start` or
`decide` returns, the job or the decision is stored: a run that is killed after that is taken up by
the next process that calls `resume`, or to which the next decision comes.
"""

import asyncio
import logging
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.tech_spec.design import load_design_agent_outputs, validate_design_job_completed
from examples.tech_spec.errors import DesignJobNotFoundError
from examples.tech_spec.graph import Answer, State, opening, require_pending
from examples.tech_spec.models import JobStatus, TechSpecSession
from examples.web.database import in_transaction, reading
from examples.web.models import new_id, utc_now
from examples.web.runs import BackgroundRuns, Graph
from langgraph_session_saver import ThreadConflictError

logger = logging.getLogger("tech_spec")

UNFINISHED = (JobStatus.PENDING, JobStatus.IN_PROGRESS)
"""The statuses of a job that a process runs, or ran when it was killed."""


class Runs(BackgroundRuns):
    """The runs of one process.

    Args:
        engine: The application's engine.
        graph: The graph, with the saver of its jobs.
    """

    def __init__(self, engine: AsyncEngine, graph: Graph) -> None:
        super().__init__(graph)
        self._engine = engine

    async def start(self, user_id: str, project_id: str, design_job_id: str) -> str:
        """Start a job for a design; returns its id.

        Raises:
            DesignJobError: The project has no such design, or it is not complete.
        """

        async def add(orm: Any) -> str:
            design = await validate_design_job_completed(orm, design_job_id)
            if design.project_id != project_id:
                raise DesignJobNotFoundError(f"the project has no design job {design_job_id!r}")
            await load_design_agent_outputs(orm, design_job_id)
            ids = {"project_id": project_id, "design_job_id": design_job_id, "user_id": user_id}
            session = TechSpecSession(id=new_id(), **ids)
            orm.add(session)
            return session.id

        session_id = await in_transaction(self._engine, add)
        self._begin(_config(session_id))
        return session_id

    async def decide(
        self,
        session_id: str,
        user_id: str,
        category: str,
        technology: str,
        reasoning: str | None = None,
    ) -> None:
        """Decide what the user was asked; returns when that is stored.

        Raises:
            NotPendingError: The user is not asked about the category, or somebody was faster.
            UnknownOptionError: The technology is not among the category's options.
        """
        answer = Answer(
            id=new_id(),
            category=category,
            technology=technology,
            reasoning=reasoning,
            user_id=user_id,
            decided_at=utc_now(),
        )
        while True:
            state = cast("State", (await self._graph.aget_state(_config(session_id))).values)
            if any(message.id == answer["id"] for message in state.get("messages", ())):
                return
            require_pending(state, category, technology)
            if running := self._tasks.get(session_id):
                await asyncio.wait((running,))  # it asks the next question
                continue
            try:
                await self._take(Command(resume=answer), _config(session_id), "*")
            except ThreadConflictError:
                logger.info("session %s has got a decision by another process", session_id)

    async def resume(self) -> int:
        """Take up the jobs of processes that were killed; returns how many there are."""
        async with reading(self._engine) as orm:
            query = select(TechSpecSession.id).where(TechSpecSession.status.in_(UNFINISHED))
            unfinished = [each for each in await orm.scalars(query) if each not in self._tasks]
        for session_id in unfinished:
            self._begin(_config(session_id))
        return len(unfinished)

    async def _opening(self, config: RunnableConfig) -> State | None:
        if (await self._graph.aget_state(config)).created_at:
            return None
        async with reading(self._engine) as orm:
            session = await orm.get_one(TechSpecSession, config["configurable"]["thread_id"])
        return opening(session.design_job_id)


def _config(session_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": session_id}}
