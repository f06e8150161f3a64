"""Flows, and the stages of a flow: what an owner does with his novels.

A service works in the caller's session, flushes, and never commits: what it did is the caller's to
commit or roll back, together with the events that tell of it. Changes of a flow take turns,
because each begins by locking the flow. What does not exist, or is another owner's, raises a
`NotFoundError`; what a flow or stage is not in the state for, a `StateError`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from examples.genesis.configs import fields_of, require_complete
from examples.genesis.errors import NotFoundError, ScopeError, StateError
from examples.genesis.events import insert_event
from examples.genesis.models import (
    BindingStatus,
    GenesisFlow,
    GenesisStage,
    GenesisStageRecord,
    GenesisStageSession,
    GenesisStatus,
    Novel,
    SessionKind,
    StageStatus,
)
from examples.genesis.repositories import (
    Check,
    GenesisFlowRepository,
    GenesisStageRepository,
    GenesisStageSessionRepository,
)
from examples.web.models import utc_now
from langgraph_session_saver import Page, SessionSaver
from langgraph_session_saver.models import Message

SCOPE = "GENESIS"
"""The `scope_type` of sessions about a novel; their `scope_id` is the novel's id."""


class Round(NamedTuple):
    """A message of the user, and all that follows until his next one."""

    session_id: str
    number: int
    """From 1 on; 0 for messages before the user's first one."""
    messages: list[Message]


class GenesisFlowService(GenesisFlowRepository):
    """The way of a novel through the stages."""

    async def begin(self, title: str, premise: str = "", seed: str | None = None) -> GenesisFlow:
        """Make a novel with its flow; a seed repeats what the story generator makes."""
        novel = Novel(owner_id=self.owner_id, title=title, premise=premise)
        self.orm.add(novel)
        await self.orm.flush()
        return await self.ensure_flow(novel.id, seed)

    async def ensure_flow(self, novel_id: str, seed: str | None = None) -> GenesisFlow:
        """Return the flow of a novel; the first call makes it, and opens its first stage."""
        owned = select(Novel).where(Novel.id == novel_id, Novel.owner_id == self.owner_id)
        novel = await self.orm.scalar(owned.with_for_update(key_share=True))
        if novel is None:
            raise NotFoundError(f"there is no novel {novel_id!r} of yours")
        flow: GenesisFlow | None = await self.orm.scalar(self.owned().filter_by(novel=novel))
        if flow is None:
            flow = GenesisFlow(novel=novel, current_stage=GenesisStage.INITIAL_PROMPT)
            flow.state = {"seed": seed} if seed else {}
            record = await self._open(flow)
            await _tell(self.orm, "flow.started", flow.id, record.id, stage=record.stage)
        return flow

    async def advance(self, flow_id: str, to: GenesisStage) -> GenesisStageRecord | None:
        """Go on to the next stage, or back to an earlier one.

        Forward, the current stage is completed, for which its config must be complete. Back, it is
        paused as it is. The stage that is gone to continues with its last record, or if that is
        completed with a new one of the same content.

        Returns:
            The record of the stage that was gone to; None for FINISHED, which has none.

        Raises:
            StateError: It is neither the next stage nor an earlier one.
            IncompleteConfigError: The current stage lacks what the next one builds on.
        """
        flow = await self.get(flow_id, locked=True)
        _require_progress(flow)
        before, forward = flow.current_stage, to.position - flow.current_stage.position
        if forward == 0 or forward > 1:
            order = [*GenesisStage]
            raise StateError(
                f"the flow is at {before} and cannot go to {to}: go on to "
                f"{order[before.position + 1]}, or back to an earlier stage"
            )
        left = await self.last(flow)
        if left and left.status is not StageStatus.COMPLETED:
            if forward == 1:
                await _complete(self.orm, left)
            else:
                left.status = StageStatus.PAUSED
        flow.current_stage, record = to, None
        if to is GenesisStage.FINISHED:
            flow.status = GenesisStatus.COMPLETED
        else:
            record = await self._open(flow)
        stage_id = record.id if record else None
        await _tell(self.orm, "flow.advanced", flow.id, stage_id, before=before, stage=to)
        return record

    async def set_status(self, flow_id: str, status: GenesisStatus) -> GenesisFlow:
        """Pause a flow, go on with it, or abandon it."""
        flow = await self.get(flow_id, locked=True)
        is_over = flow.status in (GenesisStatus.COMPLETED, GenesisStatus.ABANDONED)
        if is_over or status is GenesisStatus.COMPLETED:
            raise StateError(f"the flow is {flow.status} and cannot become {status} by itself")
        flow.status = status
        await _tell(self.orm, "flow.status", flow.id, status=status)
        return flow

    async def _open(self, flow: GenesisFlow) -> GenesisStageRecord:
        """Go on with the last record of the current stage, or begin a new one."""
        last = await self.last(flow)
        if last and last.status is not StageStatus.COMPLETED:
            last.status = StageStatus.RUNNING
            return last
        brought = {"config": last.config, "result": last.result} if last else {}
        record = GenesisStageRecord(flow=flow, stage=flow.current_stage, **brought)
        self.orm.add(record)
        await self.orm.flush()
        return record


