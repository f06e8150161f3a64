"""Every error of an application is answered with a problem (RFC 9457)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from httpx import ASGITransport, AsyncClient, Response
from pydantic import BaseModel

from examples.web import problems
from examples.web.problems import ApplicationError
from langgraph_session_saver import (
    AccessDeniedError,
    DatabaseError,
    DatabaseUnavailableError,
    SessionConflictError,
    SessionNotFoundError,
    SessionSaverError,
)


class TooLateError(ApplicationError):
    status = HTTPStatus.GONE
    title = "Too late"


class Wish(BaseModel):
    colour: str
    sizes: list[int]


@pytest.fixture
async def app() -> FastAPI:
    app = FastAPI()
    problems.install(app)

    @app.post("/wishes", responses=problems.responses(422))
    async def wish(wish: Wish) -> str:
        return wish.colour

    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[AsyncClient]:
    transport = ASGITransport(app, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def answer_to(error: Exception, app: FastAPI, client: AsyncClient) -> Response:
    """The answer of a route that raises the error."""

    @app.get("/fails")
    async def fails() -> None:
        raise error

    answer = await client.get("/fails")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    return answer


async def test_an_error_of_the_application_is_told_with_its_members(
    app: FastAPI, client: AsyncClient
) -> None:
    answer = await answer_to(TooLateError("it closed at six: come back", at="18:00"), app, client)
    assert answer.json() == {
        "type": "tag:example.org,2025:too-late",
        "title": "Too late",
        "status": 410,
        "detail": "it closed at six: come back",
        "at": "18:00",
    }


@pytest.mark.parametrize(
    ("error", "status", "is_told"),
    [
        (SessionNotFoundError("session 'a' does not exist"), 404, False),
        (AccessDeniedError("session 'a' is not of the owner"), 404, False),
        (SessionConflictError("session 'a' already exists"), 409, True),
        (DatabaseUnavailableError("the database at db1 kept failing"), 503, False),
        (DatabaseError("the database at db1 refused"), 500, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
async def test_an_error_of_the_package_has_a_status_and_tells_nothing_of_others(
    app: FastAPI, client: AsyncClient, error: SessionSaverError, status: int, *, is_told: bool
) -> None:
    answer = await answer_to(error, app, client)
    assert (answer.status_code, answer.json().get("detail")) == (
        status,
        str(error) if is_told else None,
    )


async def test_a_logged_path_is_printable(
    app: FastAPI, client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/novels/{name}")
    async def fails(name: str) -> None:
        raise DatabaseError("the database at db1 refused")

    await client.get("/novels/%1B[2J%E2%80%AEx")

    assert [
        record.getMessage() for record in caplog.records if record.name == problems.logger.name
    ] == [r"GET '/novels/\x1b[2J\u202ex' failed"]


async def test_an_http_exception_keeps_its_detail_and_headers(
    app: FastAPI, client: AsyncClient
) -> None:
    error = HTTPException(429, "at most 100 a minute", {"Retry-After": "7"})
    answer = await answer_to(error, app, client)
    assert answer.headers["retry-after"] == "7"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "at most 100 a minute",
    }


async def test_an_unexpected_error_tells_nothing(app: FastAPI, client: AsyncClient) -> None:
    answer = await answer_to(RuntimeError("the password is swordfish"), app, client)
    assert answer.json() == {"type": "about:blank", "title": "Internal Server Error", "status": 500}


@pytest.mark.parametrize(
    ("sent", "fields"),
    [
        ({"colour": "red", "sizes": [1, "x"]}, [("body", "#/sizes/1")]),
        ({}, [("body", "#/colour"), ("body", "#/sizes")]),
        ([], [("body", "#")]),
    ],
)
async def test_a_body_of_the_wrong_form_is_told_by_field(
    client: AsyncClient, sent: Any, fields: list[tuple[str, str]]
) -> None:
    answer = await client.post("/wishes", json=sent)
    body = answer.json()
    assert (answer.status_code, body["title"]) == (422, "Invalid request")
    assert [(error["in"], error["pointer"]) for error in body["errors"]] == fields


async def test_a_body_that_is_no_json_is_a_problem(client: AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await client.post("/wishes", content="{", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (422, problems.MEDIA_TYPE)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/no", 404), ("PUT", "/wishes", 405)]
)
async def test_what_no_route_answers_is_a_problem(
    client: AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, problems.MEDIA_TYPE)


def test_openapi_describes_the_problems(app: FastAPI) -> None:
    described = app.openapi()["paths"]["/wishes"]["post"]["responses"]["422"]
    assert list(described["content"]) == [problems.MEDIA_TYPE]
