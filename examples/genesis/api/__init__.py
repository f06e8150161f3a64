"""The HTTP API, under `/api`: an owner's novels by their flows, with stages and sessions."""

from fastapi import APIRouter

from examples.genesis.api import flows, sessions, stages
from examples.web import problems

router = APIRouter(prefix="/api", responses=problems.responses(401, 404, 422))
for part in (flows, stages, sessions):
    router.include_router(part.router)
