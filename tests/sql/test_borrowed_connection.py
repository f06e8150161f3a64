"""`connection=`: changes of the application and of `saver.sessions` in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from langgraph_session_saver import (
    BuildInfo,
    InvalidConfigError,
    SchemaError,
    SessionNotFoundError,
    SessionSaver,
    WrongFaceError,
    models,
)
from tests.support.backends import Backend, Sql
from tests.support.rows import chain, config, counts, fails, from_json, listed, one, run
from tests.support.savers import SaverFactory

ON_SQLITE = pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)


@asynccontextmanager
async def own(engine: Any, *, orm: bool) -> AsyncIterator[Any]:
    """A connection or ORM session of the application, sync or async like its engine."""
    if isinstance(engine, AsyncEngine):
        async with AsyncSession(engine) if orm else engine.connect() as made:
            yield made
        return
    with Session(engine) if orm else engine.connect() as plain:
        yield plain


async def told(call: Any) -> Any:
    """The result of a call, awaited if it is awaitable."""
    return await call if asyncio.iscoroutine(call) else call


@pytest.mark.parametrize("orm", [False, True], ids=["connection", "orm session"])
async def test_changes_of_both_are_committed_and_rolled_back_together(
    make_saver: SaverFactory, backend: Backend, sql: Sql, *, orm: bool
) -> None:
    engine: Any = backend.async_engine() if make_saver.face == "async" else backend.engine()
    saver = make_saver(engine=engine)
    await saver.asetup()
    sql("CREATE TABLE orders (name VARCHAR(20))")
    await run(
        chain(saver, {"other": "y"}, {"other": "x" * 3_001}, {"other": "x" * 3_000}),
        {},
        config("kept", owner_id="ada"),
    )
    before = counts(sql)

    async def change(connection: Any) -> None:
        await told(connection.execute(text("INSERT INTO orders VALUES ('bread')")))
        await saver.sessions.acreate("s", title="One", connection=connection)
        await saver.sessions.aadd_message("s", "user", "hi", connection=connection)
        await saver.sessions.aadd_version("s", "<p>", connection=connection)
        await saver.state.asave_state("s", {"a": 1}, connection=connection)
        info = BuildInfo.model_validate({"status": "building"})
        await saver.state.aupdate_build_status("s", info, connection=connection)
        await saver.sessions.aupdate("kept", owner_id="bob", connection=connection)
        seen = await saver.sessions.alist(owner_id="bob", connection=connection)
        assert [session.id for session in seen] == ["kept"]
        assert await saver.state.aload_state("s", connection=connection) == {"a": 1}
        large = await saver.state.aload_state("kept", connection=connection)
        assert large is not None
        assert large["other"] == "x" * 3_000

    async with own(engine, orm=orm) as connection:
        await change(connection)
        assert await saver.sessions.adelete("kept", connection=connection)
        await told(connection.rollback())

    assert counts(sql) == before
    assert sql("SELECT * FROM orders") == []
    await run(chain(saver, {"note": 1}), {}, config("kept", owner_id="ada"))
    assert one(sql, "session_threads")["checkpoint_id"] == (await listed(saver, config("kept")))[0]

    async with own(engine, orm=orm) as connection:
        await change(connection)
        await told(connection.commit())

    assert len(sql("SELECT * FROM orders")) == 1
    row = one(sql, "sessions", "id = 's'")
    assert (row["title"], row["build_status"], from_json(row["graph_state"])) == (
        "One", "building", {"a": 1},
    )  # fmt: skip
    assert one(sql, "sessions", "id = 'kept'")["owner_id"] == "bob"

    async with own(engine, orm=orm) as connection:
        assert await saver.sessions.adelete("kept", connection=connection)
        assert await saver.sessions.adelete("s", connection=connection)
        await told(connection.commit())

    assert not any(counts(sql).values())
    await run(chain(saver, {"note": 2}), {}, config("kept"))
    assert (await chain(saver, {}).aget_state(config("kept"))).values["note"] == 2


@ON_SQLITE
@pytest.mark.parametrize("face", ["sync"], indirect=True)
async def test_an_orm_session_is_flushed_before_rows_that_refer_to_its_objects(
    make_saver: SaverFactory, backend: Backend
) -> None:
    engine = backend.engine()
    saver = make_saver(engine=engine)
    await saver.asetup()

    for session in (Session(engine), scoped_session(sessionmaker(engine))):
        made = models.Session(title="Mine")
        session.add(made)
        await saver.sessions.aadd_message(made.id, "user", "hi", connection=session)
        assert [message.content for message in made.messages] == ["hi"]
        session.rollback()
        session.close()


@ON_SQLITE
@pytest.mark.parametrize("face", ["async"], indirect=True)
async def test_an_async_session_of_either_kind_is_accepted(
    make_saver: SaverFactory, backend: Backend
) -> None:
    engine = backend.async_engine()
    saver = make_saver(engine=engine)
    await saver.asetup()
    scoped = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)

    for session in (AsyncSession(engine), scoped):
        made = models.Session(title="Mine")
        session.add(made)
        added = await saver.sessions.aadd_message(made.id, "user", "hi", connection=session)
        assert added.session_id == made.id
        await session.rollback()
        await session.close()


@pytest.mark.parametrize("backend_name", ["postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize("face", ["sync"], indirect=True)
async def test_a_page_is_numbered_after_those_its_transaction_does_not_see_yet(
    make_saver: SaverFactory, backend: Backend
) -> None:
    engine = backend.engine()
    saver = make_saver(engine=engine)
    await saver.sessions.acreate("s")
    with engine.begin() as connection:
        assert await saver.sessions.aversion("s", connection=connection) is None
        await saver.sessions.aadd_version("s", "<p>other")
        added = await saver.sessions.aadd_version("s", "<p>", connection=connection)

    assert added.version == 1


@ON_SQLITE
@pytest.mark.parametrize("face", ["sync"], indirect=True)
async def test_a_session_is_deleted_with_its_rows_without_foreign_key_enforcement(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    engine = backend.engine()  # SQLite's default: foreign keys are off
    saver = make_saver(engine=engine)
    await run(chain(saver, {"messages": [("user", "hi")], "html": "<p>"}), {}, config("t"))
    await saver.sessions.aadd_message("t", "user", "by hand")
    with engine.begin() as connection:
        assert not connection.execute(text("PRAGMA foreign_keys")).scalar()
        await saver.sessions.adelete("t", connection=connection)

    assert not any(counts(sql).values())


@ON_SQLITE
@pytest.mark.parametrize("face", ["sync"], indirect=True)
async def test_an_error_leaves_the_transaction_to_the_caller(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    engine = backend.engine()
    saver = make_saver(engine=engine)
    await saver.asetup()
    with engine.begin() as connection:
        await saver.sessions.acreate("s", connection=connection)
        refused = saver.sessions.aadd_message("no such", "user", "hi", connection=connection)
        await fails(refused, SessionNotFoundError, "'no such'")

    assert one(sql, "sessions")["id"] == "s"


@ON_SQLITE
@pytest.mark.parametrize("face", ["sync", "async"], indirect=True)
@pytest.mark.empty_database
async def test_tables_are_not_created_in_a_callers_transaction(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    engine: Any = backend.async_engine() if make_saver.face == "async" else backend.engine()
    saver = make_saver(engine=engine)
    async with own(engine, orm=False) as connection:
        await fails(saver.sessions.acreate(connection=connection), SchemaError, "saver.setup()")

    assert sql("SELECT name FROM sqlite_master") == []
    await saver.asetup()
    unused = make_saver(engine=engine)
    async with own(engine, orm=False) as connection:
        await unused.sessions.acreate("s", connection=connection)
        await told(connection.commit())
    assert one(sql, "sessions")["id"] == "s"


@ON_SQLITE
@pytest.mark.parametrize("face", ["async-engine"], indirect=True)
async def test_a_connection_of_the_wrong_kind_is_refused(
    make_saver: SaverFactory, backend: Backend
) -> None:
    engine, async_engine = backend.engine(), backend.async_engine()
    saver: SessionSaver = make_saver(engine=engine)
    await saver.asetup()
    no_connection: Any = engine
    await fails(saver.sessions.acreate(connection=no_connection), InvalidConfigError, "an Engine")
    async with async_engine.connect() as connection:
        wrong: Any = connection
        with pytest.raises(WrongFaceError, match=r"an AsyncConnection.*a… twin"):
            saver.sessions.create(connection=wrong)
        sync_connection: Connection = connection.sync_connection  # type: ignore[assignment]
        refused = saver.sessions.acreate(connection=sync_connection)
        await fails(refused, WrongFaceError, "run_sync")
        made = await connection.run_sync(lambda inner: saver.sessions.create("s", connection=inner))
        assert made.id == "s"
        await connection.rollback()


@ON_SQLITE
@pytest.mark.parametrize("face", ["sync"], indirect=True)
async def test_a_connection_to_another_kind_of_database_is_refused(
    make_saver: SaverFactory,
) -> None:
    saver = make_saver()

    class Elsewhere(Connection):
        dialect = create_engine("postgresql+psycopg://localhost/x").dialect

        def __init__(self) -> None:
            """Open nothing."""

        def __del__(self) -> None:
            """Close nothing."""

    refused = saver.sessions.acreate(connection=Elsewhere())
    await fails(refused, InvalidConfigError, "postgresql", "not the saver's")
