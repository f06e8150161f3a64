"""The drivers that a saver works with, and engines over them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from langgraph_session_saver import SessionSaver
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


@asynccontextmanager
async def saver_on(
    backend: Backend,
    driver: str,
    *,
    is_own: bool,
    port: int | None = None,
    pool_size: int = 16,
    **options: Any,
) -> AsyncIterator[SessionSaver]:
    """A saver over a driver, which is closed at the end.

    Args:
        backend: The database.
        driver: The driver.
        is_own: Whether the saver makes its engine; else it gets one.
        port: Of a proxy on this machine, to reach the database through.
        pool_size: How many connections an engine that the saver gets may have; its own has 16.
        options: Of the saver.
    """
    url = make_url(url_of(backend, driver))
    if port is not None:
        url = url.set(host="127.0.0.1", port=port)
    if is_own:
        async with SessionSaver.from_conn_string(url, **options) as saver:
            yield saver
    elif driver in ASYNC_DRIVERS:
        engine = create_async_engine(url, pool_size=pool_size, max_overflow=0)
        yield SessionSaver(engine, **options)
        await engine.dispose()
    else:
        plain = create_engine(url, pool_size=pool_size, max_overflow=0)
        yield SessionSaver(plain, **options)
        plain.dispose()
