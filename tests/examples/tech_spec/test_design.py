"""What the design agent has left, and what the loaders say of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from examples.tech_spec.design import (
    REQUIRED,
    load_design_agent_outputs,
    load_design_decisions,
    validate_design_job_completed,
)
from examples.tech_spec.errors import (
    DesignJobNotFoundError,
    DesignJobUnfinishedError,
    MissingDocumentsError,
)
from examples.tech_spec.fixtures import JOBS, install, read_documents, read_job
from examples.tech_spec.models import DesignJob, DesignOutput
from examples.web.database import reading, transaction
from examples.web.models import new_id

CLINIC, GARDEN = read_job("clinic").id, read_job("garden").id


@pytest.fixture(autouse=True)
async def designs(engine: AsyncEngine) -> None:
    await install(engine)


@pytest.mark.parametrize("name", ["clinic", "auction"])
async def test_the_documents_of_a_design_are_loaded(engine: AsyncEngine, name: str) -> None:
    job = read_job(name)
    async with reading(engine) as orm:
        outputs = await load_design_agent_outputs(orm, job.id)
    code = job.outputs[0].file_path
    assert outputs == {**read_documents(name), "ai_studio_code_path": code}


async def test_a_newer_document_of_a_type_counts(engine: AsyncEngine) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    async with transaction(engine) as orm:
        orm.add(
            DesignOutput(
                design_job_id=CLINIC, document_type="prd", content="# Newer", created_at=later
            )
        )
    async with reading(engine) as orm:
        assert (await load_design_agent_outputs(orm, CLINIC))["prd"] == "# Newer"


async def test_a_design_without_some_documents_is_refused_and_they_are_named(
    engine: AsyncEngine,
) -> None:
    async with reading(engine) as orm:
        with pytest.raises(ValueError, match="lacks ux_flow, screen_specs") as refused:
            await load_design_agent_outputs(orm, GARDEN)
    assert isinstance(refused.value, MissingDocumentsError)
    assert refused.value.members == {"missing": ["ux_flow", "screen_specs"]}


async def test_an_empty_document_is_a_missing_one(engine: AsyncEngine) -> None:
    job_id = new_id()
    async with transaction(engine) as orm:
        orm.add(DesignJob(id=job_id, project_id=new_id(), status="completed"))
        await orm.flush()
        for kind in REQUIRED:
            text = " \n" if kind == "prd" else "# Text"
            orm.add(DesignOutput(design_job_id=job_id, document_type=kind, content=text))
    async with reading(engine) as orm:
        with pytest.raises(MissingDocumentsError, match="lacks prd:"):
            await load_design_agent_outputs(orm, job_id)


async def test_a_job_that_does_not_exist_is_told(engine: AsyncEngine) -> None:
    async with reading(engine) as orm:
        for load in (load_design_agent_outputs, validate_design_job_completed):
            with pytest.raises(DesignJobNotFoundError, match="there is no design job 'nowhere'"):
                await load(orm, "nowhere")
        assert await load_design_decisions(orm, "nowhere") == []


@pytest.mark.parametrize("status", ["pending", "in_progress", "failed"])
async def test_a_job_is_good_once_it_is_completed(engine: AsyncEngine, status: str) -> None:
    async with reading(engine) as orm:
        assert (await validate_design_job_completed(orm, CLINIC)).id == CLINIC
    async with transaction(engine) as orm:
        (await orm.get_one(DesignJob, CLINIC)).status = status
    async with reading(engine) as orm:
        with pytest.raises(DesignJobUnfinishedError, match=f"is {status!r}, not 'completed'"):
            await validate_design_job_completed(orm, CLINIC)


async def test_decisions_are_loaded_in_the_order_of_deciding(engine: AsyncEngine) -> None:
    async with reading(engine) as orm:
        decisions = await load_design_decisions(orm, CLINIC)
    assert [each["value"] for each in decisions] == ["PrimeNG", "Angular", "high contrast"]
    assert decisions[1] == {
        "type": "frontend_framework",
        "value": "Angular",
        "reasoning": "The clinic's patient portal is written in it, by the same team.",
        "created_at": "2025-03-06T10:45:00+00:00",
    }


async def test_loading_is_logged_with_what_was_found(engine: AsyncEngine) -> None:
    async with reading(engine) as orm:
        with capture_logs() as logs:
            await load_design_agent_outputs(orm, CLINIC)
            await load_design_decisions(orm, CLINIC)
            with pytest.raises(MissingDocumentsError):
                await load_design_agent_outputs(orm, GARDEN)
    assert [(log["event"], log["log_level"], log["design_job_id"]) for log in logs] == [
        ("design_outputs_loading", "info", CLINIC),
        ("design_outputs_loaded", "info", CLINIC),
        ("design_decisions_loaded", "info", CLINIC),
        ("design_outputs_loading", "info", GARDEN),
        ("design_outputs_missing", "warning", GARDEN),
    ]
    prd = read_documents("clinic")["prd"]
    assert logs[1]["characters"]["prd"] == len(prd)
    assert logs[4]["missing"] == ["ux_flow", "screen_specs"]


async def test_designs_that_are_put_in_again_replace_those_before(engine: AsyncEngine) -> None:
    assert [job.id for job in await install(engine)] == [read_job(name).id for name in JOBS]
    async with reading(engine) as orm:
        assert len(await load_design_decisions(orm, CLINIC)) == 3
