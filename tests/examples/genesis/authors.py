"""An author at work: whoever talks to sessions, in a test's process or in one to be killed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from examples.genesis.graph import ALL, STANDS, build_graph
from examples.genesis.models import (
    GenesisFlow,
    GenesisStage,
    GenesisStageRecord,
    Novel,
    SessionKind,
)
from examples.genesis.projections import PROJECTIONS
from examples.genesis.runs import Runs
from examples.genesis.services import GenesisFlowService, GenesisStageService
from examples.genesis.writers import Writer, story_writer
from examples.web.database import in_transaction, make_engine, reading
from examples.web.models import new_id
from langgraph_session_saver import Projection, SessionSaver
from tests.examples.stopping import StopAt

BEGINNING = "Let us begin."
STAGES = [stage for stage in GenesisStage if stage is not GenesisStage.FINISHED]


class Author:
    """Works on one novel, in the sessions of its stages."""

    def __init__(
        self,
        engine: AsyncEngine,
        owner_id: str,
        flow_id: str,
        writer: Writer = story_writer,
        projections: Mapping[str, Projection] = PROJECTIONS,
    ) -> None:
        self.engine = engine
        self.owner_id = owner_id
        self.flow_id = flow_id
        self.saver = SessionSaver(engine, projections=projections, single_writer=True)
        self.graph = build_graph(self.saver, writer)
        self.runs = Runs(engine, self.graph)

    @classmethod
    async def of_new_novel(
        cls, engine: AsyncEngine, writer: Writer = story_writer, seed: str = "salt"
    ) -> Author:
        """An author with a novel whose flow has begun."""

        async def begin(orm: AsyncSession) -> tuple[str, str]:
            novel = Novel(owner_id=new_id(), title="Salt")
            orm.add(novel)
            await orm.flush()
            flow = await GenesisFlowService(orm, novel.owner_id).ensure_flow(novel.id)
            flow.state = {"seed": seed}
            return novel.owner_id, flow.id

        return cls(engine, *await in_transaction(engine, begin), writer)

    async def record(self, stage_id: str | None = None) -> GenesisStageRecord:
        """A stage's record; by default that of the current stage."""
        async with reading(self.engine) as orm:
            if stage_id is not None:
                return await orm.get_one(GenesisStageRecord, stage_id)
            flow = await orm.get_one(GenesisFlow, self.flow_id)
            service = GenesisStageService(orm, self.owner_id, self.saver)
            records = await service.of_flow(self.flow_id)
            return [each for each in records if each.stage is flow.current_stage][-1]

    async def open_session(self, kind: SessionKind = SessionKind.USER_INTERACTION) -> str:
        """A new session of the current stage; the stage's first one is its primary."""
        stage_id = (await self.record()).id

        async def create(orm: AsyncSession) -> str:
            service = GenesisStageService(orm, self.owner_id, self.saver)
            binding = await service.create_and_bind(stage_id, "Untitled session", kind=kind)
            return binding.session_id

        return await in_transaction(self.engine, create)

    async def make_primary(self, session_id: str) -> None:
        """Make a session of the current stage its primary one."""
        stage_id = (await self.record()).id

        async def choose(orm: AsyncSession) -> None:
            service = GenesisStageService(orm, self.owner_id, self.saver)
            await service.set_primary(stage_id, session_id)

        await in_transaction(self.engine, choose)

    async def advance(self) -> None:
        """Go on to the next stage."""

        async def go(orm: AsyncSession) -> None:
            flow = await orm.get_one(GenesisFlow, self.flow_id)
            after = [*GenesisStage][flow.current_stage.position + 1]
            await GenesisFlowService(orm, self.owner_id).advance(self.flow_id, after)

        await in_transaction(self.engine, go)

    async def reach(self, stage: GenesisStage) -> None:
        """Let agents write the stages before one."""
        while (await self.record()).stage is not stage:
            await self.converse(await self.open_session(SessionKind.AGENT_AUTONOMOUS))
            await self.advance()

    async def say(self, session_id: str, text: str, stage_id: str | None = None) -> None:
        """Say something, and wait for what follows."""
        stage_id = stage_id or (await self.record()).id
        await self.runs.say(self.owner_id, stage_id, session_id, text)
        await self.runs.wait()

    async def state(self, session_id: str) -> Any:
        """The state of a session's graph."""
        return await self.graph.aget_state({"configurable": {"thread_id": session_id}})

    async def converse(self, session_id: str) -> dict[str, Any]:
        """Begin, or go on where the session is, and answer until nothing is asked any more."""
        await self.runs.wait()
        while True:
            state = await self.state(session_id)
            if state.interrupts:
                (interrupt,) = state.interrupts
                await self.say(session_id, answer_to(interrupt.value))
            elif not state.created_at:
                await self.say(session_id, BEGINNING)
            else:
                assert not state.next
                return dict(state.values)

    async def work(self, kind: SessionKind) -> dict[str, Any]:
        """Work on the current stage in a new session of a kind, until it has a result.

        For a review, an agent writes the draft.
        """
        if kind is SessionKind.REVIEW:
            await self.converse(await self.open_session(SessionKind.AGENT_AUTONOMOUS))
        return await self.converse(await self.open_session(kind))


def answer_to(question: dict[str, Any]) -> str:
    """What the author always answers."""
    return {"result": STANDS, "suggestions": ALL}.get(question["about"], "2")


def said(values: dict[str, Any]) -> list[str]:
    """A conversation."""
    return [str(message.text) for message in values["messages"]]


# -- in a process of its own ---------------------------------------------------------------------


async def work_until_killed(
    url: str, owner_id: str, flow_id: str, session_id: str, number: int
) -> None:
    """Converse in a session until a step of it; with a number below 1, to the end."""
    engine = make_engine(url)
    projections = {**PROJECTIONS, "stop": StopAt(session_id, number)}
    author = Author(engine, owner_id, flow_id, projections=projections)
    await author.runs.resume()
    await author.converse(session_id)
    await engine.dispose()
    print("finished", flush=True)
