"""The agent's migrations, which bring the package's tables with them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import inspect

import examples
from examples.tech_spec.database import schemas_of
from examples.tech_spec.migrations import upgrade
from examples.tech_spec.models import SHARED, Base
from langgraph_session_saver import migrate
from langgraph_session_saver.models import Base as PackageBase
from tests.examples.tech_spec.conftest import drop_shared
from tests.support.backends import Backend, run_sql
from tests.support.commands import Python

ROOT = Path(examples.__file__).parent.parent
ALEMBIC = ("-m", "alembic", "-c", "examples/tech_spec/migrations/alembic.ini")
OWN = {table.name for table in Base.metadata.tables.values() if table.schema is None}
DESIGNS = {table.name for table in Base.metadata.tables.values() if table.schema == SHARED}


@pytest.fixture
def empty(backend: Backend) -> Iterator[Backend]:
    yield backend
    drop_shared(backend)


def tables(backend: Backend) -> set[str]:
    """The tables of both schemas."""
    found = inspect(backend.outside)
    place = schemas_of(backend.url)[SHARED]
    names = {*found.get_table_names(), *found.get_table_names(schema=place)}
    return names - {"alembic_version"}


def alembic(python: Python, backend: Backend, *arguments: str) -> str:
    env = {**os.environ, "DATABASE_URL": backend.async_url, "PYTHONPATH": str(ROOT)}
    ran = python.run(*ALEMBIC, *arguments, cwd=ROOT, env=env)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_an_upgrade_makes_the_tables_of_both_agents_and_of_the_package(empty: Backend) -> None:
    asyncio.run(upgrade(empty.async_url))
    assert tables(empty) == OWN | DESIGNS | set(PackageBase.metadata.tables)
    assert migrate.current(empty.outside) == migrate.head()


def test_the_designs_are_in_a_schema_of_their_own_where_there_are_schemas(empty: Backend) -> None:
    asyncio.run(upgrade(empty.async_url))
    places = {
        "sqlite": None,
        "postgresql": "shared",
        "mariadb": f"{empty.outside.url.database}_shared",
    }
    assert {*inspect(empty.outside).get_table_names(schema=places[empty.name])} >= DESIGNS
    key = inspect(empty.outside).get_foreign_keys("tech_spec_sessions")[0]
    assert (key["referred_schema"], key["referred_table"]) == (places[empty.name], "design_jobs")


def test_a_downgrade_drops_the_agents_own_tables_alone(empty: Backend, python: Python) -> None:
    asyncio.run(upgrade(empty.async_url))
    alembic(python, empty, "downgrade", "base")
    assert tables(empty) == DESIGNS | set(PackageBase.metadata.tables)
    alembic(python, empty, "upgrade", "head")
    assert tables(empty) >= OWN


def test_the_migrated_tables_are_those_of_the_models(empty: Backend, python: Python) -> None:
    asyncio.run(upgrade(empty.async_url))
    assert "No new upgrade operations detected" in alembic(python, empty, "check")


def test_the_tables_of_a_design_agent_that_was_here_before_are_left_alone(
    empty: Backend, python: Python
) -> None:
    asyncio.run(upgrade(empty.async_url))
    alembic(python, empty, "downgrade", "base")
    place = schemas_of(empty.url)[SHARED]
    name = "design_jobs" if place is None else f"{place}.design_jobs"
    run_sql(empty, f"ALTER TABLE {name} ADD COLUMN title VARCHAR(80)")
    asyncio.run(upgrade(empty.async_url))
    assert run_sql(empty, f"SELECT title FROM {name}") == []
    assert "No new upgrade operations detected" in alembic(python, empty, "check")


def test_two_processes_that_upgrade_at_once_both_succeed(empty: Backend, python: Python) -> None:
    env = {**os.environ, "DATABASE_URL": empty.async_url, "PYTHONPATH": str(ROOT)}
    both = [python.start(*ALEMBIC, "upgrade", "head", cwd=ROOT, env=env) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert tables(empty) >= OWN | DESIGNS
