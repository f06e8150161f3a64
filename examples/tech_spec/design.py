"""Loads what the design agent has left: its documents and its decisions.

Each function works in the caller's session, and logs what it found, structured.
"""

from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from examples.tech_spec.errors import (
    DesignJobNotFoundError,
    DesignJobUnfinishedError,
    MissingDocumentsError,
)
from examples.tech_spec.models import DesignDecision, DesignJob, DesignOutput

REQUIRED = ("prd", "design_system", "ux_flow", "screen_specs")
"""The types of the documents that a design must have."""

CODE = "ai_studio_code"
"""The type of the output that is a path, and that a design may lack."""

logger = structlog.get_logger("tech_spec")


async def load_design_agent_outputs(orm: AsyncSession, design_job_id: str) -> dict[str, str | None]:
    """Load the documents of a design by type, and the path of its code if it has any.

    Of several documents of a type the newest counts.

    Raises:
        DesignJobNotFoundError: There is no such job.
        MissingDocumentsError: It lacks documents, or they are empty; says which.
    """
    log = logger.bind(design_job_id=design_job_id)
    log.info("design_outputs_loading")
    await _job(orm, design_job_id)
    of_job = select(DesignOutput).where(DesignOutput.design_job_id == design_job_id)
    outputs = await orm.scalars(of_job.order_by(DesignOutput.created_at))
    found = {output.document_type: output for output in outputs}
    documents = {name: found[name].content for name in REQUIRED if name in found}
    missing = [name for name in REQUIRED if not documents.get(name, "").strip()]
    if missing:
        log.warning("design_outputs_missing", missing=missing)
        raise MissingDocumentsError(
            f"design job {design_job_id!r} lacks {', '.join(missing)}: complete it in the design "
            "agent, then start again",
            missing=missing,
        )
    code = found[CODE].file_path if CODE in found else None
    sizes = {name: len(text) for name, text in documents.items()}
    log.info("design_outputs_loaded", characters=sizes, ai_studio_code_path=code)
    return {**documents, "ai_studio_code_path": code}


async def validate_design_job_completed(orm: AsyncSession, design_job_id: str) -> DesignJob:
    """Return the job, if the design agent has completed it.

    Raises:
        DesignJobNotFoundError: There is no such job.
        DesignJobUnfinishedError: Its status is another one.
    """
    job = await _job(orm, design_job_id)
    if job.status != "completed":
        logger.warning("design_job_unfinished", design_job_id=job.id, status=job.status)
        raise DesignJobUnfinishedError(
            f"design job {job.id!r} is {job.status!r}, not 'completed': wait for the design agent"
        )
    return job


async def load_design_decisions(orm: AsyncSession, design_job_id: str) -> list[dict[str, Any]]:
    """Load what a user has decided about a design, in the order of deciding."""
    of_job = select(DesignDecision).where(DesignDecision.design_job_id == design_job_id)
    rows = await orm.scalars(of_job.order_by(DesignDecision.created_at, DesignDecision.id))
    decisions = [
        {"type": row.decision_type, "value": row.value, "reasoning": row.reasoning,
         "created_at": row.created_at.isoformat()}
        for row in rows
    ]  # fmt: skip
    logger.info("design_decisions_loaded", design_job_id=design_job_id, count=len(decisions))
    return decisions


async def _job(orm: AsyncSession, design_job_id: str) -> DesignJob:
    job = await orm.get(DesignJob, design_job_id)
    if job is None:
        logger.warning("design_job_not_found", design_job_id=design_job_id)
        raise DesignJobNotFoundError(f"there is no design job {design_job_id!r}: check its id")
    return job
