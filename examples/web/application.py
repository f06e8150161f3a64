"""The skeleton of an application: its problems, tokens, health and resources."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI

from examples.web import health, problems
from examples.web.tokens import Tokens


def make_app(
    *routers: APIRouter,
    tokens: Tokens,
    opened: Callable[[], AbstractAsyncContextManager[Any]],
    **about: Any,
) -> FastAPI:
    """Make an application.

    Args:
        routers: Its routes; `/health` is added.
        tokens: The tokens that it accepts.
        opened: Opens its `state.resources`, which have a `saver`.
        about: What else FastAPI is told of it.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened() as app.state.resources:
            yield

    app = FastAPI(lifespan=lifespan, **about)
    app.state.tokens = tokens
    app.state.ends = lambda: False  # until a server says otherwise
    problems.install(app)
    for router in (*routers, health.router):
        app.include_router(router)
    return app
