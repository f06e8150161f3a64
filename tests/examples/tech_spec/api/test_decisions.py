"""Decisions of two users at once, and of users whose server is killed and started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.tech_spec.fixtures import ensure
from examples.tech_spec.models import JobStatus, Role, TechConversation
from examples.web.database import reading
from tests.examples.tech_spec.api.clients import Client, Server, client_of, options_of, until
from tests.examples.tech_spec.api.conftest import OpenApp
from tests.support.backends import Backend
from tests.support.zygote import Zygote


@pytest.mark.parametrize("servers", [1, 2])
async def test_of_two_users_who_decide_at_once_one_decides(
    open_app: OpenApp, engine: AsyncEngine, servers: int
) -> None:
    async with AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(open_app()) for _ in range(servers)]
        ada = await stack.enter_async_context(client_of(apps[0]))
        eve = await stack.enter_async_context(client_of(apps[-1]))
        session = await ada.start()
        await _idle(apps)
        status = await ada.status(session)

        won: dict[str, tuple[str, str]] = {}
        for category in status["pending"]:
            wanted = {ada: options_of(status, category)[0], eve: options_of(status, category)[1]}
            answers = await asyncio.gather(
                *(user.decide(session, category, wanted[user]) for user in wanted)
            )
            assert sorted(answer.status_code for answer in answers) == [202, 409]
            (winner,) = [u for u, answer in zip(wanted, answers, strict=True) if answer.is_success]
            won[category] = (winner.user_id, wanted[winner])
        await _idle(apps)

        status = await eve.status(session)
        assert status["status"] == "completed"
        chosen = {gap["category"]: gap["selected_technology"] for gap in status["research"]}
        assert {category: chosen[category] for category in won} == {
            category: technology for category, (_, technology) in won.items()
        }
        said = await _decisions(engine, session)
        assert [(each["user_id"], each["technology"]) for each in said] == [*won.values()]


async def test_two_users_who_share_the_questions_out_both_decide(app: FastAPI) -> None:
    async with client_of(app) as ada, client_of(app) as eve:
        session = await ada.start()
        await _idle([app])
        status = await ada.status(session)
        users = [ada, eve] * len(status["pending"])

        answers = await asyncio.gather(
            *(
                user.decide(session, category, options_of(status, category)[0])
                for user, category in zip(users, status["pending"], strict=False)
            )
        )
        await _idle([app])

        assert {answer.status_code for answer in answers} == {202}
        assert (await eve.status(session))["status"] == "completed"


async def _idle(apps: list[FastAPI]) -> None:
    for app in apps:
        await app.state.resources.runs.wait()


async def _decisions(engine: AsyncEngine, session: str) -> list[dict[str, Any]]:
    """The metadata of what users have said, in the order of saying."""
    query = select(TechConversation.details).where(
        TechConversation.session_id == session.rpartition("/")[2],
        TechConversation.role == Role.USER,
    )
    async with reading(engine) as orm:
        in_order = query.order_by(TechConversation.timestamp)
        return [details or {} for details in await orm.scalars(in_order)]


# -- servers that are killed ---------------------------------------------------------------------


@pytest.fixture
def serve(database: Backend, zygote: Zygote) -> Iterator[Callable[[], Server]]:
    """Starts servers; what is left of them ends with the test."""
    servers: list[Server] = []

    def start() -> Server:
        servers.append(Server(zygote, database.async_url))
        return servers[-1]

    yield start
    for server in servers:
        server.child.kill()
        server.child.wait()


async def test_a_server_that_is_killed_and_started_again_goes_on(
    serve: Callable[[], Server], engine: AsyncEngine, client: Client, app: FastAPI
) -> None:
    undisturbed = await client.start("auction")
    await _idle([app])
    await client.decide_all(undisturbed)
    await _idle([app])

    await ensure(engine)
    server = serve()
    async with client_of(address=server.address) as user:
        session = await user.start("auction")
    await server.kill()  # as soon as the job is accepted
    server = serve()
    await until(engine, session, JobStatus.PAUSED)
    async with client_of(address=server.address) as user:
        status = await user.status(session)
        first = status["pending"][0]
        decided = await user.decide(session, first, options_of(status, first)[0])
        assert decided.status_code == 202
    await server.kill()  # as soon as a decision is accepted
    server = serve()
    async with client_of(address=server.address) as user:
        await user.decide_all(session)
    await server.kill()  # as soon as all are, and the document is to be written
    server = serve()
    await until(engine, session, JobStatus.COMPLETED)

    async with client_of(address=server.address) as user:
        assert await _made(user, session) == await _made(client, undisturbed)
    assert len(await _decisions(engine, session)) == len(await _decisions(engine, undisturbed))


async def _made(client: Client, session: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The choices of a session, and its document."""
    status = await client.status(session)
    document = (await client.http.get(f"{session}/trd")).json()
    for name in ("session_id", "created_at"):
        del document[name]
    return {gap["category"]: gap["selected_technology"] for gap in status["research"]}, document