class GenesisStageService(GenesisStageRepository):
    """The work on the stages of a flow, in their sessions, which a saver has."""

    def __init__(
        self, orm: AsyncSession, owner_id: str, saver: SessionSaver, *check: Check
    ) -> None:
        super().__init__(orm, owner_id, *check)
        self._bindings = GenesisStageSessionRepository(orm)
        self._saver = saver.for_owner(owner_id)

    async def session(self, stage_id: str, session_id: str) -> GenesisStageSession:
        """Read what binds a session to a stage."""
        await self.get(stage_id)
        return await self._bindings.get(stage_id, session_id)

    async def sessions(self, stage_id: str) -> Sequence[GenesisStageSession]:
        """Read what binds sessions to a stage, the primary one first."""
        await self.get(stage_id)
        return await self._bindings.of_stage(stage_id)

    async def session_page(
        self, stage_id: str, limit: int, after: str | None
    ) -> Page[GenesisStageSession]:
        """Read a page of `sessions`."""
        await self.get(stage_id)
        return await self._bindings.page(stage_id, limit, after)

    async def rounds(self, stage_id: str) -> list[Round]:
        """Read the rounds of a stage, session after session."""
        await self.get(stage_id)
        rounds: dict[tuple[str, int], Round] = {}
        begun = Counter[str]()
        for message in await self._bindings.messages(stage_id):
            begun[message.session_id] += message.role == "user"
            key = message.session_id, begun[message.session_id]
            rounds.setdefault(key, Round(*key, [])).messages.append(message)
        return [*rounds.values()]

    async def complete(self, stage_id: str) -> GenesisStageRecord:
        """Complete a stage, which archives its active sessions; the flow stays where it is.

        Raises:
            IncompleteConfigError: Its config lacks what the next stage builds on.
        """
        record = await self._open_stage(stage_id)
        await _complete(self.orm, record)
        return record

    async def bind(
        self,
        stage_id: str,
        session_id: str,
        *,
        kind: SessionKind = SessionKind.USER_INTERACTION,
        is_primary: bool | None = None,
    ) -> GenesisStageSession:
        """Bind a session of the novel to a stage; by default the first one is its primary one.

        Raises:
            ScopeError: The session is about another novel, or about none.
            StateError: It is bound already, or the stage has another primary session.
        """
        record = await self._open_stage(stage_id)
        session = await self._saver.sessions.aget(session_id, connection=self.orm)
        if session is None:
            raise NotFoundError(f"there is no session {session_id!r} of yours")
        novel_id = record.flow.novel_id
        if (session.scope_type, session.scope_id) != (SCOPE, novel_id):
            raise ScopeError(
                f"session {session_id!r} has the scope {session.scope_type} {session.scope_id}, "
                f"and the stage is of {SCOPE} {novel_id}: bind a session of this novel"
            )
        bound = await self._bindings.of_stage(stage_id)
        if any(each.session_id == session_id for each in bound):
            raise StateError(f"session {session_id!r} is bound to this stage already")
        primary = next((each for each in bound if each.is_primary), None)
        if is_primary and primary:
            raise StateError(
                f"session {primary.session_id!r} is the primary one of this stage: bind this one "
                "without is_primary, then make it primary"
            )
        binding = GenesisStageSession(
            stage_id=stage_id,
            session_id=session_id,
            session_kind=kind,
            is_primary=(primary is None if is_primary is None else is_primary) or None,
        )
        self.orm.add(binding)
        await _tell(self.orm, "session.bound", record.flow_id, stage_id, session_id, kind=kind)
        return await self._bindings.get(stage_id, session_id)

    async def create_and_bind(
        self,
        stage_id: str,
        title: str,
        *,
        kind: SessionKind = SessionKind.USER_INTERACTION,
        is_primary: bool | None = None,
    ) -> GenesisStageSession:
        """Create a session about the stage's novel, and bind it as `bind` does."""
        record = await self._open_stage(stage_id)
        session = await self._saver.sessions.acreate(
            title=title, scope_type=SCOPE, scope_id=record.flow.novel_id, connection=self.orm
        )
        return await self.bind(stage_id, session.id, kind=kind, is_primary=is_primary)

    async def set_primary(self, stage_id: str, session_id: str) -> GenesisStageRecord:
        """Make a bound session the primary one: its config and result become the stage's."""
        record = await self._open_stage(stage_id)
        chosen = await self._bindings.get(stage_id, session_id)
        if chosen.is_primary:
            return record
        if chosen.status is not BindingStatus.ACTIVE:
            raise StateError(f"session {session_id!r} is {chosen.status}: choose an active one")
        for each in await self._bindings.of_stage(stage_id):
            each.is_primary = None
        await self.orm.flush()  # before there is another one: the database allows only one
        chosen.is_primary = True
        state = await self._saver.state.aload_state(session_id, connection=self.orm) or {}
        if state.get("config", {}).keys() & fields_of(record.stage):  # else it was of another one
            record.config, record.result = state["config"], state.get("result")
        await _tell(self.orm, "session.primary", record.flow_id, stage_id, session_id)
        return record

    async def _open_stage(self, stage_id: str) -> GenesisStageRecord:
        """Read a stage on which work may go on, as it is once its flow is locked."""
        record = await self.get(stage_id, locked=True)
        require_open(record)
        return record


