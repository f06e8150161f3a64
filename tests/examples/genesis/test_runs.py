"""Runs: what is said is stored, and the stage's record and events agree with the checkpoints."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from examples.genesis.configs import CONFIGS, require_complete
from examples.genesis.errors import NotFoundError, StateError
from examples.genesis.graph import STANDS
from examples.genesis.models import (
    GenesisEvent,
    GenesisFlow,
    GenesisStage,
    GenesisStatus,
    SessionKind,
    StageStatus,
)
from examples.genesis.services import GenesisStageService
from examples.genesis.story.brief import Brief
from examples.genesis.story.prose import Section
from examples.genesis.writers import story_writer
from examples.web.database import in_transaction, reading
from langgraph_session_saver import ThreadConflictError
from tests.examples.genesis.authors import BEGINNING, STAGES, Author, answer_to, said

AGENT, REVIEW, USER = (
    SessionKind.AGENT_AUTONOMOUS, SessionKind.REVIEW, SessionKind.USER_INTERACTION,
)  # fmt: skip


@pytest.fixture
async def author(engine: AsyncEngine) -> AsyncIterator[Author]:
    """An author with a new novel."""
    author = await Author.of_new_novel(engine)
    yield author
    await author.runs.aclose()


class SlowWriter:
    """Waits before each section until it may write."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.may_write = asyncio.Event()

    async def __call__(self, brief: Brief, section: Section) -> AIMessage:
        self.began.set()
        await self.may_write.wait()
        return await story_writer(brief, section)


async def at_work(engine: AsyncEngine) -> tuple[Author, SlowWriter, str, str]:
    """An agent that is about to write: author, writer, and the ids of the stage and session."""
    writer = SlowWriter()
    author = await Author.of_new_novel(engine, writer)
    session_id, stage_id = await author.open_session(AGENT), (await author.record()).id
    await author.runs.say(author.owner_id, stage_id, session_id, BEGINNING)
    await writer.began.wait()
    return author, writer, stage_id, session_id


class BrokenWriter:
    """Fails the first time."""

    def __init__(self) -> None:
        self._errors = [ConnectionResetError("the model is not there")]

    async def __call__(self, brief: Brief, section: Section) -> AIMessage:
        if self._errors:
            raise self._errors.pop()
        return await story_writer(brief, section)


async def events_of(author: Author, session_id: str) -> list[GenesisEvent]:
    async with reading(author.engine) as orm:
        query = select(GenesisEvent).where(GenesisEvent.session_id == session_id)
        return [*await orm.scalars(query.order_by(GenesisEvent.position))]


# -- a novel -------------------------------------------------------------------------------------


async def test_a_novel_is_talked_through_all_stages(author: Author) -> None:
    for stage in STAGES:
        record = await author.record()
        assert record.stage is stage
        values = await author.work(USER)
        record = await author.record(record.id)
        assert (record.config, record.result) == (values["config"], values["result"])
        assert record.result
        assert record.result["title"]
        require_complete(stage, record.config)
        assert record.status is StageStatus.PAUSED
        await author.advance()

    async with reading(author.engine) as orm:
        flow = await orm.get_one(GenesisFlow, author.flow_id)
    assert (flow.status, flow.current_stage) == (GenesisStatus.COMPLETED, GenesisStage.FINISHED)


@pytest.mark.parametrize("kind", SessionKind)
@pytest.mark.parametrize("stage", STAGES)
async def test_each_kind_of_session_brings_a_complete_config_and_a_result(
    author: Author, stage: GenesisStage, kind: SessionKind
) -> None:
    await author.reach(stage)

    values = await author.work(kind)

    assert CONFIGS[stage].model_validate(values["config"])
    assert values["result"]["title"]


async def test_later_stages_are_about_what_the_earlier_ones_decided(author: Author) -> None:
    await author.reach(GenesisStage.CHARACTERS)
    async with reading(author.engine) as orm:
        flow = await orm.get_one(GenesisFlow, author.flow_id)
    earlier = [flow.state[stage]["config"] for stage in ("INITIAL_PROMPT", "WORLDVIEW")]

    assert (await author.work(AGENT))["facts"] == earlier[0] | earlier[1]


# -- what a step does to the tables --------------------------------------------------------------


