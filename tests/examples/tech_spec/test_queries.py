"""Many sessions on every database: they are made in bulk, and each query finds its index."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

import examples
from examples.tech_spec.database import make_engine
from examples.tech_spec.models import (
    AgentErrorLog,
    Base,
    DesignJob,
    GeneratedTRDDocument,
    TechConversation,
    TechResearch,
    TechSpecSession,
)
from examples.tech_spec.seeding import SHARES, Maker, seed
from examples.web.database import reading
from tests.examples.tech_spec.benchmark import (
    FIGURES,
    KINDS,
    QUERIES,
    Query,
    indexes_of,
    measure,
    plan_of,
    session_ids,
    table_of,
)
from tests.support.backends import Backend
from tests.support.commands import Python

ROOT = Path(examples.__file__).parent.parent
SESSIONS = 1_000
MODELS: tuple[type[Base], ...] = (
    DesignJob,
    TechSpecSession,
    TechResearch,
    TechConversation,
    GeneratedTRDDocument,
    AgentErrorLog,
)


@pytest.fixture(scope="module")
def seeded(database: Backend) -> Backend:
    """The database with a thousand sessions."""

    async def fill() -> None:
        engine = make_engine(database.async_url)
        await seed(engine, SESSIONS)
        await engine.dispose()

    asyncio.run(fill())
    return database


@pytest.mark.usefixtures("seeded")
async def test_sessions_are_added_with_all_that_belongs_to_them(engine: AsyncEngine) -> None:
    async with reading(engine) as orm:
        jobs, sessions, research, conversation, documents, errors = [
            (await orm.execute(select(func.count()).select_from(model))).scalar_one()
            for model in MODELS
        ]
        by_status = select(TechSpecSession.status, func.count()).group_by(TechSpecSession.status)
        found = {row.status for row in await orm.execute(by_status)}
    assert (jobs, sessions) == (SESSIONS // 4, SESSIONS)
    assert research == conversation / 2 > 4.5 * SESSIONS
    assert documents > 0.85 * SESSIONS
    assert 0 < errors < 0.3 * SESSIONS
    assert found == SHARES.keys()


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
@pytest.mark.usefixtures("seeded")
async def test_a_query_uses_its_index(engine: AsyncEngine, query: Query) -> None:
    async with engine.connect() as connection:
        if connection.dialect.name == "postgresql":  # which would sort so few rows
            await connection.exec_driver_sql("SET enable_sort = off")
        (session_id,) = await session_ids(connection, 1)
        plan = await plan_of(connection, query.statement(session_id))
    assert (query.index or "primary key") in indexes_of(plan), plan


@pytest.mark.usefixtures("seeded")
async def test_the_benchmark_tells_time_and_index_of_each_query(engine: AsyncEngine) -> None:
    figures = await measure(engine, runs=20)
    assert figures.keys() == {query.name for query in QUERIES}
    assert all(0 < each["median"] <= each["most"] for each in figures.values())
    assert all(each["indexes"] for each in figures.values())


def test_the_readme_has_the_figures_of_the_benchmark_on_every_database() -> None:
    figures = json.loads(FIGURES.read_text())
    assert tuple(figures) == KINDS
    assert table_of(figures) in (ROOT / "examples/tech_spec/README.md").read_text()


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_the_figures_meet_what_is_expected_of_a_query_with_its_index(query: Query) -> None:
    for kind, figures in json.loads(FIGURES.read_text()).items():
        figure = figures[query.name]
        assert figure["most"] < query.expected_ms, kind
        assert (query.index or "primary key") in figure["indexes"], kind


def test_the_same_seed_gives_the_same_rows() -> None:
    assert Maker(1).sessions(8) == Maker(1).sessions(8)
    assert Maker(1).sessions(8) != Maker(2).sessions(8)


def test_the_commands_fill_and_measure_a_database(tmp_path: Path, python: Python) -> None:
    url = f"sqlite:///{tmp_path / 'spec.db'}"
    env = {**os.environ, "DATABASE_URL": url, "PYTHONPATH": str(ROOT)}

    def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        ran = python.run("-m", module, *arguments, cwd=ROOT, env=env)
        assert ran.returncode == 0, ran.stderr
        return ran

    assert "100/100" in run("examples.tech_spec.seeding", "--sessions", "100").stderr
    small = ("--sessions", "200", "--runs", "20", "--only", "SQLite")
    told = run("tests.examples.tech_spec.benchmark", *small).stdout
    assert told.startswith("| query | expected | SQLite | index |\n")
    assert Counter(told)["`"] == 8
