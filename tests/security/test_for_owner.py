"""`saver.for_owner(…)`: a saver for which only one owner's threads and sessions exist."""

from __future__ import annotations

from langgraph_session_saver import AccessDeniedError, InvalidConfigError, SessionSaver
from tests.support.backends import EACH_ONCE, Sql
from tests.support.rows import chain, config, fails, listed, one, put, run

BACKENDS_AND_FACES = EACH_ONCE


async def test_new_threads_and_sessions_belong_to_the_owner(saver: SessionSaver, sql: Sql) -> None:
    adas = saver.for_owner("ada")
    await run(chain(adas, {"note": 1}), {}, config("t"))
    made = await adas.sessions.acreate("s")

    assert one(sql, "session_threads")["owner_id"] == "ada"
    assert one(sql, "sessions", "id = 't'")["owner_id"] == made.owner_id == "ada"


async def test_all_lists_have_the_owners_rows_only(saver: SessionSaver) -> None:
    for owner in ("ada", "eve"):
        graph = chain(saver.for_owner(owner), {"messages": [("ai", "Hello")]})
        await run(graph, {}, config(f"{owner}s"))
    await put(saver, 1, {}, config("nobodys"))
    adas = saver.for_owner("ada")

    assert {one.config["configurable"]["thread_id"] async for one in adas.alist(None)} == {"adas"}
    assert [found.thread_id for found in await adas.threads.alist()] == ["adas"]
    assert [found.id for found in await adas.sessions.alist()] == ["adas"]
    assert list(await adas.sessions.alist(owner_id="eve")) == []
    assert list(await adas.threads.alist(owner_id="eve")) == []
    assert len(await listed(saver, None)) > len(await listed(adas, None))


async def test_another_owner_cannot_be_named(saver: SessionSaver) -> None:
    adas = saver.for_owner("ada")

    await fails(put(adas, 1, {}, config(owner_id="eve")), AccessDeniedError)
    await fails(adas.aget_tuple(config(owner_id="eve")), AccessDeniedError)
    await fails(adas.sessions.acreate("s", owner_id="eve"), AccessDeniedError)
    await adas.sessions.acreate("s", owner_id="ada")
    await fails(adas.sessions.aupdate("s", owner_id="eve"), AccessDeniedError)
    await fails(adas.sessions.aupdate("s", owner_id=None), AccessDeniedError)


def test_a_saver_for_an_owner_makes_none_for_another(sync_saver: SessionSaver) -> None:
    adas = sync_saver.for_owner("ada")
    for owner, error in (("eve", AccessDeniedError), ("", InvalidConfigError)):
        try:
            adas.for_owner(owner)
        except error:
            continue
        raise AssertionError(owner)
    assert adas.for_owner("ada").threads.get("t") is None