@pytest.mark.parametrize("kind", SessionKind)
async def test_the_record_and_the_events_agree_with_the_checkpoint_after_every_step(
    author: Author, kind: SessionKind
) -> None:
    if kind is REVIEW:
        await author.work(AGENT)
    session_id = await author.open_session(kind)
    await author.make_primary(session_id)
    author.graph.interrupt_after_nodes = "*"  # a run is one step; `resume` makes the next one
    checkpoints = []

    await author.say(session_id, BEGINNING)
    while True:
        state = await author.state(session_id)
        checkpoints.append(state.config["configurable"]["checkpoint_id"])
        await agrees(author, session_id, state)
        if state.interrupts:
            await author.say(session_id, answer_to(state.interrupts[0].value))
        elif state.next:
            await author.runs.resume()
            await author.runs.wait()
        else:
            break

    found = [each.id for each in await events_of(author, session_id) if "step/" in each.id]
    assert len(found) == len(set(found))
    assert {f"step/{checkpoint}" for checkpoint in checkpoints} <= set(found)


async def agrees(author: Author, session_id: str, state: Any) -> None:
    """Check the record and the last event of a stage's primary session."""
    values = state.values
    record, event = await author.record(), (await events_of(author, session_id))[-1]
    assert (record.config, record.result) == (values["config"], values["result"])
    assert record.iteration_count == values["iterations"]
    assert record.metrics["sections"] == len(values["parts"])
    assert record.status == ("RUNNING" if state.next and not values["question"] else "PAUSED")
    assert event.id == f"step/{state.config['configurable']['checkpoint_id']}"
    assert event.data == {
        "stage": record.stage,
        "status": record.status,
        "question": values["question"],
        "metrics": record.metrics,
    }


async def test_the_record_shows_each_step_of_the_primary_session(author: Author) -> None:
    session_id = await author.open_session()
    shown = []
    for text in (BEGINNING, "1", "1", "1", "1", STANDS):
        await author.say(session_id, text)
        record, state = await author.record(), await author.state(session_id)
        assert (record.config, record.result) == (state.values["config"], state.values["result"])
        assert record.iteration_count == state.values["iterations"]
        shown.append((record.metrics["decided"], record.metrics["sections"], record.status))

    waiting = [(n, 0, StageStatus.PAUSED) for n in range(4)]
    assert shown == [*waiting, (4, 2, StageStatus.PAUSED), (4, 2, StageStatus.PAUSED)]


async def test_the_record_is_running_while_the_graph_works(engine: AsyncEngine) -> None:
    writer = SlowWriter()
    author = await Author.of_new_novel(engine, writer)
    session_id, record = await author.open_session(AGENT), await author.record()

    await author.runs.say(author.owner_id, record.id, session_id, BEGINNING)
    await writer.began.wait()
    during = await author.record()
    writer.may_write.set()
    await author.runs.wait()

    assert (during.status, during.metrics["decided"], during.result) == ("RUNNING", 4, None)
    assert (await author.record()).status is StageStatus.PAUSED


async def test_updated_at_rises_with_each_step(author: Author) -> None:
    session_id = await author.open_session()
    moments = [(await author.record()).updated_at]
    for text in (BEGINNING, "1", "1"):
        await author.say(session_id, text)
        moments.append((await author.record()).updated_at)

    assert sorted(set(moments)) == moments


async def test_a_message_begins_a_round_of_its_session(author: Author) -> None:
    session_id = await author.open_session()
    for text in (BEGINNING, "1", "1"):
        await author.say(session_id, text)

    session = await author.saver.sessions.aget(session_id)
    assert session is not None
    assert session.round_sequence == 3


async def test_a_session_that_is_not_primary_leaves_the_record_as_it_is(author: Author) -> None:
    await author.work(AGENT)
    before = await author.record()

    second = await author.work(AGENT)

    after = await author.record()
    assert second["config"] != before.config
    assert (after.config, after.result, after.iteration_count, after.updated_at) == (
        before.config, before.result, before.iteration_count, before.updated_at,
    )  # fmt: skip


async def test_a_session_that_becomes_primary_brings_its_config_and_result(author: Author) -> None:
    first = await author.work(AGENT)
    second = await author.open_session(AGENT)
    values = await author.converse(second)
    assert (await author.record()).config == first["config"]

    await author.make_primary(second)

    record = await author.record()
    assert (record.config, record.result) == (values["config"], values["result"])


