"""Measures the agent's queries, and shows by EXPLAIN which index each one uses.

    python -m tests.examples.tech_spec.benchmark --write

It fills a new database of each kind with 100,000 sessions, on a file and on servers of its own,
and prints a table in Markdown. A time is what the application waits for all rows, with its own
driver, over one connection, for another id each time. `--write` keeps the figures in
`figures.json`, with which a test compares the table of the example's README.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Annotated, Any, TypedDict

import typer
from sqlalchemy import URL, Select, make_url, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from examples.tech_spec.database import schemas_of
from examples.tech_spec.migrations import migrated
from examples.tech_spec.models import (
    DesignJob,
    JobStatus,
    TechConversation,
    TechResearch,
    TechSpecSession,
)
from examples.tech_spec.seeding import seed
from tests.support.servers import ServerPark

RUNS = 500

FIGURES = Path(__file__).parent / "figures.json"

KINDS = ("SQLite", "PostgreSQL", "MariaDB")


@dataclass(frozen=True)
class Query:
    """A question that is asked often, and what is expected of it."""

    name: str
    expected_ms: float
    statement: Callable[[str], Any]
    """For the id of a session."""
    index: str | None
    """The named index that answers it; None is the primary key."""


_SESSION = TechSpecSession
_LISTED = (_SESSION.id, _SESSION.project_id, _SESSION.status, _SESSION.created_at)

QUERIES = (
    Query(
        "a session by id", 5,
        lambda session_id: select(*_SESSION.__table__.columns).where(_SESSION.id == session_id),
        None,
    ),
    Query(
        "the newest 20 sessions of a status", 10,
        lambda _: select(*_LISTED).where(_SESSION.status == JobStatus.PAUSED)
        .order_by(_SESSION.created_at.desc()).limit(20),
        "idx_session_status_created",
    ),
    Query(
        "the research of a session", 10,
        lambda session_id: select(*TechResearch.__table__.columns)
        .where(TechResearch.session_id == session_id).order_by(TechResearch.technology_category),
        "idx_research_session_category",
    ),
    Query(
        "the newest 50 messages of a session", 20,
        lambda session_id: select(*TechConversation.__table__.columns)
        .where(TechConversation.session_id == session_id)
        .order_by(TechConversation.timestamp.desc()).limit(50),
        "idx_conversation_session_timestamp",
    ),
    Query(
        "the newest 20 sessions in progress, with their design jobs", 50,
        lambda _: select(*_LISTED, DesignJob.status.label("design_status"))
        .join(_SESSION.design_job).where(_SESSION.status == JobStatus.IN_PROGRESS)
        .order_by(_SESSION.created_at.desc()).limit(20),
        "idx_session_status_created",
    ),
)  # fmt: skip

EXPLAIN = {"sqlite": "EXPLAIN QUERY PLAN"}

INDEX = re.compile(r"\b(?:ix|idx)_\w+|\bsqlite_autoindex_\w+_1\b|\b\w+_pkey\b|\bPRIMARY\b")
"""The name of an index in a plan."""


class Figure(TypedDict):
    """What was measured of a query on a database."""

    indexes: list[str]
    """By name, in the plan's order; `primary key` is that of a table."""
    median: float
    """In milliseconds, as the next one."""
    most: float
    """The 95th percentile."""


Figures = dict[str, dict[str, Figure]]
"""By kind of database, and by name of query."""


async def plan_of(connection: AsyncConnection, query: Select[Any]) -> str:
    """What the database says it would do, in a line; not what it might have done."""
    compiled = query.compile(
        dialect=connection.dialect,
        schema_translate_map=schemas_of(connection.engine.url),
        render_schema_translate=True,
        compile_kwargs={"literal_binds": True},
    )
    explain = EXPLAIN.get(connection.dialect.name, "EXPLAIN")
    rows = (await connection.exec_driver_sql(f"{explain} {compiled}")).mappings()
    told = ([str(row[key]).strip() for key in row if key != "possible_keys"] for row in rows)
    return "; ".join(" ".join(line) for line in told)


