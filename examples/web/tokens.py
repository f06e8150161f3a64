"""Bearer tokens: signed, with an owner, roles and an end."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated
from urllib.parse import urlsplit

import jwt
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from examples.web.problems import ApplicationError

COOKIE = "token"
"""The cookie with which a page sends its token."""

ALGORITHM = "HS256"
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
"""Methods that change nothing (RFC 9110, 9.2.1)."""

SHORTEST_SECRET = 32
"""Bytes of a key for HS256 (RFC 7518, 3.2)."""


class UnauthorizedError(ApplicationError, PermissionError):
    """No token, or one that is wrong or expired."""

    status = HTTPStatus.UNAUTHORIZED
    title = "Unauthorized"
    headers: Mapping[str, str] | None = MappingProxyType({"WWW-Authenticate": "Bearer"})


class ForbiddenError(ApplicationError, PermissionError):
    """The caller does not have the role."""

    status = HTTPStatus.FORBIDDEN
    title = "Forbidden"


@dataclass(frozen=True)
class Identity:
    """Who calls."""

    owner_id: str
    roles: frozenset[str] = frozenset()

    def require(self, *roles: str) -> None:
        """Raise `ForbiddenError` unless the caller has one of the roles."""
        if self.roles.isdisjoint(roles):
            needed = " or ".join(map(repr, roles))
            raise ForbiddenError(f"this needs the role {needed}: use a token that has it")


class Tokens:
    """Issues and reads the tokens of one secret.

    Args:
        secret: The key of the signatures, of 32 bytes or more.
        lifetime: How long a token is valid.
    """

    def __init__(self, secret: str, lifetime: timedelta = timedelta(hours=12)) -> None:
        if len(secret.encode()) < SHORTEST_SECRET:
            raise ValueError(f"the secret has less than {SHORTEST_SECRET} bytes: use a longer one")
        self._secret = secret
        self.lifetime = lifetime

    def issue(self, owner_id: str, roles: Collection[str] = ()) -> str:
        """Issue a token."""
        now = datetime.now(UTC)
        claims = {"sub": owner_id, "roles": sorted(roles), "iat": now, "exp": now + self.lifetime}
        return jwt.encode(claims, self._secret, ALGORITHM)

    def read(self, token: str) -> Identity:
        """Read a token.

        Raises:
            UnauthorizedError: It is expired, or not one of ours.
        """
        try:
            claims = jwt.decode(
                token, self._secret, [ALGORITHM], options={"require": ["sub", "exp"]}
            )
        except jwt.ExpiredSignatureError as exc:
            raise UnauthorizedError("the token has expired: log in again") from exc
        except jwt.InvalidTokenError as exc:
            raise UnauthorizedError("the token is not valid: log in again") from exc
        return Identity(claims["sub"], frozenset(claims.get("roles", ())))


def require_own_origin(request: Request) -> None:
    """Refuse a change that a page of another origin asks for: the browser sends our cookie along.

    A dependency of an application whose pages send a cookie. Who is no browser sends no `Origin`.

    Raises:
        ForbiddenError: The request comes from such a page.
    """
    origin, host = request.headers.get("Origin"), request.headers.get("Host")
    if request.method not in SAFE_METHODS and origin and urlsplit(origin).netloc != host:
        raise ForbiddenError(f"a page of {origin} asks for this: only pages of {host} may")


def identity(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
) -> Identity:
    """Who calls, by the token in the header or else in the cookie; a dependency of FastAPI.

    The application's `Tokens` are its `state.tokens`.

    Raises:
        UnauthorizedError: There is no token, or it is wrong or expired.
    """
    token = bearer.credentials if bearer else request.cookies.get(COOKIE)
    if not token:
        raise UnauthorizedError("this needs a token: sign in, or send one as Authorization: Bearer")
    tokens: Tokens = request.app.state.tokens
    return tokens.read(token)


Caller = Annotated[Identity, Depends(identity)]
"""The type of a route's parameter that says who calls."""


def one_of(*roles: str) -> Callable[[Identity], Identity]:
    """Make the dependency of a route that needs one of these roles; it says who calls."""

    def require(caller: Caller) -> Identity:
        caller.require(*roles)
        return caller

    return require
