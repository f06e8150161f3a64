"""The bodies of requests and answers."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AliasPath, BeforeValidator, Field, StringConstraints

from examples.genesis.configs import Text
from examples.genesis.models import (
    BindingStatus,
    GenesisStage,
    GenesisStatus,
    SessionKind,
    StageStatus,
)
from examples.web.schemas import PRINTABLE, Body, Resource

Line = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=PRINTABLE)
]
Id = Annotated[str, StringConstraints(max_length=255, pattern=PRINTABLE)]
"""An id that somebody else has chosen: of a session, or a checkpoint."""


class NovelCreate(Body):
    """A novel to begin. What the generator makes of one seed is always the same."""

    title: Line = Field(examples=["Salt"])
    premise: Annotated[str, StringConstraints(max_length=4000, pattern=r"^[^\x00]*$")] = ""
    seed: Line | None = None


class FlowRead(Resource):
    """Where a novel stands; `state` has what its completed stages have brought."""

    id: str
    novel_id: str
    title: str = Field(validation_alias=AliasPath("novel", "title"))
    premise: str = Field(validation_alias=AliasPath("novel", "premise"))
    status: GenesisStatus
    current_stage: GenesisStage
    state: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class Advance(Body):
    """The stage to go to: the next one, or an earlier one."""

    to: GenesisStage = Field(examples=["WORLDVIEW"])


class StageRead(Resource):
    """One pass through a stage."""

    id: str
    flow_id: str
    stage: GenesisStage
    status: StageStatus
    config: dict[str, Any]
    result: dict[str, Any] | None
    iteration_count: int
    metrics: dict[str, Any]
    started_at: datetime
    completed_at: datetime | None
    updated_at: datetime


class SessionBind(Body):
    """How a session is bound to a stage; by default the first one is the primary one."""

    kind: SessionKind = SessionKind.USER_INTERACTION
    is_primary: bool | None = None


class SessionCreate(SessionBind):
    """A session to create and to bind."""

    title: Line = Field(examples=["First thoughts"])


class PrimaryUpdate(Body):
    """The session that is to be the primary one."""

    session_id: Id


class SessionRead(Resource):
    """A session that is bound to a stage, and what it asks its writer; made from the binding."""

    session_id: str
    stage_id: str
    title: str = Field(validation_alias=AliasPath("session", "title"))
    kind: SessionKind = Field(validation_alias="session_kind")
    status: BindingStatus
    is_primary: Annotated[bool, BeforeValidator(bool)]
    rounds: int = Field(validation_alias=AliasPath("session", "round_sequence"))
    question: dict[str, Any] | None = Field(
        None, validation_alias=AliasPath("session", "graph_state", "question")
    )
    created_at: datetime
    updated_at: datetime = Field(validation_alias=AliasPath("session", "updated_at"))


class MessageCreate(Body):
    """What the writer says: the beginning of a run, or the answer to a question."""

    text: Text = Field(examples=["A story about salt."])
    rounds: int | None = Field(None, description="How many rounds of the session it comes after.")
