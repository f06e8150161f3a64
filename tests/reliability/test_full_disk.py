"""A database without space: a clear error, nothing half-written, and the graph goes on later."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import event

from langgraph_session_saver import StorageFullError
from tests.support.backends import EACH_ONCE, Sql
from tests.support.graphs import engine_of
from tests.support.rows import chain, config, counts, run, transcript
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE
PAGES = 200


@pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)
async def test_a_run_that_meets_a_full_disk_goes_on_when_there_is_room(
    make_saver: SaverFactory, sql: Sql
) -> None:
    setup = make_saver()
    await setup.asetup()
    limit = [PAGES]

    def limit_pages(dbapi_connection: Any, *_: Any) -> None:
        cursor = dbapi_connection.cursor()
        cursor.execute(f"PRAGMA max_page_count={limit[0]}")
        cursor.close()

    saver = make_saver()
    event.listen(engine_of(saver), "checkout", limit_pages)
    noise = [random.Random(n).randbytes(100_000) for n in range(8)]
    updates = ({"note": noise[n], "messages": [("ai", str(n))]} for n in range(8))
    graph = chain(saver, *updates)

    with pytest.raises(StorageFullError, match=r"has no space left .*run the thread again") as told:
        await run(graph, {"messages": [("human", "fill it")]})
    stored = await graph.aget_state(config())
    limit[0] = 1 << 20
    await run(graph, None)

    assert isinstance(told.value, OSError)
    assert 0 < len(stored.values["messages"]) < 9
    said = [message.text for message in (await graph.aget_state(config())).values["messages"]]
    assert said == ["fill it", *"01234567"]
    assert [text for _, text in transcript(sql)] == said
    assert counts(sql)["session_errors"] == 0
