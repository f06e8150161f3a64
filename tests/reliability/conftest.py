"""Fixtures for tests that run on each driver."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.backends import Backend, BackendName
from tests.support.drivers import DRIVERS


@pytest.fixture(params=list(DRIVERS))
def driver(request: pytest.FixtureRequest) -> str:
    """Each driver's name, in turn."""
    return str(request.param)


@pytest.fixture
def database(make_backend: Callable[[BackendName], Backend], driver: str) -> Backend:
    """A new database for the driver, without tables."""
    return make_backend(DRIVERS[driver][0])
