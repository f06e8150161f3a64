"""Bearer tokens: who calls, in which roles, and until when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, Any

import jwt
import pytest
from fastapi import Depends, FastAPI
from httpx import ASGITransport, AsyncClient

from examples.web import problems
from examples.web.tokens import (
    COOKIE,
    Caller,
    ForbiddenError,
    Identity,
    Tokens,
    UnauthorizedError,
    one_of,
)

SECRET = "of thirty-two bytes or of some more"
tokens = Tokens(SECRET)


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    """An application with one route, which says who calls and one that needs a role."""
    app = FastAPI()
    app.state.tokens = tokens
    problems.install(app)

    @app.get("/me")
    async def me(caller: Caller) -> str:
        return caller.owner_id

    @app.get("/admin")
    async def admin(caller: Annotated[Identity, Depends(one_of("admin", "root"))]) -> str:
        return caller.owner_id

    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def signed(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    return jwt.encode(claims, secret, algorithm)


def test_a_token_says_who_calls_and_in_which_roles() -> None:
    read = tokens.read(tokens.issue("ada", {"writer", "admin"}))
    assert read == Identity("ada", frozenset({"writer", "admin"}))


def test_an_expired_token_is_refused() -> None:
    expired = Tokens(SECRET, timedelta(seconds=-1)).issue("ada")
    with pytest.raises(UnauthorizedError, match="the token has expired: log in again"):
        tokens.read(expired)


@pytest.mark.parametrize(
    "token",
    [
        "nothing of the kind",
        Tokens("another secret of thirty-two bytes").issue("ada"),
        tokens.issue("ada") + "x",
        jwt.encode({"sub": "ada", "exp": 9_999_999_999}, None, "none"),  # type: ignore[arg-type]
        signed(sub="ada"),
        signed(exp=9_999_999_999),
    ],
    ids=["no token", "other secret", "changed", "unsigned", "without an end", "without an owner"],
)
def test_a_token_that_is_not_ours_is_refused(token: str) -> None:
    with pytest.raises(UnauthorizedError, match="the token is not valid"):
        tokens.read(token)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="less than 32 bytes"):
        Tokens("short")


def test_a_role_that_the_caller_has_not_is_required_by_name() -> None:
    with pytest.raises(ForbiddenError, match="the role 'admin' or 'root'"):
        Identity("ada").require("admin", "root")


async def test_the_header_and_the_cookie_hold_the_same_token(client: AsyncClient) -> None:
    token = tokens.issue("ada")
    by_header = await client.get("/me", headers=bearer(token))
    client.cookies.set(COOKIE, token)
    by_cookie = await client.get("/me")
    assert by_header.json() == by_cookie.json() == "ada"


@pytest.mark.parametrize(
    "headers",
    [{}, bearer("wrong"), {"Authorization": "Basic YTpi"}],
    ids=["none", "wrong", "basic"],
)
async def test_a_call_without_a_token_of_ours_is_unauthorized(
    client: AsyncClient, headers: dict[str, str]
) -> None:
    answer = await client.get("/me", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["title"] == "Unauthorized"


async def test_a_call_without_the_role_is_forbidden(client: AsyncClient) -> None:
    plain, admin = tokens.issue("ada"), tokens.issue("eve", ["admin"])
    assert (await client.get("/admin", headers=bearer(plain))).status_code == 403
    assert (await client.get("/admin", headers=bearer(admin))).json() == "eve"
