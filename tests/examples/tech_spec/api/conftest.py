"""The application on a migrated database, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import pytest
from fastapi import FastAPI

from examples.tech_spec.app import create_app
from examples.tech_spec.fixtures import ensure
from tests.examples.tech_spec.api.clients import TOKENS, Client, client_of
from tests.support.backends import Backend, checked_out


class OpenApp(Protocol):
    def __call__(self, redis_url: str | None = None) -> AbstractAsyncContextManager[FastAPI]: ...


@pytest.fixture
def open_app(database: Backend) -> OpenApp:
    """Makes applications, each as it is between its start and its end."""

    @asynccontextmanager
    async def open_app(redis_url: str | None = None) -> AsyncIterator[FastAPI]:
        app = create_app(database.async_url, TOKENS, redis_url=redis_url)
        async with app.router.lifespan_context(app):
            await ensure(app.state.resources.engine)
            yield app
        assert checked_out(app.state.resources.engine) == 0

    return open_app


@pytest.fixture
async def app(open_app: OpenApp) -> AsyncIterator[FastAPI]:
    async with open_app() as app:
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[Client]:
    """An editor whom no other test has."""
    async with client_of(app) as client:
        yield client
