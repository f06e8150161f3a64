"""What requests and answers have in common."""

from typing import Annotated, Generic, TypeVar

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict

T = TypeVar("T")

PRINTABLE = r"^[^\x00-\x1f]+$"
"""Text in one line, as ids and titles are."""

Key = Annotated[str, Path(max_length=36, pattern=PRINTABLE)]
"""An id of our own in a request's path."""

Limit = Annotated[int, Query(ge=1, le=100, description="The number of items in a page.")]
After = Annotated[
    str | None,
    Query(max_length=500, pattern=PRINTABLE, description="The `next` of the page before."),
]


class Body(BaseModel):
    """The body of a request: a field that it does not have is an error."""

    model_config = ConfigDict(extra="forbid")


class Resource(BaseModel):
    """The body of an answer, made from a row."""

    model_config = ConfigDict(from_attributes=True)


class PageRead(Resource, Generic[T]):
    """Some items; `next` is the `after` of the page that follows, if there is one."""

    items: list[T]
    next: str | None
