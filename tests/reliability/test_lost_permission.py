"""A database that becomes read-only, or a privilege that is lost, in the middle of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import pytest
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from langgraph_session_saver import SessionSaver, StoragePermissionError
from tests.reliability.test_failures import need_control
from tests.support.backends import Sql
from tests.support.graphs import engine_of
from tests.support.rows import TABLES, chain, config, counts, put, run, transcript
from tests.support.savers import SaverFactory
from tests.support.servers import PASSWORD
from tests.support.statements import sync_engine_of
from tests.support.zygote import Zygote

Loss: TypeAlias = Literal["read-only", "privilege"]

BACKENDS_AND_FACES = (
    ("postgresql", "sync"),
    ("postgresql", "async"),
    ("mariadb", "async-engine"),
    ("mariadb", "async"),
)
STEPS, LOST_AT = 5, 2
FAILING_FOR = 0.5
"""Seconds that a saver here waits for a server that is read-only."""


# -- SQLite ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["file", "directory"])
@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite"])
def test_a_run_goes_on_when_its_file_may_be_written_again(
    zygote: Zygote, tmp_path: Path, scheme: str, what: str
) -> None:
    folder = tmp_path / "folder"
    file = folder / "app.db"
    given = {"url": f"{scheme}:///{file}", "file": str(file), "what": what}
    child = zygote.spawn(
        "tests.reliability.unwritable:run", {**given, "lost_at": LOST_AT, "steps": STEPS}
    )

    assert child.wait() == 0, child.text
    refused, stored, then = child.lines
    assert f"let this process write {file if what == 'file' else folder}, " in refused
    assert stored == "stored: hello 0 1"
    assert then == "then: hello 0 1 2 3 4"


def test_a_memory_database_that_refuses_writes_is_not_lost() -> None:
    with SessionSaver.from_conn_string(":memory:") as saver:
        graph = chain(saver, {"note": "kept"})
        graph.invoke({}, config())
        with engine_of(saver).connect() as conn:
            conn.execute(text("PRAGMA query_only=ON"))
        with pytest.raises(StoragePermissionError):
            graph.update_state(config(), {"note": "refused"})

        assert graph.get_state(config()).values["note"] == "kept"


# -- servers ---------------------------------------------------------------------------------------

GRANTED = "SELECT, INSERT, UPDATE, DELETE"
PLACES = (*TABLES, "session_saver_alembic_version")
MAKE = {
    "postgresql": [
        f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'",
        f"GRANT {GRANTED} ON ALL TABLES IN SCHEMA public TO app",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO app",
    ],
    "mariadb": [
        f"CREATE USER app@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'",
        *(f"GRANT {GRANTED} ON {table} TO app@'127.0.0.1'" for table in PLACES),
    ],
}
LOSE = {
    ("postgresql", "read-only"): [
        "ALTER ROLE app SET default_transaction_read_only = on",
        # Only a new connection looks at the role's settings.
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'app'",
    ],
    ("postgresql", "privilege"): ["REVOKE INSERT ON messages FROM app"],
    ("mariadb", "read-only"): ["SET GLOBAL read_only = 1"],
    ("mariadb", "privilege"): ["REVOKE INSERT ON messages FROM app@'127.0.0.1'"],
}
SAID = {
    ("postgresql", "read-only"): "in a read-only transaction",
    ("postgresql", "privilege"): "permission denied for table messages",
    ("mariadb", "read-only"): "with the --read-only option",
    ("mariadb", "privilege"): "INSERT command denied to user .*messages",
}
REGAIN = {
    ("postgresql", "read-only"): ["ALTER ROLE app RESET default_transaction_read_only"],
    ("postgresql", "privilege"): ["GRANT INSERT ON messages TO app"],
    ("mariadb", "read-only"): ["SET GLOBAL read_only = 0"],
    ("mariadb", "privilege"): ["GRANT INSERT ON messages TO app@'127.0.0.1'"],
}
DROP = {
    "postgresql": ["DROP OWNED BY app", "DROP ROLE app"],
    "mariadb": ["DROP USER app@'127.0.0.1'"],
}


class App:
    """A user who may read and write our tables and nothing else, until it loses that."""

    def __init__(self, make_saver: SaverFactory, sql: Sql, loss: Loss) -> None:
        self._factory, self._sql = make_saver, sql
        self._case = make_saver.backend.name, loss
        self.said = SAID[self._case]

    def lose(self) -> None:
        """Take away what a write needs."""
        self._run(LOSE[self._case])

    def regain(self) -> None:
        """Give it back."""
        self._run(REGAIN[self._case])

    def _run(self, statements: list[str]) -> None:
        for statement in statements:
            self._sql(statement)

    def engine(self) -> Engine | AsyncEngine:
        """An engine that connects as this user."""
        backend = self._factory.backend
        if self._factory.face == "async":
            url = make_url(backend.async_url).set(username="app", password=PASSWORD)
            return backend.log.add_async(create_async_engine(url))
        url = make_url(backend.url).set(username="app", password=PASSWORD)
        return backend.log.add(create_engine(url))


@pytest.fixture(params=["read-only", "privilege"])
def loss(request: pytest.FixtureRequest) -> Loss:
    return cast("Loss", request.param)


@pytest.fixture
def app(make_saver: SaverFactory, sql: Sql, loss: Loss) -> Iterator[App]:
    backend = make_saver.backend
    need_control(backend)
    made = App(make_saver, sql, loss)
    for statement in MAKE[backend.name]:
        sql(statement)
    yield made
    made.regain()
    for statement in DROP[backend.name]:
        sql(statement)


def updates(lose: Callable[[], None]) -> Iterator[Any]:
    """The updates of a graph's nodes; one of them loses the permission, the first time."""
    losing = iter([lose])

    def node(_state: Any) -> Any:
        for lose_now in losing:
            lose_now()
        return {"messages": [("ai", str(LOST_AT))]}

    for number in range(STEPS):
        yield node if number == LOST_AT else {"messages": [("ai", str(number))]}


