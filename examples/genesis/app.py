"""The application: what it is made of, and what runs as long as it does."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles
from sqlalchemy import URL

from examples.genesis import api, pages
from examples.genesis.api.workspace import Resources
from examples.genesis.graph import build_graph
from examples.genesis.migrations import migrated
from examples.genesis.projections import PROJECTIONS
from examples.genesis.runs import Runs
from examples.genesis.writers import writer_named
from examples.web.application import make_app
from examples.web.tokens import Tokens, require_own_origin
from langgraph_session_saver import SessionSaver


def create_app(
    url: str | URL, tokens: Tokens, *, model: str | None = None, pause: float = 0
) -> FastAPI:
    """Make the application.

    It migrates its database when it starts, and takes up the runs of processes that were killed.

    Args:
        url: The database.
        tokens: The tokens that it accepts.
        model: The chat model that writes the prose; by default the story generator does.
        pause: Seconds that each step of work takes longer, so that it can be watched.
    """
    writer = writer_named(model)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Resources]:
        async with migrated(url) as engine:
            saver = SessionSaver(engine, projections=PROJECTIONS, single_writer=True)
            async with aclosing(Runs(engine, build_graph(saver, writer, pause=pause))) as runs:
                await runs.resume()
                yield Resources(engine, saver, runs)

    about = {"title": "Genesis", "summary": "Novels that are written in stages"}
    ours = [Depends(require_own_origin)]
    routers = (api.router, pages.router)
    app = make_app(*routers, tokens=tokens, opened=opened, dependencies=ours, **about)
    app.mount("/static", StaticFiles(packages=[("examples.genesis", "static")]))
    return app
