"""Ids that are UUIDs: they are made text, as LangGraph makes them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from langgraph_session_saver import SessionSaver
from tests.support.backends import EACH_ONCE, Sql
from tests.support.rows import chain, checkpoint_id, config, listed, put, run

BACKENDS_AND_FACES = EACH_ONCE
THREAD: Any = UUID(int=1)
SESSION: Any = UUID(int=2)
OWNER: Any = UUID(int=3)


async def test_a_call_may_name_thread_session_and_owner_by_uuids(
    saver: SessionSaver, sql: Sql
) -> None:
    named = {"thread_id": THREAD, "session_id": SESSION, "owner_id": OWNER}
    await run(chain(saver, {"note": 1}), {}, {"configurable": named})

    (row,) = sql("SELECT thread_id, session_id, owner_id FROM session_threads")
    assert row == {name: str(value) for name, value in named.items()}


async def test_a_call_may_name_a_checkpoint_by_a_uuid(saver: SessionSaver) -> None:
    await put(saver, 2, {"note": 2}, await put(saver, 1, {"note": 1}))
    first: Any = UUID(checkpoint_id(1))
    second: Any = UUID(checkpoint_id(2))

    found = await saver.aget_tuple(config(checkpoint_id=first))

    assert found is not None
    assert found.checkpoint["id"] == str(first)
    assert await listed(saver, config(checkpoint_id=first)) == [str(first)]
    before = config(checkpoint_id=second)
    assert [one.checkpoint["id"] async for one in saver.alist(config(), before=before)] == [
        str(first)
    ]
    assert (await saver.adiff("t", first, second)).a == str(first)
    (entry,) = await saver.ahistory("t", before=second)
    assert entry.checkpoint_id == str(first)


async def test_repositories_take_uuids(saver: SessionSaver) -> None:
    await saver.sessions.acreate(SESSION, owner_id=OWNER, scope_id=THREAD)
    await saver.sessions.aadd_message(SESSION, "user", "Hi", message_id=THREAD)
    await put(saver, 1, {"note": 1}, {"configurable": {"thread_id": THREAD, "session_id": SESSION}})

    (found,) = await saver.sessions.alist(owner_id=OWNER)
    assert (found.id, found.owner_id, found.scope_id) == (str(SESSION), str(OWNER), str(THREAD))
    (message,) = await saver.sessions.amessages(SESSION)
    assert message.message_id == str(THREAD)
    assert len(await saver.threads.alist(session_id=SESSION, owner_id=OWNER)) == 1
    assert await saver.threads.aget(THREAD) is not None
    assert await saver.state.aclear_state(SESSION)


async def test_threads_are_copied_pruned_and_deleted_by_uuids(saver: SessionSaver) -> None:
    for number in (1, 2):
        await put(saver, number, {"note": 1}, {"configurable": {"thread_id": THREAD}})
    await saver.acopy_thread(THREAD, OWNER)
    await saver.aprune([THREAD])
    assert len(await listed(saver, config(str(THREAD)))) == 1

    await saver.adelete_thread(THREAD)
    assert await saver.threads.adelete(OWNER)

    assert await listed(saver, None) == []
    assert await saver.for_owner(OWNER).threads.aget(THREAD) is None