async def test_a_late_step_of_a_session_that_was_primary_leaves_the_record_as_it_is(
    engine: AsyncEngine,
) -> None:
    author, writer, _, session_id = await at_work(engine)
    await author.make_primary(await author.open_session())
    before = await author.record()

    writer.may_write.set()
    await author.runs.wait()

    after = await author.record()
    assert (await author.state(session_id)).values["result"] is not None
    assert (after.result, after.updated_at) == (None, before.updated_at)


async def test_a_late_step_leaves_a_completed_stage_as_it_is(engine: AsyncEngine) -> None:
    author, writer, stage_id, session_id = await at_work(engine)
    await author.advance()
    before = await author.record(stage_id)
    assert before.status is StageStatus.COMPLETED

    writer.may_write.set()
    await author.runs.wait()

    after = await author.record(stage_id)
    assert (await author.state(session_id)).values["result"] is not None
    assert (after.status, after.result, after.updated_at) == (
        before.status, None, before.updated_at,
    )  # fmt: skip


# -- what is said --------------------------------------------------------------------------------


async def test_what_is_said_is_stored_when_say_returns(engine: AsyncEngine) -> None:
    writer = SlowWriter()
    author = await Author.of_new_novel(engine, writer)
    session_id, stage_id = await author.open_session(), (await author.record()).id

    for count, text in enumerate((BEGINNING, "1", "1", "1", "1"), 1):
        await author.runs.wait()  # until it asks
        await author.runs.say(author.owner_id, stage_id, session_id, text)
        stored = await author.saver.sessions.amessages(session_id)
        assert [each.content for each in stored if each.role == "user"][-1] == text
        assert sum(each.role == "user" for each in stored) == count
    await author.runs.aclose()


async def test_a_question_can_be_answered_as_soon_as_it_is_seen(author: Author) -> None:
    session_id, stage_id = await author.open_session(), (await author.record()).id
    await author.runs.say(author.owner_id, stage_id, session_id, BEGINNING)
    asked = None
    while asked is None:  # until the question is stored, and the run about to stop there
        asked = (await author.state(session_id)).values.get("question")
    await author.runs.say(author.owner_id, stage_id, session_id, "1")
    await author.runs.wait()

    assert len((await author.state(session_id)).values["config"]) == 1


async def test_a_session_at_work_takes_no_message(engine: AsyncEngine) -> None:
    author, _, stage_id, session_id = await at_work(engine)
    runs, elsewhere = author.runs, Author(engine, author.owner_id, author.flow_id).runs

    for other in (runs, elsewhere):
        with pytest.raises(StateError, match="wait for its next question"):
            await other.say(author.owner_id, stage_id, session_id, "Hurry.")

    await author.runs.aclose()
    assert len(said((await author.state(session_id)).values)) == 5


async def test_of_two_messages_at_once_one_is_taken(engine: AsyncEngine) -> None:
    writer = SlowWriter()
    author = await Author.of_new_novel(engine, writer)
    session_id, stage_id = await author.open_session(AGENT), (await author.record()).id
    both = [author.runs.say(author.owner_id, stage_id, session_id, BEGINNING) for _ in range(2)]

    answers = await asyncio.gather(*both, return_exceptions=True)
    writer.may_write.set()
    await author.runs.wait()

    assert [type(each) for each in answers] == [type(None), StateError]
    assert said((await author.state(session_id)).values).count(BEGINNING) == 1


async def test_what_is_refused_is_not_stored_when_two_processes_take_messages(
    author: Author,
) -> None:
    session_id, stage_id = await author.open_session(), (await author.record()).id
    elsewhere = Author(author.engine, author.owner_id, author.flow_id)
    await author.say(session_id, BEGINNING)

    answers = await asyncio.gather(
        *(runs.say(author.owner_id, stage_id, session_id, "1")
          for runs in (author.runs, elsewhere.runs)),
        return_exceptions=True,
    )  # fmt: skip
    await author.runs.wait()
    await elsewhere.runs.wait()

    taken = answers.count(None)
    assert {type(each) for each in answers} <= {type(None), StateError, ThreadConflictError}
    assert said((await author.state(session_id)).values).count("1") == taken >= 1


