"""Flows and stages: what an owner can do, what is refused, and what happens when two do it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from examples.genesis.configs import CONFIGS
from examples.genesis.errors import (
    GenesisError,
    IncompleteConfigError,
    NotFoundError,
    ScopeError,
    StateError,
)
from examples.genesis.models import (
    BindingStatus,
    GenesisEvent,
    GenesisFlow,
    GenesisStage,
    GenesisStageRecord,
    GenesisStatus,
    Novel,
    SessionKind,
    StageStatus,
)
from examples.genesis.repositories import lock, shown_by
from examples.genesis.services import GenesisFlowService, GenesisStageService
from examples.web.database import in_transaction, reading, transaction
from langgraph_session_saver import InvalidConfigError, SessionSaver
from tests.examples.genesis.locks import waiting_for_a_lock

STAGES = [*GenesisStage]


class Desk:
    """The services of a novel's owner, in a session of a test."""

    def __init__(self, orm: AsyncSession, novel: Novel, saver: SessionSaver) -> None:
        self.orm = orm
        self.novel = novel
        self.flows = GenesisFlowService(orm, novel.owner_id)
        self.stages = GenesisStageService(orm, novel.owner_id, saver)

    async def stage(self) -> GenesisStageRecord:
        """The record of the current stage."""
        flow = await self.flows.ensure_flow(self.novel.id)
        return [r for r in await self.stages.of_flow(flow.id) if r.stage == flow.current_stage][-1]

    async def decide(self) -> GenesisStageRecord:
        """Complete the current stage's config."""
        record = await self.stage()
        record.config = {name: f"a {name}" for name in CONFIGS[record.stage].model_fields}
        await self.orm.flush()
        return record

    async def go_on(self, to: GenesisStage) -> GenesisStageRecord | None:
        """Decide on the current stage and advance."""
        await self.decide()
        flow = await self.flows.ensure_flow(self.novel.id)
        return await self.flows.advance(flow.id, to)

    async def bound(self, **options: Any) -> str:
        """The id of a new session of the current stage."""
        stage_id = (await self.stage()).id
        return (await self.stages.create_and_bind(stage_id, "Talk", **options)).session_id

    async def events(self) -> list[str]:
        """The types of the flow's events, in the order in which they happened."""
        flow = await self.flows.ensure_flow(self.novel.id)
        query = select(GenesisEvent.type).where(GenesisEvent.flow_id == flow.id)
        return list(await self.orm.scalars(query.order_by(GenesisEvent.position)))


@pytest.fixture
async def desk(engine: AsyncEngine, novel: Novel, saver: SessionSaver) -> AsyncIterator[Desk]:
    """The services in a transaction that is rolled back at the end."""
    async with AsyncSession(engine, expire_on_commit=False) as orm:
        await orm.connection(execution_options={"writes": True})
        yield Desk(orm, novel, saver)


async def elsewhere(engine: AsyncEngine, novel: Novel) -> list[GenesisFlow]:
    """The novel's flow, as others see it."""
    async with reading(engine) as orm:
        query = select(GenesisFlow).where(GenesisFlow.novel_id == novel.id)
        return list(await orm.scalars(query))


# -- flows ----------------------------------------------------------------------------------------


async def test_a_flow_is_made_once_with_the_record_of_its_first_stage(desk: Desk) -> None:
    flow = await desk.flows.ensure_flow(desk.novel.id)
    assert await desk.flows.ensure_flow(desk.novel.id) is flow
    assert [(r.stage, r.status) for r in await desk.stages.of_flow(flow.id)] == [
        (GenesisStage.INITIAL_PROMPT, StageStatus.RUNNING)
    ]
    assert await desk.events() == ["flow.started"]


async def test_two_who_ensure_a_flow_at_once_get_the_same(
    engine: AsyncEngine, novel: Novel
) -> None:
    async def ensure() -> str:
        async def work(orm: AsyncSession) -> str:
            return (await GenesisFlowService(orm, novel.owner_id).ensure_flow(novel.id)).id

        return await in_transaction(engine, work)

    ids = await asyncio.gather(*(ensure() for _ in range(8)))
    assert {flow.id for flow in await elsewhere(engine, novel)} == set(ids)
    async with reading(engine) as orm:
        query = select(GenesisStageRecord).where(GenesisStageRecord.flow_id == ids[0])
        assert len((await orm.scalars(query)).all()) == 1


