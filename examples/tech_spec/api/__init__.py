"""The HTTP API: a job is started, watched, decided about and read, under `/api`."""

from fastapi import APIRouter, Depends

from examples.tech_spec.api import documents, sessions
from examples.web import problems
from examples.web.rate_limits import count_call

router = APIRouter(
    prefix="/api",
    dependencies=[Depends(count_call)],
    responses=problems.responses(401, 403, 404, 422, 429),
)
for part in (sessions.router, documents.router):
    router.include_router(part)
