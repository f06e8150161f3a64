"""Sessions of a stage: the conversation, and how the graph's state came about."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from examples.genesis.api.schemas import Id, MessageCreate, SessionRead
from examples.genesis.api.workspace import Mine
from examples.genesis.models import GenesisStageSession
from examples.web import problems
from examples.web.etags import ConditionalRoute, IfMatch
from examples.web.schemas import After, Key, Limit
from langgraph_session_saver import Diff, History, MessageRecord, Page

PATH = "/stages/{stage_id}/sessions/{session_id}"

router = APIRouter(prefix=PATH, tags=["sessions"], route_class=ConditionalRoute)


async def _binding(stage_id: Key, session_id: Id, mine: Mine) -> GenesisStageSession:
    return await mine.read(lambda services: services.stages.session(stage_id, session_id))


Binding = Annotated[GenesisStageSession, Depends(_binding)]


@router.get("", response_model=SessionRead)
async def read_session(binding: Binding, mine: Mine) -> GenesisStageSession:
    """Read a session, with the question that waits for an answer."""
    return mine.tagged(binding, binding.session)


@router.get("/messages")
async def list_messages(
    binding: Binding, mine: Mine, limit: Limit = 50, after: After = None
) -> Page[MessageRecord]:
    """List the messages of a session, the oldest first."""
    messages = mine.saver.sessions.amessages
    page: Page[MessageRecord] = await messages(binding.session_id, limit=limit, after=after)
    return page


@router.post("/messages", status_code=202, responses=problems.responses(409, 412))
async def say(body: MessageCreate, binding: Binding, mine: Mine, if_match: IfMatch) -> None:
    """Begin a run, or answer its question: accepted once it is stored, and then worked on."""
    if_match.check(binding, binding.session)
    ids = mine.owner_id, binding.stage_id, binding.session_id
    await mine.resources.runs.say(*ids, **dict(body))


@router.get("/history")
async def read_history(
    binding: Binding, mine: Mine, limit: Limit = 50, before: Id | None = None
) -> dict[str, Any]:
    """Read the checkpoints of a session, the newest first."""
    history: History = await mine.saver.ahistory(binding.session_id, limit=limit, before=before)
    return history.to_dict()


@router.get("/diff")
async def read_diff(binding: Binding, mine: Mine, a: Id, b: Id | None = None) -> dict[str, Any]:
    """Compare two checkpoints of a session, or one with the newest."""
    diff: Diff = await mine.saver.adiff(binding.session_id, a, b)
    return diff.to_dict()
