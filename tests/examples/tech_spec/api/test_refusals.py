"""What the API refuses: each with its status and a problem that says what to do, and no trace."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select

from examples.tech_spec.fixtures import read_job
from examples.tech_spec.models import Base, DesignJob
from examples.web.database import reading, transaction
from examples.web.models import new_id
from examples.web.tokens import Tokens
from tests.examples.tech_spec.api.clients import (
    PROBLEM,
    SECRET,
    TOKENS,
    Client,
    client_of,
    options_of,
)
from tests.examples.tech_spec.api.conftest import OpenApp
from tests.support.redis import RedisServer, needs_redis, redis_server

CLINIC, GARDEN = read_job("clinic"), read_job("garden")

START = f"POST /api/projects/{CLINIC.project_id}/start-tech-spec"
START_GARDEN = f"POST /api/projects/{GARDEN.project_id}/start-tech-spec"
SESSION = "/api/tech-spec/sessions"


async def rows(app: FastAPI) -> dict[str, list[str]]:
    """All rows of the agent and of the design agent."""
    async with reading(app.state.resources.engine) as orm:
        return {
            table.name: sorted(map(repr, await orm.execute(select(table))))
            for table in Base.metadata.sorted_tables
        }


@pytest.fixture
async def names(client: Client, app: FastAPI) -> Mapping[str, str]:
    """A session that asks, what it asks and what not, and a design that is not completed."""
    session = await client.start()
    await app.state.resources.runs.wait()
    status = await client.status(session)
    pending = status["pending"][0]
    async with transaction(app.state.resources.engine) as orm:
        orm.add(design := DesignJob(project_id=CLINIC.project_id, status="in_progress"))
    return {
        "session": session.split("/")[-1],
        "pending": pending,
        "option": options_of(status, pending)[0],
        "unfinished": design.id,
    }


DECIDE = f"POST {SESSION}/{{session}}/decisions"
TRD = f"GET {SESSION}/{{session}}/trd"

REFUSED: dict[str, tuple[str, Any, int, str]] = {
    "a design that does not exist": (START, {"design_job_id": "none"}, 404, "check its id"),
    "a design of another project": (START, {"design_job_id": GARDEN.id}, 404, GARDEN.id),
    "a design that is not completed": (
        START, {"design_job_id": "{unfinished}"}, 409, "wait for the design agent",
    ),
    "a design that lacks documents": (
        START_GARDEN, {"design_job_id": GARDEN.id}, 422, "lacks ux_flow, screen_specs",
    ),
    "a start without a design": (START, {}, 422, "#/design_job_id"),
    "a start that is no object": (START, ["clinic"], 422, "#"),
    "a start with an unknown field": (
        START, {"design_job_id": CLINIC.id, "force": True}, 422, "#/force",
    ),
    "a category that is not pending": (
        DECIDE, {"category": "payments", "technology": "Stripe"}, 409, "{pending}",
    ),
    "an unknown option": (
        DECIDE, {"category": "{pending}", "technology": "Abacus"}, 422, "{option}",
    ),
    "an unknown category": (
        DECIDE, {"category": "weather", "technology": "Rain"}, 422, "#/category",
    ),
    "a decision for nothing": (DECIDE, {"category": "{pending}", "technology": " "}, 422, "#/tech"),
    "a reason with a NUL": (
        DECIDE, {"category": "{pending}", "technology": "{option}", "reasoning": "\0"}, 422,
        "#/reasoning",
    ),
    "a decision in an unknown session": (
        f"POST {SESSION}/none/decisions", {"category": "email", "technology": "Postal"}, 404,
        "check its id",
    ),
    "the status of an unknown session": (f"GET {SESSION}/none/status", None, 404, "check its id"),
    "a session's id with a NUL": (f"GET {SESSION}/%00/status", None, 422, "#/session_id"),
    "the document of an unknown session": (f"GET {SESSION}/none/trd", None, 404, "check its id"),
    "a document that is not written yet": (TRD, None, 404, "none yet"),
    "a score over 100": (f"{TRD}?min_score=100.5", None, 422, "#/min_score"),
    "a score under 0": (f"{TRD}?min_score=-1", None, 422, "#/min_score"),
    "a score that is no number": (f"{TRD}?min_score=nan", None, 422, "#/min_score"),
    "a version before the first": (f"{TRD}?version=0", None, 422, "#/version"),
    "an unknown format": (f"{TRD}?format=pdf", None, 422, "#/format"),
    "an unknown path": ("GET /api/documents", None, 404, ""),
    "a method that is not there": ("DELETE /health", None, 405, ""),
}  # fmt: skip


async def test_it_is_refused_with_a_problem_and_nothing_is_written(
    client: Client, app: FastAPI, names: Mapping[str, str]
) -> None:
    before = await rows(app)
    for what, (call, body, status, said) in REFUSED.items():
        method, path = call.format_map(names).split()
        if isinstance(body, dict):
            body = {  # noqa: PLW2901
                name: value.format_map(names) if isinstance(value, str) else value
                for name, value in body.items()
            }
        answer = await client.http.request(method, path, json=body)

        problem = answer.json()
        found = (answer.status_code, answer.headers["Content-Type"], problem["status"])
        assert found == (status, PROBLEM, status), (what, answer.text)
        assert said.format_map(names) in problem.get("detail", ""), what
    assert await rows(app) == before


async def test_the_documents_that_a_design_lacks_are_named(client: Client) -> None:
    path = START_GARDEN.split()[1]
    answer = await client.http.post(path, json={"design_job_id": GARDEN.id})

    assert answer.json()["missing"] == ["ux_flow", "screen_specs"]


async def test_a_format_that_is_not_there_is_not_acceptable(
    client: Client, names: Mapping[str, str]
) -> None:
    path = TRD.format_map(names).split()[1]
    answer = await client.http.get(path, headers={"Accept": "application/pdf"})

    assert (answer.status_code, answer.headers["Content-Type"]) == (406, PROBLEM)
    assert "text/markdown" in answer.json()["detail"]


CHANGES = [
    (START, {"design_job_id": CLINIC.id}),
    (f"POST {SESSION}/none/decisions", {"category": "email", "technology": "Postal"}),
]
READS = [(f"GET {SESSION}/none/status", None), (f"GET {SESSION}/none/trd", None)]

TOKENS_REFUSED = {
    "none": (None, "needs a token"),
    "not a token": ("clinic", "not valid"),
    "of another secret": (Tokens(SECRET[::-1]).issue("ada", ["editor"]), "not valid"),
    "expired": (Tokens(SECRET, timedelta(seconds=-1)).issue("ada", ["editor"]), "has expired"),
}


@pytest.mark.parametrize("token", TOKENS_REFUSED)
async def test_whoever_has_no_valid_token_may_do_nothing(client: Client, token: str) -> None:
    del client.http.headers["Authorization"]
    given, said = TOKENS_REFUSED[token]
    headers = {"Authorization": f"Bearer {given}"} if given else {}
    for call, body in CHANGES + READS:
        method, path = call.split()
        answer = await client.http.request(method, path, json=body, headers=headers)
        assert (answer.status_code, answer.headers["Content-Type"]) == (401, PROBLEM)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert said in answer.json()["detail"]


@pytest.mark.parametrize(
    ("roles", "calls"), [(["viewer"], CHANGES), ([], CHANGES + READS), (["writer"], READS)]
)
async def test_whoever_has_not_the_role_is_forbidden(
    app: FastAPI, roles: list[str], calls: list[tuple[str, Any]]
) -> None:
    async with client_of(app, roles=roles) as client:
        for call, body in calls:
            method, path = call.split()
            answer = await client.http.request(method, path, json=body)
            assert (answer.status_code, answer.headers["Content-Type"]) == (403, PROBLEM)
            assert "'editor'" in answer.json()["detail"]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder: Path = tmp_path_factory.mktemp("redis")
    with redis_server(folder) as server:
        yield server


@pytest.mark.parametrize("store", ["memory", pytest.param("redis", marks=needs_redis)])
async def test_whoever_is_over_the_limit_is_told_when_to_call_again(
    open_app: OpenApp, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    now = 1_800_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    url = request.getfixturevalue("redis").url if store == "redis" else None
    path = READS[0][0].split()[1]
    bearer = {"Authorization": f"Bearer {TOKENS.issue(new_id(), ['viewer'])}"}
    async with open_app(url) as one, open_app(url) as other:
        apps = (one, other) if url else (one, one)
        for call in range(101):
            async with client_of(apps[call % 2]) as client:
                answer = await client.http.get(path, headers=bearer)
            assert answer.status_code == (404 if call < 100 else 429)
        assert (answer.headers["Retry-After"], answer.headers["Content-Type"]) == ("61", PROBLEM)
        assert "you may make 100 calls a minute" in answer.json()["detail"]
        async with client_of(one) as client:
            assert (await client.http.get("/health", headers=bearer)).status_code == 200
            assert (await client.http.get(path)).status_code == 404  # another user
            now += 61
            assert (await client.http.get(path, headers=bearer)).status_code == 404