def indexes_of(plan: str) -> list[str]:
    """The indexes that a plan uses."""
    found = (name if name.startswith("i") else "primary key" for name in INDEX.findall(plan))
    return [*dict.fromkeys(found)]


async def session_ids(connection: AsyncConnection, count: int) -> list[str]:
    """Some sessions, that are far apart."""
    every = await connection.scalars(select(TechSpecSession.id).order_by(TechSpecSession.id))
    return random.Random(0).choices(every.all(), k=count)


async def times_of(connection: AsyncConnection, query: Query, ids: list[str]) -> list[float]:
    """The milliseconds of each run, after as many for warming up."""
    times = []
    for session_id in ids + ids:
        statement = query.statement(session_id)
        start = perf_counter()
        (await connection.execute(statement)).all()
        times.append((perf_counter() - start) * 1000)
    return times[len(ids) :]


async def measure(engine: AsyncEngine, runs: int = RUNS) -> dict[str, Figure]:
    """Measure each query on a database."""
    figures = {}
    async with engine.connect() as connection:
        ids = await session_ids(connection, runs)
        for query in QUERIES:
            times = await times_of(connection, query, ids)
            plan = await plan_of(connection, query.statement(ids[0]))
            most = quantiles(times, n=20)[-1]
            figures[query.name] = Figure(
                indexes=indexes_of(plan), median=round(median(times), 2), most=round(most, 2)
            )
    return figures


def table_of(figures: Figures) -> str:
    """The table in Markdown: for each database the median, and within which time 95 % were."""
    lines = [
        f"| query | expected | {' | '.join(figures)} | index |",
        "|---|---" + "|---" * len(figures) + "|---|",
    ]
    for query in QUERIES:
        found = {kind: each[query.name] for kind, each in figures.items()}
        cells = [f"{each['median']:.2f} ({each['most']:.2f}) ms" for each in found.values()]
        lines.append(
            f"| {query.name} | < {query.expected_ms:g} ms | {' | '.join(cells)} | {_used(found)} |"
        )
    return "\n".join(lines)


def _used(found: dict[str, Figure]) -> str:
    """The indexes, once if they are the same on all databases."""
    told = {
        kind: ", ".join(f"`{name}`" if "_" in name else name for name in each["indexes"]) or "none"
        for kind, each in found.items()
    }
    if len({*told.values()}) == 1:
        return next(iter(told.values()))
    return "; ".join(f"{kind}: {names}" for kind, names in told.items())


# -- the command -----------------------------------------------------------------------------------


@contextmanager
def new_database(kind: str) -> Iterator[URL]:
    """A new database, gone afterwards; the application chooses the driver."""
    with ExitStack() as stack:
        if kind == "SQLite":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            yield URL.create("sqlite", database=f"{folder}/tech_spec.db")
            return
        park = ServerPark()
        stack.callback(park.close)
        server = park.get(kind.lower())
        server.create_database("tech_spec")
        yield make_url(server.url("tech_spec", asynchronous=True)).set(drivername=server.scheme)


async def fill_and_measure(url: URL, sessions: int, runs: int) -> dict[str, Figure]:
    """Fill a database with sessions, and measure."""
    async with migrated(url) as engine:
        await seed(engine, sessions)
        return await measure(engine, runs)


def main(
    sessions: Annotated[int, typer.Option(min=100, help="How many there are to be.")] = 100_000,
    runs: Annotated[int, typer.Option(min=20, help="How often each query is run.")] = RUNS,
    only: Annotated[list[str], typer.Option(help="A database.")] = [*KINDS],  # noqa: B006
    *,
    write: Annotated[bool, typer.Option("--write", help="Keep the figures.")] = False,
) -> None:
    """Measure five queries on new databases, and print a table."""
    figures: Figures = {}
    for kind in only:
        typer.echo(f"{kind}: {sessions:,} sessions", err=True)
        with new_database(kind) as url:
            figures[kind] = asyncio.run(fill_and_measure(url, sessions, runs))
    typer.echo(table_of(figures))
    if write:
        FIGURES.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
