"""Queries on the tables. Each finds the rows of one owner, in a caller's session."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, Update, and_, exists, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from examples.genesis.errors import NotFoundError
from examples.genesis.models import (
    Base,
    GenesisFlow,
    GenesisStageRecord,
    GenesisStageSession,
    StageStatus,
)
from examples.web.paging import page_of
from langgraph_session_saver import Page
from langgraph_session_saver.models import Message

Row = TypeVar("Row", bound=Base)
Check = Callable[[Any], None]
"""Is called with a row that is locked; raises if the caller would not change it."""


def lock(flow_id: str) -> Update:
    """Lock a flow until the transaction ends, by an UPDATE that changes nothing.

    Whoever changes anything of a flow does this first. So changes take turns, and each sees what
    those before it have committed.
    """
    unchanged = {"updated_at": GenesisFlow.updated_at}
    return update(GenesisFlow).where(GenesisFlow.id == flow_id).values(unchanged)


def shown_by(stage_id: str, session_id: str) -> ColumnElement[bool]:
    """A condition on stage records: this one, if it is open and the session its primary one."""
    record, of = GenesisStageRecord, GenesisStageSession
    is_primary = exists().where(
        of.stage_id == record.id, of.session_id == session_id, of.is_primary.is_(True)
    )
    return and_(record.id == stage_id, record.status != StageStatus.COMPLETED, is_primary)


class Repository(Generic[Row]):
    """The rows of one kind and owner, as they are now; what is another owner's does not exist."""

    model: ClassVar[Any]
    name: ClassVar[str]
    order: ClassVar[Sequence[Any]]
    is_newest_first: ClassVar[bool] = False

    def __init__(self, orm: AsyncSession, owner_id: str, *check: Check) -> None:
        self.orm = orm
        self.owner_id = owner_id
        self._checks = check

    def owned(self) -> Select[Any]:
        """Select the owner's rows."""
        return select(self.model).execution_options(populate_existing=True)

    async def page(self, limit: int = 50, after: str | None = None, **of: str) -> Page[Row]:
        """Read the owner's rows, or those of a parent, a page at a time."""
        rows, newest_first = self.owned().filter_by(**of), self.is_newest_first
        return await page_of(self.orm, rows, self.order, limit, after, descending=newest_first)

    async def get(self, id_: str, *, locked: bool = False) -> Row:
        """Read a row; if asked for, as it is once its flow is locked.

        Raises:
            NotFoundError: It does not exist, or is another owner's.
        """
        query = self.owned().where(self.model.id == id_)
        found: Row | None = await self.orm.scalar(query)
        if found is None:
            raise NotFoundError(f"there is no {self.name} {id_!r} of yours")
        if locked:
            await self.orm.execute(lock(getattr(found, "flow_id", id_)))
            await self.orm.scalar(query)
            for check in self._checks:
                check(found)
        return found


class GenesisFlowRepository(Repository[GenesisFlow]):
    """Flows, each with its novel, the newest first."""

    model, name = GenesisFlow, "flow"
    order, is_newest_first = (GenesisFlow.created_at, GenesisFlow.id), True

    def owned(self) -> Select[Any]:
        """Select the owner's flows."""
        return super().owned().where(GenesisFlow.novel.has(owner_id=self.owner_id))

    async def last(self, flow: GenesisFlow) -> GenesisStageRecord | None:
        """Read the newest record of a flow's current stage, if it has one."""
        record = GenesisStageRecord
        of_stage = select(record).filter_by(flow_id=flow.id, stage=flow.current_stage)
        newest_first = of_stage.order_by(record.started_at.desc(), record.id.desc()).limit(1)
        return await self.orm.scalar(newest_first.execution_options(populate_existing=True))


class GenesisStageRepository(Repository[GenesisStageRecord]):
    """Stage records, each with its flow and novel, the oldest first."""

    model, name = GenesisStageRecord, "stage"
    order = GenesisStageRecord.started_at, GenesisStageRecord.id

    def owned(self) -> Select[Any]:
        """Select the owner's stage records."""
        is_own = GenesisStageRecord.flow.has(GenesisFlow.novel.has(owner_id=self.owner_id))
        return super().owned().where(is_own)

    async def of_flow(self, flow_id: str) -> Sequence[GenesisStageRecord]:
        """Read all records of a flow, the oldest first: there is always one.

        Raises:
            NotFoundError: The flow does not exist, or is another owner's.
        """
        query = self.owned().filter_by(flow_id=flow_id).order_by(*self.order)
        if found := (await self.orm.scalars(query)).all():
            return found
        raise NotFoundError(f"there is no flow {flow_id!r} of yours")


class GenesisStageSessionRepository:
    """What binds sessions to a stage, which was found in the owner's stages before.

    Each is with its session: the primary one first, then the oldest.
    """

    order = (
        GenesisStageSession.is_primary.is_(None),
        GenesisStageSession.created_at,
        GenesisStageSession.id,
    )

    def __init__(self, orm: AsyncSession) -> None:
        self.orm = orm

    def _bound(self, stage_id: str) -> Select[Any]:
        query = select(GenesisStageSession).filter_by(stage_id=stage_id)
        return query.execution_options(populate_existing=True)

    async def page(self, stage_id: str, limit: int, after: str | None) -> Page[GenesisStageSession]:
        """Read what is bound, a page at a time."""
        return await page_of(self.orm, self._bound(stage_id), self.order, limit, after)

    async def of_stage(self, stage_id: str) -> Sequence[GenesisStageSession]:
        """Read all that is bound."""
        return (await self.orm.scalars(self._bound(stage_id).order_by(*self.order))).all()

    async def get(self, stage_id: str, session_id: str) -> GenesisStageSession:
        """Read what binds a session to a stage.

        Raises:
            NotFoundError: The session is not bound to it.
        """
        for binding in await self.of_stage(stage_id):
            if binding.session_id == session_id:
                return binding
        raise NotFoundError(f"session {session_id!r} is not bound to this stage: bind it first")

    async def messages(self, stage_id: str) -> Sequence[Message]:
        """Read the messages of a stage's sessions, session after session, each in its order."""
        of = GenesisStageSession
        query = (
            select(Message)
            .join(of, of.session_id == Message.session_id)
            .where(of.stage_id == stage_id, Message.removed_at.is_(None))
            .order_by(of.created_at, Message.session_id, Message.position)
        )
        return (await self.orm.scalars(query)).all()
