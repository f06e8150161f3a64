"""Content negotiation (RFC 9110, 12): one resource in several formats."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import TypeVar

from mimeparse import best_match  # type: ignore[import-untyped]

from examples.web.problems import ApplicationError

Format = TypeVar("Format")


class NotAcceptableError(ApplicationError, ValueError):
    """There is no format that the caller accepts."""

    status = HTTPStatus.NOT_ACCEPTABLE
    title = "Not acceptable"


def preferred(accept: str | None, formats: Mapping[str, Format]) -> Format:
    """The format that the header `Accept` prefers, of media types; the first one if it has none.

    Raises:
        NotAcceptableError: It accepts none of them, or is not one.
    """
    best_last = [*formats][::-1]
    try:
        found = best_match(best_last, accept or "*/*")
    except ValueError as exc:
        raise _not_acceptable(accept, formats) from exc
    if not found:
        raise _not_acceptable(accept, formats)
    return formats[found]


def _not_acceptable(accept: str | None, formats: Mapping[str, Format]) -> NotAcceptableError:
    return NotAcceptableError(
        f"this is to be had as {', '.join(formats)}, and {accept!r} accepts none of them"
    )
