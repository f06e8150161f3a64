"""Reading a listing of the saver page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from langgraph_session_saver import Page

ListPage = Callable[..., Awaitable[Page[Any]]]


async def id_pages(list_page: ListPage, name: str, **wanted: Any) -> AsyncIterator[list[str]]:
    """The ids of each page: the field of its records that has this name."""
    after = None
    while True:
        page = await list_page(after=after, **wanted)
        yield [getattr(record, name) for record in page]
        if page.next is None:
            return
        after = page.next


async def all_ids(list_page: ListPage, name: str, **wanted: Any) -> list[str]:
    """The ids of all pages."""
    return [one async for page in id_pages(list_page, name, **wanted) for one in page]
