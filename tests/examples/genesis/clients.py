"""Clients of the API, and servers that they call: in the test's process, or to be killed."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response

from examples.genesis.__main__ import app as genesis
from examples.web.models import new_id
from examples.web.tokens import Tokens
from tests.examples.genesis.authors import BEGINNING, answer_to
from tests.support.zygote import Child, Zygote

SECRET = "a secret of the tests, long enough for HS256"
TOKENS = Tokens(SECRET)
PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Sent:
    """A server-sent event."""

    id: str
    type: str
    data: dict[str, Any]


class Client:
    """One owner's calls."""

    def __init__(self, http: AsyncClient) -> None:
        self.http = http

    async def get(self, path: str) -> Any:
        """Read what is there."""
        answer = await self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Make a change that is allowed."""
        answer = await self.http.request(method, path, json=body, headers=headers)
        assert answer.status_code in {200, 201, 202}, answer.text
        return answer.json()

    async def every(self, path: str, limit: int = 100) -> list[Any]:
        """The items of all pages of a list."""
        items, after = [], ""
        while True:
            page = await self.get(f"{path}?limit={limit}{after}")
            assert len(page["items"]) <= limit
            items += page["items"]
            if page["next"] is None:
                return items
            after = f"&after={page['next']}"

    async def begin(self, title: str = "Salt", seed: str = "salt") -> dict[str, Any]:
        """Begin a novel."""
        novel: dict[str, Any] = await self.send(
            "POST", "/api/flows", {"title": title, "seed": seed}
        )
        return novel

    async def stage(self, flow_id: str) -> dict[str, Any]:
        """The current stage of a flow."""
        current = (await self.get(f"/api/flows/{flow_id}"))["current_stage"]
        stages = await self.every(f"/api/flows/{flow_id}/stages")
        found: dict[str, Any] = [each for each in stages if each["stage"] == current][-1]
        return found

    async def open_session(self, stage_id: str, kind: str = "agent_autonomous") -> str:
        """Create a session of a stage; the path of it."""
        sessions = f"/api/stages/{stage_id}/sessions"
        made = await self.send("POST", sessions, {"title": "A session", "kind": kind})
        return f"{sessions}/{made['session_id']}"

    async def say(self, session: str, text: str = BEGINNING) -> None:
        """Say something in a session."""
        await self.send("POST", f"{session}/messages", {"text": text})

    async def advance(self, flow_id: str, to: str) -> dict[str, Any]:
        """Go to a stage."""
        flow: dict[str, Any] = await self.send("POST", f"/api/flows/{flow_id}/advance", {"to": to})
        return flow

    @asynccontextmanager
    async def watch(
        self, flow_id: str, after: str = "", first: str = ""
    ) -> AsyncIterator[AsyncIterator[Sent]]:
        """Watch a flow, from after an event on that the header or the query names."""
        headers = {"Last-Event-ID": after} if after else {}
        query = {"last_event_id": first} if first else {}
        path = f"/api/flows/{flow_id}/events"
        async with self.http.stream(
            "GET", path, params=query, headers=headers, timeout=60
        ) as answer:
            assert answer.status_code == 200
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            yield _events(answer)

    async def converse(self, session: str, events: AsyncIterator[Sent]) -> list[Sent]:
        """Answer what a session asks, as its events tell, until nothing is asked any more."""
        seen, session_id = [], session.rpartition("/")[2]
        async for event in events:
            seen.append(event)
            if event.type != "session.step" or event.data["session_id"] != session_id:
                continue
            step = event.data["data"]
            if step["question"]:
                await self.say(session, answer_to(step["question"]))
            elif step["status"] == "PAUSED":
                break
        return seen


async def _events(answer: Response) -> AsyncIterator[Sent]:
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if not line and "id" in fields:
            yield Sent(fields["id"], fields["event"], json.loads(fields["data"]))
        fields = fields | {name: value} if line else {}


@asynccontextmanager
async def client_of(
    app: FastAPI | None = None, address: str = "http://genesis", owner_id: str | None = None
) -> AsyncIterator[Client]:
    """A client of an application in this process, or of a server."""
    transport = ASGITransport(app, raise_app_exceptions=False) if app else None
    headers = {"Authorization": f"Bearer {TOKENS.issue(owner_id or new_id())}"}
    async with AsyncClient(
        transport=transport, base_url=address, headers=headers, timeout=60, trust_env=False
    ) as http:
        yield Client(http)


class Server:
    """`python -m examples.genesis` in a process of its own."""

    def __init__(self, zygote: Zygote, url: str, *, pause: float = 0, port: int = 0) -> None:
        options = {"url": url, "pause": pause, "port": port, "secret": SECRET}
        given = [f"--{name}={value}" for name, value in options.items()]
        self.child: Child = zygote.spawn("examples.genesis.__main__:app", {"args": given})
        self.address = self.child.wait_for("http://").partition("/?")[0]
        self.port = int(self.address.rpartition(":")[2])


def command(home: str, arguments: list[str]) -> None:
    """Run the command for a user who has set nothing."""
    for name in ("DATABASE_URL", "GENESIS_SECRET"):
        os.environ.pop(name, None)
    os.environ["HOME"] = home
    genesis(args=["--port=0", *arguments])
