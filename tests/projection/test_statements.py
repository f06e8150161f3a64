"""`Projection.statements`: changes of the application's own tables, in the step's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    UpdateBase,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from langgraph_session_saver import DatabaseError, Projection, ProjectionError, SessionSaver, Step
from tests.support.backends import Backend, Sql
from tests.support.faces import FaceName
from tests.support.rows import chain, config, counts, fails, one, put, run
from tests.support.savers import SaverFactory


class Own(DeclarativeBase):
    """The application's tables."""


class Order(Own):
    __tablename__ = "orders"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    status: Mapped[str] = mapped_column(String(20), default="open")
    steps: Mapped[int] = mapped_column(default=0)


class Line(Own):
    __tablename__ = "order_lines"

    article: Mapped[str] = mapped_column(String(40), primary_key=True)
    pieces: Mapped[int]
    """NULL is refused."""


class Orders(Projection):
    """Changes the order that the step's metadata names, and inserts its lines by statement."""

    channels = ("note",)

    def statements(self, step: Step) -> Iterable[UpdateBase]:
        of_step = Order.id == step.metadata.get("order_id")
        yield update(Order).where(of_step).values(status=step.values["note"])
        yield (
            update(Order)
            .where(of_step, Order.steps < step.metadata["step"])
            .values(steps=step.metadata["step"])
        )


@pytest.fixture
def orders(backend: Backend) -> None:
    """The application's tables, with two open orders."""
    engine = backend.engine()
    Own.metadata.create_all(engine)
    with engine.begin() as conn:
        conn.execute(insert(Order), [{"id": "a"}, {"id": "b"}])


def shown(sql: Sql) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in sql("SELECT id, status, steps FROM orders ORDER BY id")]


@pytest.mark.usefixtures("orders")
async def test_each_step_changes_rows_of_the_application(
    make_saver: SaverFactory, sql: Sql
) -> None:
    seen: list[str] = []

    def look(_state: Any) -> dict[str, Any]:
        seen.append(one(sql, "orders", "id = 'a'")["status"])
        return {"note": "sent"}

    saver = make_saver(projections={"orders": Orders()})
    graph = chain(saver, {"note": "packed"}, look)
    await run(graph, {}, config(order_id="a"))

    assert seen == ["packed"]
    assert shown(sql) == [("a", "sent", 2), ("b", "open", 0)]


@pytest.mark.usefixtures("orders")
async def test_statements_find_the_rows_of_their_step(make_saver: SaverFactory, sql: Sql) -> None:
    class Doubled(Projection):
        table = Line.__table__  # type: ignore[assignment]

        def rows(self, step: Step) -> Iterable[Mapping[str, Any]]:
            yield {"article": "cup", "pieces": step.values["note"]}

        def statements(self, step: Step) -> Iterable[UpdateBase]:
            pieces = 2 * step.values["note"]
            yield update(Line).where(Line.article == "cup").values(pieces=pieces)
            yield insert(Line).values(article="saucer", pieces=pieces)
            yield delete(Line).where(Line.article == "spoon")

    sql("INSERT INTO order_lines VALUES ('spoon', 1)")

    await put(make_saver(projections={"lines": Doubled()}), 1, {"note": 3})

    rows = sql("SELECT article, pieces FROM order_lines ORDER BY article")
    assert [tuple(row.values()) for row in rows] == [("cup", 6), ("saucer", 6)]


@pytest.mark.usefixtures("orders")
async def test_a_step_whose_statement_fails_is_not_stored(
    make_saver: SaverFactory, sql: Sql
) -> None:
    class Lines(Orders):
        def statements(self, step: Step) -> Iterable[UpdateBase]:
            yield from super().statements(step)
            yield insert(Line).values(article="cup", pieces=None)

    saver = make_saver(projections={"lines": Lines()})
    first = await put(saver, 1, {})
    before = counts(sql)

    values = {"note": "packed", "title": "T"}
    with pytest.raises(DatabaseError, match=r"(?i)null"):
        await put(saver, 2, values, first, order_id="a")

    assert counts(sql) == before
    assert shown(sql) == [("a", "open", 0), ("b", "open", 0)]
    assert one(sql, "sessions")["title"] == "Untitled session"


