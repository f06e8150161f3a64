"""What the server and the command work with, and what they read of a session."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import URL, select
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import selectinload

from examples.tech_spec.errors import DocumentNotFoundError, SessionNotFoundError
from examples.tech_spec.graph import build_graph
from examples.tech_spec.migrations import migrated
from examples.tech_spec.models import AgentErrorLog, GeneratedTRDDocument, TechSpecSession
from examples.tech_spec.projections import PROJECTIONS
from examples.tech_spec.runs import Runs
from examples.web.database import reading
from langgraph_session_saver import SessionSaver

WHOLE = (
    selectinload(TechSpecSession.research),
    selectinload(TechSpecSession.documents).load_only(
        GeneratedTRDDocument.version,
        GeneratedTRDDocument.quality_score,
        GeneratedTRDDocument.created_at,
    ),
    selectinload(TechSpecSession.errors).defer(AgentErrorLog.stack_trace),
)
"""What is read together with a session: its documents without their texts."""


@dataclass(frozen=True)
class Resources:
    """The parts of a process that works on jobs."""

    engine: AsyncEngine
    saver: SessionSaver
    runs: Runs

    async def session(self, session_id: str) -> TechSpecSession:
        """Read where a session stands.

        Raises:
            SessionNotFoundError: There is none of this id.
        """
        async with reading(self.engine) as orm:
            session = await orm.get(TechSpecSession, session_id, options=WHOLE)
        if session is None:
            raise SessionNotFoundError(f"there is no session {session_id!r}: check its id")
        return session

    async def document(
        self, session_id: str, version: int | None = None, min_score: float = 0
    ) -> GeneratedTRDDocument:
        """Read a document: a version of it, or the newest one of at least this score.

        Raises:
            SessionNotFoundError: There is no such session.
            DocumentNotFoundError: It has no such document, or none yet.
        """
        query = select(GeneratedTRDDocument).where(GeneratedTRDDocument.session_id == session_id)
        if version is not None:
            query = query.where(GeneratedTRDDocument.version == version)
        if min_score:
            query = query.where(GeneratedTRDDocument.quality_score >= min_score)
        newest_first = query.order_by(GeneratedTRDDocument.version.desc())
        async with reading(self.engine) as orm:
            document = await orm.scalar(newest_first.limit(1))
        if document is None:
            session = await self.session(session_id)
            there = ", ".join(
                f"version {each.version} with a score of {each.quality_score}"
                for each in session.documents
            )
            raise DocumentNotFoundError(
                f"session {session_id!r} is {session.status} and has no such document: "
                f"there is {there or 'none yet'}"
            )
        return document


@asynccontextmanager
async def opened(url: str | URL) -> AsyncIterator[Resources]:
    """Migrate a database, and take up the jobs in it of processes that were killed."""
    async with migrated(url) as engine:
        saver = SessionSaver(engine, projections=PROJECTIONS, single_writer=True)
        async with aclosing(Runs(engine, build_graph(saver, engine=engine))) as runs:
            await runs.resume()
            yield Resources(engine, saver, runs)
