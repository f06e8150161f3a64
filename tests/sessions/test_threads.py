"""`saver.threads`, and what `saver.sessions` shows of threads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from langgraph.types import interrupt
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from langgraph_session_saver import (
    InvalidConfigError,
    SessionConflictError,
    SessionSaver,
    ThreadNotFoundError,
)
from langgraph_session_saver.schema.tables import build_tables
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.graphs import engine_of
from tests.support.paging import all_ids, id_pages
from tests.support.rows import (
    chain,
    config,
    counts,
    fails,
    listed,
    one,
    put,
    run,
)
from tests.support.savers import SaverFactory
from tests.support.statements import recorded_statements

BACKENDS_AND_FACES = EACH_ONCE
MOMENT = datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)
STATUSES = ("done", "pending", "running", "interrupted", "error")


def ask(_state: Any) -> dict[str, Any]:
    return {"note": interrupt("which colour?")}


def fail(_state: Any) -> dict[str, Any]:
    raise ValueError("out of flour")


def set_threads(backend: Backend, values: dict[str, Any], *thread_ids: str) -> None:
    """Change columns of threads, or of all."""
    t = build_tables().threads
    changed = update(t).values({"updated_at": t.c.updated_at, **values})
    with backend.engine().begin() as conn:
        conn.execute(changed.where(t.c.thread_id.in_(thread_ids)) if thread_ids else changed)


def pages(saver: SessionSaver, **wanted: Any) -> AsyncIterator[list[str]]:
    return id_pages(saver.threads.alist, "thread_id", **wanted)


async def every(saver: SessionSaver, **wanted: Any) -> list[str]:
    return await all_ids(saver.threads.alist, "thread_id", **wanted)


# -- one thread ---------------------------------------------------------------------------------


async def test_a_thread_shows_its_status_and_its_sessions_title(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(chain(saver, {"title": "Bakery"}, ask), {}, config(session_id="s", owner_id="ada"))

    found = await saver.threads.aget("t")

    assert found is not None
    assert (found.thread_id, found.session_id, found.title) == ("t", "s", "Bakery")
    assert (found.status, found.status_node, found.status_step) == ("interrupted", "step2", 2)
    assert (found.owner_id, found.checkpoint_id) == ("ada", (await listed(saver, config()))[0])
    assert found.status_since is not None
    assert found.created_at < found.status_since <= found.updated_at
    assert one(sql, "session_threads")["thread_id"] == "t"
    assert await saver.threads.aget("no such") is None


async def test_a_thread_whose_owner_no_call_has_named_belongs_to_its_sessions_owner(
    saver: SessionSaver,
) -> None:
    await saver.sessions.acreate("s", owner_id="ada")
    await put(saver, 1, {}, config("unnamed", session_id="s"))
    await put(saver, 1, {}, config("bob's", owner_id="bob"))

    found = await saver.threads.aget("unnamed")

    assert found is not None
    assert found.owner_id == "ada"
    assert await every(saver, owner_id="ada") == ["unnamed"]
    assert await every(saver, owner_id="bob") == ["bob's"]
    assert await every(saver, owner_id="Ada") == []


# -- listing ------------------------------------------------------------------------------------


async def test_a_listing_is_filtered_by_session_owner_status_metadata_and_time(
    saver: SessionSaver, backend: Backend
) -> None:
    await put(saver, 1, {}, config("by session", session_id="s"))
    await put(saver, 1, {}, config("by owner", owner_id="ada"))
    await fails(run(chain(saver, fail), {}, config("by status")), ValueError)
    await put(saver, 1, {}, config("by metadata"), user="leo")
    await put(saver, 1, {}, config("by time"))
    set_threads(backend, {"updated_at": MOMENT}, "by time")

    assert await every(saver, session_id="s") == ["by session"]
    assert await every(saver, owner_id="ada") == ["by owner"]
    assert await every(saver, status="error") == ["by status"]
    assert await every(saver, metadata={"user": "leo"}) == ["by metadata"]
    later = MOMENT + timedelta(microseconds=1)
    assert await every(saver, updated_since=MOMENT, updated_before=later) == ["by time"]
    assert await every(saver, updated_before=MOMENT) == []
    assert await every(saver, session_id="s", status="error") == []
    assert len(await every(saver)) == 5


async def test_threads_of_a_soft_deleted_session_are_hidden(saver: SessionSaver) -> None:
    await put(saver, 1, {}, config("shown"))
    await put(saver, 1, {}, config("hidden"))

    await saver.sessions.adelete("hidden", soft=True)

    assert await every(saver) == ["shown"]
    assert sorted(await every(saver, deleted=True)) == ["hidden", "shown"]
    assert await saver.threads.aget("hidden") is not None


async def test_a_page_is_full_whatever_soft_deletion_hides(make_saver: SaverFactory) -> None:
    saver = make_saver()
    for name in "abcdefg":
        await put(saver, 1, {}, config(name))
        if name in "cdeg":
            await saver.sessions.adelete(name, soft=True)

    with recorded_statements(engine_of(saver)) as statements:
        found = [page async for page in pages(saver, limit=2)]

    assert found == [["f", "b"], ["a"]]
    assert statements == ["SELECT session_threads"] * 3  # 3 and 4 of 7 rows, then 1


async def test_pages_list_each_thread_once_when_all_have_the_same_time(
    saver: SessionSaver, backend: Backend
) -> None:
    names = [f"{number:02}" for number in range(10)]
    for number, name in enumerate(names):
        await put(saver, 1, {}, config(name), half=number % 2)
    set_threads(backend, {"updated_at": MOMENT})

    assert [page async for page in pages(saver, limit=5)] == [names[:4:-1], names[4::-1]]
    ascending = [page async for page in pages(saver, limit=4, descending=False)]
    assert ascending == [names[:4], names[4:8], names[8:]]
    odd = [page async for page in pages(saver, limit=3, metadata={"half": 1}, order_by="thread_id")]
    assert odd == [["09", "07", "05"], ["03", "01"]]


async def test_threads_are_ordered_by_time_or_id(saver: SessionSaver, backend: Backend) -> None:
    for name in ("a", "b", "c"):
        await put(saver, 1, {}, config(name))
    set_threads(backend, {"updated_at": MOMENT}, "b")

    assert await every(saver, order_by="updated_at") == ["c", "a", "b"]
    assert await every(saver, order_by="created_at", limit=1) == ["c", "b", "a"]
    assert await every(saver, order_by="thread_id", descending=False, limit=1) == ["a", "b", "c"]


async def test_metadata_is_that_of_the_newest_root_checkpoint(saver: SessionSaver) -> None:
    first = await put(saver, 1, {}, config(checkpoint_ns=""), user="leo")
    await put(saver, 2, {}, first, user="ada")
    await put(saver, 3, {}, config(checkpoint_ns="sub"), user="bob")

    found = {name for name in ("leo", "ada", "bob") if await every(saver, metadata={"user": name})}

    assert found == {"ada"}


@pytest.mark.parametrize(
    "wanted",
    [{"user": "leo"}, {"user": None}, {"none": None}, {"absent": None}, {"flag": True}, {"flag": 1},
     {"deep": {"a": [1]}}, {"deep": {"a": []}}, {"user": "leo", "flag": 2}, {}],
)  # fmt: skip
async def test_metadata_is_compared_as_a_list_of_checkpoints_compares_it(
    saver: SessionSaver, wanted: dict[str, Any]
) -> None:
    await put(saver, 1, {}, config(), user="leo", none=None, flag=1, deep={"a": [1]})

    expected = [found async for found in saver.alist(None, filter=wanted)]

    assert len(await every(saver, metadata=wanted)) == len(expected)


async def test_a_page_is_one_statement(make_saver: SaverFactory) -> None:
    saver = make_saver()
    for name in ("a", "b"):
        await put(saver, 1, {}, config(name, session_id="s", owner_id="ada"), user="leo")

    with recorded_statements(engine_of(saver)) as statements:
        page = await saver.threads.alist(
            status="done", session_id="s", owner_id="ada", updated_since=MOMENT, limit=1
        )
        await saver.threads.alist(metadata={"user": "leo"}, limit=1, after=page.next)

    assert statements == ["SELECT session_threads"] * 2


async def test_a_page_of_few_matching_threads_reads_twice_as_many_with_each_statement(
    make_saver: SaverFactory,
) -> None:
    saver = make_saver()
    for number in range(20):
        await put(saver, 1, {}, config(f"{number:02}"), user="leo" if number == 0 else "ada")

    with recorded_statements(engine_of(saver)) as statements:
        page = await saver.threads.alist(metadata={"user": "leo"}, limit=1)

    assert [thread.thread_id for thread in page] == ["00"]
    assert statements == ["SELECT session_threads"] * 4  # 2, 4, 8 and 6 of 16 rows


# -- copying and deleting -----------------------------------------------------------------------


async def test_a_copy_is_a_thread_of_the_same_owner_in_a_session_of_its_own(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(chain(saver, {"title": "Bakery"}), {}, config(session_id="s", owner_id="ada"))

    copied = await saver.threads.acopy("t")

    assert UUID(copied.thread_id).version == 4
    assert (copied.session_id, copied.title) == (copied.thread_id, "Bakery")
    assert (copied.owner_id, copied.status) == ("ada", "done")
    assert await listed(saver, config(copied.thread_id)) == await listed(saver, config())
    assert one(sql, "sessions", "id = :id", id=copied.thread_id)["owner_id"] == "ada"
    assert await saver.threads.aget(copied.thread_id) == copied


async def test_a_copy_can_be_put_into_a_session_for_another_owner(saver: SessionSaver) -> None:
    await put(saver, 1, {"note": 1}, config(owner_id="ada"))

    copied = await saver.threads.acopy("t", "copy", session_id="s", owner_id="bob")

    assert (copied.thread_id, copied.session_id, copied.owner_id) == ("copy", "s", "bob")
    refused = put(saver, 2, {"note": 2}, config("copy", owner_id="ada"))
    await fails(refused, PermissionError, "'copy'")


async def test_a_copy_of_a_missing_thread_or_onto_another_is_refused(
    saver: SessionSaver, sql: Sql
) -> None:
    await put(saver, 1, {}, config("a"))
    await put(saver, 1, {}, config("b"))
    before = counts(sql)

    await fails(saver.threads.acopy("c", "d"), ThreadNotFoundError, "'c'")
    await fails(saver.threads.acopy("a", "b"), SessionConflictError, "'b'", "exists")
    await fails(saver.threads.acopy("a", "a"), SessionConflictError, "'a'", "exists")

    assert counts(sql) == before


async def test_a_thread_is_deleted_with_the_session_that_was_made_for_it(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(chain(saver, {"html": "<p>", "messages": [("ai", "hi")]}), {})

    assert await saver.threads.adelete("t")

    assert not any(counts(sql).values())
    assert not await saver.threads.adelete("t")


async def test_changes_are_part_of_the_callers_transaction(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    engine: Any = backend.async_engine() if make_saver.face == "async" else backend.engine()
    saver = make_saver(engine=engine)
    await run(chain(saver, {"title": "Bakery"}), {})
    before = counts(sql)

    async def change(connection: Any) -> None:
        await saver.threads.acopy("t", "copy", connection=connection)
        assert await saver.threads.adelete("t", connection=connection)
        assert await saver.threads.aget("t", connection=connection) is None
        page = await saver.threads.alist(connection=connection)
        assert [thread.thread_id for thread in page] == ["copy"]

    if isinstance(engine, AsyncEngine):
        async with engine.connect() as connection:
            await change(connection)
            await connection.rollback()
    else:
        with engine.connect() as connection:
            await change(connection)
            connection.rollback()

    assert counts(sql) == before
    await run(chain(saver, {"note": 1}), {})
    assert (await chain(saver, {}).aget_state(config())).values["title"] == "Bakery"


# -- of sessions --------------------------------------------------------------------------------


async def sessions_of_each_status(saver: SessionSaver, backend: Backend) -> None:
    """Sessions named after the most urgent status of their threads; `none` has no thread."""
    await saver.sessions.acreate("none")
    for number, status in enumerate(STATUSES):
        for less in STATUSES[: number + 1]:
            name = f"{status} {less}"
            await put(saver, 1, {}, config(name, session_id=status))
            set_threads(backend, {"status": less}, name)


async def test_a_session_shows_the_most_urgent_status_of_its_threads(
    saver: SessionSaver, backend: Backend
) -> None:
    await sessions_of_each_status(saver, backend)

    shown = {session.id: session.thread_status for session in await saver.sessions.alist()}

    assert shown == {"none": None, **{status: status for status in STATUSES}}
    found = await saver.sessions.aget("error")
    assert found is not None
    assert found.thread_status == "error"


async def test_sessions_are_filtered_and_ordered_by_the_status_of_their_threads(
    saver: SessionSaver, backend: Backend
) -> None:
    await sessions_of_each_status(saver, backend)

    for status in STATUSES:
        page = await saver.sessions.alist(thread_status=status)
        assert [session.id for session in page] == [status]
    first = await saver.sessions.alist(order_by="thread_status", limit=4)
    rest = await saver.sessions.alist(order_by="thread_status", limit=4, after=first.next)
    assert [session.id for session in (*first, *rest)] == [*STATUSES[::-1], "none"]
    assert rest.next is None
    up = await saver.sessions.alist(order_by="thread_status", descending=False)
    assert [session.id for session in up] == ["none", *STATUSES]


async def test_a_page_of_sessions_by_status_is_one_statement(make_saver: SaverFactory) -> None:
    saver = make_saver()
    for name in ("a", "b"):
        await put(saver, 1, {}, config(name))

    with recorded_statements(engine_of(saver)) as statements:
        page = await saver.sessions.alist(order_by="thread_status", thread_status="done", limit=1)
        await saver.sessions.alist(order_by="thread_status", limit=1, after=page.next)

    assert statements == ["SELECT sessions"] * 2


# -- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "arguments", "options", "words"),
    [
        ("list", [], {"status": "failed"}, "done, pending"),
        ("list", [], {"order_by": "status"}, "updated_at, created_at, thread_id"),
        ("list", [], {"metadata": {1: 2}}, "keys are text"),
        ("list", [], {"owner_id": "\x00"}, "NUL"),
        ("list", [], {"updated_since": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001
        ("list", [], {"limit": 0}, "limit"),
        ("list", [], {"limit": 0, "metadata": {"a": 1}}, "limit"),
        ("list", [], {"after": "x"}, "no cursor"),
        ("get", [""], {}, "empty"),
        ("copy", ["t", ""], {}, "empty"),
        ("copy", ["t"], {"owner_id": True}, "owner_id"),
        ("delete", ["\x00"], {}, "NUL"),
    ],
)
def test_invalid_input_is_refused(
    method: str, arguments: list[Any], options: dict[str, Any], words: str
) -> None:
    with SessionSaver.from_conn_string(":memory:") as saver:
        with pytest.raises(InvalidConfigError, match=words):
            getattr(saver.threads, method)(*arguments, **options)
        with pytest.raises(InvalidConfigError, match="one of done"):
            saver.sessions.list(thread_status="failed")
