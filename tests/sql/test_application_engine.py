"""An application's own engine keeps its meaning: schemas, loggers, pools and event loops."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, QueuePool, event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from langgraph_session_saver import (
    DatabaseError,
    InvalidConfigError,
    PoolExhaustedError,
    SessionSaver,
    WrongLoopError,
    migrate,
)
from langgraph_session_saver.database import init_db
from tests.schema.test_setup import OUR_TABLES, table_names, use_everything
from tests.support.backends import Backend, Sql
from tests.support.faces import FaceName
from tests.support.rows import config, put
from tests.support.savers import SaverFactory
from tests.support.statements import sync_engine_of

pytestmark = pytest.mark.empty_database
SERVERS = pytest.mark.parametrize("backend_name", ["postgresql", "mariadb"], indirect=True)
PACKAGE = "langgraph_session_saver"


def engine_for(backend: Backend, face: FaceName, **options: Any) -> Engine | AsyncEngine:
    return backend.async_engine(**options) if face == "async" else backend.engine(**options)


# -- schema_translate_map ------------------------------------------------------------------------


@SERVERS
async def test_every_statement_follows_the_engine_s_schema_translate_map(
    make_saver: SaverFactory, backend: Backend, face: FaceName, sql: Sql, other_place: str
) -> None:
    names = {None: other_place}
    engine = engine_for(backend, face).execution_options(schema_translate_map=names)
    saver = make_saver(engine=engine)
    await use_everything(saver)
    assert table_names(backend.engine(), other_place) == OUR_TABLES
    assert table_names(backend.engine()) == set()
    rows = f"SELECT count(*) AS n FROM {other_place}.session_checkpoints"
    assert sql(rows)[0]["n"] > 0


@SERVERS
def test_setup_and_migrations_follow_the_map_as_well(backend: Backend, other_place: str) -> None:
    names = {None: other_place}
    engine = backend.engine().execution_options(schema_translate_map=names)
    init_db(engine)
    assert table_names(backend.engine(), other_place) == OUR_TABLES
    assert migrate.current(engine) == migrate.head()
    assert migrate.check(engine) == []
    migrate.downgrade(engine, "0004", yes=True)
    migrate.upgrade(engine)
    assert table_names(backend.engine()) == set()


@SERVERS
async def test_a_schema_is_translated_once(
    make_saver: SaverFactory, backend: Backend, face: FaceName, other_place: str
) -> None:
    names = {None: other_place, other_place: "nowhere"}
    engine = engine_for(backend, face).execution_options(schema_translate_map=names)
    await use_everything(make_saver(engine=engine))
    assert table_names(backend.engine(), other_place) == OUR_TABLES


@SERVERS
def test_a_connection_with_another_map_is_refused(backend: Backend) -> None:
    engine = backend.engine()
    saver = SessionSaver(engine)
    saver.setup()
    other = engine.execution_options(schema_translate_map={None: "tenant_b"})
    with (
        other.connect() as conn,
        pytest.raises(InvalidConfigError, match=r"schema_translate_map \{None: 'tenant_b'\}"),
    ):
        saver.sessions.create("s", connection=conn)


@SERVERS
def test_a_listener_that_translates_for_each_connection_is_refused(backend: Backend) -> None:
    engine = backend.engine()

    @event.listens_for(engine, "engine_connect")
    def translate(conn: Any) -> None:
        conn.execution_options(schema_translate_map={None: "tenant_b"})

    with pytest.raises(InvalidConfigError, match="make one saver for each map"):
        SessionSaver(engine).setup()


# -- loggers -------------------------------------------------------------------------------------


VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")


class Heard(logging.Handler):
    """Keeps the statements that SQLAlchemy logs."""

    def __init__(self) -> None:
        super().__init__()
        self.statements: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith(VERBS):
            self.statements.append(message)


@contextmanager
def heard_at_info() -> Iterator[Heard]:
    handler, logger = Heard(), logging.getLogger("sqlalchemy.engine.Engine")
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


async def test_a_logger_at_info_hears_every_statement(
    make_saver: SaverFactory, backend: Backend, face: FaceName
) -> None:
    engine = engine_for(backend, face)
    saver = make_saver(engine=engine)
    await saver.asetup()
    with heard_at_info() as heard:
        await use_everything(saver)
    verbs = [statement for statement in heard.statements if "session_checkpoints" in statement]
    assert any("INSERT INTO session_checkpoints" in statement for statement in verbs)

    listened: list[str] = []
    event.listen(
        sync_engine_of(engine),
        "before_cursor_execute",
        lambda _conn, _cursor, statement, *_rest: listened.append(statement),
    )
    await saver.adelete_thread("1")
    with heard_at_info() as again:
        listened.clear()
        await use_everything(saver)
    assert again.statements == [one for one in listened if one.startswith(VERBS)]


def test_echo_shows_every_statement(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    saver = SessionSaver(backend.engine(echo=True))
    saver.setup()
    caplog.clear()
    saver.sessions.create("s")
    asyncio.run(put(saver, 1, {"note": 1}))
    assert "INSERT INTO sessions" in caplog.text
    assert "session_checkpoints" in caplog.text


# -- pools ---------------------------------------------------------------------------------------


async def test_an_exhausted_pool_is_named_after_its_own_timeout(
    make_saver: SaverFactory, backend: Backend, face: FaceName
) -> None:
    options: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.2}
    if face != "async":
        options["poolclass"] = QueuePool
    engine = engine_for(backend, face, **options)
    saver = make_saver(engine=engine)
    await saver.asetup()
    started = time.monotonic()
    if isinstance(engine, AsyncEngine):
        async with engine.connect():
            with pytest.raises(PoolExhaustedError, match="Pool size: 1") as caught:
                await saver.aget_tuple(config())
    else:
        with engine.connect(), pytest.raises(PoolExhaustedError, match="Pool size: 1") as caught:
            await saver.aget_tuple(config())
    assert time.monotonic() - started < 5
    assert isinstance(caught.value, TimeoutError)
    assert "pool_size" in str(caught.value)
    assert "cannot be reached" not in str(caught.value)


# -- event loops ---------------------------------------------------------------------------------


def test_a_second_event_loop_gets_an_error_that_says_what_to_do(backend: Backend) -> None:
    async def first() -> SessionSaver:
        saver = SessionSaver(backend.async_engine())
        await put(saver, 1, {"note": 1})
        return saver

    async def second(saver: SessionSaver) -> None:
        with pytest.raises(WrongLoopError, match="one saver for each event loop"):
            await saver.aget_tuple(config())

    with asyncio.Runner() as one, asyncio.Runner() as other:
        saver = one.run(first())
        other.run(second(saver))
        one.run(saver._runner.engine.dispose())  # type: ignore[arg-type]
        backend.log.forget_async()


def test_after_the_engine_was_disposed_of_another_event_loop_can_use_it(backend: Backend) -> None:
    async def use(saver: SessionSaver) -> None:
        await put(saver, 1, {"note": 1})
        assert await saver.aget_tuple(config()) is not None
        await saver._runner.engine.dispose()  # type: ignore[misc]

    saver = SessionSaver(backend.async_engine())
    asyncio.run(use(saver))
    asyncio.run(use(saver))
    backend.log.forget_async()


# -- tracebacks ----------------------------------------------------------------------------------


def frames_of_ours(error: BaseException) -> int:
    """How many of our frames the printed traceback has, in all errors of the chain."""
    count, one = 0, error
    while True:
        frames = traceback.extract_tb(one.__traceback__)
        count += sum(PACKAGE in Path(frame.filename).parts for frame in frames)
        if one.__cause__ is None:
            return count
        one = one.__cause__


def test_a_database_s_refusal_is_raised_from_the_driver_s_error_in_a_short_traceback(
    backend: Backend, sql: Sql
) -> None:
    engine = backend.engine()
    saver = SessionSaver(engine)
    saver.setup()
    sql("DROP TABLE token_usage")
    with pytest.raises(DatabaseError) as caught:
        saver.sessions.token_usage("s")
    cause = caught.value.__cause__
    assert isinstance(cause, engine.dialect.loaded_dbapi.Error)
    assert frames_of_ours(caught.value) <= 12
    with engine.connect() as conn:
        assert conn.execute(text("SELECT 1")).scalar() == 1
