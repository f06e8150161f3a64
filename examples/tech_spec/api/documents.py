"""The documents that sessions have written: as data, as Markdown and as a page."""

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Response

from examples.tech_spec import rendering
from examples.tech_spec.api.callers import Shared, Viewer
from examples.tech_spec.api.schemas import TRDDownloadResponse
from examples.tech_spec.models import GeneratedTRDDocument
from examples.web import problems
from examples.web.negotiation import preferred
from examples.web.schemas import Key

router = APIRouter(tags=["documents"])

Format = Literal["json", "markdown", "html"]

MEDIA_TYPES: dict[str, Format] = {
    "application/json": "json",
    "text/markdown": "markdown",
    "text/html": "html",
}

Version = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="The newest by default.")]
Score = Annotated[float, Query(ge=0, le=100, description="The least quality score.")]


@router.get(
    "/tech-spec/sessions/{session_id}/trd",
    response_model=TRDDownloadResponse,
    responses={200: {"content": {"text/markdown": {}, "text/html": {}}}, **problems.responses(406)},
)
async def read_trd(
    session_id: Key,
    _caller: Viewer,
    shared: Shared,
    response: Response,
    accept: Annotated[str | None, Header()] = None,
    version: Version = None,
    min_score: Score = 0,
    format: Annotated[Format | None, Query(description="Instead of `Accept`.")] = None,  # noqa: A002
) -> GeneratedTRDDocument | Response:
    """Read a version of the document: data, Markdown (`text/markdown`) or a page (`text/html`)."""
    chosen = format or preferred(accept, MEDIA_TYPES)
    document = await shared.document(session_id, version, min_score)
    response.headers["Vary"] = "Accept"
    if chosen == "json":
        return document
    if chosen == "markdown":
        text, media_type = rendering.to_markdown(document), "text/markdown"
    else:
        text, media_type = rendering.to_page(document), "text/html"
        response.headers["Content-Security-Policy"] = rendering.POLICY
    return Response(text, media_type=media_type, headers=dict(response.headers))