def require_open(record: GenesisStageRecord) -> None:
    """Check that the work on a stage may go on.

    Raises:
        StateError: The stage is completed, or its flow not in progress.
    """
    _require_progress(record.flow)
    if record.status is StageStatus.COMPLETED:
        raise StateError(f"this {record.stage} is completed: go back to it to work on it again")


def _require_progress(flow: GenesisFlow) -> None:
    if flow.status is not GenesisStatus.IN_PROGRESS:
        raise StateError(f"the flow is {flow.status}: only one that is IN_PROGRESS can change")


async def _complete(orm: AsyncSession, record: GenesisStageRecord) -> None:
    """Complete a stage, which archives its active sessions."""
    require_complete(record.stage, record.config)
    for binding in await GenesisStageSessionRepository(orm).of_stage(record.id):
        if binding.status is BindingStatus.ACTIVE:
            binding.status = BindingStatus.ARCHIVED
    record.status, record.completed_at = StageStatus.COMPLETED, utc_now()
    brought = {"config": record.config, "result": record.result}
    record.flow.state = {**record.flow.state, record.stage: brought}
    await _tell(orm, "stage.completed", record.flow_id, record.id, stage=record.stage)


async def _tell(orm: AsyncSession, what: str, flow_id: str, *ids: str | None, **data: Any) -> None:
    """Write what was changed, and an event: `ids` are those of its stage and its session."""
    await orm.flush()
    columns = dict(zip(("stage_id", "session_id"), ids, strict=False))
    await orm.execute(insert_event(what, flow_id, data=data, **columns))
