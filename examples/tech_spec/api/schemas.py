"""The bodies of requests and answers."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AliasPath, Field, StringConstraints

from examples.tech_spec.catalogue import Category
from examples.tech_spec.models import JobStatus, Stage
from examples.tech_spec.ranking import Ranked
from examples.web.schemas import PRINTABLE, Body, Resource

Line = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=PRINTABLE)
]
Text = Annotated[str, StringConstraints(max_length=4000, pattern=r"^[^\x00]*$")]


class StartTechSpecRequest(Body):
    """A completed design for which a document is to be written."""

    design_job_id: Annotated[Line, Field(max_length=36)]


class StartTechSpecResponse(Resource):
    """The session that works on it."""

    session_id: str = Field(validation_alias="id")
    status: JobStatus


class UserDecision(Body):
    """The technology that a user wants for a category, of the options that were researched."""

    category: Category
    technology: Line = Field(examples=["PostgreSQL"])
    reasoning: Text | None = None


class ResearchRead(Resource):
    """A gap of the design: its options, the best first, and the one that was chosen."""

    category: Category = Field(validation_alias="technology_category")
    gap: str = Field(validation_alias="gap_description")
    options: list[Ranked] = Field(validation_alias="researched_options")
    selected_technology: str | None
    selection_reasoning: str | None
    decided_at: datetime | None = Field(validation_alias="decision_timestamp")


class VersionRead(Resource):
    """A version of the document."""

    version: int
    quality_score: float | None
    created_at: datetime


class ErrorRead(Resource):
    """A failure of a node."""

    node: str
    error_type: str
    message: str
    retry_count: int
    recovered: bool
    created_at: datetime


class SessionStatus(Resource):
    """Where a session stands, and what it asks: `pending`, the most important first."""

    session_id: str = Field(validation_alias="id")
    project_id: str
    design_job_id: str
    status: JobStatus
    current_stage: Stage | None
    progress_percentage: float
    completeness: float = Field(0, validation_alias=AliasPath("session_data", "completeness"))
    pending: list[Category] = Field([], validation_alias=AliasPath("session_data", "pending"))
    research: list[ResearchRead]
    documents: list[VersionRead]
    errors: list[ErrorRead]
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None


class TRDDownloadResponse(VersionRead):
    """A version of the document, with its parts."""

    session_id: str
    trd_content: str
    api_specification: str | None
    database_schema: str | None
    architecture_diagram: str | None
    tech_stack_document: str | None
    validation_report: dict[str, Any] | None