async def test_a_run_that_failed_marks_the_stage_and_goes_on_with_the_next_message(
    engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    author = await Author.of_new_novel(engine, BrokenWriter())
    session_id = await author.open_session(AGENT)

    with caplog.at_level(logging.ERROR):
        await author.say(session_id, BEGINNING)

    assert caplog.messages == [f"the run of thread {session_id} failed"]
    assert (await author.record()).status is StageStatus.FAILED
    (failed,) = [e for e in await events_of(author, session_id) if e.type == "session.failed"]
    assert failed.data == {"stage": "INITIAL_PROMPT", "error": "ConnectionResetError"}
    await author.say(session_id, "Once more.")
    assert (await author.record()).status is StageStatus.PAUSED
    assert (await author.record()).result


# -- what is refused -----------------------------------------------------------------------------


async def test_a_stage_of_another_owner_is_not_found(author: Author) -> None:
    session_id, stage_id = await author.open_session(), (await author.record()).id

    with pytest.raises(NotFoundError):
        await author.runs.say("somebody else", stage_id, session_id, BEGINNING)


async def test_a_session_of_another_stage_is_not_found(author: Author) -> None:
    session_id = await author.open_session(AGENT)
    await author.converse(session_id)
    await author.advance()

    with pytest.raises(NotFoundError, match="is not bound to this stage"):
        await author.say(session_id, BEGINNING)


async def test_a_completed_stage_takes_no_message(author: Author) -> None:
    session_id, stage_id = await author.open_session(AGENT), (await author.record()).id
    await author.converse(session_id)
    await author.advance()

    with pytest.raises(StateError, match="this INITIAL_PROMPT is completed: go back to it"):
        await author.say(session_id, BEGINNING, stage_id)


async def test_a_review_of_nothing_is_refused(author: Author) -> None:
    session_id = await author.open_session(REVIEW)

    with pytest.raises(StateError, match="there is no INITIAL_PROMPT to review yet"):
        await author.say(session_id, BEGINNING)


async def test_a_session_of_two_stages_works_on_each_by_itself(author: Author) -> None:
    await author.work(AGENT)
    session_id = await author.open_session()
    await author.say(session_id, BEGINNING)  # and leave the question open
    await author.advance()
    record = await author.record()

    async def bind(orm: AsyncSession) -> None:
        service = GenesisStageService(orm, author.owner_id, author.saver)
        await service.bind(record.id, session_id)

    await in_transaction(author.engine, bind)
    await author.say(session_id, "And now the world.")

    values = (await author.state(session_id)).values
    assert (values["question"]["about"], values["config"]) == ("era", {})
    assert said(values)[0] == BEGINNING


# -- runs that were stopped ----------------------------------------------------------------------


async def test_a_run_that_a_shutdown_cancelled_is_taken_up_again(engine: AsyncEngine) -> None:
    author, _, _, session_id = await at_work(engine)
    await author.runs.aclose()
    assert (await author.state(session_id)).next == ("write",)

    after = Author(engine, author.owner_id, author.flow_id).runs
    assert await after.resume() >= 1
    await after.wait()

    assert (await author.state(session_id)).values["result"] is not None
    assert await after.resume() == 0


async def test_a_run_that_two_processes_have_taken_up_is_stored_once(engine: AsyncEngine) -> None:
    """A server that starts takes up what others are at work on: one of the two goes on."""
    slow, writer, _, session_id = await at_work(engine)

    other = Author(engine, slow.owner_id, slow.flow_id)
    await other.runs.resume()
    await other.runs.wait()
    after = await other.state(session_id), await slow.record(), await events_of(slow, session_id)
    writer.may_write.set()
    await slow.runs.wait()

    state, record, events = after
    assert (state.next, record.status, record.result) == (
        (), StageStatus.PAUSED, state.values["result"],
    )  # fmt: skip
    assert said(state.values).count(state.values["parts"][0]["text"]) == 1
    assert (await slow.state(session_id)).config == state.config
    assert (await slow.record()).updated_at == record.updated_at
    assert [each.id for each in await events_of(slow, session_id)] == [each.id for each in events]


async def test_a_session_that_waits_for_an_answer_is_not_run_again(author: Author) -> None:
    session_id = await author.open_session()
    await author.say(session_id, BEGINNING)
    before = await author.state(session_id)

    await author.runs.resume()
    await author.runs.wait()

    assert (await author.state(session_id)).config == before.config


def test_the_author_s_answers_are_among_the_options() -> None:
    assert answer_to({"about": "tone"}) == "2"
