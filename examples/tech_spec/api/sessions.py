"""Sessions: they are started, watched, and told what the user decides."""

from fastapi import APIRouter, Response

from examples.tech_spec.api.callers import Editor, Shared, Viewer
from examples.tech_spec.api.schemas import (
    SessionStatus,
    StartTechSpecRequest,
    StartTechSpecResponse,
    UserDecision,
)
from examples.tech_spec.models import TechSpecSession
from examples.web import problems
from examples.web.schemas import Key

router = APIRouter(tags=["sessions"])

SESSION = "/tech-spec/sessions/{session_id}"


@router.post(
    "/projects/{project_id}/start-tech-spec",
    status_code=202,
    response_model=StartTechSpecResponse,
    responses=problems.responses(409),
)
async def start(
    project_id: Key, body: StartTechSpecRequest, caller: Editor, shared: Shared, response: Response
) -> TechSpecSession:
    """Start to write the document of a completed design."""
    session_id = await shared.runs.start(caller.owner_id, project_id, body.design_job_id)
    response.headers["Location"] = f"/api/tech-spec/sessions/{session_id}/status"
    return await shared.session(session_id)


@router.get(f"{SESSION}/status", response_model=SessionStatus)
async def read_status(session_id: Key, _caller: Viewer, shared: Shared) -> TechSpecSession:
    """Read where a session stands, and what it asks the user."""
    return await shared.session(session_id)


@router.post(
    f"{SESSION}/decisions",
    status_code=202,
    response_model=SessionStatus,
    responses=problems.responses(409),
)
async def decide(
    session_id: Key, body: UserDecision, caller: Editor, shared: Shared
) -> TechSpecSession:
    """Decide one of the pending categories; the work goes on when none is left."""
    await shared.session(session_id)  # which raises if there is none
    await shared.runs.decide(session_id, caller.owner_id, **body.model_dump(mode="json"))
    return await shared.session(session_id)
