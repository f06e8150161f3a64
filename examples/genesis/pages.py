"""The pages: novels, stages and sessions as HTML, with a form for whatever can be done.

They work without scripts; `static/page.js` shows progress as it happens. What a form asks for and
is refused is told on the page that the form is on, beside what is the case now.
"""

from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

import yaml
from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from examples.genesis.api.schemas import MessageCreate, NovelCreate, SessionCreate
from examples.genesis.api.workspace import Mine, Services
from examples.genesis.configs import fields_of
from examples.genesis.errors import NotFoundError
from examples.genesis.events import last_position
from examples.genesis.models import GenesisStage
from examples.genesis.runs import UNFINISHED
from examples.genesis.story import options, review
from examples.web.etags import Condition, etag
from examples.web.pages import HEADERS, PageRoute, Templates
from examples.web.schemas import After, Key
from examples.web.tokens import COOKIE, Tokens
from langgraph_session_saver import Diff

EMPTY: dict[str, Any] = {"question": None, "config": {}, "parts": [], "total": 0, "marks": []}
"""The state of a session in which nothing has happened."""

_loader = PackageLoader("examples.genesis")
_environment = Environment(loader=_loader, autoescape=True, undefined=StrictUndefined)
_environment.globals |= {"STAGES": [*GenesisStage], "criteria": review.CRITERIA, "etag": etag}
_environment.filters |= {
    "fields": fields_of,
    "label": options.label,
    "plain": lambda name: name.replace("_", " ").capitalize(),
    "yaml": partial(yaml.safe_dump, allow_unicode=True, sort_keys=False, width=1000),
}
TEMPLATES = Templates(env=_environment)


class GenesisRoute(PageRoute):
    """A route whose errors are told on our pages."""

    templates = TEMPLATES


router = APIRouter(include_in_schema=False, route_class=GenesisRoute)

Named = Annotated[str, Query(max_length=255, pattern=r"^[^\x00-\x1f]*$")]


class NovelsPage:
    """The owner's novels."""

    def __init__(self, request: Request, mine: Mine, after: After = None) -> None:
        request.state.page = self
        self.request, self.mine, self._after = request, mine, after

    async def show(self, problem: JSONResponse | None = None) -> Response:
        """Show some of them, and a problem that there was."""
        page = await self.mine.read(lambda services: services.flows.page(20, self._after))
        return TEMPLATES.render(self.request, "novels.html", problem, page=page)


class NovelPage:
    """A novel, and of its stages and sessions those that are named, else the current ones."""

    def __init__(
        self, request: Request, mine: Mine, flow_id: Key, stage: Named = "", session: Named = ""
    ) -> None:
        request.state.page = self
        self.request, self.mine, self.flow_id = request, mine, flow_id
        self.stage_id, self.session_id = stage, session

    async def look(self) -> dict[str, Any]:
        """Read what there is to see, as of an event or later."""
        return await self.mine.read(self._look)

    async def _look(self, services: Services) -> dict[str, Any]:
        position = await last_position(services.flows.orm, self.flow_id)
        flow = await services.flows.get(self.flow_id)
        records = await services.stages.of_flow(self.flow_id)
        named = {record.id: record for record in records}
        last = {record.stage: record for record in records}
        if self.stage_id and self.stage_id not in named:
            raise NotFoundError(f"this novel has no stage {self.stage_id!r}")
        record = named.get(self.stage_id) or last.get(flow.current_stage)
        bound = await services.stages.sessions(record.id) if record else []
        bindings = {binding.session_id: binding for binding in bound}
        if self.session_id and self.session_id not in bindings:
            raise NotFoundError(f"this stage has no session {self.session_id!r}")
        binding = bindings.get(self.session_id) or next(iter(bound), None)
        shown = {"position": position, "flow": flow, "records": records, "last": last}
        return shown | {"record": record, "bound": bound, "binding": binding}

    async def show(self, problem: JSONResponse | None = None) -> Response:
        """Show it as it is now, and a problem that there was."""
        shown = await self.look()
        if binding := shown["binding"]:
            shown |= await self._conversation(binding.session_id)
        return TEMPLATES.render(self.request, "novel.html", problem, **shown)

    async def _conversation(self, session_id: str) -> dict[str, Any]:
        saver = self.mine.saver
        thread = await saver.threads.aget(session_id)
        newest = await saver.sessions.amessages(session_id, descending=True, limit=100)
        return {
            "status": thread.status if thread else None,
            "is_at_work": thread is not None and thread.status in UNFINISHED,
            "state": EMPTY | (await saver.state.aload_state(session_id) or {}),
            "messages": newest.items[::-1],
        }

    def after(self, **query: str) -> Response:
        """Go to the page as it is after a change."""
        return RedirectResponse(f"/novels/{self.flow_id}?{urlencode(query)}", 303)


