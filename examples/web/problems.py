"""Errors as problem details (RFC 9457): what went wrong, and what to do about it."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from langgraph_session_saver import (
    AccessDeniedError,
    CheckpointNotFoundError,
    DatabaseUnavailableError,
    InvalidConfigError,
    PoolExhaustedError,
    SessionConflictError,
    SessionDeletedError,
    SessionNotFoundError,
    SessionSaverError,
    ThreadConflictError,
    ThreadNotFoundError,
)

MEDIA_TYPE = "application/problem+json"

STATUSES: dict[type[SessionSaverError], HTTPStatus] = {
    SessionNotFoundError: HTTPStatus.NOT_FOUND,
    ThreadNotFoundError: HTTPStatus.NOT_FOUND,
    CheckpointNotFoundError: HTTPStatus.NOT_FOUND,
    AccessDeniedError: HTTPStatus.NOT_FOUND,
    SessionDeletedError: HTTPStatus.NOT_FOUND,
    SessionConflictError: HTTPStatus.CONFLICT,
    ThreadConflictError: HTTPStatus.CONFLICT,
    InvalidConfigError: HTTPStatus.UNPROCESSABLE_ENTITY,
    PoolExhaustedError: HTTPStatus.SERVICE_UNAVAILABLE,
    DatabaseUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""What the package's errors mean to a caller; what is another's does not exist to him."""

TOLD = frozenset((HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY))
"""Statuses of the package's errors whose texts are about what the caller has sent."""

logger = logging.getLogger(__name__)


class ApplicationError(Exception):
    """An error that the caller is told: its text is the problem's detail."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    title: ClassVar[str] = "Internal server error"
    headers: Mapping[str, str] | None = None

    def __init__(self, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.members = members


EXPECTED = (ApplicationError, SessionSaverError, HTTPException, RequestValidationError)
"""What an application raises to be told; anything else is a mistake of its own."""


class Problem(BaseModel):
    """The body of every answer that is an error."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route or router that may answer with these problems."""
    schema = {"schema": Problem.model_json_schema()}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}}
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Answer every error of an application with a problem."""
    for kind in (*EXPECTED, Exception):
        app.add_exception_handler(kind, answer_to)


def answer(
    status: int,
    detail: str | None = None,
    *,
    title: str | None = None,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> JSONResponse:
    """Make the answer; a problem without a title of its own is called as its status is."""
    problem = Problem(title=title or HTTPStatus(status).phrase, status=status, detail=detail)
    if title is not None:
        problem.type = f"tag:example.org,2025:{title.lower().replace(' ', '-')}"
    content = problem.model_dump(exclude_none=True) | members
    return JSONResponse(content, status, headers, MEDIA_TYPE)


async def answer_to(request: Request, exc: Exception) -> JSONResponse:
    """Answer an error with a problem; FastAPI's exception handler."""
    match exc:
        case ApplicationError():
            told = {"title": exc.title, "headers": exc.headers, **exc.members}
            return answer(exc.status, str(exc), **told)
        case SessionSaverError():
            return _of_saver(request, exc)
        case HTTPException():
            detail = None if exc.detail == HTTPStatus(exc.status_code).phrase else exc.detail
            return answer(exc.status_code, detail, headers=exc.headers)
        case RequestValidationError():
            errors = [_field(error["loc"], error["msg"]) for error in exc.errors()]
            fields = ", ".join(error["pointer"] for error in errors)
            detail = f"the request does not have the expected form: see {fields}"
            return answer(422, detail, title="Invalid request", errors=errors)
    return answer(HTTPStatus.INTERNAL_SERVER_ERROR)  # the server logs the exception


def _of_saver(request: Request, exc: SessionSaverError) -> JSONResponse:
    status = next((STATUSES[kind] for kind in type(exc).__mro__ if kind in STATUSES), None)
    if status is None:
        logger.error("%s %r failed", request.method, request.url.path, exc_info=exc)
        return answer(HTTPStatus.INTERNAL_SERVER_ERROR)
    headers = {"Retry-After": "1"} if status is HTTPStatus.SERVICE_UNAVAILABLE else None
    return answer(status, str(exc) if status in TOLD else None, headers=headers)


def _field(location: Sequence[str | int], message: str) -> dict[str, str]:
    where, *path = location
    pointer = "#" + "".join(f"/{part}" for part in path)
    return {"in": str(where), "pointer": pointer, "detail": message}
