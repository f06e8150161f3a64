"""Reading a listing of the saver page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from langgraph_session_saver import Page

ListPage = Callable[..., Awaitable[Page[Any]]]


async def record_pages(list_page: ListPage, **wanted: Any) -> AsyncIterator[Page[Any]]:
    """Each page of a listing."""
    after = None
    while True:
        page = await list_page(after=after, **wanted)
        yield page
        if page.next is None:
            return
        after = page.next


async def id_pages(list_page: ListPage, name: str, **wanted: Any) -> AsyncIterator[list[str]]:
    """The ids of each page: the field of its records that has this name."""
    async for page in record_pages(list_page, **wanted):
        yield [getattr(record, name) for record in page]


async def all_ids(list_page: ListPage, name: str, **wanted: Any) -> list[str]:
    """The ids of all pages."""
    return [one async for page in id_pages(list_page, name, **wanted) for one in page]


async def all_records(list_page: ListPage, **wanted: Any) -> list[Any]:
    """The records of all pages."""
    return [record async for page in record_pages(list_page, **wanted) for record in page]
