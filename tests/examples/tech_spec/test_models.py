"""The tables on every database: what it makes sure of whoever writes, and what it fills in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import inspect, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import selectinload

from examples.tech_spec.database import schemas_of
from examples.tech_spec.models import (
    SHARED,
    AgentErrorLog,
    Base,
    DesignJob,
    GeneratedTRDDocument,
    JobStatus,
    Role,
    TechConversation,
    TechResearch,
    TechSpecSession,
    derived_id,
)
from examples.web.database import reading, transaction
from examples.web.models import new_id
from tests.support.backends import Backend, Sql, run_sql

INDEXES = {
    "tech_spec_sessions": {
        "ix_tech_spec_sessions_design_job_id": ["design_job_id"],
        "ix_tech_spec_sessions_project_id": ["project_id"],
        "ix_tech_spec_sessions_status": ["status"],
        "ix_tech_spec_sessions_created_at": ["created_at"],
        "idx_session_status_created": ["status", "created_at"],
    },
    "tech_research": {
        "ix_tech_research_session_id": ["session_id"],
        "ix_tech_research_technology_category": ["technology_category"],
        "idx_research_session_category": ["session_id", "technology_category"],
    },
    "tech_conversations": {
        "ix_tech_conversations_session_id": ["session_id"],
        "ix_tech_conversations_timestamp": ["timestamp"],
        "idx_conversation_session_timestamp": ["session_id", "timestamp"],
    },
    "generated_trd_documents": {
        "ix_generated_trd_documents_session_id": ["session_id"],
        "ix_generated_trd_documents_quality_score": ["quality_score"],
    },
    "agent_error_logs": {
        "ix_agent_error_logs_session_id": ["session_id"],
        "ix_agent_error_logs_node": ["node"],
        "ix_agent_error_logs_recovered": ["recovered"],
        "idx_error_node_recovered": ["node", "recovered"],
    },
}

DESCENDING = {
    "sqlite": "SELECT sql AS ddl FROM sqlite_master WHERE name = 'idx_session_status_created'",
    "postgresql": "SELECT indexdef AS ddl FROM pg_indexes "
    "WHERE indexname = 'idx_session_status_created'",
    "mariadb": "SELECT collation AS ddl FROM information_schema.statistics WHERE table_schema = "
    "DATABASE() AND index_name = 'idx_session_status_created' AND column_name = 'created_at'",
}


@pytest.fixture
def sql(database: Backend) -> Sql:
    return lambda statement, **values: run_sql(database, statement, **values)


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[TechSpecSession]:
    """A session of a design job, with a row in each table that belongs to it."""
    project_id, job_id, session_id = new_id(), new_id(), new_id()
    session = TechSpecSession(id=session_id, project_id=project_id, design_job_id=job_id)
    session.research = [TechResearch(technology_category="email", gap_description="Which mail?")]
    session.conversation = [
        TechConversation(role=Role.AGENT, message="Which mail? 📮", details={"options": 4})
    ]
    session.documents = [GeneratedTRDDocument(trd_content="# Doc", version=1)]
    session.errors = [AgentErrorLog(node="research", error_type="OSError", message="gone")]
    async with transaction(engine) as orm:
        orm.add(DesignJob(id=job_id, project_id=project_id, status="completed"))
        await orm.flush()
        orm.add(session)
        await orm.flush()
        session.conversation[0].research_id = session.research[0].id
    yield session
    async with transaction(engine) as orm:
        await orm.delete(await orm.get_one(DesignJob, job_id))


def count(sql: Sql, session: TechSpecSession) -> list[int]:
    """How many rows of each table belong to the session."""
    query = "SELECT count(*) AS n FROM {} WHERE session_id = :id"
    return [sql(query.format(table), id=session.id)[0]["n"] for table in list(INDEXES)[1:]]


def test_the_seventeen_indexes_have_their_names_and_columns(database: Backend, sql: Sql) -> None:
    found = inspect(database.outside)
    for table, indexes in INDEXES.items():
        columns = {each["name"]: each for each in found.get_indexes(table)}
        for name, expected in indexes.items():
            assert [*columns[name]["column_names"]] == expected, name
    assert sum(len(indexes) for indexes in INDEXES.values()) == 17
    (ddl,) = sql(DESCENDING[database.name])
    assert ddl["ddl"] == "D" or "created_at DESC" in ddl["ddl"]


def test_the_models_have_nine_tables_of_which_four_are_anothers() -> None:
    schemas = [table.schema for table in Base.metadata.tables.values()]
    assert (schemas.count(None), schemas.count(SHARED)) == (5, 4)


async def test_rows_have_the_defaults_of_their_kind(session: TechSpecSession) -> None:
    assert (session.status, session.progress_percentage, session.session_data) == (
        JobStatus.PENDING,
        0,
        {},
    )
    assert session.created_at.utcoffset() == timedelta(0)
    (research,), (error,) = session.research, session.errors
    assert research.researched_options == []
    assert (error.retry_count, error.recovered) == (0, False)


async def test_what_belongs_to_a_session_is_read_with_it(
    engine: AsyncEngine, session: TechSpecSession
) -> None:
    whole = [
        selectinload(each)
        for each in (
            TechSpecSession.design_job,
            TechSpecSession.research,
            TechSpecSession.conversation,
            TechSpecSession.documents,
            TechSpecSession.errors,
        )
    ]
    async with reading(engine) as orm:
        found = await orm.get_one(TechSpecSession, session.id, options=whole)
    assert found.design_job.project_id == session.project_id
    assert found.conversation[0].details == {"options": 4}
    assert found.conversation[0].research_id == found.research[0].id
    assert found.documents[0].session_id == found.errors[0].session_id == session.id


async def test_a_session_is_joined_to_its_job_across_the_schemas(
    engine: AsyncEngine, session: TechSpecSession
) -> None:
    query = select(TechSpecSession.id, DesignJob.status).join(TechSpecSession.design_job)
    async with reading(engine) as orm:
        rows = await orm.execute(query.where(TechSpecSession.id == session.id))
        assert rows.one() == (session.id, "completed")


async def test_a_session_that_is_deleted_takes_all_that_it_owns_along(
    engine: AsyncEngine, session: TechSpecSession, sql: Sql
) -> None:
    assert count(sql, session) == [1, 1, 1, 1]
    async with transaction(engine) as orm:
        await orm.delete(await orm.get_one(TechSpecSession, session.id))
    assert count(sql, session) == [0, 0, 0, 0]


async def test_a_design_job_that_is_deleted_takes_its_sessions_along(
    engine: AsyncEngine, session: TechSpecSession, sql: Sql, database: Backend
) -> None:
    place = schemas_of(database.url)[SHARED]
    jobs = "design_jobs" if place is None else f"{place}.design_jobs"
    on = "PRAGMA foreign_keys = ON" if database.name == "sqlite" else "SELECT 1"
    with database.outside.begin() as connection:
        connection.exec_driver_sql(on)
        connection.exec_driver_sql(f"DELETE FROM {jobs} WHERE id = '{session.design_job_id}'")
    assert sql("SELECT id FROM tech_spec_sessions WHERE id = :id", id=session.id) == []
    assert count(sql, session) == [0, 0, 0, 0]
    async with transaction(engine) as orm:  # which the fixture deletes
        orm.add(DesignJob(id=session.design_job_id, project_id=new_id(), status="completed"))


async def test_research_that_is_deleted_leaves_what_was_said_of_it(
    engine: AsyncEngine, session: TechSpecSession, sql: Sql
) -> None:
    async with transaction(engine) as orm:
        await orm.delete(await orm.get_one(TechResearch, session.research[0].id))
    said = "SELECT research_id FROM tech_conversations WHERE session_id = :id"
    assert sql(said, id=session.id) == [{"research_id": None}]


async def test_a_session_needs_a_design_job(engine: AsyncEngine) -> None:
    async with transaction(engine) as orm:
        orm.add(TechSpecSession(project_id=new_id(), design_job_id=new_id()))
        with pytest.raises(IntegrityError):
            await orm.flush()
        await orm.rollback()


async def test_a_version_of_a_document_is_there_once(
    engine: AsyncEngine, session: TechSpecSession
) -> None:
    async with transaction(engine) as orm:
        orm.add(GeneratedTRDDocument(session_id=session.id, trd_content="# Other", version=1))
        with pytest.raises(IntegrityError):
            await orm.flush()
        await orm.rollback()


@pytest.mark.parametrize(
    "change",
    [
        "tech_spec_sessions SET status = 'lost'",
        "tech_spec_sessions SET progress_percentage = 100.5",
        "tech_spec_sessions SET progress_percentage = -1",
        "tech_conversations SET role = 'tool'",
        "generated_trd_documents SET quality_score = 101",
        "agent_error_logs SET retry_count = -1",
    ],
)
@pytest.mark.usefixtures("session")
async def test_the_database_refuses_a_value_that_is_not_allowed(change: str, sql: Sql) -> None:
    # MariaDB calls a broken CHECK an operational error.
    with pytest.raises(DBAPIError, match=r"(?i)check|constraint"):
        sql(f"UPDATE {change}")


def test_the_id_of_a_projected_row_hangs_on_what_it_is_derived_from() -> None:
    assert derived_id("a", "document", 1) == derived_id("a", "document", 1)
    assert derived_id("a", "document", 1) != derived_id("a", "document", 2)
    assert derived_id("a", "document", 1) != derived_id("b", "document", 1)