OfNovels = Annotated[NovelsPage, Depends()]
OfNovel = Annotated[NovelPage, Depends()]


@router.get("/")
async def sign_in(request: Request, token: str | None = None) -> Response:
    """Keep the token of the address in a cookie, which no script and no other site can use."""
    response = RedirectResponse("/novels", 303, HEADERS)
    if token is not None:
        tokens: Tokens = request.app.state.tokens
        tokens.read(token)
        age, is_https = int(tokens.lifetime.total_seconds()), request.url.scheme == "https"
        response.set_cookie(COOKIE, token, age, secure=is_https, httponly=True, samesite="lax")
    return response


@router.get("/novels")
async def list_novels(page: OfNovels) -> Response:
    return await page.show()


@router.post("/novels")
async def start_novel(page: OfNovels, novel: Annotated[NovelCreate, Form()]) -> Response:
    flow = await page.mine.change(lambda services: services.flows.begin(**dict(novel)))
    return RedirectResponse(f"/novels/{flow.id}", 303)


@router.get("/novels/{flow_id}")
async def show_novel(page: OfNovel) -> Response:
    return await page.show()


@router.post("/novels/{flow_id}/advance")
async def advance(
    page: OfNovel, to: Annotated[GenesisStage, Form()], seen: Annotated[str, Form()]
) -> Response:
    """Go to another stage, if the flow is still what the page has shown."""
    await page.mine.change(
        lambda services: services.flows.advance(page.flow_id, to), Condition(seen)
    )
    return page.after()


@router.post("/novels/{flow_id}/sessions")
async def open_session(page: OfNovel, form: Annotated[SessionCreate, Form()]) -> Response:
    """Create a session, and bind it to the stage."""
    await page.look()
    binding = await page.mine.change(
        lambda services: services.stages.create_and_bind(page.stage_id, **dict(form))
    )
    return page.after(stage=page.stage_id, session=binding.session_id)


@router.post("/novels/{flow_id}/primary")
async def make_primary(page: OfNovel) -> Response:
    await page.look()
    await page.mine.change(
        lambda services: services.stages.set_primary(page.stage_id, page.session_id)
    )
    return page.after(stage=page.stage_id, session=page.session_id)


@router.post("/novels/{flow_id}/messages")
async def say(page: OfNovel, said: Annotated[MessageCreate, Form()]) -> Response:
    """Say something in a session, if nobody has since the page was made."""
    await page.look()
    ids = page.mine.owner_id, page.stage_id, page.session_id
    await page.mine.resources.runs.say(*ids, **dict(said))
    return page.after(stage=page.stage_id, session=page.session_id)


@router.get("/novels/{flow_id}/history")
async def show_history(page: OfNovel, before: Named = "") -> Response:
    """Show what each step of a session has changed."""
    shown, saver, session_id = await page.look(), page.mine.saver, page.session_id
    history = await saver.ahistory(session_id, limit=10, before=before or None)
    diffs = {
        entry.checkpoint_id: _changes(
            await saver.adiff(session_id, entry.parent_id, entry.checkpoint_id)
        )
        for entry in history
        if entry.parent_is_listed
    }
    return TEMPLATES.render(
        page.request, "history.html", None, history=history, diffs=diffs, **shown
    )


def _changes(diff: Diff) -> list[dict[str, Any]]:
    """The differences of the application's channels, as data."""
    channels = zip(diff, diff.to_dict()["channels"], strict=True)
    return [told for channel, told in channels if not channel.is_internal]