ALL = ["hello", *(str(number) for number in range(STEPS))]


async def test_a_run_goes_on_when_its_user_may_write_again(
    app: App, make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver(engine=app.engine(), retry_for=FAILING_FOR)
    graph = chain(saver, *updates(app.lose))

    with pytest.raises(StoragePermissionError, match=app.said) as told:
        await run(graph, {"messages": [("human", "hello")]})
    stored = await saver.aget_tuple(config())
    shown = [text for _, text in transcript(sql)]
    app.regain()
    await run(graph, None)

    assert isinstance(told.value, PermissionError)
    assert PASSWORD not in str(told.value)
    assert stored is not None
    said = [message.text for message in stored.checkpoint["channel_values"]["messages"]]
    assert said == shown == ALL[: LOST_AT + 1]
    assert [text for _, text in transcript(sql)] == ALL
    assert counts(sql)["session_errors"] == 0


@pytest.mark.parametrize("loss", ["read-only"], indirect=True)
async def test_a_server_that_is_read_only_for_a_moment_is_waited_for(
    app: App, make_saver: SaverFactory, sql: Sql
) -> None:
    engine = app.engine()
    refused: list[BaseException] = []

    def regain(context: Any) -> None:
        if not refused and app.said in str(context.original_exception):
            refused.append(context.original_exception)
            app.regain()

    event.listen(sync_engine_of(engine), "handle_error", regain)
    graph = chain(make_saver(engine=engine), *updates(app.lose))

    await run(graph, {"messages": [("human", "hello")]})

    assert len(refused) == 1
    assert [text for _, text in transcript(sql)] == ALL


@pytest.mark.parametrize("loss", ["read-only"], indirect=True)
async def test_connections_that_rest_since_the_loss_are_replaced_after_one_refusal(
    app: App, make_saver: SaverFactory
) -> None:
    engine = app.engine()
    saver = make_saver(engine=engine, retry_for=0)
    await put(saver, 1, {"note": 1})
    app.lose()
    await open_and_rest(engine, 3)
    with pytest.raises(StoragePermissionError):
        await put(saver, 2, {"note": 2})
    app.regain()

    await put(saver, 2, {"note": 2})

    assert await saver.aget_tuple(config()) is not None


async def open_and_rest(engine: Engine | AsyncEngine, count: int) -> None:
    """Replace a pool's connections by new ones that nobody uses."""
    if isinstance(engine, AsyncEngine):
        await engine.dispose()
        for conn in [await engine.connect() for _ in range(count)]:
            await conn.close()
    else:
        engine.dispose()
        for resting in [engine.connect() for _ in range(count)]:
            resting.close()
