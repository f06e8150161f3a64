"""Clients of the API, and servers that they call: in the test's process, or to be killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.tech_spec.fixtures import read_job
from examples.tech_spec.models import JobStatus, TechSpecSession
from examples.web.database import reading
from examples.web.models import new_id
from examples.web.tokens import Tokens
from tests.support.zygote import Child, Zygote

SECRET = "a secret of the tests, long enough for HS256"
TOKENS = Tokens(SECRET)
PROBLEM = "application/problem+json"


class Client:
    """One user's calls."""

    def __init__(self, http: AsyncClient, user_id: str) -> None:
        self.http = http
        self.user_id = user_id

    async def start(self, name: str = "clinic") -> str:
        """Start the job of a design; its path."""
        job = read_job(name)
        path = f"/api/projects/{job.project_id}/start-tech-spec"
        answer = await self.http.post(path, json={"design_job_id": job.id})
        assert answer.status_code == 202, answer.text
        return f"/api/tech-spec/sessions/{answer.json()['session_id']}"

    async def status(self, session: str) -> dict[str, Any]:
        answer = await self.http.get(f"{session}/status")
        assert answer.status_code == 200, answer.text
        status: dict[str, Any] = answer.json()
        return status

    async def decide(self, session: str, category: str, technology: str) -> Response:
        decision = {"category": category, "technology": technology}
        return await self.http.post(f"{session}/decisions", json=decision)

    async def decide_all(self, session: str) -> None:
        """Decide for what is ranked first."""
        status = await self.status(session)
        for category in status["pending"]:
            answer = await self.decide(session, category, options_of(status, category)[0])
            assert answer.status_code == 202, answer.text


def options_of(status: dict[str, Any], category: str) -> list[str]:
    """The options of a category, the best first."""
    (gap,) = [gap for gap in status["research"] if gap["category"] == category]
    return [option["name"] for option in gap["options"]]


@asynccontextmanager
async def client_of(
    app: FastAPI | None = None,
    address: str = "http://tech-spec",
    roles: Collection[str] = ("editor",),
) -> AsyncIterator[Client]:
    """A client of an application in this process, or of a server, for a user of its own."""
    user_id = new_id()
    transport = ASGITransport(app, raise_app_exceptions=False) if app else None
    headers = {"Authorization": f"Bearer {TOKENS.issue(user_id, roles)}"}
    async with AsyncClient(
        transport=transport, base_url=address, headers=headers, timeout=60, trust_env=False
    ) as http:
        yield Client(http, user_id)


async def until(engine: AsyncEngine, session: str, status: JobStatus) -> None:
    """Wait until a session's row has a status."""
    query = select(TechSpecSession.status).where(TechSpecSession.id == session.rpartition("/")[2])
    while True:
        async with reading(engine) as orm:
            if await orm.scalar(query) is status:
                return
        await asyncio.sleep(0.02)  # for a process that tells nobody


class Server:
    """`python -m examples.tech_spec serve` in a process of its own."""

    def __init__(self, zygote: Zygote, url: str) -> None:
        options = {"database-url": url, "port": 0, "secret": SECRET}
        given = ["serve", *(f"--{name}={value}" for name, value in options.items())]
        self.child: Child = zygote.spawn("examples.tech_spec.__main__:app", {"args": given})
        self.address = self.child.wait_for("http://").partition("/docs")[0]

    async def kill(self) -> None:
        self.child.kill()
        await asyncio.to_thread(self.child.wait)
