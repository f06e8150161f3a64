"""A migrated database of each kind, which the tests of a module share: each has its own job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.tech_spec.database import make_engine, schemas_of
from examples.tech_spec.migrations import upgrade
from examples.tech_spec.models import SHARED
from tests.conftest import MakeBackend
from tests.examples.tech_spec.teams import install_designs
from tests.support.backends import BACKEND_NAMES, Backend, checked_out


@pytest.fixture(scope="module", params=BACKEND_NAMES)
def database(
    request: pytest.FixtureRequest, make_lasting_backend: MakeBackend
) -> Iterator[Backend]:
    """A database with the agent's tables and the package's, on each backend in turn."""
    backend = make_lasting_backend(request.param)
    asyncio.run(upgrade(backend.async_url))
    yield backend
    drop_shared(backend)


def drop_shared(backend: Backend) -> None:
    """Drop the database that holds the design agent's tables on MariaDB."""
    if backend.name == "mariadb":
        with backend.outside.begin() as connection:
            connection.execute(text("SET foreign_key_checks = 0"))
            connection.execute(text(f"DROP DATABASE {schemas_of(backend.url)[SHARED]}"))


@pytest.fixture(scope="module")
def designs(database: Backend) -> None:
    """The fixtures' designs are in the database."""
    asyncio.run(install_designs(database.async_url))


@pytest.fixture
async def engine(database: Backend) -> AsyncIterator[AsyncEngine]:
    """The agent's engine. Ends by asserting that no connection of it is checked out."""
    engine = make_engine(database.async_url)
    yield engine
    assert checked_out(engine) == 0
    await engine.dispose()
