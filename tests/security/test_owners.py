"""Calls that name an owner: whose threads and sessions they read, change and join."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig

from langgraph_session_saver import AccessDeniedError, SessionConflictError, SessionSaver
from tests.support.backends import EACH_ONCE, Sql
from tests.support.graphs import engine_of
from tests.support.rows import chain, checkpoint_id, config, counts, fails, listed, one, put, run
from tests.support.savers import SaverFactory
from tests.support.statements import recorded_statements

BACKENDS_AND_FACES = EACH_ONCE


def naming(where: RunnableConfig, **configurable: Any) -> RunnableConfig:
    return {"configurable": {**where["configurable"], **configurable}}


async def adas(saver: SessionSaver, name: str = "t") -> RunnableConfig:
    """A thread of ada's with two checkpoints, as her calls name the newest."""
    where = await put(saver, 1, {"note": 1}, config(name, owner_id="ada"))
    return naming(await put(saver, 2, {"note": 2}, naming(where, owner_id="ada")), owner_id="ada")


# -- reading ------------------------------------------------------------------------------------


async def test_another_owners_thread_reads_like_one_that_does_not_exist(
    saver: SessionSaver,
) -> None:
    newest = await adas(saver)
    for where in (config(), newest):
        eves = naming(where, owner_id="eve")
        assert await saver.aget_tuple(eves) is None
        assert await listed(saver, eves) == []
        history = await saver.aget_delta_channel_history(config=eves, channels=["note"])
        assert history == {"note": {"writes": []}}
    for where in (newest, naming(config(), owner_id="ada"), config()):
        assert await saver.aget_tuple(where) is not None
        assert checkpoint_id(2) in await listed(saver, where)


async def test_a_graph_of_another_owner_sees_an_empty_state(saver: SessionSaver) -> None:
    graph = chain(saver, {"note": 1})
    await run(graph, {}, config(owner_id="ada"))

    state = await graph.aget_state(config(owner_id="eve"))

    assert "note" not in state.values
    assert [one async for one in graph.aget_state_history(config(owner_id="eve"))] == []
    assert (await graph.aget_state(config(owner_id="ada"))).values["note"] == 1


async def test_a_thread_without_an_owner_is_read_by_all_until_a_write_names_one(
    saver: SessionSaver,
) -> None:
    where = await put(saver, 1, {"note": 1})
    assert await listed(saver, config(owner_id="eve")) == [checkpoint_id(1)]
    assert await saver.aget_tuple(config(owner_id="ada")) is not None

    await put(saver, 2, {"note": 2}, naming(where, owner_id="ada"))

    assert await listed(saver, config(owner_id="eve")) == []
    assert await listed(saver, config(owner_id="ada")) == [checkpoint_id(2), checkpoint_id(1)]


async def test_a_thread_whose_session_has_an_owner_is_that_owners(saver: SessionSaver) -> None:
    await saver.sessions.acreate("s", owner_id="ada")
    await put(saver, 1, {"note": 1}, config(session_id="s"))

    assert await listed(saver, config(owner_id="eve")) == []
    assert await listed(saver, config(owner_id="ada")) == [checkpoint_id(1)]
    eves = put(saver, 2, {"note": 2}, config(owner_id="eve"))
    await fails(eves, AccessDeniedError)


async def test_naming_an_owner_takes_no_statement_more(saver: SessionSaver) -> None:
    """At a step and a read of a thread that this process knows."""
    named = await adas(saver, "named")
    unnamed = await put(saver, 2, {"note": 2}, await put(saver, 1, {"note": 1}, config("unnamed")))

    async def statements(where: RunnableConfig) -> list[str]:
        with recorded_statements(engine_of(saver)) as sent:
            await saver.aput_writes(where, [("note", 3)], "task")
            await put(saver, 3, {"note": 3}, where)
            assert await saver.aget_tuple(where) is not None
        return sent

    assert await statements(named) == await statements(unnamed)


# -- writing ------------------------------------------------------------------------------------


async def test_a_refusal_names_no_owner_and_is_what_it_was(saver: SessionSaver, sql: Sql) -> None:
    where = await adas(saver)
    before = counts(sql)

    error = await fails(put(saver, 3, {}, naming(where, owner_id="eve")), AccessDeniedError, "'t'")

    for kind in (PermissionError, SessionConflictError, ValueError):
        assert isinstance(error, kind)
    assert "ada" not in str(error)
    assert counts(sql) == before


async def test_writes_are_refused_once_the_thread_has_another_owner(
    make_saver: SaverFactory, sql: Sql
) -> None:
    """The first saver has cached the thread with its former owner."""
    saver, other = make_saver(), make_saver()
    where = await adas(saver)
    await saver.aput_writes(where, [("note", 1)], "before")
    await other.sessions.aupdate("t", owner_id="bob")
    before = counts(sql)

    await fails(saver.aput_writes(where, [("note", 1)], "after"), AccessDeniedError)
    many = [("note", n) for n in range(20)]
    await fails(saver.aput_writes(where, [*many, ("__error__", "x")], "many"), AccessDeniedError)
    await fails(put(saver, 3, {"note": 3}, where), AccessDeniedError)

    assert counts(sql) == before
    await saver.aput_writes(naming(where, owner_id="bob"), [("note", 1)], "bob's")


