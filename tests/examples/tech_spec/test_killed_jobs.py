"""A process that is killed at any step: another one goes on, and the document is the same."""

from __future__ import annotations

import asyncio
import random
import signal
from typing import Any

import pytest

from examples.tech_spec.database import make_engine
from examples.tech_spec.models import TechSpecSession
from tests.examples.tech_spec.teams import Team, add_session, parts_of, said
from tests.support.backends import Backend
from tests.support.zygote import Zygote

WORK = "tests.examples.tech_spec.teams:work_until_killed"

pytestmark = pytest.mark.usefixtures("designs")


async def undisturbed(url: str) -> tuple[dict[str, Any], int]:
    """The values of a job that nobody kills, and how many steps it has."""
    engine = make_engine(url)
    team = Team(engine)
    session_id = await team.start()
    values = await team.finish(session_id)
    at: Any = {"configurable": {"thread_id": session_id}}
    count = len([state async for state in team.graph.aget_state_history(at)])
    await engine.dispose()
    return values, count


async def begin(url: str) -> str:
    engine = make_engine(url)
    session_id = await add_session(engine)
    await engine.dispose()
    return session_id


async def look(url: str, session_id: str) -> tuple[dict[str, Any], TechSpecSession]:
    """The values of a job, and what other systems see of it."""
    engine = make_engine(url)
    team = Team(engine)
    values, shown = await team.values(session_id), await team.shown(session_id)
    await engine.dispose()
    return values, shown


def shows(shown: TechSpecSession, values: dict[str, Any]) -> bool:
    """Whether the tables show a checkpoint; before the first one, that nothing is done."""
    agree = [
        shown.status == (values.get("status") or "pending"),
        shown.current_stage == (values.get("stage") or None),
        [row.message for row in shown.conversation] == [text for _, text in said(values)],
        len(shown.research) == len(values.get("research", ())),
        [row.version for row in shown.documents][-1:]
        == ([values["document"]["version"]] if "document" in values else []),
    ]
    return all(agree)


@pytest.mark.heavy
def test_a_job_that_is_killed_before_each_of_its_steps_goes_on(
    database: Backend, zygote: Zygote
) -> None:
    expected, count = asyncio.run(undisturbed(database.async_url))

    # Each process saves one step more, and is killed before the next.
    kill_and_compare(database, zygote, expected, [2] * (count - 1))


def test_a_killed_job_goes_on_in_another_process(database: Backend, zygote: Zygote) -> None:
    expected, count = asyncio.run(undisturbed(database.async_url))
    number = random.SystemRandom().randrange(1, count + 1)
    print(f"killed before step {number} of {count}")

    kill_and_compare(database, zygote, expected, [number])


def kill_and_compare(
    database: Backend, zygote: Zygote, expected: dict[str, Any], kills: list[int]
) -> None:
    """Kill processes before they save a step, let the last one finish, and compare."""
    url = database.async_url
    work = {"url": url, "session_id": asyncio.run(begin(url))}
    for number in kills:
        child = zygote.spawn(WORK, {**work, "number": number})
        child.wait_for("stopped")
        child.kill()
        assert child.wait() == -signal.SIGKILL, child.text
        values, shown = asyncio.run(look(**work))
        assert shows(shown, values)
    child = zygote.spawn(WORK, {**work, "number": 0})
    assert child.wait() == 0, child.text

    values, shown = asyncio.run(look(**work))
    assert shows(shown, values)
    assert said(values) == said(expected)
    assert parts_of(values) == parts_of(expected)
