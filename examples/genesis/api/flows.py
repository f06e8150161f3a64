"""Novels, each by its flow: where it stands, and what happens to it."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from examples.genesis.api.schemas import Advance, FlowRead, NovelCreate, StageRead
from examples.genesis.api.workspace import Mine, Services
from examples.genesis.events import follow, position_of
from examples.genesis.models import GenesisFlow, GenesisStageRecord
from examples.web import problems
from examples.web.etags import ConditionalRoute, IfMatch
from examples.web.schemas import After, Key, Limit, PageRead
from langgraph_session_saver import Page

router = APIRouter(prefix="/flows", tags=["flows"], route_class=ConditionalRoute)


@router.post("", status_code=201, response_model=FlowRead)
async def begin_novel(body: NovelCreate, mine: Mine) -> GenesisFlow:
    """Begin a novel: its flow is at its first stage."""
    return mine.tagged(await mine.change(lambda services: services.flows.begin(**dict(body))))


@router.get("", response_model=PageRead[FlowRead])
async def list_flows(mine: Mine, limit: Limit = 50, after: After = None) -> Page[GenesisFlow]:
    """List the flows of the caller's novels, the newest first."""
    return await mine.read(lambda services: services.flows.page(limit, after))


@router.get("/{flow_id}", response_model=FlowRead)
async def read_flow(flow_id: Key, mine: Mine) -> GenesisFlow:
    """Read a flow."""
    return mine.tagged(await mine.read(lambda services: services.flows.get(flow_id)))


@router.post("/{flow_id}/advance", response_model=FlowRead, responses=problems.responses(409, 412))
async def advance_flow(flow_id: Key, body: Advance, mine: Mine, if_match: IfMatch) -> GenesisFlow:
    """Go on to the next stage, for which the current one must be complete, or back."""

    async def advance(services: Services) -> GenesisFlow:
        await services.flows.advance(flow_id, body.to)
        return await services.flows.get(flow_id)

    return mine.tagged(await mine.change(advance, if_match))


@router.get("/{flow_id}/stages", response_model=PageRead[StageRead])
async def list_stages(
    flow_id: Key, mine: Mine, limit: Limit = 50, after: After = None
) -> Page[GenesisStageRecord]:
    """List a flow's passes through its stages, the oldest first."""

    async def page(services: Services) -> Page[GenesisStageRecord]:
        await services.flows.get(flow_id)
        return await services.stages.page(limit, after, flow_id=flow_id)

    return await mine.read(page)


async def _position(
    flow_id: Key,
    mine: Mine,
    last_event_id: Annotated[str | None, Header()] = None,
    first: Annotated[str | None, Query(alias="last_event_id")] = None,
) -> int:
    """Where a watcher of the flow goes on; of what is not the caller's, there is nothing to see."""
    await mine.read(lambda services: services.flows.get(flow_id))
    given = last_event_id or first
    return position_of(given, flow_id) if given else 0


@router.get(
    "/{flow_id}/events", response_class=EventSourceResponse, responses=problems.responses(400)
)
async def watch_flow(
    flow_id: Key, mine: Mine, position: Annotated[int, Depends(_position)], request: Request
) -> AsyncIterator[ServerSentEvent]:
    """Send what happens to a flow, from the first event on or from after `Last-Event-ID`.

    A first request may name the event in the query: `EventSource` sends the header only when it
    connects again.
    """
    async for event in follow(mine.resources.engine, flow_id, position, request.app.state.ends):
        told = ("flow_id", "stage_id", "session_id", "created_at", "data")
        yield ServerSentEvent(
            id=f"{flow_id}:{event.position}",
            event=event.type,
            data={name: getattr(event, name) for name in told},
        )
