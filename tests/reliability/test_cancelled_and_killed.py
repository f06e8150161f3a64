"""Processes killed among graphs that are cancelled: what was acknowledged is stored."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import NullPool

from langgraph_session_saver import SessionSaver
from tests.support.acknowledged import disagreeing, lost
from tests.support.backends import Backend
from tests.support.drivers import ASYNC_DRIVERS, url_of
from tests.support.zygote import Zygote

ROUNDS = 15
HEAVY_ROUNDS = 150
SAVED_BEFORE_KILL = 10
"""A child is killed after so many checkpoints or fewer, drawn at random …"""
SECONDS_MORE = 0.03
"""… and up to so long after that."""

EITHER_ENGINE = pytest.mark.parametrize("is_own", [True, False], ids=["own", "callers"])


@pytest.fixture
def reader(database: Backend) -> Iterator[SessionSaver]:
    """A saver that no child has."""
    with SessionSaver(database.engine(poolclass=NullPool)) as saver:
        yield saver


def test_what_was_acknowledged_beside_cancelled_graphs_survives_a_kill(
    database: Backend, zygote: Zygote, reader: SessionSaver, driver: str
) -> None:
    reader.setup()
    told: list[dict[str, Any]] = []
    for draw, is_own in draws(ROUNDS):
        told += kill_one(database, zygote, reader, driver, is_own, draw)
    assert sum("saved" in line for line in told) > ROUNDS
    assert sum("cancelled" in line for line in told) > ROUNDS


@pytest.mark.heavy
@EITHER_ENGINE
def test_what_was_acknowledged_survives_150_kills(
    database: Backend, zygote: Zygote, reader: SessionSaver, driver: str, is_own: bool
) -> None:
    reader.setup()
    told: list[dict[str, Any]] = []
    for draw, _ in draws(HEAVY_ROUNDS):
        told += kill_one(database, zygote, reader, driver, is_own, draw)
    counts = Counter(key for line in told for key in ("saved", "cancelled") if key in line)
    print(f"| {driver} | {'own' if is_own else 'caller'} | {HEAVY_ROUNDS} | {counts} |")


def draws(rounds: int) -> Iterator[tuple[random.Random, bool]]:
    """A source of random numbers for each round, and whether the engine is the saver's own."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # shown with a failure
    draw = random.Random(seed)
    for number in range(rounds):
        yield draw, number % 2 == 0


def kill_one(
    database: Backend,
    zygote: Zygote,
    reader: SessionSaver,
    driver: str,
    is_own: bool,
    draw: random.Random,
) -> list[dict[str, Any]]:
    """Run graphs in a process, kill it, check what it left, and return what it told."""
    arguments = {
        "url": url_of(database, driver),
        "is_async": driver in ASYNC_DRIVERS,
        "is_own": is_own,
        "seed": draw.randrange(1 << 32),
    }
    child = zygote.spawn("tests.support.cancelling:run", arguments)
    saved = draw.randint(1, SAVED_BEFORE_KILL)
    while child.text.count('"saved"') < saved:
        assert child.reads_on(30), child.text
    time.sleep(draw.uniform(0, SECONDS_MORE))  # a kill comes at no event
    child.kill()
    assert child.wait() == -signal.SIGKILL, child.text
    told: list[dict[str, Any]] = [json.loads(line) for line in child.lines]
    assert lost(reader, [line for line in told if "saved" in line]) == []
    assert disagreeing(database.outside, reader) == []
    return told
