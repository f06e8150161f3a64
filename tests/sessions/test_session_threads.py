"""Sessions and their threads: grouping, moving, deleting, copying and pruning."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from sqlalchemy import delete, insert, text

from langgraph_session_saver import InvalidConfigError, SessionConflictError, SessionSaver
from langgraph_session_saver.encoding.keys import blob_key, hash_key
from langgraph_session_saver.schema.tables import build_tables
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.rows import (
    Graph,
    chain,
    checkpoint_id,
    config,
    counts,
    fails,
    listed,
    one,
    put,
    run,
    transcript,
)
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


def human(words: str, name: str) -> HumanMessage:
    return HumanMessage(words, id=name)


def answer(words: str, name: str, tokens: int = 10) -> AIMessage:
    usage: Any = {"input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1}
    return AIMessage(words, id=name, name="writer", usage_metadata=usage)


def talking(saver: SessionSaver, name: str = "a") -> Graph:
    """A graph of two steps: a message with token usage, and a page."""
    return chain(
        saver,
        {"messages": [answer(f"hello {name}", f"{name}1")], "title": f"Title {name}"},
        {"html": f"<p>{name}", "build_status": "success"},
    )


def of_session(sql: Sql, table: str) -> dict[str, int]:
    rows = sql(f"SELECT session_id, count(*) AS n FROM {table} GROUP BY session_id")
    return {row["session_id"]: row["n"] for row in rows}


def fail(_state: Any) -> dict[str, Any]:
    raise ValueError("out of flour")


# -- grouping -----------------------------------------------------------------------------------


async def test_a_thread_without_a_session_id_gets_its_own_session(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(talking(saver), {}, config("t1"))

    row = one(sql, "sessions")
    assert (row["id"], bool(row["made_by_saver"])) == ("t1", True)


async def test_a_session_id_groups_threads(saver: SessionSaver, sql: Sql) -> None:
    for name in ("a", "b", "c"):
        await run(talking(saver, name), {}, config(name, session_id="s"))

    assert one(sql, "sessions")["id"] == "s"
    assert of_session(sql, "session_threads") == {"s": 3}
    assert of_session(sql, "messages") == {"s": 3}
    assert of_session(sql, "token_usage") == {"s": 3}
    rows = sql("SELECT version, html FROM versions ORDER BY version")
    assert [tuple(row.values()) for row in rows] == [(0, "<p>a"), (1, "<p>b"), (2, "<p>c")]


async def test_an_existing_session_of_the_application_is_used(
    saver: SessionSaver, backend: Backend, sql: Sql
) -> None:
    await saver.asetup()
    with backend.engine().begin() as conn:
        conn.execute(insert(build_tables().sessions), {"id": "s", "title": "Mine"})

    await run(chain(saver, {"note": 1}), {}, config(session_id="s"))

    row = one(sql, "sessions")
    assert (row["title"], bool(row["made_by_saver"])) == ("Mine", False)


async def test_time_travel_keeps_the_session(saver: SessionSaver, sql: Sql) -> None:
    graph = talking(saver)
    await run(graph, {}, config(session_id="s", owner_id="ann"))
    older = [state async for state in graph.aget_state_history(config())][2]

    await graph.aupdate_state(older.config, {"note": 1}, as_node="step1")

    assert one(sql, "session_threads")["session_id"] == "s"
    assert one(sql, "sessions")["owner_id"] == "ann"


# -- moving -------------------------------------------------------------------------------------


async def test_the_first_call_that_names_a_session_moves_the_thread_into_it(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(talking(saver), {})
    await fails(run(chain(saver, fail), {}), ValueError)
    before = counts(sql)

    await run(chain(saver, {"note": 1}), {}, config(session_id="s"))

    row = one(sql, "sessions")
    assert (row["id"], bool(row["made_by_saver"])) == ("s", True)
    for table in ("session_threads", "messages", "versions", "token_usage", "session_errors"):
        assert of_session(sql, table) == {"s": before[table]}, table


async def test_a_moved_thread_takes_its_columns_along(saver: SessionSaver, sql: Sql) -> None:
    await run(talking(saver), {})

    await run(chain(saver, {"note": 1}), {}, config(session_id="s"))

    row = one(sql, "sessions")
    assert (row["title"], row["build_status"], row["current_version"]) == (
        "Title a",
        "success",
        0,
    )


async def test_a_moved_thread_cannot_be_moved_again(saver: SessionSaver, sql: Sql) -> None:
    await put(saver, 1, {"note": 1})
    await put(saver, 2, {"note": 2}, config(session_id="s"))

    await fails(
        put(saver, 3, {"note": 3}, config(session_id="elsewhere")), SessionConflictError, "'s'"
    )

    assert one(sql, "sessions")["id"] == "s"


async def test_a_thread_can_move_into_a_session_that_has_pages(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(talking(saver, "a"), {}, config("one", session_id="s"))
    await run(talking(saver, "b"), {}, config("two"))

    await run(chain(saver, {"note": 1}), {}, config("two", session_id="s"))

    rows = sql("SELECT session_id, version, html FROM versions ORDER BY version")
    assert [tuple(row.values()) for row in rows] == [("s", 0, "<p>a"), ("s", 1, "<p>b")]
    assert [row["id"] for row in sql("SELECT id FROM sessions")] == ["s"]


async def test_naming_the_threads_current_session_changes_nothing(
    saver: SessionSaver, sql: Sql
) -> None:
    await put(saver, 1, {"title": "One"}, config("t"))

    await put(saver, 2, {"title": "Two"}, config("t", session_id="t"))

    assert (one(sql, "sessions")["id"], one(sql, "sessions")["title"]) == ("t", "Two")
    assert one(sql, "session_threads")["is_first"]


# -- deleting -----------------------------------------------------------------------------------


async def test_a_deleted_thread_leaves_no_row(saver: SessionSaver, sql: Sql) -> None:
    await run(talking(saver), {})
    await fails(run(chain(saver, fail), {}), ValueError)
    assert all(counts(sql).values())

    await saver.adelete_thread("t")

    assert not any(counts(sql).values())


async def test_a_deleted_thread_leaves_the_others_of_its_session(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(talking(saver, "a"), {}, config("one", session_id="s"))
    await run(talking(saver, "b"), {}, config("two", session_id="s"))

    await saver.adelete_thread("one")

    assert transcript(sql) == [("assistant", "hello b")]
    assert one(sql, "sessions")["id"] == "s"
    assert one(sql, "token_usage")["session_id"] == "s"
    assert (await talking(saver, "b").aget_state(config("two"))).values["html"] == "<p>b"
    await saver.adelete_thread("two")
    assert not any(counts(sql).values())


async def test_the_next_thread_projects_columns_when_the_first_is_deleted(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(talking(saver, "a"), {}, config("one", session_id="s"))
    await run(talking(saver, "b"), {}, config("two", session_id="s"))
    await saver.adelete_thread("one")

    await run(chain(saver, {"title": "Two"}), {}, config("two"))

    assert one(sql, "sessions")["title"] == "Two"


async def test_a_session_of_the_application_outlives_its_threads(
    saver: SessionSaver, backend: Backend, sql: Sql
) -> None:
    await saver.asetup()
    with backend.engine().begin() as conn:
        conn.execute(insert(build_tables().sessions), {"id": "s", "title": "Mine"})
    await run(chain(saver, {"messages": [human("hi", "h")]}), {}, config(session_id="s"))

    await saver.adelete_thread("t")

    assert one(sql, "sessions")["id"] == "s"
    assert sum(counts(sql).values()) == 1


async def test_a_message_written_by_the_application_stays_with_its_session(
    saver: SessionSaver, backend: Backend, sql: Sql
) -> None:
    await saver.asetup()
    t = build_tables()
    with backend.engine().begin() as conn:
        conn.execute(insert(t.sessions), {"id": "s"})
        conn.execute(insert(t.messages), {"session_id": "s", "role": "user", "content": "by hand"})
    await run(talking(saver), {}, config(session_id="s"))

    await saver.adelete_thread("t")

    assert transcript(sql) == [("user", "by hand")]


async def test_deleting_a_missing_thread_changes_nothing(saver: SessionSaver, sql: Sql) -> None:
    await run(talking(saver), {})
    before = counts(sql)

    await saver.adelete_thread("no-such")

    assert counts(sql) == before


async def test_a_deleted_thread_can_be_used_again(saver: SessionSaver, sql: Sql) -> None:
    await run(talking(saver), {})
    await saver.adelete_thread("t")

    await run(talking(saver, "b"), {}, config(session_id="s"))

    assert transcript(sql) == [("assistant", "hello b")]
    assert sql("SELECT version FROM versions") == [{"version": 0}]
    assert one(sql, "sessions")["id"] == "s"


# -- deleting runs ------------------------------------------------------------------------------


def run_named(name: str) -> Any:
    return {**config(), "metadata": {"run_id": name}}


async def two_runs(saver: SessionSaver) -> None:
    first = {"title": "One", "messages": [human("a", "m1")], "html": "<p>1"}
    second = {"title": "Two", "messages": [answer("b", "m2")], "html": "<p>2"}
    await run(chain(saver, first), {}, run_named("r1"))
    await run(chain(saver, second), {"note": 1}, run_named("r2"))


async def test_rows_show_the_remaining_state_after_a_run_is_deleted(
    saver: SessionSaver, sql: Sql
) -> None:
    await two_runs(saver)

    await saver.adelete_for_runs(["r2"])

    row = one(sql, "sessions")
    assert (row["title"], row["current_version"]) == ("One", 0)
    assert transcript(sql) == [("user", "a")]
    assert transcript(sql, removed=True) == [("assistant", "b")]
    runs = sql("SELECT DISTINCT run_id FROM session_checkpoints")
    assert runs == [{"run_id": "r1"}]
    assert one(sql, "session_threads")["checkpoint_id"] == (await listed(saver, config()))[0]
    assert row["checkpoint_id"] == (await listed(saver, config()))[0]


async def test_the_status_is_that_of_the_remaining_checkpoint_after_a_run_is_deleted(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(chain(saver, {"note": 1}), {}, run_named("r1"))
    await fails(run(chain(saver, fail), {"note": 2}, run_named("r2")), ValueError)
    assert one(sql, "session_threads")["status"] == "error"

    await saver.adelete_for_runs(["r2"])

    row = one(sql, "session_threads")
    assert (row["status"], row["status_node"]) == ("done", None)


async def test_deleting_an_older_run_does_not_change_the_rows(
    saver: SessionSaver, sql: Sql
) -> None:
    await two_runs(saver)
    before = {table: counts(sql)[table] for table in ("messages", "versions", "token_usage")}

    await saver.adelete_for_runs(["r1"])

    assert (one(sql, "sessions")["title"], one(sql, "sessions")["current_version"]) == ("Two", 1)
    assert transcript(sql) == [("user", "a"), ("assistant", "b")]
    assert {table: counts(sql)[table] for table in before} == before
    found = await saver.aget_tuple(config())
    assert found is not None
    assert found.checkpoint["channel_values"]["html"] == "<p>2"


async def test_deleting_every_run_deletes_the_thread(saver: SessionSaver, sql: Sql) -> None:
    await two_runs(saver)

    await saver.adelete_for_runs(["r1", "r2"])

    assert not any(counts(sql).values())


async def test_a_deleted_run_leaves_no_orphaned_rows(saver: SessionSaver, sql: Sql) -> None:
    await two_runs(saver)

    await saver.adelete_for_runs(["r2"])

    await assert_no_orphans(saver, sql)


# -- copying ------------------------------------------------------------------------------------


async def test_a_copy_has_rows_of_its_own(saver: SessionSaver, sql: Sql) -> None:
    await run(talking(saver), {})

    await saver.acopy_thread("t", "copy")

    row = one(sql, "sessions", "id = 'copy'")
    assert (row["title"], row["build_status"], row["current_version"]) == (
        "Title a",
        "success",
        0,
    )
    assert one(sql, "messages", "session_id = 'copy'")["content"] == "hello a"
    assert one(sql, "versions", "session_id = 'copy'")["html"] == "<p>a"
    assert one(sql, "session_threads", "thread_id = 'copy'")["status"] == "done"
    assert await listed(saver, config("copy")) == await listed(saver, config("t"))


async def test_a_copy_adds_no_token_usage(saver: SessionSaver, sql: Sql) -> None:
    await run(talking(saver), {})

    await saver.acopy_thread("t", "copy")

    assert one(sql, "token_usage")["session_id"] == "t"


async def test_continuing_a_copy_adds_only_new_token_usage(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver()
    await run(talking(saver), {})
    await saver.acopy_thread("t", "copy")

    more = chain(saver, {"messages": [answer("more", "a2", 500)]})
    await run(more, {"messages": [human("go on", "h")]}, config("copy"))
    again = chain(make_saver(), {"messages": [answer("again", "a3", 600)]})
    await run(again, {"messages": [human("and on", "h2")]}, config("copy"))

    rows = sql("SELECT session_id, input_tokens FROM token_usage ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [("t", 10), ("copy", 500), ("copy", 600)]


async def test_a_copy_and_its_original_continue_independently(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(talking(saver), {})
    await saver.acopy_thread("t", "copy")

    await run(chain(saver, {"title": "Copy"}), {}, config("copy"))
    await run(chain(saver, {"title": "Original"}), {}, config("t"))

    titles = {row["id"]: row["title"] for row in sql("SELECT id, title FROM sessions")}
    assert titles == {"t": "Original", "copy": "Copy"}
    await saver.adelete_thread("t")
    state = await talking(saver).aget_state(config("copy"))
    assert (state.values["title"], state.values["html"]) == ("Copy", "<p>a")


async def test_a_copy_of_an_interrupted_thread_can_be_answered(
    saver: SessionSaver, sql: Sql
) -> None:
    graph = chain(saver, lambda _state: {"note": interrupt("which colour?")})
    await run(graph, {})
    await saver.acopy_thread("t", "copy")
    assert one(sql, "session_threads", "thread_id = 'copy'")["status"] == "interrupted"

    result = await run(graph, Command(resume="red"), config("copy"))

    assert result["note"] == "red"
    assert one(sql, "session_threads", "thread_id = 'copy'")["status"] == "done"
    assert one(sql, "session_threads", "thread_id = 't'")["status"] == "interrupted"


async def test_copying_a_missing_thread_does_nothing(saver: SessionSaver, sql: Sql) -> None:
    await saver.asetup()

    await saver.acopy_thread("no-such", "copy")

    assert not any(counts(sql).values())


async def test_a_thread_cannot_be_copied_onto_itself(saver: SessionSaver, sql: Sql) -> None:
    await run(talking(saver), {})
    before = counts(sql)

    await fails(saver.acopy_thread("t", "t"), InvalidConfigError, "'t'", "onto itself")

    assert counts(sql) == before


# -- pruning ------------------------------------------------------------------------------------


async def assert_no_orphans(saver: SessionSaver, sql: Sql) -> None:
    """Assert that every write has a checkpoint, and every blob belongs to one or is a base."""
    writes = sql(
        "SELECT count(*) AS n FROM session_writes w WHERE NOT EXISTS (SELECT 1 FROM"
        " session_checkpoints c WHERE c.thread_key = w.thread_key AND c.ns_key = w.ns_key"
        " AND c.checkpoint_id = w.checkpoint_id)"
    )
    assert writes == [{"n": 0}]
    before = counts(sql)["session_blobs"]
    used: set[tuple[bytes, bytes]] = set()
    async for found in saver.alist(None):
        where = found.config["configurable"]
        key = hash_key(where["thread_id"])
        for channel, version in found.checkpoint["channel_versions"].items():
            used.add((key, blob_key(where["checkpoint_ns"], channel, version)))
    rows = sql("SELECT thread_key, blob_key, base_key FROM session_blobs")
    bases = {(bytes(row["thread_key"]), bytes(row["blob_key"])): row["base_key"] for row in rows}
    needed = used & bases.keys()
    for at in list(needed):
        base = bases[at]
        while base is not None and (at[0], bytes(base)) not in needed:
            needed.add((at[0], bytes(base)))
            base = bases[at[0], bytes(base)]
    assert len(needed) == before


class Long(TypedDict, total=False):
    items: Annotated[list[Any], operator.add]
    note: Any


def counting(saver: SessionSaver) -> Graph:
    words = [f"word {n} " * 20 for n in range(20)]
    return chain(saver, {"items": words}, {"items": ["x"]}, {"note": 1}, state=Long)


async def test_keep_latest_leaves_one_checkpoint_and_what_it_needs(
    saver: SessionSaver, sql: Sql
) -> None:
    graph = counting(saver)
    for _ in range(5):
        await run(graph, {})
    before = await saver.aget_tuple(config())

    await saver.aprune(["t"])

    assert counts(sql)["session_checkpoints"] == 1
    assert counts(sql)["session_writes"] == 0
    assert await saver.aget_tuple(config()) == before
    await assert_no_orphans(saver, sql)


async def test_keep_latest_keeps_the_rows_that_were_projected(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(talking(saver), {})
    tables = ("sessions", "messages", "versions", "token_usage")
    before = {table: sql(f"SELECT * FROM {table}") for table in tables}

    await saver.aprune(["t"], strategy="keep_latest")

    assert {table: sql(f"SELECT * FROM {table}") for table in tables} == before


async def test_keep_latest_keeps_an_interrupt_that_can_be_answered(
    saver: SessionSaver, sql: Sql
) -> None:
    graph = chain(saver, {"other": 1}, lambda _state: {"note": interrupt("which colour?")})
    await run(graph, {})

    await saver.aprune(["t"])

    assert counts(sql)["session_checkpoints"] == 1
    assert counts(sql)["session_writes"] == 1
    assert (await run(graph, Command(resume="red")))["note"] == "red"


async def test_keep_latest_keeps_the_newest_of_a_subgraph_with_its_own_memory(
    saver: SessionSaver, sql: Sql
) -> None:
    builder: Any = StateGraph(Long)
    builder.add_node("note", lambda _state: {"note": 1})
    builder.add_edge(START, "note")
    outer: Any = StateGraph(Long)
    outer.add_node("inner", builder.compile(checkpointer=True))
    outer.add_edge(START, "inner")
    graph: Graph = outer.compile(checkpointer=saver)
    for _ in range(3):
        await run(graph, {})

    await saver.aprune(["t"])

    rows = sql("SELECT checkpoint_ns, count(*) AS n FROM session_checkpoints GROUP BY 1")
    assert {row["checkpoint_ns"]: row["n"] for row in rows} == {"": 1, "inner": 1}
    await assert_no_orphans(saver, sql)


async def test_a_pruned_thread_continues(saver: SessionSaver, sql: Sql) -> None:
    graph = counting(saver)
    await run(graph, {})
    await saver.aprune(["t"])

    await run(graph, {})

    items = (await graph.aget_state(config())).values["items"]
    assert len(items) == 42
    await assert_no_orphans(saver, sql)


async def test_pruning_a_thread_leaves_the_others(saver: SessionSaver, sql: Sql) -> None:
    await run(counting(saver), {}, config("one"))
    await run(counting(saver), {}, config("two"))
    before = await listed(saver, config("two"))

    await saver.aprune(["one", "no-such"])

    assert await listed(saver, config("two")) == before
    assert len(await listed(saver, config("one"))) == 1


async def test_prune_with_delete_leaves_no_row(saver: SessionSaver, sql: Sql) -> None:
    await run(talking(saver, "a"), {}, config("one"))
    await run(talking(saver, "b"), {}, config("two"))

    await saver.aprune(["one", "two"], strategy="delete")

    assert not any(counts(sql).values())


async def test_prune_of_no_thread_changes_nothing(saver: SessionSaver, sql: Sql) -> None:
    await run(counting(saver), {})
    before = counts(sql)

    await saver.aprune([])
    await saver.aprune([], strategy="delete")
    await saver.adelete_for_runs([])

    assert counts(sql) == before


# -- plain SQL in between -----------------------------------------------------------------------


async def test_the_next_run_creates_a_session_that_sql_deleted(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    saver = make_saver()
    await run(chain(saver, {"note": 1}), {}, config(session_id="s"))
    if backend.name == "mariadb":
        await saver.adelete_thread("t")  # InnoDB checks chains of blobs row by row
    else:
        with backend.engine().connect() as conn:
            if backend.name == "sqlite":
                conn.execute(text("PRAGMA foreign_keys=ON"))
            conn.execute(delete(build_tables().sessions))
            conn.commit()

    await run(chain(saver, {"title": "Again"}), {}, config(session_id="s"))

    assert one(sql, "sessions")["title"] == "Again"
    assert (await listed(saver, config()))[0] != checkpoint_id(1)