@pytest.mark.usefixtures("orders")
async def test_an_overtaken_checkpoint_runs_no_statements(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver(projections={"orders": Orders()})
    first = await put(saver, 1, {})
    await put(saver, 3, {"note": "sent"}, first, order_id="a")

    await put(saver, 2, {"note": "packed"}, first, order_id="a")

    assert shown(sql) == [("a", "sent", 3), ("b", "open", 0)]


@pytest.mark.usefixtures("orders")
async def test_a_fork_runs_the_statements_of_the_state_that_it_makes(
    make_saver: SaverFactory, sql: Sql
) -> None:
    graph = chain(
        make_saver(projections={"orders": Orders()}), {"note": "packed"}, {"note": "sent"}
    )
    where = config(order_id="a")
    await run(graph, {}, where)
    packed = [state async for state in graph.aget_state_history(where)][1]
    fork = config(**packed.config["configurable"], order_id="a")

    await graph.aupdate_state(fork, {"title": "Again"}, as_node="step1")

    assert one(sql, "orders", "id = 'a'")["status"] == "packed"


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("policy", ["record", "raise"])
async def test_statements_that_cannot_be_made_are_a_value_that_does_not_validate(
    make_saver: SaverFactory, sql: Sql, policy: str
) -> None:
    class Strict(Orders):
        def statements(self, step: Step) -> Iterable[UpdateBase]:
            if step.values["note"] not in {"packed", "sent"}:
                raise ValueError("no such status")
            return super().statements(step)

    saver = make_saver(projections={"orders": Strict()}, on_projection_error=policy)
    step = put(saver, 1, {"note": "lost"}, order_id="a")
    if policy == "raise":
        error = str(await fails(step, ProjectionError, "was not saved"))
    else:
        await step
        error = one(sql, "session_errors")["message"]

    assert "channel 'note' holds 'lost', which is not a value that Strict accepts" in error
    assert "no such status" in error
    assert shown(sql) == [("a", "open", 0), ("b", "open", 0)]


@pytest.mark.parametrize(
    "given", [select(Order), text("DELETE FROM orders"), "DELETE"], ids=["select", "text", "str"]
)
@pytest.mark.usefixtures("orders")
async def test_what_is_no_insert_update_or_delete_is_refused(
    make_saver: SaverFactory, sql: Sql, given: Any
) -> None:
    class Other(Orders):
        def statements(self, step: Step) -> Iterable[UpdateBase]:
            return [*super().statements(step), given]

    await put(make_saver(projections={"orders": Other()}), 1, {"note": "sent"}, order_id="a")

    message = one(sql, "session_errors")["message"]
    assert f"statements() gave a {type(given).__name__}: give SQLAlchemy's insert()" in message
    assert shown(sql) == [("a", "open", 0), ("b", "open", 0)]


@pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("orders")
def test_of_steps_that_share_a_transaction_only_the_one_that_fails_is_not_stored(
    backend: Backend, sql: Sql
) -> None:
    class Lines(Orders):
        def statements(self, step: Step) -> Iterable[UpdateBase]:
            pieces = None if step.thread_id == "3" else 1
            yield insert(Line).values(article=step.thread_id, pieces=pieces)

    with SessionSaver.from_conn_string(backend.url, projections={"lines": Lines()}) as saver:
        saver.setup()
        graph = chain(saver, {"note": "packed"})

        def invoke(number: int) -> Exception | None:
            try:
                graph.invoke({}, config(str(number)))
            except DatabaseError as exc:
                return exc
            return None

        with ThreadPoolExecutor(8) as pool:
            failed = [n for n, exc in enumerate(pool.map(invoke, range(8))) if exc]

    assert failed == [3]
    rows = sql("SELECT article FROM order_lines ORDER BY article")
    assert [row["article"] for row in rows] == ["0", "1", "2", "4", "5", "6", "7"]


# -- schemas of the application ------------------------------------------------------------------

SHARED = Table(
    "jobs",
    MetaData(),
    Column("id", String(20), primary_key=True),
    Column("status", String(20)),
    Column("steps", Integer),
    schema="shared",
)


class Jobs(Projection):
    """Rows and statements on a table of a schema that the engine translates."""

    table, channels = SHARED, ("note",)

    def rows(self, step: Step) -> Iterable[Mapping[str, Any]]:
        yield {"id": step.thread_id, "status": step.values["note"]}

    def statements(self, step: Step) -> Iterable[UpdateBase]:
        mine = SHARED.c.id == step.thread_id
        yield update(SHARED).where(mine).values(steps=step.metadata["step"])


@pytest.fixture
def translated(
    backend: Backend, face: FaceName, other_place: str
) -> Iterator[Engine | AsyncEngine]:
    """An engine that takes the schema `shared` for another; on SQLite for none."""
    names = {"shared": None if backend.name == "sqlite" else other_place}
    plain = backend.engine().execution_options(schema_translate_map=names)
    SHARED.metadata.create_all(plain)
    engine = backend.async_engine() if face == "async" else backend.engine()
    yield engine.execution_options(schema_translate_map=names)
    SHARED.metadata.drop_all(plain)


async def test_own_rows_and_statements_follow_the_engine_s_schema_translate_map(
    make_saver: SaverFactory,
    translated: Engine | AsyncEngine,
    other_place: str,
    sql: Sql,
) -> None:
    saver = make_saver(engine=translated, projections={"jobs": Jobs()})

    await run(chain(saver, {"note": "started"}, {"note": "done"}), {})

    assert sql(f"SELECT * FROM {other_place}.jobs") == [{"id": "t", "status": "done", "steps": 2}]
