"""Waiting for a transaction that waits for another one."""

from __future__ import annotations

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

WAITS = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND wait_event_type = 'Lock'",
    # Not innodb_trx: asked more often than every 0.1 s, it says again what it said before.
    "mysql": "SELECT CAST(variable_value AS INTEGER) FROM information_schema.global_status "
    "WHERE variable_name = 'Innodb_row_lock_current_waits'",
}


async def waiting_for_a_lock(engine: AsyncEngine) -> None:
    """Return once a transaction of this database waits for another one."""
    async with asyncio.timeout(60):
        while True:
            async with engine.connect() as connection:
                if await connection.scalar(text(WAITS[engine.dialect.name])):
                    return
