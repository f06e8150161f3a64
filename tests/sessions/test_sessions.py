"""`saver.sessions`: sessions and their rows, without a graph."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from sqlalchemy import Engine, event, insert, text

from langgraph_session_saver import (
    BuildInfo,
    SessionConflictError,
    SessionNotFoundError,
    SessionSaver,
    VersionNotFoundError,
)
from langgraph_session_saver.schema.tables import build_tables
from langgraph_session_saver.sessions.repository import SessionRepository
from langgraph_session_saver.sessions.state import SessionState
from langgraph_session_saver.sessions.threads import ThreadRepository
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.graphs import engine_of
from tests.support.paging import all_ids, id_pages
from tests.support.rows import chain, config, counts, fails, listed, one, run
from tests.support.savers import SaverFactory
from tests.support.statements import recorded_statements

BACKENDS_AND_FACES = EACH_ONCE
MOMENT = datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def sqlite_once(test: Any) -> Any:
    """Run a test once, on SQLite, for what is the same on every database and face."""
    test = pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)(test)
    return pytest.mark.parametrize("face", ["sync"], indirect=True)(test)


def insert_sessions(backend: Backend, rows: list[dict[str, Any]]) -> None:
    engine = backend.engine()
    with engine.begin() as conn:
        conn.execute(insert(build_tables().sessions), rows)


@pytest.mark.parametrize("owner", [SessionRepository, SessionState, ThreadRepository])
def test_every_method_has_an_async_twin_with_its_name_and_arguments(owner: type[Any]) -> None:
    methods = {name for name in dir(owner) if not name.startswith("_")}
    twins = {name for name in methods if inspect.iscoroutinefunction(getattr(owner, name))}
    assert twins == {f"a{name}" for name in methods - twins}
    for name in methods - twins:
        method, twin = getattr(owner, name), getattr(owner, f"a{name}")
        assert inspect.signature(twin) == inspect.signature(method)
        assert (twin.__name__, twin.__doc__) == (f"a{name}", f"As `{name}`.")
        assert twin.__qualname__.endswith(f".a{name}")


def pages(saver: SessionSaver, **wanted: Any) -> AsyncIterator[list[str]]:
    return id_pages(saver.sessions.alist, "id", **wanted)


async def every(saver: SessionSaver, **wanted: Any) -> list[str]:
    return await all_ids(saver.sessions.alist, "id", **wanted)


# -- one session --------------------------------------------------------------------------------


async def test_a_session_gets_a_uuid4_and_defaults(saver: SessionSaver, sql: Sql) -> None:
    created = await saver.sessions.acreate()

    assert UUID(created.id).version == 4
    assert (created.title, created.build_status) == ("Untitled session", "pending")
    assert (created.current_version, created.round_sequence) == (0, 0)
    assert created.created_at == created.updated_at
    assert await saver.sessions.aget(created.id) == created
    assert not one(sql, "sessions")["made_by_saver"]


async def test_a_session_is_created_with_columns_as_a_step_would_write_them(
    saver: SessionSaver,
) -> None:
    created = await saver.sessions.acreate(
        "s", title="A bakery", owner_id="ada", complexity="simple", scope_type="GENESIS",
        model_writer="m-1", build_status=BuildInfo(status="success", pages=["/"]),  # type: ignore[arg-type]
    )  # fmt: skip

    assert (created.title, created.owner_id, created.model_writer) == ("A bakery", "ada", "m-1")
    assert (created.build_status, created.build_artifacts) == ("success", {"pages": ["/"]})
    assert await saver.sessions.aget("no such") is None


@sqlite_once
async def test_an_id_in_use_is_refused(saver: SessionSaver) -> None:
    await saver.sessions.acreate("s", title="One")

    await fails(saver.sessions.acreate("s", title="Two"), SessionConflictError, "'s' already")

    found = await saver.sessions.aget("s")
    assert found is not None
    assert found.title == "One"


async def test_an_update_changes_the_given_columns_and_none_clears_them(
    saver: SessionSaver,
) -> None:
    created = await saver.sessions.acreate("s", title="One", owner_id="ada", product_type="card")

    updated = await saver.sessions.aupdate("s", title="Two", product_type=None)

    assert (updated.title, updated.product_type, updated.owner_id) == ("Two", None, "ada")
    assert updated.created_at == created.created_at
    assert updated.updated_at > created.updated_at
    assert (await saver.sessions.aupdate("s", title=None)).title == "Untitled session"
    await fails(saver.sessions.aupdate("t", title="Two"), SessionNotFoundError, "'t'")


# -- listing ------------------------------------------------------------------------------------


async def test_a_listing_is_filtered_by_each_indexed_column_and_by_owner(
    saver: SessionSaver, backend: Backend
) -> None:
    await saver.asetup()
    columns = {"owner_id": "ada", "build_status": "failed", "product_type": "card",
               "complexity": "medium"}  # fmt: skip
    for name, value in columns.items():
        only: Any = {name: value}
        await saver.sessions.acreate(f"by {name}", **only)
    insert_sessions(backend, [{"id": "by time", "updated_at": MOMENT}])

    for name, value in columns.items():
        assert await every(saver, **{name: value}) == [f"by {name}"]
    later = MOMENT + timedelta(microseconds=1)
    assert await every(saver, updated_since=MOMENT, updated_before=later) == ["by time"]
    assert await every(saver, updated_before=MOMENT) == []
    assert await every(saver, owner_id="Ada") == []
    assert await every(saver, owner_id="ada", complexity="medium") == []
    assert len(await every(saver)) == 5


async def test_pages_list_each_session_once_when_all_have_the_same_time(
    saver: SessionSaver, backend: Backend
) -> None:
    await saver.asetup()
    names = [f"{number:02}" for number in range(10)]
    insert_sessions(backend, [{"id": name, "updated_at": MOMENT} for name in names])

    assert [page async for page in pages(saver, limit=5)] == [names[:4:-1], names[4::-1]]
    ascending = [page async for page in pages(saver, limit=4, descending=False)]
    assert ascending == [names[:4], names[4:8], names[8:]]


@sqlite_once
async def test_sessions_added_or_removed_while_paging_neither_repeat_nor_hide_others(
    saver: SessionSaver, backend: Backend
) -> None:
    await saver.asetup()
    rows = [{"id": f"s{n}", "updated_at": MOMENT + timedelta(n)} for n in range(6)]
    insert_sessions(backend, rows)

    first = await saver.sessions.alist(limit=2)
    await saver.sessions.adelete("s5")
    insert_sessions(backend, [{"id": "new", "updated_at": MOMENT + timedelta(9)}])
    rest = await saver.sessions.alist(limit=9, after=first.next)

    assert [s.id for s in first] == ["s5", "s4"]
    assert [s.id for s in rest] == ["s3", "s2", "s1", "s0"]


@pytest.mark.parametrize(
    "order", ["updated_at", "created_at", "title", "build_status", "current_version", "id"]
)
@sqlite_once
async def test_sessions_are_ordered_by_a_column_and_then_by_id(
    saver: SessionSaver, backend: Backend, order: str
) -> None:
    await saver.asetup()
    rows = [
        {"id": f"s{n}", "title": f"t{n % 3}", "current_version": n % 2,
         "build_status": ("pending", "failed")[n % 2], "created_at": MOMENT + timedelta(n % 4),
         "updated_at": MOMENT - timedelta(n % 5)}
        for n in range(12)
    ]  # fmt: skip
    insert_sessions(backend, rows)
    expected = [row["id"] for row in sorted(rows, key=lambda row: (row[order], row["id"]))]

    assert await every(saver, order_by=order, descending=False, limit=5) == expected
    assert await every(saver, order_by=order, limit=5) == expected[::-1]


async def test_a_page_is_one_statement(make_saver: SaverFactory) -> None:
    saver = make_saver()
    await saver.sessions.acreate(owner_id="ada")

    with recorded_statements(engine_of(saver)) as statements:
        await saver.sessions.alist(owner_id="ada", updated_since=MOMENT)

    assert statements == ["SELECT sessions"]


@pytest.mark.parametrize("face", ["async-engine"], indirect=True)
@pytest.mark.parametrize("backend_name", ["sqlite", "postgresql", "mariadb"], indirect=True)
async def test_the_last_page_of_10_000_sessions_reads_no_more_rows_than_the_first(
    make_saver: SaverFactory, backend: Backend
) -> None:
    saver = make_saver()
    await saver.asetup()
    moments = [MOMENT + timedelta(seconds=n) for n in range(10_000)]
    insert_sessions(
        backend, [{"id": f"s{n:05}", "updated_at": moment} for n, moment in enumerate(moments)]
    )
    engine = engine_of(saver)
    with engine.begin() as conn:
        conn.execute(text("ANALYZE TABLE sessions" if backend.name == "mariadb" else "ANALYZE"))

    start = await saver.sessions.alist(limit=9_900)
    first = await cost_of_page(saver, engine, backend, None)
    last = await cost_of_page(saver, engine, backend, start.next)

    assert (await saver.sessions.alist(limit=100, after=start.next))[-1].id == "s00000"
    assert last <= first * 1.05


async def cost_of_page(
    saver: SessionSaver, engine: Engine, backend: Backend, after: str | None
) -> float:
    """The cost of a page: rows read, or on SQLite instructions of its virtual machine."""
    seen: list[tuple[str, Any]] = []

    def note(conn: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        seen.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    await saver.sessions.alist(limit=30, after=after)
    event.remove(engine, "before_cursor_execute", note)
    [(statement, parameters)] = [entry for entry in seen if "FROM sessions" in entry[0]]
    with engine.connect() as conn:
        if backend.name == "sqlite":
            plan = conn.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters).all()
            assert "USING INDEX idx_sessions_updated" in plan[0].detail
            steps: list[None] = []
            driver: Any = conn.connection.driver_connection
            driver.set_progress_handler(lambda: steps.append(None), 1)
            conn.exec_driver_sql(statement, parameters).all()
            driver.set_progress_handler(None, 0)
            return len(steps)
        if backend.name == "postgresql":
            explained = conn.exec_driver_sql("EXPLAIN (ANALYZE) " + statement, parameters)
            plan_text = "\n".join(row[0] for row in explained)
            assert "using idx_sessions_updated" in plan_text
            return float(plan_text.split("idx_sessions_updated")[1].split("rows=")[2].split()[0])
        conn.exec_driver_sql("FLUSH STATUS")
        conn.exec_driver_sql(statement, parameters).all()
        status = conn.execute(text("SHOW SESSION STATUS LIKE 'Handler_read%'")).all()
        return sum(int(value) for _, value in status)


# -- deleting -----------------------------------------------------------------------------------


async def test_a_soft_deleted_session_is_hidden_and_can_be_restored(
    saver: SessionSaver,
) -> None:
    await saver.sessions.acreate("s", status="ACTIVE")
    await saver.sessions.acreate("t")

    assert await saver.sessions.adelete("s", soft=True)

    assert await every(saver) == ["t"]
    assert sorted(await every(saver, deleted=True)) == ["s", "t"]
    found = await saver.sessions.aget("s")
    assert found is not None
    assert found.is_deleted
    await saver.sessions.aupdate("s", status=None)
    assert sorted(await every(saver)) == ["s", "t"]
    assert not await saver.sessions.adelete("no such", soft=True)


async def test_a_session_is_deleted_with_everything_it_owns_and_nothing_else(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(chain(saver, *told("a")), {}, config("one", session_id="s"))
    await run(chain(saver, *told("b")), {}, config("two", session_id="s"))
    await fails(run(chain(saver, fail), {}, config("two")), ValueError)
    await fill(saver, "s")
    await run(chain(saver, *told("c")), {}, config("other"))
    await fill(saver, "other")

    assert await saver.sessions.adelete("s")

    left = counts(sql)
    assert await saver.sessions.aget("s") is None
    assert {**left, "session_errors": 1} == {**left, "session_errors": 1, "sessions": 1}
    assert left["session_threads"] == 1
    assert (left["messages"], left["versions"], left["token_usage"]) == (2, 2, 2)
    assert await saver.sessions.adelete("other")
    assert not any(counts(sql).values())
    assert not await saver.sessions.adelete("other")


def told(name: str) -> list[dict[str, Any]]:
    usage: Any = {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}
    said = AIMessage(f"hello {name}", id=name, name="writer", usage_metadata=usage)
    return [{"messages": [said], "other": "x" * 900}, {"html": f"<p>{name}", "other": "x" * 901}]


def fail(_state: Any) -> dict[str, Any]:
    raise ValueError("out of flour")


async def fill(saver: SessionSaver, session_id: str) -> None:
    """Add a message, a page and a token usage manually."""
    await saver.sessions.aadd_message(session_id, "user", "by hand")
    await saver.sessions.aadd_version(session_id, "<p>by hand")
    await saver.sessions.aadd_token_usage(
        session_id, agent_type="hand", model="m", input_tokens=1, output_tokens=2
    )


@pytest.mark.parametrize("face", ["async-engine"], indirect=True)
@pytest.mark.parametrize("backend_name", ["sqlite", "mariadb"], indirect=True)
async def test_many_rows_are_deleted_in_pieces(
    make_saver: SaverFactory, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "storage.thread_data.PIECE",
        "storage.thread_data.LARGEST",
        "sessions.repository.PIECE",
    ):
        monkeypatch.setattr(f"langgraph_session_saver.{name}", 2)
    monkeypatch.setattr("langgraph_session_saver.storage.thread_data.SECONDS", 3_600.0)
    saver = make_saver()
    steps: list[Any] = [{"other": "x" * 900 + str(number)} for number in range(4)]
    for name in ("one", "two"):
        await run(chain(saver, *steps), {}, config(name, session_id="s"))
    for number in range(4):
        await saver.sessions.aadd_message("s", "user", str(number))

    with recorded_statements(engine_of(saver)) as statements:
        assert await saver.sessions.adelete("s")

    assert not any(counts(sql).values())
    assert statements.count("DELETE messages") == 2 + 2 + 1  # pieces, with each thread, the rest
    assert statements.count("DELETE session_checkpoints") == 2 * (2 + 1 + 1)  # pieces, last, rest


@pytest.mark.parametrize("who", ["the same saver", "another process's saver"])
async def test_a_thread_continues_after_its_session_was_deleted(
    make_saver: SaverFactory, sql: Sql, who: str
) -> None:
    saver = make_saver()
    graph = chain(saver, {"messages": [HumanMessage("one", id="m1")], "other": "y" * 900})
    await run(graph, {"note": 1}, config(session_id="s"))
    deleter = saver if who == "the same saver" else make_saver()

    await deleter.sessions.adelete("s")
    again = {"messages": [HumanMessage("two", id="m2")], "html": "<p>", "title": "New"}
    await run(chain(saver, again), {"note": 2}, config(session_id="s"))

    state = await chain(make_saver(), {}).aget_state(config())
    assert state.values["note"] == 2
    assert [m.content for m in state.values["messages"]] == ["two"]
    row = one(sql, "sessions")
    assert (row["id"], row["title"]) == ("s", "New")
    assert row["checkpoint_id"] == (await listed(saver, config()))[0]
    assert len(await listed(saver, config())) == 3


async def test_sessions_can_change_owner_while_another_process_runs(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver, other = make_saver(), make_saver()
    await run(chain(saver, {"note": 1}), {}, config(owner_id="ada"))

    await other.sessions.aupdate("t", owner_id="bob")

    refused = run(chain(saver, {"note": 2}), {}, config(owner_id="ada"))
    await fails(refused, PermissionError, "'t'")
    await run(chain(saver, {"note": 3}), {}, config(owner_id="bob"))
    assert one(sql, "session_threads")["owner_id"] == "bob"


# -- messages -----------------------------------------------------------------------------------


async def test_manual_messages_and_those_of_a_graph_are_one_transcript(saver: SessionSaver) -> None:
    await run(chain(saver, {"messages": [HumanMessage("from a graph", id="m1")]}), {})
    before = await saver.sessions.aget("t")
    added = await saver.sessions.aadd_message("t", "assistant", "by hand\x00", message_id="m2")

    first = await saver.sessions.amessages("t", limit=1)
    rest = await saver.sessions.amessages("t", limit=1, after=first.next)

    assert [(m.role, m.content) for m in first] == [("user", "from a graph")]
    assert list(rest) == [added]
    assert rest.next is None
    assert (added.content, added.message_id) == ("by hand\ufffd", "m2")
    assert (await saver.sessions.amessages("t", descending=True))[0] == added
    after = await saver.sessions.aget("t")
    assert before is not None
    assert after is not None
    assert after.updated_at > before.updated_at
    await fails(saver.sessions.aadd_message("u", "user", "x"), SessionNotFoundError, "'u'")


@sqlite_once
async def test_messages_dropped_by_a_graph_are_listed_on_request(saver: SessionSaver) -> None:
    graph = chain(saver, {"messages": [HumanMessage("kept", id="m2")]})
    await run(graph, {"messages": [HumanMessage("dropped", id="m1")]})
    history = [state async for state in graph.aget_state_history(config())]
    await graph.aupdate_state(history[-1].config, {"note": 1}, as_node="step1")

    assert [m.content for m in await saver.sessions.amessages("t")] == []
    all_of_them = await saver.sessions.amessages("t", removed=True)
    assert [m.content for m in all_of_them] == ["dropped", "kept"]
    assert all(m.removed_at for m in all_of_them)


# -- versions -----------------------------------------------------------------------------------


async def test_pages_are_numbered_from_0_and_a_rollback_only_changes_the_current_one(
    saver: SessionSaver,
) -> None:
    await saver.sessions.acreate("s")
    for number in range(3):
        added = await saver.sessions.aadd_version("s", f"<p>{number}", f"change {number}")
        assert added.version == number

    assert (await saver.sessions.arollback("s", 0)).html == "<p>0"

    assert (await saver.sessions.aversion("s")) == await saver.sessions.aversion("s", 0)
    assert [v.version for v in await saver.sessions.aversions("s")] == [0, 1, 2]
    assert (await saver.sessions.aadd_version("s", "<p>3")).version == 3
    found = await saver.sessions.aget("s")
    assert found is not None
    assert found.current_version == 3
    first = await saver.sessions.aversions("s", descending=True, limit=3)
    rest = await saver.sessions.aversions("s", descending=True, after=first.next)
    assert [v.version for v in (*first, *rest)] == [3, 2, 1, 0]


@sqlite_once
async def test_a_rollback_to_a_missing_page_changes_nothing(saver: SessionSaver) -> None:
    await saver.sessions.acreate("s")
    await saver.sessions.aadd_version("s", "<p>")

    await fails(saver.sessions.arollback("s", 7), VersionNotFoundError, "'s'", "7")
    await fails(saver.sessions.arollback("t", 0), SessionNotFoundError, "'t'")

    current = await saver.sessions.aversion("s")
    assert current is not None
    assert current.version == 0
    assert await saver.sessions.aversion("t") is None


async def test_pages_added_concurrently_get_different_numbers(
    make_saver: SaverFactory,
) -> None:
    savers = [make_saver() for _ in range(3)]
    await savers[0].sessions.acreate("s")

    async def add(saver: SessionSaver) -> list[int]:
        return [(await saver.sessions.aadd_version("s", "<p>")).version for _ in range(4)]

    found = await asyncio.gather(*(add(saver) for saver in savers))

    assert sorted(number for numbers in found for number in numbers) == list(range(12))


@sqlite_once
async def test_keep_versions_applies_to_manual_pages_but_not_to_pinned_ones(
    make_saver: SaverFactory,
) -> None:
    saver = make_saver(keep_versions=2)
    await saver.sessions.acreate("s")
    for number in range(2):
        await saver.sessions.aadd_version("s", f"<p>{number}")
    assert (await saver.sessions.apin("s", 0)).pinned
    for number in range(2, 5):
        await saver.sessions.aadd_version("s", f"<p>{number}")

    assert [v.version for v in await saver.sessions.aversions("s")] == [0, 3, 4]
    assert not (await saver.sessions.aunpin("s", 0)).pinned
    await saver.sessions.aadd_version("s", "<p>5")
    assert [v.version for v in await saver.sessions.aversions("s")] == [4, 5]


@sqlite_once
async def test_a_page_of_a_graph_follows_a_manual_one_and_a_rollback_lasts_until_the_next(
    saver: SessionSaver,
) -> None:
    await run(chain(saver, {"html": "<p>graph"}), {})
    await saver.sessions.aadd_version("t", "<p>hand")
    await saver.sessions.arollback("t", 0)

    await run(chain(saver, {"note": 1}), {})
    unmoved = await saver.sessions.aversion("t")
    await run(chain(saver, {"html": "<p>graph again"}), {})
    moved = await saver.sessions.aversion("t")

    assert unmoved is not None
    assert moved is not None
    assert (unmoved.version, moved.version, moved.html) == (0, 2, "<p>graph again")


@sqlite_once
async def test_a_graph_that_repeats_the_newest_page_makes_it_current(
    saver: SessionSaver,
) -> None:
    await run(chain(saver, {"html": "<p>1"}), {})
    await run(chain(saver, {"html": "<p>2"}), {})
    await saver.sessions.arollback("t", 0)

    await run(chain(saver, {"html": "<p>2"}), {})

    current = await saver.sessions.aversion("t")
    assert current is not None
    assert (current.version, len(await saver.sessions.aversions("t"))) == (1, 2)


@sqlite_once
async def test_a_row_is_not_added_twice_when_the_reply_to_its_commit_is_lost(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    engine = backend.engine()
    saver = make_saver(engine=engine)
    await saver.asetup()
    for add in (
        lambda: saver.sessions.acreate("s"),
        lambda: saver.sessions.aadd_message("s", "user", "hi", message_id="m"),
        lambda: saver.sessions.aadd_version("s", "<p>"),
        lambda: saver.sessions.aadd_token_usage(
            "s", agent_type="a", model="m", input_tokens=1, output_tokens=1, cost_usd=0.1
        ),
    ):
        with lost_after_commit(engine) as lost:
            made = await add()
        assert lost == ["COMMIT"]
        assert getattr(made, "session_id", "s") == "s"

    assert {name: n for name, n in counts(sql).items() if n} == {
        "sessions": 1, "messages": 1, "versions": 1, "token_usage": 1,
    }  # fmt: skip


@contextmanager
def lost_after_commit(engine: Engine) -> Iterator[list[str]]:
    """Commit the first transaction, and then make its connection seem lost."""
    lost: list[str] = []

    def lose(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement == "COMMIT" and not lost:
            lost.append(statement)
            busy = sqlite3.OperationalError("as if it had not come through")
            busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise busy

    event.listen(engine, "after_cursor_execute", lose)
    yield lost
    event.remove(engine, "after_cursor_execute", lose)


# -- token usage and errors -----------------------------------------------------------------------


async def test_token_usage_is_summarised_by_agent_model_and_day(
    saver: SessionSaver, backend: Backend
) -> None:
    await saver.sessions.acreate("s", owner_id="ada")
    await saver.sessions.acreate("t", owner_id="bob")
    calls = [
        ("s", MOMENT, "writer", "m1", 10, 1, 0.5),
        ("s", MOMENT + timedelta(microseconds=1), "writer", "m2", 20, 2, 0.25),
        ("t", MOMENT + timedelta(microseconds=1), "critic", "m2", 30, 3, 0.125),
    ]
    names = ("session_id", "timestamp", "agent_type", "model", "input_tokens", "output_tokens",
             "cost_usd", "total_tokens")  # fmt: skip
    engine = backend.engine()
    with engine.begin() as conn:
        rows = [dict(zip(names, (*c, c[4] + c[5]), strict=True)) for c in calls]
        conn.execute(insert(build_tables().token_usage), rows)

    async def summed(*by: Any, **wanted: Any) -> list[tuple[Any, ...]]:
        found = await saver.sessions.ausage_summary(*by, **wanted)
        return [
            (u.agent_type or u.model or (u.day and u.day.isoformat()), u.calls, u.total_tokens,
             u.cost_usd)
            for u in found
        ]  # fmt: skip

    assert await summed() == [(None, 3, 66, 0.875)]
    assert await summed("agent") == [("critic", 1, 33, 0.125), ("writer", 2, 33, 0.75)]
    assert await summed("model") == [("m1", 1, 11, 0.5), ("m2", 2, 55, 0.375)]
    assert await summed("day") == [("2026-01-31", 1, 11, 0.5), ("2026-02-01", 2, 55, 0.375)]
    assert await summed(owner_id="ada") == [(None, 2, 33, 0.75)]
    assert await summed(session_id="t", before=MOMENT) == []
    assert await summed(since=MOMENT + timedelta(microseconds=1)) == [(None, 2, 55, 0.375)]
    both = await saver.sessions.ausage_summary("agent", "day")
    assert [(u.agent_type, u.day.isoformat() if u.day else "") for u in both] == [
        ("critic", "2026-02-01"), ("writer", "2026-01-31"), ("writer", "2026-02-01"),
    ]  # fmt: skip


async def test_the_details_of_calls_are_summed_and_unknown_ones_count_as_0(
    saver: SessionSaver,
) -> None:
    await saver.sessions.acreate("s")
    assert (await saver.sessions.ausage_summary("model")) == ()
    call = {"agent_type": "a", "model": "m", "input_tokens": 9, "output_tokens": 9}
    for given in ({}, {"cache_read_tokens": 4, "reasoning_tokens": 2}, {"cache_read_tokens": 3}):
        added = await saver.sessions.aadd_token_usage("s", **call, **given)  # type: ignore[arg-type]
        assert added.cache_read_tokens == given.get("cache_read_tokens")

    [found] = await saver.sessions.ausage_summary("model")

    assert added in await saver.sessions.atoken_usage("s")
    details = (found.cache_read_tokens, found.cache_creation_tokens, found.reasoning_tokens)
    assert details == (7, 0, 2)
    assert [type(count) for count in details] == [int, int, int]


@sqlite_once
async def test_the_total_of_a_call_is_input_plus_output(saver: SessionSaver) -> None:
    await saver.sessions.acreate("s")

    added = await saver.sessions.aadd_token_usage(
        "s", agent_type="writer", model="m", input_tokens=2**40, output_tokens=1, cost_usd=0.5
    )

    assert added.total_tokens == 2**40 + 1
    assert list(await saver.sessions.atoken_usage("s")) == [added]


@sqlite_once
async def test_errors_are_listed_newest_first(saver: SessionSaver) -> None:
    await fails(run(chain(saver, fail), {}, config("one")), ValueError)
    await fails(run(chain(saver, fail), {}, config("two")), ValueError)
    await run(chain(saver, {"note": 1}), {}, config("one"))

    errors = await saver.sessions.aerrors()

    assert [e.session_id for e in errors] == ["two", "one"]
    assert (errors[0].node, errors[0].message) == ("step1", "out of flour")
    assert [e.session_id for e in await saver.sessions.aerrors("one")] == ["one"]
    assert [e.session_id for e in await saver.sessions.aerrors(recovered=False)] == ["two"]
    assert [e.session_id for e in await saver.sessions.aerrors(recovered=True)] == ["one"]
