"""Server-sent events of a real server, and what becomes of them when it is killed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import pytest

from examples.web.models import new_id
from tests.examples.genesis.clients import Client, Sent, Server, client_of

Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def server(serve: Serve) -> Server:
    return serve()


async def test_a_watcher_goes_on_where_it_was(server: Server) -> None:
    async with client_of(address=server.address) as client:
        flow_id = (await client.begin())["id"]
        stage = await client.stage(flow_id)
        session = await client.open_session(stage["id"])
        async with client.watch(flow_id) as sent:
            await client.say(session)
            seen = await client.converse(session, sent)

        assert [event.id for event in seen] == [f"{flow_id}:{n}" for n in range(1, len(seen) + 1)]
        assert [event.type for event in seen[:3]] == [
            "flow.started", "session.bound", "session.step",
        ]  # fmt: skip
        assert {event.data["flow_id"] for event in seen} == {flow_id}
        assert {event.data["stage_id"] for event in seen} == {stage["id"]}
        for n in (1, len(seen) // 2):
            async with client.watch(flow_id, after=seen[n - 1].id) as sent:
                assert [await anext(sent) for _ in seen[n:]] == seen[n:]


async def test_the_query_names_an_event_when_a_watcher_first_connects(server: Server) -> None:
    async with client_of(address=server.address) as client:
        flow_id = (await client.begin())["id"]
        stage = await client.stage(flow_id)
        async with client.watch(flow_id) as sent:
            first = await anext(sent)
        for kind in ("user_interaction", "agent_autonomous"):
            await client.open_session(stage["id"], kind)

        async with client.watch(flow_id, first=first.id) as sent:
            second = await anext(sent)
        # When it connects again, the header says what it has seen last.
        async with client.watch(flow_id, first=first.id, after=second.id) as sent:
            third = await anext(sent)

    assert [each.data["data"].get("kind") for each in (first, second, third)] == [
        None, "user_interaction", "agent_autonomous",
    ]  # fmt: skip


async def test_a_server_that_ends_does_not_wait_for_watchers(serve: Serve) -> None:
    server = serve()
    async with client_of(address=server.address) as client:
        flow_id = (await client.begin())["id"]
        async with client.watch(flow_id) as sent:
            await anext(sent)
            server.child.kill(signal.SIGTERM)
            assert [event async for event in sent] == []
    assert await asyncio.to_thread(server.child.wait) == -signal.SIGTERM, server.child.text


async def test_a_killed_server_loses_nothing(server: Server, serve: Serve) -> None:
    """It is killed after each sixth event; the next one goes on without being asked."""
    expected = await _undisturbed(server)
    seen: list[Sent] = []
    killed = serve(pause=0.02)
    owner_id = new_id()
    async with client_of(address=killed.address, owner_id=owner_id) as client:
        flow_id = (await client.begin())["id"]
        stage = await client.stage(flow_id)
        session = await client.open_session(stage["id"])
        await client.say(session)
    while not seen or seen[-1].data["data"].get("status") != "PAUSED":
        async with (
            client_of(address=killed.address, owner_id=owner_id) as client,
            client.watch(flow_id, after=seen[-1].id if seen else "") as sent,
        ):
            async for event in sent:
                seen.append(event)
                if len(seen) % 6 == 0 or event.data["data"].get("status") == "PAUSED":
                    break
        killed.child.kill()
        await asyncio.to_thread(killed.child.wait)
        killed = serve(pause=0.02)
    async with client_of(address=killed.address, owner_id=owner_id) as client:
        made = await _made(client, stage["id"], session)

    assert [event.id for event in seen] == [f"{flow_id}:{n}" for n in range(1, len(seen) + 1)]
    assert made == expected


async def _undisturbed(server: Server) -> list[Any]:
    """What a server makes of the same seed that nobody kills."""
    async with client_of(address=server.address) as client:
        flow_id = (await client.begin())["id"]
        stage = await client.stage(flow_id)
        session = await client.open_session(stage["id"])
        async with client.watch(flow_id) as sent:
            await client.say(session)
            await client.converse(session, sent)
        return await _made(client, stage["id"], session)


async def _made(client: Client, stage_id: str, session: str) -> list[Any]:
    """The config and the result of a stage, and what was said in a session."""
    record = await client.get(f"/api/stages/{stage_id}")
    messages = (await client.get(f"{session}/messages"))["items"]
    return [record["config"], record["result"], *(message["content"] for message in messages)]