async def test_a_call_without_an_owner_does_not_make_a_cached_owner_valid_again(
    make_saver: SaverFactory,
) -> None:
    saver, other = make_saver(), make_saver()
    where = await adas(saver)
    await other.sessions.aupdate("t", owner_id="bob")
    unnamed = await put(saver, 3, {"note": 3}, config())  # it reads the thread's row again

    await fails(put(saver, 4, {}, naming(unnamed, owner_id="ada")), AccessDeniedError)
    await fails(saver.aput_writes(where, [("note", 1)], "task"), AccessDeniedError)


@pytest.mark.parametrize("keep_last", [None, 1])
async def test_writes_of_the_owner_are_stored_however_often_they_are_repeated(
    make_saver: SaverFactory, keep_last: int | None
) -> None:
    saver = make_saver(keep_last=keep_last)
    where = await adas(saver)
    for _ in range(2):
        await saver.aput_writes(where, [("note", 1), ("__resume__", 2)], "task")

    found = await saver.aget_tuple(where)

    assert found is not None
    assert sorted(found.pending_writes or ()) == [("task", "__resume__", 2), ("task", "note", 1)]


async def test_a_refused_checkpoint_leaves_nothing_in_the_caches(saver: SessionSaver) -> None:
    where = await adas(saver)
    forged = put(saver, 2, {"note": "eve's", "messages": []}, config(owner_id="eve"))
    await fails(forged, AccessDeniedError)

    await put(saver, 3, {"note": 3}, where)

    found = await saver.aget_tuple(where)
    assert found is not None
    assert found.checkpoint["channel_values"] == {"note": 2}


# -- joining a session --------------------------------------------------------------------------


@pytest.mark.parametrize("named", [{"thread": "new", "session_id": "adas"}, {"thread": "adas"}])
async def test_another_owner_cannot_join_a_session(
    saver: SessionSaver, sql: Sql, named: dict[str, Any]
) -> None:
    """By its id, nor by a thread of that id."""
    graph = chain(saver, {"title": "Hers", "messages": [("ai", "Hello")]})
    await run(graph, {}, config("t", session_id="adas", owner_id="ada"))
    before = counts(sql)

    intruding = chain(saver, {"title": "Mine", "messages": [("ai", "Hello, ada")]})
    error = await fails(
        run(intruding, {}, config(**named, owner_id="eve")), AccessDeniedError, "'adas'"
    )

    assert "'ada'" not in str(error)
    assert counts(sql) == before
    assert one(sql, "sessions")["title"] == "Hers"


async def test_a_thread_cannot_be_moved_into_another_owners_session(
    saver: SessionSaver, sql: Sql
) -> None:
    await put(saver, 1, {}, config("adas", owner_id="ada"))
    where = await put(saver, 1, {}, config("eves", owner_id="eve"))

    moving = put(saver, 2, {}, naming(where, owner_id="eve", session_id="adas"))
    await fails(moving, AccessDeniedError)

    await fails(put(saver, 2, {}, naming(where, session_id="adas")), AccessDeniedError)
    assert one(sql, "session_threads", "thread_id = 'eves'")["session_id"] == "eves"


async def test_a_session_that_a_thread_is_moved_to_gets_the_threads_owner(
    saver: SessionSaver, sql: Sql
) -> None:
    where = await put(saver, 1, {}, config("t", owner_id="ada"))

    await put(saver, 2, {}, naming(where, session_id="s"))

    assert one(sql, "sessions")["owner_id"] == "ada"


async def test_the_first_owner_who_joins_a_session_without_one_sets_it(
    saver: SessionSaver, sql: Sql
) -> None:
    await saver.sessions.acreate("s")

    await put(saver, 1, {}, config("a", session_id="s", owner_id="ada"))

    assert one(sql, "sessions")["owner_id"] == "ada"
    await fails(put(saver, 1, {}, config("e", session_id="s", owner_id="eve")), AccessDeniedError)


# -- copying ------------------------------------------------------------------------------------


async def test_a_copy_belongs_to_the_owner_of_its_source(saver: SessionSaver) -> None:
    await adas(saver)

    await saver.acopy_thread("t", "copy")

    assert await listed(saver, config("copy", owner_id="eve")) == []
    assert len(await listed(saver, config("copy", owner_id="ada"))) == 2
    await fails(put(saver, 3, {}, config("copy", owner_id="eve")), AccessDeniedError)


async def test_a_thread_is_not_copied_into_another_owners(saver: SessionSaver, sql: Sql) -> None:
    await adas(saver)
    await put(saver, 1, {}, config("eves", owner_id="eve"))
    await put(saver, 1, {}, config("own", session_id="eves session", owner_id="eve"))
    before = counts(sql)

    await fails(saver.acopy_thread("t", "eves"), AccessDeniedError)
    await fails(saver.acopy_thread("t", "eves session"), AccessDeniedError)
    into_session = saver.threads.acopy("t", session_id="eves session")
    await fails(into_session, AccessDeniedError)

    assert counts(sql) == before
