"""The ORM models: queries, changes and relationships."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, func, inspect, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session as OrmSession
from sqlalchemy.orm import selectinload

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.models import (
    Base,
    Message,
    Session,
    SessionError,
    Thread,
    TokenUsage,
    Version,
    models_for,
)
from tests.support.backends import Backend
from tests.support.rows import chain, config, run
from tests.support.savers import SaverFactory

MODELS = (Session, Message, Version, TokenUsage, SessionError, Thread)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """A database in memory, with foreign keys enforced."""
    with SessionSaver.from_conn_string(":memory:") as saver:
        saver.setup()
        yield saver._runner.sync_engine


@pytest.fixture
def orm(engine: Engine) -> Iterator[OrmSession]:
    with OrmSession(engine) as session:
        yield session


def call(**values: Any) -> TokenUsage:
    made = {"agent_type": "writer", "model": "m", "input_tokens": 2, "output_tokens": 1,
            "total_tokens": 3, "cost_usd": 0.5}  # fmt: skip
    return TokenUsage(**made | values)


def filled(**values: Any) -> Session:
    return Session(
        messages=[Message(role="user", content="hi"), Message(role="assistant", content="ho")],
        versions=[Version(version=0, html="<p>")],
        token_usage=[call()],
        **values,
    )


def test_a_session_is_created_changed_and_read_with_its_defaults(orm: OrmSession) -> None:
    made = Session()
    orm.add(made)
    orm.commit()

    assert len(made.id) == 36
    assert (made.title, made.build_status, made.current_version) == (
        "Untitled session", "pending", 0,
    )  # fmt: skip
    assert made.created_at.tzinfo is UTC
    before = made.updated_at
    made.title = "A bakery"
    orm.commit()
    assert made.updated_at > before
    assert made.created_at < made.updated_at
    assert orm.scalars(select(Session.title)).all() == ["A bakery"]


def test_relationships_work_in_both_directions(orm: OrmSession) -> None:
    made = filled(id="s")
    orm.add(made)
    orm.commit()
    orm.expire_all()

    assert [message.content for message in made.messages] == ["hi", "ho"]
    assert made.versions[0].session is made
    assert made.token_usage[0].session is made
    assert (made.errors, made.threads) == ([], [])


def test_rows_are_deleted_with_their_session_and_when_removed_from_it(orm: OrmSession) -> None:
    made = filled(id="s")
    orm.add_all([made, filled(id="t")])
    orm.commit()

    made.messages.pop()
    orm.commit()
    assert orm.scalars(select(Message.session_id).order_by(Message.id)).all() == ["s", "t", "t"]
    orm.delete(made)
    orm.commit()

    for model in (Message, Version, TokenUsage):
        assert set(orm.scalars(select(model.session_id))) == {"t"}


def test_a_session_is_deleted_without_loading_its_rows(engine: Engine, orm: OrmSession) -> None:
    orm.add(filled(id="s"))
    orm.commit()
    seen: list[str] = []
    event.listen(
        engine, "before_cursor_execute", lambda _c, _k, statement, *_: seen.append(statement)
    )
    found = orm.get_one(Session, "s")
    orm.delete(found)
    orm.commit()

    assert [statement.split()[0] for statement in seen] == ["SELECT", "DELETE"]


@pytest.mark.parametrize(
    "row",
    [
        Message(session_id="no such", role="user", content="hi"),
        call(session_id="no such"),
        Version(session_id="s", version=0, html="<p>again"),
        Message(session_id="s", role="user"),
        Session(id="s"),
    ],
    ids=["message of none", "usage of none", "same number", "no content", "same id"],
)
def test_the_database_refuses_rows_that_violate_constraints(engine: Engine, row: Any) -> None:
    with OrmSession(engine) as first:
        first.add(filled(id="s"))
        first.commit()
    with OrmSession(engine) as orm:
        values = {attr.key: getattr(row, attr.key) for attr in inspect(type(row)).column_attrs}
        orm.add(type(row)(**{key: value for key, value in values.items() if value is not None}))
        with pytest.raises(IntegrityError):
            orm.commit()


def test_rows_are_counted_summed_up_and_loaded_in_few_statements(orm: OrmSession) -> None:
    orm.add_all([filled(id="s", owner_id="ada"), filled(id="t"), Session(id="empty")])
    orm.add(call(session_id="s", timestamp=datetime(2026, 1, 1, tzinfo=UTC), cost_usd=0.25))
    orm.commit()

    summed = (
        select(Session.id, func.count(TokenUsage.id), func.sum(TokenUsage.cost_usd))
        .outerjoin(Session.token_usage)
        .group_by(Session.id)
        .order_by(Session.id)
    )
    assert orm.execute(summed).all() == [("empty", 0, None), ("s", 2, 0.75), ("t", 1, 0.5)]
    talked = select(Session).where(Session.messages.any(Message.content == "ho"))
    found = orm.scalars(talked.options(selectinload(Session.messages)).order_by(Session.id)).all()
    assert [(session.id, len(session.messages)) for session in found] == [("s", 2), ("t", 2)]


def test_each_model_has_a_readable_repr(orm: OrmSession) -> None:
    made = filled(id="s", title="A bakery")
    orm.add(made)
    orm.commit()

    assert repr(made) == "<Session 's' 'A bakery'>"
    assert repr(made.messages[0]) == "<Message 1 of 's': user>"
    assert repr(made.versions[0]) == "<Version 0 of 's'>"
    assert repr(made.token_usage[0]) == "<TokenUsage 1 of 's': m 3>"
    assert repr(SessionError(session_id="s", kind="error")).startswith("<SessionError None of 's'")
    assert repr(Thread(thread_id="t", session_id="s")) == "<Thread 't' of 's': None>"


@pytest.mark.parametrize("model", MODELS)
def test_the_type_checker_knows_every_column_that_is_mapped(model: type[Base]) -> None:
    columns = model.__bases__[0]
    known = columns.__annotations__.keys() - inspect(model).relationships.keys()

    assert known <= {attr.key for attr in inspect(model).column_attrs}
    not_ours = {"thread_key", "row_key", "is_first", "session_named", "revision"}
    assert {column.name for column in inspect(model).local_table.c} - not_ours <= known | {
        "status_checkpoint_id"
    }


def test_models_work_in_another_schema_by_schema_translation(tmp_path: Any) -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as conn:
        conn.exec_driver_sql("ATTACH ? AS agents", (str(tmp_path / "agents.db"),))
        there = conn.execution_options(schema_translate_map={None: "agents"})
        Base.metadata.create_all(there)
        with OrmSession(there) as orm:
            orm.add(filled(id="s"))
            orm.flush()
            assert conn.exec_driver_sql("SELECT id FROM agents.sessions").scalar() == "s"
            orm.rollback()
    engine.dispose()


def test_equal_arguments_give_the_same_models() -> None:
    assert models_for() is models_for(schema=None, table_prefix="")
    default = models_for()
    assert (default.Base, default.Session, default.Thread) == (Base, Session, Thread)
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: models_for(table_prefix="same_"), range(8)))
    assert len(found) == 1
    assert models_for(schema="a", table_prefix="same_") not in found


def test_models_of_two_prefixes_are_used_side_by_side() -> None:
    engine = create_engine("sqlite://")
    ada, leo = models_for(table_prefix="ada_"), models_for(table_prefix="leo_")
    for models in (ada, leo):
        models.Base.metadata.create_all(engine)
    with OrmSession(engine) as orm:
        messages = [ada.Message(role="user", content="hi")]
        orm.add_all([ada.Session(id="s", messages=messages), leo.Session(id="s"), leo.Session()])
        orm.commit()
        orm.expire_all()

        found = orm.scalars(select(ada.Session)).one()
        assert ([m.content for m in found.messages], found.errors) == (["hi"], [])
        assert found.messages[0].session is found
        assert repr(orm.get_one(leo.Session, "s")) == "<Session 's' 'Untitled session'>"
        assert not orm.get_one(leo.Session, "s").messages
    engine.dispose()


@pytest.mark.parametrize("face", ["sync"], indirect=True)
async def test_rows_in_a_schema_with_a_prefix_are_read_through_its_models(
    make_saver: SaverFactory, backend: Backend, other_place: str
) -> None:
    saver = make_saver(schema=other_place, table_prefix="agent_")
    models = models_for(schema=other_place, table_prefix="agent_")
    await run(chain(saver, {"messages": [("ai", "Done.")]}), {}, config(owner_id="ada"))

    with OrmSession(backend.engine()) as orm:
        found = orm.scalars(select(models.Session).where(models.Session.owner_id == "ada")).one()
        assert [m.content for m in found.messages] == ["Done."]
        assert [(t.thread_id, t.session is found) for t in found.threads] == [("t", True)]
        found.messages.append(models.Message(role="user", content="Thanks."))
        orm.commit()
    assert [m.content for m in await saver.sessions.amessages("t")] == ["Done.", "Thanks."]


@pytest.mark.parametrize("face", ["async"], indirect=True)
async def test_rows_with_a_prefix_are_read_through_its_models_in_an_async_session(
    make_saver: SaverFactory, backend: Backend
) -> None:
    await run(chain(make_saver(table_prefix="agent_"), {"messages": [("ai", "Done.")]}), {})

    models = models_for(table_prefix="agent_")
    async with AsyncSession(backend.async_engine()) as orm:
        with_messages = select(models.Session).options(selectinload(models.Session.messages))
        (found,) = await orm.scalars(with_messages)
        assert (found.id, [m.content for m in found.messages]) == ("t", ["Done."])


@pytest.mark.parametrize("face", ["async-engine"], indirect=True)
async def test_rows_of_a_graph_are_read_through_the_models(
    make_saver: SaverFactory, backend: Backend
) -> None:
    saver = make_saver()
    update = {"messages": [("ai", "Done.")], "html": "<p>", "build_artifacts": {"pages": ["/"]}}
    await run(chain(saver, update), {}, config(owner_id="ada"))

    with OrmSession(backend.engine()) as orm:
        found = orm.scalars(select(Session).where(Session.owner_id == "ada")).one()
        assert found.build_artifacts == {"pages": ["/"]}
        assert [m.content for m in found.messages] == ["Done."]
        assert [v.html for v in found.versions] == ["<p>"]
        assert [(t.thread_id, t.status) for t in found.threads] == [("t", "done")]
        found.messages.append(Message(role="user", content="Thanks."))
        orm.commit()
    assert [m.content for m in await saver.sessions.amessages("t")] == ["Done.", "Thanks."]


def test_each_database_enforces_foreign_keys_unique_numbers_and_cascades(
    backend: Backend,
) -> None:
    with SessionSaver.from_conn_string(backend.url) as saver:
        saver.setup()
        engine = saver._runner.sync_engine
        with OrmSession(engine) as orm:
            orm.add_all([filled(id="s"), filled(id="t")])
            orm.commit()
        for refused in (
            Message(session_id="no such", role="user", content="hi"),
            Version(session_id="s", version=0, html="<p>again"),
        ):
            with OrmSession(engine) as orm:
                orm.add(refused)
                with pytest.raises(IntegrityError):
                    orm.flush()
        with OrmSession(engine) as orm:
            orm.delete(orm.get_one(Session, "s"))
            orm.commit()
            for model in (Message, Version, TokenUsage):
                assert set(orm.scalars(select(model.session_id))) == {"t"}
