"""Stages: the work on them, and the sessions in which it is done."""

from fastapi import APIRouter

from examples.genesis.api.schemas import (
    Id,
    PrimaryUpdate,
    SessionBind,
    SessionCreate,
    SessionRead,
    StageRead,
)
from examples.genesis.api.workspace import Mine
from examples.genesis.models import GenesisStageRecord, GenesisStageSession
from examples.web import problems
from examples.web.etags import ConditionalRoute, IfMatch
from examples.web.schemas import After, Key, Limit, PageRead
from langgraph_session_saver import Page

router = APIRouter(prefix="/stages/{stage_id}", tags=["stages"], route_class=ConditionalRoute)

REFUSED = problems.responses(409, 412)


@router.get("", response_model=StageRead)
async def read_stage(stage_id: Key, mine: Mine) -> GenesisStageRecord:
    """Read a stage."""
    return mine.tagged(await mine.read(lambda services: services.stages.get(stage_id)))


@router.post("/complete", response_model=StageRead, responses=REFUSED)
async def complete_stage(stage_id: Key, mine: Mine, if_match: IfMatch) -> GenesisStageRecord:
    """Complete a stage, which archives its sessions; the flow stays where it is."""
    return mine.tagged(
        await mine.change(lambda services: services.stages.complete(stage_id), if_match)
    )


@router.get("/sessions", response_model=PageRead[SessionRead])
async def list_sessions(
    stage_id: Key, mine: Mine, limit: Limit = 50, after: After = None
) -> Page[GenesisStageSession]:
    """List the sessions of a stage, the primary one first."""
    return await mine.read(lambda services: services.stages.session_page(stage_id, limit, after))


@router.post("/sessions", status_code=201, response_model=SessionRead, responses=REFUSED)
async def create_session(
    stage_id: Key, body: SessionCreate, mine: Mine, if_match: IfMatch
) -> GenesisStageSession:
    """Create a session of the stage's novel, and bind it."""
    return await mine.change(
        lambda services: services.stages.create_and_bind(stage_id, **dict(body)), if_match
    )


@router.put("/sessions/{session_id}", response_model=SessionRead, responses=REFUSED)
async def bind_session(
    stage_id: Key, session_id: Id, body: SessionBind, mine: Mine, if_match: IfMatch
) -> GenesisStageSession:
    """Bind a session of the stage's novel, which another stage may have."""
    return await mine.change(
        lambda services: services.stages.bind(stage_id, session_id, **dict(body)), if_match
    )


@router.put("/primary", response_model=StageRead, responses=REFUSED)
async def set_primary(
    stage_id: Key, body: PrimaryUpdate, mine: Mine, if_match: IfMatch
) -> GenesisStageRecord:
    """Make a session the primary one: its config and result become the stage's."""
    return mine.tagged(
        await mine.change(
            lambda services: services.stages.set_primary(stage_id, body.session_id), if_match
        )
    )
