"""The log of events: what committed transactions did to a flow, in the order of their commits.

Whoever adds an event has locked its flow, and so numbers it after all that are committed: who has
seen a position has seen all those before it, and goes on from there.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from sqlalchemy import Insert, Select, exists, func, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from examples.genesis.errors import EventIdError
from examples.genesis.models import GenesisEvent, GenesisFlow
from examples.web.database import reading
from examples.web.models import new_id, utc_now

POLL = 0.2
"""Seconds until a watcher looks for new events."""


def insert_event(what: str, flow_id: str, *, data: Mapping[str, Any], **columns: Any) -> Insert:
    """Insert an event of a locked flow; one with an id that is there already changes nothing.

    `columns` are the values of others: of `stage_id`, `session_id`, `id` and `created_at`.
    """
    new = {"id": new_id(), "type": what, "flow_id": flow_id, "data": data, "created_at": utc_now()}
    values, table = new | columns, GenesisEvent.__table__.c
    given = [literal(value, table[name].type) for name, value in values.items()]
    row = select(*given, _last(flow_id).scalar_subquery() + 1).where(
        GenesisFlow.id == flow_id, ~exists().where(table.id == values["id"])
    )
    return insert(GenesisEvent).from_select([*values, "position"], row)


def _last(flow_id: str) -> Select[int]:
    last = func.coalesce(func.max(GenesisEvent.position), 0)
    return select(last).where(GenesisEvent.flow_id == flow_id)


async def last_position(orm: AsyncSession, flow_id: str) -> int:
    """Read the position of a flow's last event; 0 if there is none."""
    return await orm.scalar(_last(flow_id)) or 0


def position_of(event_id: str, flow_id: str) -> int:
    """The position in an event's id, which is `<flow_id>:<position>`.

    Raises:
        EventIdError: It is not of that form, or of another flow.
    """
    of_flow, _, position = event_id.rpartition(":")
    if of_flow != flow_id or not re.fullmatch("[0-9]{1,18}", position):
        raise EventIdError(
            f"{event_id!r} is no event of flow {flow_id!r}: name one of this flow, or none to "
            "begin with the first"
        )
    return int(position)


async def follow(
    engine: AsyncEngine, flow_id: str, position: int, ends: Callable[[], bool]
) -> AsyncGenerator[GenesisEvent]:
    """Yield the events of a flow after a position, those to come too, until the server ends."""
    of_flow = select(GenesisEvent).where(GenesisEvent.flow_id == flow_id)
    in_order = of_flow.order_by(GenesisEvent.position).limit(100)
    while not ends():
        async with reading(engine) as orm:
            found = (await orm.scalars(in_order.where(GenesisEvent.position > position))).all()
        for event in found:
            position = event.position
            yield event
        if not found:
            await asyncio.sleep(POLL)
