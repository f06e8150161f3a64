"""Fills the agent's tables with many jobs, for development and measurements.

    python -m examples.tech_spec.seeding --sessions 100000 --url postgresql://localhost/spec

Each thousand sessions are a transaction of bulk inserts.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.tech_spec import models
from examples.tech_spec.catalogue import load
from examples.tech_spec.database import DATABASE_OPTION
from examples.tech_spec.migrations import migrated
from examples.tech_spec.models import Base, JobStatus, Role, Stage
from examples.web.database import transaction

BATCH = 1000

SHARES = {
    JobStatus.COMPLETED: 85,
    JobStatus.FAILED: 4,
    JobStatus.PAUSED: 5,
    JobStatus.IN_PROGRESS: 5,
    JobStatus.PENDING: 1,
}
"""Per cent of the sessions: most jobs are done."""

START = datetime(2025, 1, 1, tzinfo=UTC)

Rows = defaultdict[type[Base], list[dict[str, Any]]]


class Maker:
    """Makes the rows of sessions from random numbers: the same ones for the same seed."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)

    def sessions(self, count: int) -> Rows:
        """The rows of some sessions; four of them have the same design job."""
        rows: Rows = defaultdict(list)  # what others refer to comes first
        for number in range(count):
            if number % 4 == 0:
                self._add_job(rows)
            self._add_session(rows)
        return rows

    def _id(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))

    def _add_job(self, rows: Rows) -> None:
        at = START + timedelta(seconds=self._random.randrange(300 * 86400))
        rows[models.DesignJob].append(
            {"id": self._id(), "project_id": self._id(), "status": "completed", "created_at": at,
             "completed_at": at + timedelta(days=3)}
        )  # fmt: skip

    def _add_session(self, rows: Rows) -> None:
        job = rows[models.DesignJob][-1]
        (status,) = self._random.choices([*SHARES], [*SHARES.values()])
        at = job["completed_at"] + timedelta(seconds=self._random.randrange(30 * 86400))
        is_over = status in (JobStatus.COMPLETED, JobStatus.FAILED)
        session_id, done = self._id(), at + timedelta(minutes=9)
        rows[models.TechSpecSession].append(
            {"id": session_id, "project_id": job["project_id"], "design_job_id": job["id"],
             "user_id": f"user-{self._random.randrange(5000)}", "status": status,
             "current_stage": Stage(status) if is_over else Stage.AWAIT_DECISIONS,
             "progress_percentage": 100 if is_over else 60, "session_data": {"completeness": 90},
             "created_at": at, "updated_at": done, "completed_at": done if is_over else None}
        )  # fmt: skip
        if status is not JobStatus.PENDING:
            self._add_children(rows, session_id, at, is_over=is_over)

    def _add_children(self, rows: Rows, session_id: str, at: datetime, *, is_over: bool) -> None:
        for place, category in enumerate(self._random.sample([*load()], 5)):
            names = [option.name for option in load()[category].options]
            chosen, asked = names[0], at + timedelta(minutes=1 + place)
            research = {
                "id": self._id(), "session_id": session_id, "technology_category": category,
                "gap_description": f"The PRD names no technology for {category.label}.",
                "researched_options": [{"name": name, "score": 50} for name in names],
                "selected_technology": chosen if is_over else None,
                "decision_timestamp": asked if is_over else None, "created_at": asked,
            }  # fmt: skip
            rows[models.TechResearch].append(research)
            for role, said in ((Role.AGENT, load()[category].question), (Role.USER, chosen)):
                asked += timedelta(seconds=20)
                rows[models.TechConversation].append(
                    {"id": self._id(), "session_id": session_id, "research_id": research["id"],
                     "role": role, "message": said, "message_type": "decision",
                     "details": {"category": category}, "timestamp": asked}
                )  # fmt: skip
        if is_over:
            content = "# Requirements\n" + "The system keeps what it was told.\n" * 40
            rows[models.GeneratedTRDDocument].append(
                {"id": self._id(), "session_id": session_id, "trd_content": content, "version": 1,
                 "quality_score": self._random.uniform(80, 100), "created_at": at}
            )  # fmt: skip
        if self._random.random() < 0.2:
            rows[models.AgentErrorLog].append(
                {"id": self._id(), "session_id": session_id, "retry_count": 1, "created_at": at,
                 "node": self._random.choice(["research", "write", "validate"]),
                 "error_type": "TimeoutError", "message": "no answer within 30 s",
                 "recovered": self._random.random() < 0.9, "recovery_strategy": "retry"}
            )  # fmt: skip


async def seed(engine: AsyncEngine, sessions: int, after: Callable[[int], object] = int) -> None:
    """Add sessions with all that belongs to them, and have the database count its rows.

    Args:
        engine: The agent's engine.
        sessions: How many.
        after: Is called after each transaction, with the sessions that it has added.
    """
    maker = Maker()
    for start in range(0, sessions, BATCH):
        size = min(BATCH, sessions - start)
        rows = maker.sessions(size)
        async with transaction(engine) as orm:
            for model, some in rows.items():
                await orm.execute(insert(model), some)
        after(size)
    tables = ", ".join(name for name, table in Base.metadata.tables.items() if not table.schema)
    is_mysql = engine.dialect.name in {"mysql", "mariadb"}
    async with transaction(engine) as orm:
        await orm.execute(text(f"ANALYZE TABLE {tables}" if is_mysql else "ANALYZE"))


def main(
    sessions: Annotated[int, typer.Option(min=1, help="How many to add.")] = 10_000,
    *,
    url: Annotated[str, DATABASE_OPTION],
) -> None:
    """Add sessions with research, conversations, documents and errors."""
    asyncio.run(_migrate_and_seed(url, sessions))


async def _migrate_and_seed(url: str, sessions: int) -> None:
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("sessions", total=sessions)
        async with migrated(url) as engine:
            await seed(engine, sessions, lambda done: bar.advance(task, done))


if __name__ == "__main__":
    typer.run(main)