async def test_a_flow_advances_through_all_stages_to_its_end(desk: Desk) -> None:
    flow = await desk.flows.ensure_flow(desk.novel.id)
    for stage in STAGES[1:-1]:
        record = await desk.go_on(stage)
        assert record
        assert (record.stage, record.status) == (stage, StageStatus.RUNNING)
    assert await desk.go_on(GenesisStage.FINISHED) is None
    assert (flow.status, flow.current_stage) == (GenesisStatus.COMPLETED, GenesisStage.FINISHED)
    records = await desk.stages.of_flow(flow.id)
    assert [record.stage for record in records] == STAGES[:-1]
    assert {record.status for record in records} == {StageStatus.COMPLETED}
    assert flow.state.keys() == {*STAGES[:-1]}
    assert flow.state["WORLDVIEW"]["config"]["era"] == "a era"
    assert await desk.events() == ["flow.started", *["stage.completed", "flow.advanced"] * 4]


async def test_a_stage_whose_config_is_incomplete_is_not_left_forward(desk: Desk) -> None:
    record = await desk.stage()
    record.config = {"genre": "noir", "tone": " ", "idea": 7}
    with pytest.raises(IncompleteConfigError, match="tone, audience, idea") as refused:
        await desk.flows.advance(record.flow_id, GenesisStage.WORLDVIEW)
    assert [error["pointer"] for error in refused.value.members["errors"]] == [
        "#/tone",
        "#/audience",
        "#/idea",
    ]
    assert (record.status, record.flow.current_stage) == (
        StageStatus.RUNNING,
        GenesisStage.INITIAL_PROMPT,
    )


async def test_going_back_needs_no_config_and_goes_on_with_what_was_there(desk: Desk) -> None:
    first = await desk.stage()
    await desk.go_on(GenesisStage.WORLDVIEW)
    second = await desk.stage()
    again = await desk.flows.advance(first.flow_id, GenesisStage.INITIAL_PROMPT)
    assert again
    assert (second.status, again.status) == (StageStatus.PAUSED, StageStatus.RUNNING)
    assert (again.id != first.id, again.config) == (True, first.config)
    assert (await desk.go_on(GenesisStage.WORLDVIEW)) is second
    assert second.status == StageStatus.RUNNING


@pytest.mark.parametrize("to", [GenesisStage.INITIAL_PROMPT, *STAGES[2:]])
async def test_no_stage_is_repeated_or_left_out(desk: Desk, to: GenesisStage) -> None:
    record = await desk.decide()
    with pytest.raises(StateError, match="go on to WORLDVIEW, or back to an earlier stage"):
        await desk.flows.advance(record.flow_id, to)


async def test_a_flow_is_paused_and_goes_on(desk: Desk) -> None:
    record = await desk.decide()
    await desk.flows.set_status(record.flow_id, GenesisStatus.PAUSED)
    for refused in (
        desk.flows.advance(record.flow_id, GenesisStage.WORLDVIEW),
        desk.stages.complete(record.id),
        desk.stages.create_and_bind(record.id, "Talk"),
    ):
        with pytest.raises(StateError, match="the flow is PAUSED"):
            await refused
    await desk.flows.set_status(record.flow_id, GenesisStatus.IN_PROGRESS)
    assert await desk.flows.advance(record.flow_id, GenesisStage.WORLDVIEW)


async def test_a_flow_that_was_abandoned_stays_so(desk: Desk) -> None:
    flow = await desk.flows.ensure_flow(desk.novel.id)
    await desk.flows.set_status(flow.id, GenesisStatus.ABANDONED)
    with pytest.raises(StateError, match="is ABANDONED and cannot become IN_PROGRESS"):
        await desk.flows.set_status(flow.id, GenesisStatus.IN_PROGRESS)


