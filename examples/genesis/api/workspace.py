"""What a request works with: the services of the caller, in a transaction."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypeVar

from fastapi import Depends, Request, Response
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from examples.genesis.repositories import Check
from examples.genesis.runs import Runs
from examples.genesis.services import GenesisFlowService, GenesisStageService
from examples.web.database import in_transaction, reading
from examples.web.etags import ANY, Condition, etag
from examples.web.tokens import Caller
from langgraph_session_saver import SessionSaver

T = TypeVar("T")


@dataclass(frozen=True)
class Resources:
    """What an application has for all requests; its `state.resources`."""

    engine: AsyncEngine
    saver: SessionSaver
    runs: Runs


class Services(NamedTuple):
    """The services of one owner, in one session of the database."""

    flows: GenesisFlowService
    stages: GenesisStageService


class Workspace:
    """One owner's novels. Ask for it as a parameter of a route, of the type `Mine`."""

    def __init__(self, request: Request, response: Response, caller: Caller) -> None:
        self.owner_id = caller.owner_id
        self._response = response
        self.resources: Resources = request.app.state.resources
        self.saver = self.resources.saver.for_owner(caller.owner_id)

    async def read(self, work: Callable[[Services], Awaitable[T]]) -> T:
        """Run work that only reads."""
        async with reading(self.resources.engine) as orm:
            return await work(self._services(orm))

    async def change(
        self, work: Callable[[Services], Awaitable[T]], if_match: Condition = ANY
    ) -> T:
        """Run work in a transaction, which is rolled back if it raises. It may run twice.

        The condition is checked of the flow or stage that it changes.
        """
        engine, check = self.resources.engine, if_match.check
        return await in_transaction(engine, lambda orm: work(self._services(orm, check)))

    def _services(self, orm: AsyncSession, *check: Check) -> Services:
        flows = GenesisFlowService(orm, self.owner_id, *check)
        stages = GenesisStageService(orm, self.owner_id, self.resources.saver, *check)
        return Services(flows, stages)

    def tagged(self, row: T, *parts: Any) -> T:
        """Answer with the tag of what is made from a row, and from parts of it."""
        self._response.headers["ETag"] = etag(row, *parts)
        return row


Mine = Annotated[Workspace, Depends()]
"""The type of a route's parameter that holds the caller's novels."""
