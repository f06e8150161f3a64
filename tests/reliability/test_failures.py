"""Lost servers, concurrent writers, cancelled tasks: calls end well and nothing is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import Checkpoint, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from sqlalchemy import Connection, Engine, NullPool, event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from langgraph_session_saver import DatabaseUnavailableError, SessionSaver, SessionSaverError
from tests.support.backends import Backend, Sql, checked_out, end_connections
from tests.support.savers import SaverFactory
from tests.support.statements import hook, is_waiting, sync_engine_of
from tests.support.workloads import answered, asked, finish, on
from tests.support.zygote import Zygote

WORKLOADS = "tests.support.workloads"
SERVERS = pytest.mark.parametrize("backend_name", ["postgresql", "mariadb"], indirect=True)
SQLITE = pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)


def checkpoint_of(saver: SessionSaver, **values: Any) -> tuple[Checkpoint, dict[str, Any]]:
    """A checkpoint newer than all before, and its new versions."""
    checkpoint = empty_checkpoint()
    checkpoint["id"] = str(uuid6())
    checkpoint["channel_values"] = values
    checkpoint["channel_versions"] = {
        channel: saver.get_next_version(None, None) for channel in values
    }
    return checkpoint, dict(checkpoint["channel_versions"])


async def put(saver: SessionSaver, thread_id: str, **values: Any) -> Any:
    """Save a step after the thread's newest one."""
    newest = await saver.aget_tuple(on(thread_id))
    checkpoint, versions = checkpoint_of(saver, **values)
    parent = newest.config if newest else on(thread_id)
    return await saver.aput(parent, checkpoint, {}, versions)


async def values_of(saver: SessionSaver, thread_id: str) -> dict[str, Any] | None:
    found = await saver.aget_tuple(on(thread_id))
    return None if found is None else found.checkpoint["channel_values"]


def own_engine(make_saver: SaverFactory, **options: Any) -> Engine | AsyncEngine:
    if make_saver.face == "async":
        return make_saver.backend.async_engine(**options)
    return make_saver.backend.engine(**options)


def need_control(backend: Backend) -> Any:
    if backend.server is None or not backend.server.controllable:
        pytest.skip("only a server of our own can be stopped")
    return backend.server


# -- connections and servers that die ----------------------------------------------------------