async def test_two_who_advance_a_flow_at_once_advance_it_once(
    engine: AsyncEngine, novel: Novel, saver: SessionSaver
) -> None:
    async with transaction(engine) as orm:
        flow_id = (await Desk(orm, novel, saver).decide()).flow_id

    async def advance() -> object:
        return await in_transaction(
            engine,
            lambda orm: GenesisFlowService(orm, novel.owner_id).advance(
                flow_id, GenesisStage.WORLDVIEW
            ),
        )

    ends = await asyncio.gather(*(advance() for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(end, StateError) for end in ends) == 3
    async with reading(engine) as orm:
        query = select(GenesisStageRecord).where(GenesisStageRecord.flow_id == flow_id)
        assert len((await orm.scalars(query)).all()) == 2


async def test_flows_are_listed_a_page_at_a_time_the_newest_first(desk: Desk) -> None:
    made = [(await desk.flows.ensure_flow(desk.novel.id)).id]
    for number in range(4):
        novel = Novel(owner_id=desk.novel.owner_id, title=f"Salt {number}")
        desk.orm.add(novel)
        await desk.orm.flush()
        made.append((await desk.flows.ensure_flow(novel.id)).id)
    listed, after = [], None
    for size in (2, 2, 1):
        page = await desk.flows.page(2, after)
        assert len(page.items) == size
        listed += [flow.id for flow in page.items]
        after = page.next
    assert after is None
    assert listed == made[::-1]
    assert page.items[0].novel.title == "Salt"


# -- stages and their sessions --------------------------------------------------------------------


async def test_a_completed_stage_archives_its_active_sessions(desk: Desk) -> None:
    first, second = await desk.bound(), await desk.bound()
    record = await desk.decide()
    bound = {each.session_id: each for each in await desk.stages.sessions(record.id)}
    bound[second].status = BindingStatus.CLOSED
    await desk.stages.complete(record.id)
    assert record.status == StageStatus.COMPLETED
    assert record.completed_at
    assert (bound[first].status, bound[second].status) == ("ARCHIVED", "CLOSED")
    with pytest.raises(StateError, match="is completed"):
        await desk.bound()
    assert await desk.flows.advance(record.flow_id, GenesisStage.WORLDVIEW)


async def test_a_session_is_made_for_a_novel_and_bound_to_a_stage(desk: Desk) -> None:
    record = await desk.stage()
    binding = await desk.stages.create_and_bind(record.id, "Who is she?", kind=SessionKind.REVIEW)
    session = binding.session
    assert (session.scope_type, session.scope_id) == ("GENESIS", desk.novel.id)
    assert session.owner_id == desk.novel.owner_id
    assert (binding.session_kind, binding.status, binding.is_primary) == (
        SessionKind.REVIEW,
        BindingStatus.ACTIVE,
        True,
    )
    [listed] = await desk.stages.sessions(record.id)
    assert (listed, listed.session.title) == (binding, "Who is she?")


async def test_the_first_session_is_primary_and_a_second_is_not(desk: Desk) -> None:
    first, second = await desk.bound(), await desk.bound()
    bound = await desk.stages.sessions((await desk.stage()).id)
    assert [(b.session_id, b.is_primary) for b in bound] == [(first, True), (second, None)]
    with pytest.raises(StateError, match=first):
        await desk.bound(is_primary=True)


@pytest.mark.parametrize(
    ("scope_type", "scope_id"),
    [(None, None), ("GENESIS", "another novel"), ("GENESIS", None), ("DESIGN", "this")],
)
async def test_a_session_of_another_scope_is_not_bound(
    desk: Desk, saver: SessionSaver, scope_type: str | None, scope_id: str | None
) -> None:
    record = await desk.stage()
    session = await saver.sessions.acreate(
        scope_type=scope_type,
        scope_id=desk.novel.id if scope_id == "this" else scope_id,
        owner_id=desk.novel.owner_id,
        connection=desk.orm,
    )
    with pytest.raises(ScopeError, match=f"the stage is of GENESIS {desk.novel.id}"):
        await desk.stages.bind(record.id, session.id)
    assert await desk.stages.sessions(record.id) == []


@pytest.mark.parametrize("owner_id", ["eve", None])
async def test_a_session_of_another_owner_does_not_exist(
    desk: Desk, saver: SessionSaver, owner_id: str | None
) -> None:
    record = await desk.stage()
    session = await saver.sessions.acreate(
        scope_type="GENESIS", scope_id=desk.novel.id, owner_id=owner_id, connection=desk.orm
    )
    with pytest.raises(NotFoundError, match="no session"):
        await desk.stages.bind(record.id, session.id)


async def test_another_owner_finds_nothing(desk: Desk, saver: SessionSaver) -> None:
    record, session_id = await desk.stage(), await desk.bound()
    flows = GenesisFlowService(desk.orm, "eve")
    stages = GenesisStageService(desk.orm, "eve", saver)
    for refused in (
        flows.ensure_flow(desk.novel.id),
        flows.advance(record.flow_id, GenesisStage.WORLDVIEW),
        flows.set_status(record.flow_id, GenesisStatus.PAUSED),
        stages.of_flow(record.flow_id),
        stages.sessions(record.id),
        stages.rounds(record.id),
        stages.complete(record.id),
        stages.bind(record.id, session_id),
        stages.create_and_bind(record.id, "Talk"),
        stages.set_primary(record.id, session_id),
    ):
        with pytest.raises(NotFoundError, match="of yours"):
            await refused
    assert (await flows.page()).items == ()
    with pytest.raises(InvalidConfigError, match="no page after"):
        await flows.page(after=record.flow_id)


async def test_a_session_is_bound_to_a_stage_once_and_to_several_stages(desk: Desk) -> None:
    session_id = await desk.bound()
    with pytest.raises(StateError, match="bound to this stage already"):
        await desk.stages.bind((await desk.stage()).id, session_id)
    second = await desk.go_on(GenesisStage.WORLDVIEW)
    assert second
    assert (await desk.stages.bind(second.id, session_id)).is_primary


async def test_the_primary_session_brings_its_config_and_result(
    desk: Desk, saver: SessionSaver
) -> None:
    first, second, third = [await desk.bound() for _ in range(3)]
    record = await desk.stage()
    brought = {"config": {"genre": "noir"}, "result": {"title": "Salt", "text": "…"}}
    await saver.state.asave_state(second, brought, connection=desk.orm)
    await desk.stages.set_primary(record.id, second)
    assert {"config": record.config, "result": record.result} == brought
    assert [b.session_id for b in await desk.stages.sessions(record.id)] == [second, first, third]
    await desk.stages.set_primary(record.id, third)  # which has brought nothing yet
    assert record.config == {"genre": "noir"}
    assert (await desk.events())[-2:] == ["session.primary", "session.primary"]


async def test_a_primary_session_brings_nothing_that_it_decided_for_another_stage(
    desk: Desk, saver: SessionSaver
) -> None:
    first, second = [await desk.bound() for _ in range(2)]
    record = await desk.stage()
    await saver.state.asave_state(first, {"config": {"genre": "noir"}}, connection=desk.orm)
    await saver.state.asave_state(second, {"config": {"era": "winter"}}, connection=desk.orm)
    await desk.stages.set_primary(record.id, second)
    assert record.config == {}
    await desk.stages.set_primary(record.id, first)
    assert record.config == {"genre": "noir"}


async def test_only_an_active_session_of_the_stage_becomes_primary(
    desk: Desk, saver: SessionSaver
) -> None:
    await desk.bound()
    record, second = await desk.stage(), await desk.bound()
    with pytest.raises(NotFoundError, match="is not bound to this stage"):
        await desk.stages.set_primary(record.id, "another")
    (await desk.stages.sessions(record.id))[1].status = BindingStatus.CLOSED
    with pytest.raises(StateError, match="is CLOSED"):
        await desk.stages.set_primary(record.id, second)


async def test_of_those_who_choose_a_primary_session_at_once_the_last_one_wins(
    engine: AsyncEngine, novel: Novel, saver: SessionSaver
) -> None:
    async with transaction(engine) as orm:
        desk = Desk(orm, novel, saver)
        stage_id = (await desk.stage()).id
        ids = [await desk.bound() for _ in range(4)]

    async def choose(session_id: str) -> GenesisStageRecord:
        return await in_transaction(
            engine,
            lambda orm: GenesisStageService(orm, novel.owner_id, saver).set_primary(
                stage_id, session_id
            ),
        )

    for _ in range(3):
        await asyncio.gather(*(choose(session_id) for session_id in ids))
        async with reading(engine) as orm:
            bound = await GenesisStageService(orm, novel.owner_id, saver).sessions(stage_id)
        assert [each.is_primary for each in bound] == [True, None, None, None]


# SQLite has one writer: the step would wait before its statement.
@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
async def test_a_step_does_not_write_for_a_session_that_was_primary_when_it_began(
    engine: AsyncEngine, novel: Novel, saver: SessionSaver
) -> None:
    async with transaction(engine) as orm:
        desk = Desk(orm, novel, saver)
        stage_id, (first, second) = (await desk.stage()).id, [await desk.bound() for _ in range(2)]
        flow_id = (await desk.stage()).flow_id
    step = update(GenesisStageRecord).where(shown_by(stage_id, first))

    async def save() -> int:
        async with engine.begin() as connection:
            await connection.execute(lock(flow_id))
            return (await connection.execute(step.values(iteration_count=9))).rowcount

    async with transaction(engine) as orm:
        await GenesisStageService(orm, novel.owner_id, saver).set_primary(stage_id, second)
        saving = asyncio.create_task(save())
        await waiting_for_a_lock(engine)
        assert not saving.done()
    assert await saving == 0
    async with reading(engine) as orm:
        assert (await orm.get_one(GenesisStageRecord, stage_id)).iteration_count == 0


async def test_rounds_begin_with_a_message_of_the_user(
    engine: AsyncEngine, novel: Novel, saver: SessionSaver
) -> None:
    async with transaction(engine) as orm:
        desk = Desk(orm, novel, saver)
        stage_id, ids = (await desk.stage()).id, [await desk.bound() for _ in range(2)]

    def reply(state: MessagesState) -> dict[str, Any]:
        return {
            "messages": [AIMessage(f"{state['messages'][-1].content}?"), AIMessage("So be it.")]
        }

    graph = StateGraph(MessagesState).add_node(reply).add_edge(START, "reply").compile(saver)
    for session_id, said in ((ids[0], "Rain"), (ids[1], "Salt"), (ids[0], "Snow")):
        configurable = {"thread_id": session_id, "owner_id": novel.owner_id}
        given = MessagesState(messages=[HumanMessage(said)])
        await graph.ainvoke(given, {"configurable": configurable})
    async with reading(engine) as orm:
        rounds = await GenesisStageService(orm, novel.owner_id, saver).rounds(stage_id)
    assert [(r.session_id, r.number, [m.content for m in r.messages]) for r in rounds] == [
        (ids[0], 1, ["Rain", "Rain?", "So be it."]),
        (ids[0], 2, ["Snow", "Snow?", "So be it."]),
        (ids[1], 1, ["Salt", "Salt?", "So be it."]),
    ]


# -- the caller's transaction ---------------------------------------------------------------------


async def test_what_the_caller_rolls_back_leaves_nothing(
    engine: AsyncEngine, desk: Desk, saver: SessionSaver
) -> None:
    session_id = await desk.bound()
    await desk.go_on(GenesisStage.WORLDVIEW)
    flow_id = (await desk.flows.ensure_flow(desk.novel.id)).id
    await desk.orm.rollback()
    assert await elsewhere(engine, desk.novel) == []
    assert await saver.sessions.aget(session_id) is None
    async with reading(engine) as orm:
        query = select(GenesisEvent).where(GenesisEvent.flow_id == flow_id)
        assert (await orm.scalars(query)).all() == []


async def test_nobody_sees_what_is_not_committed(engine: AsyncEngine, desk: Desk) -> None:
    await desk.flows.ensure_flow(desk.novel.id)
    assert await elsewhere(engine, desk.novel) == []
    await desk.orm.commit()
    assert len(await elsewhere(engine, desk.novel)) == 1


async def test_steps_of_graphs_and_services_write_at_once(
    engine: AsyncEngine, novel: Novel, saver: SessionSaver
) -> None:
    """On SQLite neither fails because the other one writes."""
    async with transaction(engine) as orm:
        desk = Desk(orm, novel, saver)
        stage_id, ids = (await desk.stage()).id, [await desk.bound() for _ in range(4)]

    def reply(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("So be it.")]}

    graph = StateGraph(MessagesState).add_node(reply).add_edge(START, "reply").compile(saver)

    async def talk(session_id: str) -> None:
        for _ in range(5):
            configurable = {"thread_id": session_id, "owner_id": novel.owner_id}
            given = MessagesState(messages=[HumanMessage("Salt")])
            await graph.ainvoke(given, {"configurable": configurable})

    async def choose(session_id: str) -> None:
        for _ in range(5):
            await in_transaction(
                engine,
                lambda orm: GenesisStageService(orm, novel.owner_id, saver).set_primary(
                    stage_id, session_id
                ),
            )

    await asyncio.gather(*(each for id_ in ids for each in (talk(id_), choose(id_))))
    assert [len(await saver.sessions.amessages(id_)) for id_ in ids] == [10] * 4


def test_every_error_says_what_its_status_is() -> None:
    kinds = [GenesisError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert {kind.__name__: int(kind.status) for kind in kinds[1:]} == {
        "EventIdError": 400,
        "NotFoundError": 404,
        "ScopeError": 422,
        "IncompleteConfigError": 422,
        "StateError": 409,
    }
