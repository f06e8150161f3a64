"""Conditional requests (RFC 9110, 13): nothing is sent twice, and no change is lost."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from fastapi.routing import APIRoute

from examples.web.problems import ApplicationError


class PreconditionFailedError(ApplicationError, RuntimeError):
    """The resource was changed since the caller has read it."""

    status = HTTPStatus.PRECONDITION_FAILED
    title = "Precondition failed"


def etag(*rows: Any) -> str:
    """The strong tag of a resource that is made from these rows."""
    return '"' + "-".join(f"{row.updated_at:%Y%m%dT%H%M%S.%f}" for row in rows) + '"'


class Condition:
    """The header `If-Match` of a change. Ask for it as a parameter of the type `IfMatch`."""

    def __init__(
        self,
        if_match: Annotated[str | None, Header(description="The ETag of what changes.")] = None,
    ) -> None:
        self._expected = if_match

    def check(self, *rows: Any) -> None:
        """Check that the resource is the one that the caller has read.

        Raises:
            PreconditionFailedError: It was changed since.
        """
        current = etag(*rows)
        if self._expected is not None and not _names(self._expected, current):
            raise PreconditionFailedError(
                f"this was changed meanwhile: its ETag is {current} and not {self._expected}. "
                "Read it again, and repeat the change if it still applies"
            )


ANY = Condition()
"""The condition that every resource meets."""

IfMatch = Annotated[Condition, Depends()]
"""The type of a route's parameter for the header `If-Match`."""


class ConditionalRoute(APIRoute):
    """A route that answers a GET with 304 if the caller has what it would send."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def conditional(request: Request) -> Response:
            response = await handle(request)
            known = request.headers.get("If-None-Match")
            current = response.headers.get("ETag")
            if request.method == "GET" and known and current and _names(known, current):
                return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": current})
            return response

        return conditional


def _names(header: str, tag: str) -> bool:
    """Whether a list of tags names this one."""
    return header.strip() == "*" or tag in (each.strip() for each in header.split(","))
