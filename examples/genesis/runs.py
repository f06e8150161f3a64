"""Runs of the graph: background tasks of a server, which outlive requests, and kills.

A message starts a run, or answers the question at which the last one stopped. Once `say` returns,
the message is stored: a run that is killed after that is taken up by the next process that calls
`resume`.
"""

import asyncio
from typing import cast
from weakref import WeakValueDictionary

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, StateSnapshot
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from examples.genesis.errors import StateError
from examples.genesis.events import insert_event
from examples.genesis.graph import State, Target, opening
from examples.genesis.models import (
    BindingStatus,
    GenesisStage,
    GenesisStageRecord,
    SessionKind,
    StageStatus,
)
from examples.genesis.repositories import (
    GenesisStageRepository,
    GenesisStageSessionRepository,
    lock,
    shown_by,
)
from examples.genesis.services import require_open
from examples.web.database import in_transaction, reading
from examples.web.etags import PreconditionFailedError
from examples.web.runs import BackgroundRuns, Graph
from langgraph_session_saver import SessionSaver
from langgraph_session_saver.models import Thread

WORK = ["propose", "choose", "write", "mark"]
"""The nodes before which what was said is stored."""

UNFINISHED = ("pending", "running")
"""The statuses of a thread that a process runs, or ran when it was killed."""


class Runs(BackgroundRuns):
    """The runs of one process, of a graph with the saver of its sessions."""

    def __init__(self, engine: AsyncEngine, graph: Graph) -> None:
        super().__init__(graph)
        self._engine = engine
        self._saver = cast("SessionSaver", graph.checkpointer)
        self._turns = WeakValueDictionary[str, asyncio.Lock]()
        """For each session in which something is being said."""

    async def say(
        self, owner_id: str, stage_id: str, session_id: str, text: str, rounds: int | None = None
    ) -> None:
        """Say something in a session that is bound to a stage; returns when that is stored.

        `rounds` is how many of the session there were when it was written, if that matters.

        Raises:
            PreconditionFailedError: There are more rounds.
            NotFoundError: The stage is not one of the owner's, or the session not one of its.
            StateError: The stage or the session is closed, the session works on what was said
                last, or there is nothing to review.
            ThreadConflictError: Another process has just begun to work on it.
        """
        turn = self._turns.setdefault(session_id, asyncio.Lock())
        async with turn:  # of two messages at once, the second sees what the first began
            async with reading(self._engine) as orm:
                target, draft = await _look_up(orm, owner_id, stage_id, session_id)
            state = await self._settled(target)
            said = sum(isinstance(each, HumanMessage) for each in state.values.get("messages", ()))
            if rounds not in (None, said):
                raise PreconditionFailedError(
                    f"this was written after {rounds} rounds of the session, which has {said} by "
                    "now: read on, and say it again if it still fits"
                )
            is_of_stage = (state.metadata or {}).get("stage_id") == target.stage_id
            before = cast("State", state.values if is_of_stage else {})
            is_answer = state.interrupts and is_of_stage
            opened = opening(target.session_kind, text, draft, before)
            await self._take(Command(resume=text) if is_answer else opened, target.config, WORK)

    async def _settled(self, target: Target) -> StateSnapshot:
        """The state of a session that is not at work."""
        running = self._tasks.get(target.session_id)
        state = await self._graph.aget_state(target.config)
        if running and (state.values.get("question") or not state.tasks):
            await asyncio.wait((running,))  # it is done: whoever has seen that may go on at once
            state = await self._graph.aget_state(target.config)
        if any(not task.error and not task.interrupts for task in state.tasks):
            raise StateError(
                f"session {target.session_id!r} is at work: wait for its next question"
            )
        return state

    async def resume(self) -> int:
        """Take up the runs of processes that were killed; returns how many there are."""
        async with reading(self._engine) as orm:
            query = select(Thread.thread_id).where(Thread.status.in_(UNFINISHED))
            unfinished = [*await orm.scalars(query)]
        count = 0
        for thread_id in unfinished:
            found = await self._saver.aget_tuple({"configurable": {"thread_id": thread_id}})
            if found and "stage_id" in found.metadata and thread_id not in self._tasks:
                self._begin(Target.model_validate(found.metadata).config)
                count += 1
        return count

    async def _note_failure(self, config: RunnableConfig, exc: Exception) -> None:
        """Mark the stage as failed, if it shows the session, and tell whoever watches."""
        target = Target.model_validate(config["configurable"])
        ids = {"stage_id": target.stage_id, "session_id": target.session_id}
        failed = update(GenesisStageRecord).where(shown_by(**ids))
        data = {"stage": target.stage, "error": type(exc).__name__}

        async def note(orm: AsyncSession) -> None:
            await orm.execute(lock(target.flow_id))
            await orm.execute(failed.values(status=StageStatus.FAILED))
            await orm.execute(insert_event("session.failed", target.flow_id, data=data, **ids))

        await in_transaction(self._engine, note)


async def _look_up(
    orm: AsyncSession, owner_id: str, stage_id: str, session_id: str
) -> tuple[Target, State]:
    """What a run of a session is about, and what is known of its stage."""
    record = await GenesisStageRepository(orm, owner_id).get(stage_id)
    require_open(record)
    flow, stage = record.flow, record.stage
    bindings = GenesisStageSessionRepository(orm)
    bound, binding = await bindings.of_stage(stage_id), await bindings.get(stage_id, session_id)
    if binding.status is not BindingStatus.ACTIVE:
        raise StateError(f"session {session_id!r} is {binding.status}: choose an active one")
    kind = binding.session_kind
    if kind is SessionKind.REVIEW and not record.result:
        raise StateError(f"there is no {stage} to review yet: its primary session works on it")
    facts: dict[str, str] = {}
    for earlier in [*GenesisStage][: stage.position]:
        facts |= flow.state.get(earlier, {}).get("config", {})
    is_shown = binding.is_primary or kind is SessionKind.REVIEW
    goes_on = is_shown and kind is not SessionKind.AGENT_AUTONOMOUS  # which begins with nothing
    draft: State = {
        "seed": str(flow.state.get("seed", flow.novel_id)),
        "take": sum(each.created_at < binding.created_at for each in bound),
        "facts": facts,
        "config": record.config if goes_on else {},
        "result": record.result if goes_on else None,
    }
    ids = {"session_id": session_id, "owner_id": owner_id, "stage_id": stage_id}
    return Target(**ids, flow_id=flow.id, stage=stage, session_kind=kind), draft
