"""The application: its routes, who may call them and how often."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy import URL

from examples.tech_spec import api, resources
from examples.tech_spec.resources import Resources
from examples.web.application import make_app
from examples.web.rate_limits import RateLimits
from examples.web.tokens import Tokens


def create_app(url: str | URL, tokens: Tokens, *, redis_url: str | None = None) -> FastAPI:
    """Make the application.

    Args:
        url: The database.
        tokens: The tokens that it accepts.
        redis_url: The Redis that counts calls; by default this process does.
    """
    limits = RateLimits(redis_url)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Resources]:
        async with limits, resources.opened(url) as shared:
            yield shared

    about = {"title": "Tech spec agent", "summary": "Writes the technical requirements of a design"}
    app = make_app(api.router, tokens=tokens, opened=opened, **about)
    app.state.rate_limits = limits
    return app
