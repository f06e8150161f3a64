"""Pages of an application's own rows, each read after the last row of the page before."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from langgraph_session_saver import InvalidConfigError, Page


async def page_of(
    orm: AsyncSession,
    rows: Select[Any],
    order: Sequence[Any],
    limit: int,
    after: str | None,
    *,
    descending: bool = False,
) -> Page[Any]:
    """Read a page of rows.

    Args:
        orm: The session to read in.
        rows: The rows of all pages.
        order: What they are ordered by; at last their id.
        limit: The most rows of a page.
        after: The `next` of the page before, which is the id of its last row.
        descending: Whether the order is reversed.

    Raises:
        InvalidConfigError: There is no such row.
    """
    *_, id_ = order
    page = rows.order_by(*(each.desc() if descending else each for each in order))
    if after is not None:
        values = rows.where(id_ == after).with_only_columns(*order)
        last = (await orm.execute(values)).one_or_none()
        if last is None:
            raise InvalidConfigError(f"there is no page after {after!r:.80}: pass a page's `next`")
        here, there = tuple_(*order), tuple(last)
        page = page.where(here < there if descending else here > there)
    found = tuple(await orm.scalars(page.limit(limit + 1)))
    return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)
