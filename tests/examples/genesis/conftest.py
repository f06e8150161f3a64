"""A migrated database of each kind, which the tests of a module share: each has its own novel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.genesis.app import create_app
from examples.genesis.migrations import upgrade
from examples.genesis.models import (
    Novel,
)
from examples.web.database import make_engine, transaction
from examples.web.models import new_id
from langgraph_session_saver import SessionSaver
from tests.conftest import MakeBackend
from tests.examples.genesis.clients import TOKENS, Client, Server, client_of
from tests.support.backends import BACKEND_NAMES, Backend, checked_out
from tests.support.zygote import Zygote


@pytest.fixture(scope="module", params=BACKEND_NAMES)
def database(request: pytest.FixtureRequest, make_lasting_backend: MakeBackend) -> Backend:
    """A database with the application's tables and the package's, on each backend in turn."""
    backend = make_lasting_backend(request.param)
    asyncio.run(upgrade(backend.async_url))
    return backend


@pytest.fixture
async def engine(database: Backend) -> AsyncIterator[AsyncEngine]:
    """The application's engine. Ends by asserting that no connection of it is checked out."""
    engine = make_engine(database.async_url)
    yield engine
    assert checked_out(engine) == 0
    await engine.dispose()


@pytest.fixture
def saver(engine: AsyncEngine) -> SessionSaver:
    """The application's saver, on the same engine."""
    return SessionSaver(engine)


@pytest.fixture
async def novel(engine: AsyncEngine) -> Novel:
    """A novel of an owner whom no other test has."""
    async with transaction(engine) as orm:
        novel = Novel(owner_id=new_id(), title="Salt")
        orm.add(novel)
    return novel


@pytest.fixture
async def app(database: Backend) -> AsyncIterator[FastAPI]:
    """The application, as it is between its start and its end."""
    app = create_app(database.async_url, TOKENS)
    async with app.router.lifespan_context(app):
        yield app
    assert checked_out(app.state.resources.engine) == 0


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[Client]:
    """A client of the application, with an owner whom no other test has."""
    async with client_of(app) as client:
        yield client


@pytest.fixture(scope="module")
def serve(database: Backend, zygote: Zygote) -> Iterator[Callable[..., Server]]:
    """Starts servers; what is left of them ends with the module."""
    servers: list[Server] = []

    def start(**options: Any) -> Server:
        servers.append(Server(zygote, database.async_url, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.child.kill()
        server.child.wait()
