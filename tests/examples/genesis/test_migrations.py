"""The application's migrations, which bring the package's tables with them."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest
from sqlalchemy import inspect

import examples
from examples.genesis.migrations import upgrade
from langgraph_session_saver import migrate
from langgraph_session_saver.models import Base as PackageBase
from tests.support.backends import Backend
from tests.support.commands import Python

ROOT = Path(examples.__file__).parent.parent
ALEMBIC = ("-m", "alembic", "-c", "examples/genesis/migrations/alembic.ini")
OWN = {
    "alembic_version",
    "genesis_events",
    "genesis_flows",
    "genesis_stage_records",
    "genesis_stage_sessions",
    "novels",
}


def tables(backend: Backend) -> set[str]:
    return set(inspect(backend.outside).get_table_names())


def alembic(python: Python, backend: Backend, *arguments: str) -> str:
    env = {**os.environ, "DATABASE_URL": backend.async_url, "PYTHONPATH": str(ROOT)}
    ran = python.run(*ALEMBIC, *arguments, cwd=ROOT, env=env)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_an_upgrade_makes_the_tables_of_the_application_and_of_the_package(
    backend: Backend,
) -> None:
    asyncio.run(upgrade(backend.async_url))
    assert tables(backend) == OWN | set(PackageBase.metadata.tables)
    assert migrate.current(backend.outside) == migrate.head()


def test_an_upgrade_is_made_without_a_warning(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.run(upgrade(backend.async_url))
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []


def test_a_downgrade_drops_the_tables_of_the_application_alone(
    backend: Backend, python: Python
) -> None:
    alembic(python, backend, "upgrade", "head")
    alembic(python, backend, "downgrade", "base")
    assert tables(backend) - {"alembic_version"} == set(PackageBase.metadata.tables)
    alembic(python, backend, "upgrade", "head")
    assert tables(backend) >= OWN


def test_the_migrated_tables_are_those_of_the_models(backend: Backend, python: Python) -> None:
    asyncio.run(upgrade(backend.async_url))
    assert "No new upgrade operations detected" in alembic(python, backend, "check")


def test_an_upgrade_keeps_rows_of_a_database_that_the_package_has_used(backend: Backend) -> None:
    migrate.upgrade(backend.outside)
    with backend.outside.begin() as connection:
        connection.execute(PackageBase.metadata.tables["sessions"].insert(), {"id": "old"})
    asyncio.run(upgrade(backend.async_url))
    with backend.outside.connect() as connection:
        assert (
            connection.execute(PackageBase.metadata.tables["sessions"].select()).one().id == "old"
        )


def test_the_migration_command_brings_a_database_to_the_newest_revision(
    backend: Backend, python: Python
) -> None:
    env = {**os.environ, "DATABASE_URL": backend.async_url, "PYTHONPATH": str(ROOT)}
    ran = {
        name: python.run("-m", "examples.genesis.migrations", name, cwd=ROOT, env=env)
        for name in ("upgrade", "current")
    }
    assert [each.returncode for each in ran.values()] == [0, 0]
    assert ran["upgrade"].stdout == "✓ at revision 0001 (was base)\n"
    assert ran["current"].stdout == "✓ 0001 (head)\n"


def test_two_processes_that_upgrade_at_once_both_succeed(backend: Backend, python: Python) -> None:
    env = {**os.environ, "DATABASE_URL": backend.async_url, "PYTHONPATH": str(ROOT)}
    both = [python.start(*ALEMBIC, "upgrade", "head", cwd=ROOT, env=env) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert tables(backend) == OWN | set(PackageBase.metadata.tables)
