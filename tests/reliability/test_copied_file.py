"""A SQLite file copied while its writers are stopped at any point, as a crash would leave it."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import Any, get_args

import pytest
from langgraph.types import Durability
from sqlalchemy import NullPool, create_engine, text

from langgraph_session_saver import SessionSaver
from tests.conftest import MakeBackend
from tests.support.acknowledged import disagreeing, lost, saved_by
from tests.support.backends import Backend
from tests.support.workloads import finish
from tests.support.zygote import Child, Zygote

COPIES, HEAVY_FILES = 10, 20
"""Copies of a file, and files in the long form."""
SECONDS_BETWEEN = 0.05
DURABILITIES = get_args(Durability)
WORKLOADS = "tests.support.workloads"


@pytest.fixture
def draw() -> random.Random:
    """A source of random numbers, whose seed is shown with a failure."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


def test_a_copy_made_while_all_writers_are_stopped_holds_what_was_acknowledged(
    make_backend: MakeBackend, zygote: Zygote, tmp_path: Path, draw: random.Random
) -> None:
    copy_again_and_again(make_backend("sqlite"), zygote, tmp_path, draw)


@pytest.mark.heavy
def test_200_copies_made_while_all_writers_are_stopped_hold_what_was_acknowledged(
    make_backend: MakeBackend, zygote: Zygote, tmp_path: Path, draw: random.Random
) -> None:
    acknowledged = sum(
        copy_again_and_again(make_backend("sqlite"), zygote, tmp_path, draw)
        for _ in range(HEAVY_FILES)
    )
    print(f"| {HEAVY_FILES * COPIES} | {acknowledged} | 0 | 0 |")


def copy_again_and_again(
    backend: Backend, zygote: Zygote, directory: Path, draw: random.Random
) -> int:
    """Stop all writers of a file, copy it, and let them go on, again and again; check the copies.

    Returns:
        How many checkpoints had been acknowledged before the copies were made, all together.
    """
    writers = [
        zygote.spawn(
            f"{WORKLOADS}:{function}",
            {"url": url, "thread_id": f"thread {number}", "durability": DURABILITIES[number % 3]},
        )
        for number, (function, url) in enumerate(
            [
                ("build_for_ever", backend.url),
                ("abuild_for_ever", backend.async_url),
                ("abuild_for_ever", backend.url),
                ("build_for_ever", backend.url),
            ]
        )
    ]
    for writer in writers:
        writer.wait_for("saved")
    copies = {}
    for number in range(COPIES):
        time.sleep(draw.uniform(0, SECONDS_BETWEEN))  # a crash comes at no event
        copy = directory / f"{number}.db"
        copies[copy] = copy_while_stopped(backend.path, copy, writers)
    for writer in writers:
        writer.kill()
        writer.wait()
    for copy, saved in copies.items():
        check_copy(copy, saved)
    return sum(map(len, copies.values()))


def copy_while_stopped(path: Path | None, copy: Path, writers: list[Child]) -> list[dict[str, Any]]:
    """Copy a database and its WAL; the checkpoints that the writers had told of by then."""
    assert path is not None
    for writer in writers:
        writer.stop()
    for ending in ("", "-wal"):  # the -shm is of the processes that have it open
        shutil.copy(f"{path}{ending}", f"{copy}{ending}")
    for writer in writers:
        writer.read_printed()
    saved = [line for writer in writers for line in saved_by(writer)]
    for writer in writers:
        writer.go_on()
    return saved


def check_copy(copy: Path, saved: list[dict[str, Any]]) -> None:
    """Open a copy: it is sound, holds what was acknowledged, and its threads go on."""
    engine = create_engine(f"sqlite:///{copy}", poolclass=NullPool)
    with engine.connect() as conn:
        assert conn.execute(text("PRAGMA integrity_check")).scalars().all() == ["ok"]
    with SessionSaver(engine) as reader:
        assert lost(reader, saved) == []
        assert disagreeing(engine, reader) == []
        for thread_id in {line["thread"] for line in saved}:
            finish(reader, thread_id)
    for path in copy.parent.glob(f"{copy.name}*"):
        path.unlink()
