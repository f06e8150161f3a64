"""What the built-in projections accept: the models of the applications this package serves."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from langgraph_session_saver.validation import MODEL_LENGTH

Score = Annotated[float, Field(ge=0, le=100)]

Mark = Annotated[float, Field(ge=1, le=5)]

ModelId = Annotated[str, StringConstraints(max_length=MODEL_LENGTH)]


class BuildStatus(StrEnum):
    """Where a build stands."""

    PENDING = "pending"
    BUILDING = "building"
    SUCCESS = "success"
    FAILED = "failed"


class BuildInfo(BaseModel):
    """A build: its status, and what it made or why it failed; other fields are artifacts too."""

    model_config = ConfigDict(extra="allow")

    status: BuildStatus
    pages: list[str] = []
    dist_path: str | None = None
    error: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None


class RoutingMetadata(BaseModel):
    """What an orchestrator decided about a session."""

    product_type: Annotated[str, StringConstraints(max_length=50)] | None = None
    complexity: Annotated[str, StringConstraints(max_length=20)] | None = None
    skill_id: Annotated[str, StringConstraints(max_length=100)] | None = None
    doc_tier: Annotated[str, StringConstraints(max_length=20)] | None = None
    style_reference_mode: Annotated[str, StringConstraints(max_length=50)] | None = None


class ModelUsage(BaseModel):
    """Which model played which part; ids may be URLs."""

    classifier: ModelId | None = None
    writer: ModelId | None = None
    expander: ModelId | None = None
    validator: ModelId | None = None
    style_refiner: ModelId | None = None


class Suggestion(BaseModel):
    """One thing that would make a page better."""

    dimension: str
    severity: Literal["info", "warning", "critical"]
    message: str
    location: str | None = None
    autoFixable: bool = False  # noqa: N815 - the stored form is the page builder's


class Dimensions(BaseModel):
    """The parts of a score, 0 to 100 each."""

    model_config = ConfigDict(extra="forbid")

    visualHierarchy: Score  # noqa: N815
    colorHarmony: Score  # noqa: N815
    spacingConsistency: Score  # noqa: N815
    alignment: Score
    readability: Score
    mobileAdaptation: Score  # noqa: N815


class OlderDimensions(BaseModel):
    """The parts of a score in its older form, 1 to 5 each."""

    model_config = ConfigDict(extra="forbid")

    typography: Mark
    contrast: Mark
    layout: Mark
    color: Mark
    cta: Mark


class AestheticScore(BaseModel):
    """How good a page looks: `overall` of 100, or in the older form a `total` of 25.

    It reads the two known forms. `aesthetic_scores` may be any other JSON object as well.
    """

    model_config = ConfigDict(extra="allow")

    overall: Score | None = None
    total: Annotated[float, Field(ge=5, le=25)] | None = None
    dimensions: Dimensions | OlderDimensions
    suggestions: list[Suggestion | str] = []
    passThreshold: float | None = None  # noqa: N815

    @model_validator(mode="after")
    def _complete(self) -> AestheticScore:
        if self.overall is None and isinstance(self.dimensions, Dimensions):
            raise ValueError("a score with these dimensions needs `overall`, 0 to 100")
        if self.overall is None and self.total is None:
            self.total = sum(self.dimensions.model_dump().values())
        return self


class SessionMetadata(BaseModel):
    """What a session knows about its graph; every field but the id may be updated alone."""

    session_id: str
    graph_state: dict[str, Any] | None = None
    build_status: BuildStatus = BuildStatus.PENDING
    build_artifacts: dict[str, Any] | None = None
    aesthetic_scores: Annotated[
        AestheticScore | dict[str, Any] | None, Field(union_mode="left_to_right")
    ] = None
    """An `AestheticScore` if the object has one of its forms."""
    updated_at: datetime | None = None
