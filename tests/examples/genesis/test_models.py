"""The tables on every database: what it makes sure of whoever writes, and what it fills in."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm.exc import StaleDataError

from examples.genesis.models import (
    GenesisFlow,
    GenesisStage,
    GenesisStageRecord,
    GenesisStageSession,
    GenesisStatus,
    Novel,
    SessionKind,
    StageStatus,
)
from examples.web.database import reading, transaction
from examples.web.models import new_id, utc_now
from langgraph_session_saver.models import Session
from tests.support.backends import Backend, Sql, run_sql


@pytest.fixture
def sql(database: Backend) -> Sql:
    return lambda statement, **values: run_sql(database, statement, **values)


@pytest.fixture
async def flow(engine: AsyncEngine, novel: Novel) -> GenesisFlow:
    async with transaction(engine) as orm:
        flow = GenesisFlow(novel_id=novel.id)
        orm.add(flow)
    return flow


@pytest.fixture
async def stage(engine: AsyncEngine, flow: GenesisFlow) -> GenesisStageRecord:
    async with transaction(engine) as orm:
        stage = GenesisStageRecord(flow_id=flow.id, stage=GenesisStage.INITIAL_PROMPT)
        orm.add(stage)
    return stage


async def bound(orm: AsyncSession, stage: GenesisStageRecord, **values: object) -> str:
    """The id of a new session that is bound to the stage."""
    session = Session()
    orm.add(session)
    await orm.flush()
    orm.add(GenesisStageSession(stage_id=stage.id, session_id=session.id, **values))
    await orm.flush()
    return session.id


async def test_rows_have_the_defaults_of_their_kind(
    flow: GenesisFlow, stage: GenesisStageRecord
) -> None:
    assert (flow.status, flow.current_stage, flow.version, flow.state) == (
        GenesisStatus.IN_PROGRESS,
        GenesisStage.INITIAL_PROMPT,
        1,
        {},
    )
    assert (stage.status, stage.config, stage.result, stage.iteration_count, stage.metrics) == (
        StageStatus.RUNNING,
        {},
        None,
        0,
        {},
    )


async def test_rows_are_created_read_changed_and_deleted(
    engine: AsyncEngine, stage: GenesisStageRecord
) -> None:
    async with transaction(engine) as orm:
        session_id = await bound(orm, stage, session_kind=SessionKind.REVIEW)
        (await orm.get_one(GenesisStageRecord, stage.id)).config = {"genre": "drame à clés 🗝"}
    async with reading(engine) as orm:
        found = await orm.get_one(GenesisStageRecord, stage.id)
        assert found.config == {"genre": "drame à clés 🗝"}
        assert found.started_at == stage.started_at
        assert found.started_at.utcoffset() == timedelta(0)
    async with transaction(engine) as orm:
        await orm.delete(await orm.get_one(GenesisStageRecord, stage.id))
    async with reading(engine) as orm:
        assert await orm.get(GenesisStageRecord, stage.id) is None
        assert await orm.get(Session, session_id) is not None


async def test_a_novel_that_is_deleted_takes_all_but_the_sessions_along(
    engine: AsyncEngine, novel: Novel, stage: GenesisStageRecord, sql: Sql
) -> None:
    async with transaction(engine) as orm:
        session_id = await bound(orm, stage)
        await orm.delete(await orm.get_one(Novel, novel.id))
    assert sql("SELECT id FROM genesis_flows WHERE novel_id = :id", id=novel.id) == []
    assert sql("SELECT id FROM genesis_stage_records WHERE id = :id", id=stage.id) == []
    assert sql("SELECT id FROM genesis_stage_sessions WHERE stage_id = :id", id=stage.id) == []
    assert sql("SELECT id FROM sessions WHERE id = :id", id=session_id) == [{"id": session_id}]


async def test_a_session_that_is_deleted_leaves_its_stage(
    engine: AsyncEngine, stage: GenesisStageRecord, sql: Sql
) -> None:
    async with transaction(engine) as orm:
        session_id = await bound(orm, stage)
        await orm.delete(await orm.get_one(Session, session_id))
    assert sql("SELECT id FROM genesis_stage_sessions WHERE stage_id = :id", id=stage.id) == []


async def test_the_database_refuses_a_second_flow_of_a_novel(
    engine: AsyncEngine, flow: GenesisFlow
) -> None:
    async with transaction(engine) as orm:
        orm.add(GenesisFlow(novel_id=flow.novel_id))
        with pytest.raises(IntegrityError):
            await orm.flush()
        await orm.rollback()


async def test_the_database_refuses_to_bind_a_session_twice_to_a_stage(
    engine: AsyncEngine, stage: GenesisStageRecord
) -> None:
    async with transaction(engine) as orm:
        session_id = await bound(orm, stage)
        orm.add(GenesisStageSession(stage_id=stage.id, session_id=session_id))
        with pytest.raises(IntegrityError):
            await orm.flush()
        await orm.rollback()


async def test_the_database_refuses_a_second_primary_session_in_plain_sql(
    engine: AsyncEngine, stage: GenesisStageRecord, sql: Sql
) -> None:
    async with transaction(engine) as orm:
        await bound(orm, stage, is_primary=True)
        second = await bound(orm, stage)
        await bound(orm, stage)  # as many others as one likes
        orm.add(Session(id=(unbound := new_id())))
    chosen = "UPDATE genesis_stage_sessions SET is_primary = :yes WHERE session_id = :id"
    with pytest.raises(IntegrityError):
        sql(chosen, yes=True, id=second)
    with pytest.raises(IntegrityError):
        sql(
            "INSERT INTO genesis_stage_sessions (id, stage_id, session_id, status, is_primary, "
            "session_kind, created_at, updated_at) SELECT :new, stage_id, :session, status, "
            "is_primary, session_kind, created_at, updated_at FROM genesis_stage_sessions "
            "WHERE stage_id = :stage AND is_primary",
            new=new_id(),
            session=unbound,
            stage=stage.id,
        )
    primary = "SELECT count(*) AS n FROM genesis_stage_sessions WHERE stage_id = :id AND is_primary"
    assert sql(primary, id=stage.id) == [{"n": 1}]


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("genesis_flows", "status"),
        ("genesis_flows", "current_stage"),
        ("genesis_stage_records", "stage"),
        ("genesis_stage_records", "status"),
        ("genesis_stage_sessions", "status"),
        ("genesis_stage_sessions", "session_kind"),
    ],
)
async def test_the_database_refuses_a_value_that_its_enum_does_not_have(
    engine: AsyncEngine, stage: GenesisStageRecord, sql: Sql, table: str, column: str
) -> None:
    async with transaction(engine) as orm:
        await bound(orm, stage)
    # MariaDB calls a broken CHECK an operational error.
    with pytest.raises(DBAPIError, match=r"(?i)check|constraint"):
        sql(f"UPDATE {table} SET {column} = 'LOST'")


async def test_a_flow_that_was_changed_meanwhile_is_not_overwritten(
    engine: AsyncEngine, flow: GenesisFlow
) -> None:
    async with reading(engine) as orm:
        stale = await orm.get_one(GenesisFlow, flow.id)
    async with transaction(engine) as orm:
        (await orm.get_one(GenesisFlow, flow.id)).status = GenesisStatus.PAUSED
    async with transaction(engine) as orm:
        orm.add(stale)
        stale.status = GenesisStatus.ABANDONED
        with pytest.raises(StaleDataError):
            await orm.flush()
        await orm.rollback()


@pytest.mark.parametrize(
    "ahead",
    [timedelta(days=1), timedelta(days=1, microseconds=41), timedelta(days=-1)],
    ids=["at the end of a second of tomorrow", "tomorrow", "yesterday"],
)
async def test_each_change_has_a_later_time_even_if_a_clock_was_ahead(
    engine: AsyncEngine, stage: GenesisStageRecord, ahead: timedelta
) -> None:
    before = utc_now().replace(microsecond=999_999) + ahead
    times = [before]
    async with transaction(engine) as orm:
        changed = update(GenesisStageRecord).where(GenesisStageRecord.id == stage.id)
        await orm.execute(changed.values(updated_at=before))
        for number in range(3):
            await orm.execute(changed.values(iteration_count=number))
            row = await orm.get_one(GenesisStageRecord, stage.id, populate_existing=True)
            times.append(row.updated_at)
    assert all(earlier < later for earlier, later in pairwise(times))
    assert abs(times[-1] - max(utc_now(), before)) < timedelta(minutes=5)


async def test_a_change_in_the_orm_has_its_time_at_once(
    engine: AsyncEngine, stage: GenesisStageRecord
) -> None:
    async with transaction(engine) as orm:
        row = await orm.get_one(GenesisStageRecord, stage.id)
        row.iteration_count = 1
        await orm.flush()
        assert row.updated_at > stage.updated_at
