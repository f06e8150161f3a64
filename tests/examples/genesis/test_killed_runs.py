"""A process that is killed in any stage: another one goes on, and the novel is the same."""

from __future__ import annotations

import asyncio
import random
import signal
from typing import Any

import pytest

from examples.genesis.models import GenesisStage, GenesisStageRecord, SessionKind
from examples.web.database import make_engine
from tests.examples.genesis.authors import STAGES, Author, said
from tests.support.backends import Backend
from tests.support.zygote import Zygote

MODULE = "tests.examples.genesis.authors"


class Undisturbed:
    """What each kind of session makes of each stage, in a process that nobody kills."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._known: dict[tuple[GenesisStage, SessionKind], tuple[dict[str, Any], int]] = {}

    async def values(self, stage: GenesisStage, kind: SessionKind) -> tuple[dict[str, Any], int]:
        """The final state, and how many steps were saved before it."""
        if (stage, kind) not in self._known:
            engine = make_engine(self._url)
            author = await Author.of_new_novel(engine)
            await author.reach(stage)
            session_id = await session_for(author, kind)
            values = await author.converse(session_id)
            at: Any = {"configurable": {"thread_id": session_id}}
            steps = [state async for state in author.graph.aget_state_history(at)]
            self._known[stage, kind] = values, len(steps)
            await engine.dispose()
        return self._known[stage, kind]


async def session_for(author: Author, kind: SessionKind) -> str:
    """A session of the current stage; for a review there is a draft."""
    if kind is SessionKind.REVIEW:
        await author.converse(await author.open_session(SessionKind.AGENT_AUTONOMOUS))
    return await author.open_session(kind)


@pytest.fixture(scope="module")
def undisturbed(database: Backend) -> Undisturbed:
    return Undisturbed(database.async_url)


AGENT, REVIEW, USER = (
    SessionKind.AGENT_AUTONOMOUS, SessionKind.REVIEW, SessionKind.USER_INTERACTION,
)  # fmt: skip
EVERY = [(stage, kind) for stage in STAGES for kind in SessionKind]
SOME = [*zip(STAGES, (USER, REVIEW, AGENT, USER), strict=True)]
PLACES = {"sqlite": EVERY, "postgresql": SOME, "mariadb": SOME}


@pytest.mark.parametrize(
    ("database", "stage", "kind"),
    [(name, *place) for name, places in PLACES.items() for place in places],
    indirect=["database"],
)
def test_a_killed_run_goes_on_in_another_process(
    database: Backend,
    zygote: Zygote,
    undisturbed: Undisturbed,
    stage: GenesisStage,
    kind: SessionKind,
) -> None:
    expected, count = asyncio.run(undisturbed.values(stage, kind))
    number = random.SystemRandom().randrange(1, count + 1)
    print(f"killed before step {number} of {count}")

    _kill_and_compare(database, zygote, expected, stage, kind, [number])


@pytest.mark.heavy
@pytest.mark.parametrize("kind", SessionKind)
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_is_killed_before_each_of_its_steps_goes_on(
    database: Backend,
    zygote: Zygote,
    undisturbed: Undisturbed,
    stage: GenesisStage,
    kind: SessionKind,
) -> None:
    expected, count = asyncio.run(undisturbed.values(stage, kind))

    # Each process saves one step more, and is killed before the next.
    _kill_and_compare(database, zygote, expected, stage, kind, [2] * (count - 1))


def _kill_and_compare(
    database: Backend,
    zygote: Zygote,
    expected: dict[str, Any],
    stage: GenesisStage,
    kind: SessionKind,
    kills: list[int],
) -> None:
    """Kill processes before they save a step, let the last one finish, and compare."""
    work = asyncio.run(_begin(database.async_url, stage, kind))
    for number in kills:
        child = zygote.spawn(f"{MODULE}:work_until_killed", {**work, "number": number})
        child.wait_for("stopped")
        child.kill()
        assert child.wait() == -signal.SIGKILL, child.text
        values, record = asyncio.run(_look(work))
        assert kind is REVIEW or _shows(record, values)
    child = zygote.spawn(f"{MODULE}:work_until_killed", {**work, "number": 0})
    assert child.wait() == 0, child.text

    values, record = asyncio.run(_look(work))
    assert said(values) == said(expected)
    assert (values["config"], values["result"]) == (expected["config"], expected["result"])
    assert kind is REVIEW or _shows(record, values)


async def _begin(url: str, stage: GenesisStage, kind: SessionKind) -> dict[str, Any]:
    """A session of a new novel, in which nothing is said yet: arguments of a child."""
    engine = make_engine(url)
    author = await Author.of_new_novel(engine)
    await author.reach(stage)
    session_id = await session_for(author, kind)
    await engine.dispose()
    ids = {"owner_id": author.owner_id, "flow_id": author.flow_id, "session_id": session_id}
    return {"url": url, **ids}


async def _look(work: dict[str, Any]) -> tuple[dict[str, Any], GenesisStageRecord]:
    """The state of a session, and the record of its stage."""
    engine = make_engine(work["url"])
    author = Author(engine, work["owner_id"], work["flow_id"])
    state = await author.state(work["session_id"])
    record = await author.record()
    await engine.dispose()
    return state.values, record


def _shows(record: GenesisStageRecord, values: dict[str, Any]) -> bool:
    """Whether the record shows a checkpoint, or as before the first one that nothing is done."""
    shown = (record.config, record.result, record.iteration_count)
    state = (values.get("config", {}), values.get("result"), values.get("iterations", 0))
    return shown == state and record.metrics.get("sections", 0) == len(values.get("parts", []))