@SERVERS
async def test_a_put_whose_connection_dies_in_the_middle_is_stored_once(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    engine = own_engine(make_saver)
    saver = make_saver(engine=engine)
    await put(saver, "1", html="one")
    start = "INSERT INTO session_checkpoints"
    with hook(engine, start, lambda _conn: end_connections(backend)) as seen:
        await put(saver, "1", html="two", messages=[HumanMessage("hello", id="h")])
    assert seen == [2]
    found = await values_of(saver, "1")
    assert found is not None
    assert found["html"] == "two"
    assert sql("SELECT html FROM versions ORDER BY version") == [{"html": "one"}, {"html": "two"}]
    assert sql("SELECT content FROM messages") == [{"content": "hello"}]
    assert len(sql("SELECT checkpoint_id FROM session_checkpoints")) == 2


@SERVERS
async def test_a_restart_of_the_server_between_calls_is_not_noticed(
    make_saver: SaverFactory, backend: Backend
) -> None:
    server = need_control(backend)
    saver = make_saver()
    await put(saver, "1", html="one")
    server.kill()
    server.start()
    assert await values_of(saver, "1") == {"html": "one"}
    await put(saver, "1", html="two")
    assert await values_of(saver, "1") == {"html": "two"}


@SERVERS
async def test_a_put_waits_for_a_server_that_is_down_for_a_while(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    server = need_control(backend)
    engine = own_engine(make_saver)
    saver = make_saver(engine=engine)
    await put(saver, "1", html="one")
    with (
        ThreadPoolExecutor(1) as pool,
        hook(engine, "INSERT INTO session_checkpoints", lambda _conn: server.kill()) as seen,
    ):
        refused = threading.Event()
        event.listen(sync_engine_of(engine), "handle_error", lambda _context: refused.set())
        back = pool.submit(lambda: refused.wait(30) and server.start())
        await put(saver, "1", html="two")
        back.result()
    assert seen == [2]
    assert await values_of(saver, "1") == {"html": "two"}
    assert sql("SELECT html FROM versions ORDER BY version") == [{"html": "one"}, {"html": "two"}]


@SERVERS
async def test_a_server_that_was_never_up_raises_at_once(
    make_saver: SaverFactory, backend: Backend
) -> None:
    server = need_control(backend)
    saver = make_saver()
    server.stop()
    with pytest.raises(DatabaseUnavailableError, match=f"{backend.host}:{backend.port}") as caught:
        await asyncio.wait_for(put(saver, "1", html="one"), 10)
    assert caught.value.__cause__ is not None
    server.start()
    await put(saver, "1", html="one")


# -- deadlocks, serialization failures, busy files -----------------------------------------------


@SERVERS
async def test_a_deadlock_is_retried(make_saver: SaverFactory, backend: Backend, sql: Sql) -> None:
    """The put holds the thread's row and waits for the session's; another does the reverse."""
    engine = own_engine(make_saver)
    saver = make_saver(engine=engine)
    await put(saver, "1", build_status="pending")
    other = backend.engine(poolclass=NullPool)
    holds = threading.Event()

    def cross() -> None:
        with other.connect() as conn:
            conn.execute(text("UPDATE sessions SET title = 'crossed' WHERE id = '1'"))
            _avoid_being_the_victim(conn)
            holds.set()
            while not is_waiting(backend, sql):  # until the put holds the thread's row
                assert not putting.done()
            conn.execute(text("UPDATE session_threads SET owner_id = 'me' WHERE thread_id = '1'"))
            conn.commit()

    putting: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    with ThreadPoolExecutor(1) as pool:
        crossing = pool.submit(cross)
        assert holds.wait(30)
        with hook(engine, "UPDATE sessions", lambda _conn: None) as seen:
            await put(saver, "1", build_status="building")
            putting.set_result(None)
        crossing.result()
    assert seen[0] >= 2, "the put was not the victim"
    assert sql("SELECT title, build_status FROM sessions") == [
        {"title": "crossed", "build_status": "building"}
    ]


def _avoid_being_the_victim(conn: Connection) -> None:
    """Make the database choose the other transaction as the victim."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("SET LOCAL deadlock_timeout = '30s'"))
    else:
        conn.execute(text("CREATE TEMPORARY TABLE ballast (id INTEGER) ENGINE=InnoDB"))
        conn.execute(text("INSERT INTO ballast SELECT seq FROM seq_1_to_5000"))


@SERVERS
async def test_a_lock_that_is_held_is_waited_for(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    saver = make_saver()
    await put(saver, "1", build_status="pending")
    done: list[str] = []
    with backend.engine().begin() as conn:
        conn.execute(text("SELECT * FROM session_threads WHERE thread_id = '1' FOR UPDATE"))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(asyncio.run, _put_alone(backend))
            while not is_waiting(backend, sql):  # each check takes milliseconds
                assert not waiting.done()
            done.append("seen waiting")
            conn.rollback()
            waiting.result()
    assert done == ["seen waiting"]
    assert await values_of(saver, "1") == {"build_status": "building"}


async def _put_alone(backend: Backend) -> None:
    with SessionSaver.from_conn_string(backend.url) as saver:
        await put(saver, "1", build_status="building")


@SQLITE
async def test_a_file_locked_by_another_connection_is_waited_for_and_then_retried(
    make_saver: SaverFactory, backend: Backend
) -> None:
    engine = own_engine(make_saver, connect_args={"timeout": 0.01})  # busy at once
    saver = make_saver(engine=engine)
    await put(saver, "1", html="one")
    other = backend.engine(isolation_level="AUTOCOMMIT")
    with other.connect() as conn:
        conn.exec_driver_sql("BEGIN IMMEDIATE")
        busy = threading.Event()
        event.listen(sync_engine_of(engine), "handle_error", lambda _context: busy.set())
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(_end_when, busy, conn)
            await put(saver, "1", html="two")
            assert ended.result()
    assert await values_of(saver, "1") == {"html": "two"}


def _end_when(busy: threading.Event, conn: Connection) -> bool:
    seen = busy.wait(30)
    conn.connection.driver_connection.rollback()  # type: ignore[union-attr]
    return seen


# -- many writers --------------------------------------------------------------------------------


@SQLITE
def test_writers_of_one_file_take_turns_in_the_order_of_asking(backend: Backend) -> None:
    """8 writers x 8 rounds over two engines: no writer overtakes another more than once."""
    savers = [SessionSaver(backend.engine()) for _ in range(2)]
    savers[0].setup()
    turns: list[tuple[int, int]] = []
    tickets = iter(range(1_000))
    lock = threading.Lock()

    def write(number: int) -> None:
        saver = savers[number % 2]
        for _ in range(8):
            with lock:
                asked_at = next(tickets)
            checkpoint, versions = checkpoint_of(saver, html=f"<p>{number}</p>")
            saver.put(on(str(number)), checkpoint, {}, versions)
            with lock:
                turns.append((asked_at, next(tickets)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    for saver in savers:
        saver.close()
    assert len(turns) == 64
    waits = [sum(a < other < b for _, other in turns) for a, b in turns]
    assert max(waits) <= 2 * 8, waits


@SQLITE
async def test_async_writers_of_one_file_take_turns_too(make_saver: SaverFactory, sql: Sql) -> None:
    savers = [make_saver() for _ in range(2)]
    await savers[0].asetup()

    async def write(number: int) -> None:
        for turn in range(8):
            await put(savers[number % 2], str(number), html=f"<p>{number} {turn}</p>")

    await asyncio.gather(*(write(number) for number in range(8)))
    counted = sql("SELECT session_id, count(*) AS n FROM versions GROUP BY session_id")
    assert {row["session_id"]: row["n"] for row in counted} == {str(n): 8 for n in range(8)}


def test_several_processes_write_one_database(
    backend: Backend, zygote: Zygote, sync_saver: SessionSaver
) -> None:
    sync_saver.setup()
    children = [
        zygote.spawn(
            f"{WORKLOADS}:take_turns",
            {"url": backend.url, "thread_id": str(n), "turns": 5, "own_engine": bool(n % 2)},
        )
        for n in range(4)
    ]
    assert [child.wait() for child in children] == [0] * 4, [child.text for child in children]
    for number in range(4):
        values = finish(sync_saver, str(number))
        assert [message.content for message in values["messages"]] == [
            line for turn in range(6) for line in (asked(turn), answered(turn))
        ]


def test_many_os_threads_put_to_separate_threads(backend: Backend, sql: Sql) -> None:
    with SessionSaver(backend.engine()) as saver, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: finish(saver, str(number)), range(24)))
        rows = sql("SELECT id, build_status FROM sessions")
        assert {row["id"] for row in rows} == {str(number) for number in range(24)}
        assert {row["build_status"] for row in rows} == {"success"}
        assert sql("SELECT count(*) AS n FROM messages") == [{"n": 48}]


async def test_many_tasks_put_to_separate_threads(make_saver: SaverFactory, sql: Sql) -> None:
    saver = make_saver()
    await asyncio.gather(*(put(saver, str(n), html=f"<p>{n}</p>") for n in range(24)))
    rows = sql("SELECT session_id, html FROM versions")
    assert {row["session_id"]: row["html"] for row in rows} == {
        str(n): f"<p>{n}</p>" for n in range(24)
    }


async def test_concurrent_first_calls_create_a_session_once(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver, other = make_saver(), make_saver()
    await saver.asetup()

    async def start(number: int) -> None:
        config = on(str(number))
        config["configurable"]["session_id"] = "shared"
        used = saver if number % 2 else other
        await used.aput(config, empty_checkpoint(), {}, {})

    await asyncio.gather(*(start(number) for number in range(12)))
    assert sql("SELECT id FROM sessions") == [{"id": "shared"}]
    threads = sql("SELECT is_first FROM session_threads WHERE session_id = 'shared'")
    assert sorted(bool(row["is_first"]) for row in threads) == [False] * 11 + [True]


async def test_two_writers_of_one_thread_leave_the_newest_checkpoint_in_the_rows(
    make_saver: SaverFactory, sql: Sql
) -> None:
    savers = [make_saver(), make_saver()]
    await savers[0].asetup()

    async def write(saver: SessionSaver, name: str) -> None:
        for turn in range(10):
            messages = [HumanMessage(f"{name} {n}", id=f"{name} {n}") for n in range(turn + 1)]
            await put(saver, "1", html=f"{name} {turn}", messages=messages)

    await asyncio.gather(*(write(saver, name) for saver, name in zip(savers, "ab", strict=True)))
    [session] = sql("SELECT checkpoint_id FROM sessions")
    assert len(sql("SELECT checkpoint_id FROM session_checkpoints")) == 20
    fresh = await make_saver().aget_tuple(on("1"))
    assert fresh is not None
    assert session["checkpoint_id"] == fresh.checkpoint["id"]
    shown = sql("SELECT content FROM messages WHERE removed_at IS NULL ORDER BY id")
    messages = fresh.checkpoint["channel_values"]["messages"]
    assert sorted(row["content"] for row in shown) == sorted(m.content for m in messages)


@pytest.mark.parametrize("backend_name", ["mariadb"], indirect=True)
async def test_what_is_stored_under_a_threads_lock_is_seen_when_all_of_it_is(
    make_saver: SaverFactory, sql: Sql
) -> None:
    engine = own_engine(make_saver, isolation_level="AUTOCOMMIT")
    saver = make_saver(engine=engine)
    seen: list[dict[str, Any]] = []

    def look(_conn: Connection) -> None:
        seen.extend(sql("SELECT thread_id FROM session_threads"))

    with hook(engine, "COMMIT", look) as commits:
        await put(saver, "1", messages=[HumanMessage("hello", id="h")])
    assert commits == [1]
    assert seen == []
    assert sql("SELECT content FROM messages") == [{"content": "hello"}]


# -- cancelled -----------------------------------------------------------------------------------


@pytest.mark.parametrize("face", ["async-engine", "async"], indirect=True)
async def test_a_cancelled_put_returns_its_connection_and_leaves_the_saver_usable(
    make_saver: SaverFactory, sql: Sql
) -> None:
    engine = own_engine(make_saver, **_small_pool(make_saver))
    saver = make_saver(engine=engine)
    await put(saver, "1", html="0")
    loop = asyncio.get_running_loop()
    for turns in range(12):  # later in the call each time
        task = asyncio.create_task(put(saver, "1", html=f"{turns}"))
        for _ in range(turns * 3):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for start in "INSERT INTO session_checkpoints", "UPDATE sessions", "UPDATE session_threads":
        task = asyncio.create_task(put(saver, "1", html="", build_status="building"))
        cancel = task.cancel

        def act(_conn: Connection, cancel: Callable[[], bool] = cancel) -> None:
            loop.call_soon_threadsafe(cancel)

        with hook(engine, start, act):
            await asyncio.gather(task, return_exceptions=True)
    await put(saver, "1", html="last")
    assert await values_of(saver, "1") == {"html": "last"}
    await loop.shutdown_default_executor()  # a thread cannot be cancelled: its call goes on
    assert checked_out(engine) == 0
    [session] = sql("SELECT checkpoint_id FROM sessions")
    [newest] = sql("SELECT max(checkpoint_id) AS id FROM session_checkpoints")
    assert session["checkpoint_id"] == newest["id"]


def _small_pool(make_saver: SaverFactory) -> dict[str, Any]:
    # A connection that is not given back makes the next call time out.
    return {"pool_size": 2, "max_overflow": 0, "pool_timeout": 10}


@SQLITE
@pytest.mark.parametrize("face", ["async-engine", "async"], indirect=True)
async def test_a_writer_that_is_cancelled_while_it_waits_gives_up_its_turn(
    make_saver: SaverFactory, backend: Backend
) -> None:
    saver = make_saver()
    await put(saver, "1", html="0")
    tasks = [asyncio.create_task(put(saver, "1", html=str(n))) for n in range(8)]
    await asyncio.sleep(0)
    for task in tasks[1::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait_for(put(saver, "1", html="last"), 30)
    assert await values_of(saver, "1") == {"html": "last"}


# -- writes before their checkpoint, and after their thread ---------------------------------------


async def test_writes_that_arrive_before_their_checkpoint_are_stored(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver()
    checkpoint, versions = checkpoint_of(saver, build_status="building")
    config = on("1")
    config["configurable"] |= {"checkpoint_ns": "", "checkpoint_id": checkpoint["id"]}
    await saver.aput_writes(config, [("html", "<p>early</p>")], "task")
    assert sql("SELECT id, build_status, checkpoint_id FROM sessions") == [
        {"id": "1", "build_status": "pending", "checkpoint_id": None}
    ]
    assert await saver.aget_tuple(on("1")) is None
    await saver.aput(on("1"), checkpoint, {}, versions)
    found = await saver.aget_tuple(on("1"))
    assert found is not None
    assert found.pending_writes == [("task", "html", "<p>early</p>")]
    assert sql("SELECT build_status FROM sessions") == [{"build_status": "building"}]


async def test_a_checkpoint_and_its_writes_may_arrive_at_once(make_saver: SaverFactory) -> None:
    saver = make_saver()
    await saver.asetup()
    for number in range(8):
        thread_id = f"both {number}"
        checkpoint, versions = checkpoint_of(saver, build_status="building")
        config = on(thread_id)
        config["configurable"] |= {"checkpoint_ns": "", "checkpoint_id": checkpoint["id"]}
        await asyncio.gather(
            saver.aput_writes(config, [("html", "one")], "task 1"),
            saver.aput(on(thread_id), checkpoint, {}, versions),
            saver.aput_writes(config, [("html", "two")], "task 2"),
        )
        found = await saver.aget_tuple(on(thread_id))
        assert found is not None
        assert found.pending_writes == [("task 1", "html", "one"), ("task 2", "html", "two")]


async def test_writes_that_arrive_after_their_thread_was_deleted_do_no_harm(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver, other = make_saver(), make_saver()
    config = await put(saver, "1", html="one")
    await other.adelete_thread("1")
    await saver.aput_writes(config, [("html", "late"), ("__error__", ValueError("x"))], "task")
    assert await saver.aget_tuple(on("1")) is None
    await put(saver, "1", html="two")
    found = await other.aget_tuple(on("1"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"html": "two"}
    assert found.pending_writes == []
    await other.adelete_thread("1")
    for table in ("sessions", "session_threads", "session_writes", "session_blobs", "messages"):
        assert sql(f"SELECT count(*) AS n FROM {table}") == [{"n": 0}], table


async def test_an_error_that_is_not_transient_raises_at_once(
    make_saver: SaverFactory, sql: Sql
) -> None:
    engine = own_engine(make_saver)
    saver = make_saver(engine=engine)
    await put(saver, "1", html="one")
    sql("DROP TABLE versions")
    with (
        hook(engine, "INSERT INTO session_checkpoints", lambda _conn: None) as seen,
        pytest.raises(SessionSaverError, match="versions") as caught,
    ):
        await put(saver, "1", html="two")
    assert seen == [1]
    assert caught.value.__cause__ is not None
