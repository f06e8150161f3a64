"""The drivers that a saver works with, and engines over them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.support.backends import Backend, BackendName

DRIVERS: dict[str, tuple[BackendName, str]] = {
    "aiosqlite": ("sqlite", "sqlite+aiosqlite"),
    "pysqlite": ("sqlite", "sqlite+pysqlite"),
    "asyncpg": ("postgresql", "postgresql+asyncpg"),
    "psycopg_async": ("postgresql", "postgresql+psycopg_async"),
    "psycopg": ("postgresql", "postgresql+psycopg"),
    "asyncmy": ("mariadb", "mysql+asyncmy"),
    "pymysql": ("mariadb", "mysql+pymysql"),
}
"""Each driver's database, and its scheme in URLs."""

ASYNC_DRIVERS = frozenset({"aiosqlite", "asyncpg", "psycopg_async", "asyncmy"})


def url_of(backend: Backend, driver: str) -> str:
    """The database's URL for a driver."""
    scheme = DRIVERS[driver][1]
    for url in (backend.async_url, backend.url):  # their options are those of one driver
        if url.startswith(f"{scheme}:"):
            return url
    return f"{scheme}:{backend.url.partition(':')[2]}"


def engine_of(backend: Backend, driver: str, **options: Any) -> Engine | AsyncEngine:
    """A new engine over a driver, disposed at the end of the test."""
    if driver not in ASYNC_DRIVERS:
        return backend.engine(**options)
    url = url_of(backend, driver)
    return backend.log.add_async(create_async_engine(url, **options))
