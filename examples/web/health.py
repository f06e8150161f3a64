"""Whether the server can work."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from langgraph_session_saver import SessionSaver

router = APIRouter(tags=["health"])


class HealthRead(BaseModel):
    """Whether the database answers, and has the tables that the server needs."""

    status: Literal["ok", "unavailable"]
    latency_ms: float | None


@router.get("/health", response_model=HealthRead, responses={503: {"model": HealthRead}})
async def read_health(request: Request, response: Response) -> HealthRead:
    """Look at the database; needs no token, and is not limited."""
    saver: SessionSaver = request.app.state.resources.saver
    health = await saver.ahealth(sizes=False)
    if not health.is_current:
        response.status_code = 503
    return HealthRead(
        status="ok" if health.is_current else "unavailable", latency_ms=health.latency_ms
    )
