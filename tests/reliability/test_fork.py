"""A saver that is used before a fork works in the parent and in every child."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from langgraph_session_saver import SessionSaver
from tests.reliability import forked
from tests.support.backends import Backend
from tests.support.workloads import on
from tests.support.zygote import ROOT, Zygote

pytestmark = pytest.mark.empty_database

BEFORE = "before the fork"
"""The thread of `preloaded` that is used before the fork."""

CHECKPOINTS = 3
"""Checkpoints of a turn: its input, its start, and its only step."""

WORKERS = 2
USERS = 10
QUESTIONS = 3
SECONDS = 30.0


def assert_all_turns_are_stored(backend: Backend, turns: dict[str, int]) -> None:
    with SessionSaver(backend.engine()) as reader:
        for thread_id, expected in turns.items():
            found = list(reader.list(on(thread_id)))
            assert len(found) == CHECKPOINTS * expected, thread_id
            assert len(found[0].checkpoint["channel_values"]["messages"]) == 2 * expected, thread_id


# -- multiprocessing ----------------------------------------------------------------------------


@pytest.mark.parametrize("program", [forked.own_engine, forked.given_engine])
def test_parent_and_forked_children_run_a_graph_at_once(
    backend: Backend, zygote: Zygote, program: Callable[[str], None]
) -> None:
    assert_parent_and_children_run(backend, zygote, program)


def test_children_can_be_forked_while_another_thread_of_the_parent_runs_a_graph(
    backend: Backend, zygote: Zygote
) -> None:
    assert_parent_and_children_run(backend, zygote, forked.busy_parent)


def assert_parent_and_children_run(
    backend: Backend, zygote: Zygote, program: Callable[[str], None]
) -> None:
    child = zygote.spawn(f"{forked.__name__}:{program.__name__}", {"url": backend.url})

    assert child.wait(2 * forked.SECONDS) == 0, child.text

    names = ["parent", *(f"child {number}" for number in range(forked.CHILDREN))]
    ran = {f"{n}, thread {t}": forked.TURNS for n in names for t in range(forked.THREADS)}
    assert_all_turns_are_stored(backend, {"before": 1, "after": 1, **ran})


# -- caches -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("fork_while_a_thread_holds_a_cache", {}),
        ("fork_while_threads_fill_a_cache", {"forks": 50}),
    ],
)
def test_a_child_uses_a_cache_that_a_thread_of_its_parent_had_locked(
    zygote: Zygote, program: str, arguments: dict[str, int]
) -> None:
    child = zygote.spawn(f"tests.support.forking:{program}", arguments)
    assert child.wait() == 0, child.text


# -- gunicorn -----------------------------------------------------------------------------------


def test_workers_of_gunicorn_answer_with_a_saver_that_was_made_before_they_were_forked(
    backend: Backend, tmp_path: Path
) -> None:
    def ask_all(address: str, user: str) -> list[dict[str, int]]:
        return [ask(address, user, f"question-{number}") for number in range(QUESTIONS)]

    users = [f"user {number}" for number in range(USERS)]
    with gunicorn(backend.url, tmp_path) as address, ThreadPoolExecutor(USERS) as pool:
        answers = list(pool.map(ask_all, [address] * USERS, users))

    assert len({answer["pid"] for of_one in answers for answer in of_one}) == WORKERS
    expected = [2 * number for number in range(1, QUESTIONS + 1)]
    assert [[answer["messages"] for answer in of_one] for of_one in answers] == [expected] * USERS
    assert_all_turns_are_stored(backend, {BEFORE: 1, **dict.fromkeys(users, QUESTIONS)})


def ask(address: str, user: str, question: str) -> dict[str, int]:
    """What a worker answers."""
    with urlopen(f"{address}/{quote(user)}?{question}", timeout=SECONDS) as response:
        assert response.status == 200
        answer: dict[str, int] = json.load(response)
        return answer


@contextmanager
def gunicorn(url: str, directory: Path) -> Iterator[str]:
    """Two workers, forked from a process that has made and used a saver; their address."""
    command = [
        *(sys.executable, "-m", "gunicorn", "--preload", "--workers", str(WORKERS)),
        *("--no-control-socket", "--bind", "127.0.0.1:0", "tests.reliability.preloaded"),
    ]
    environment = {**os.environ, "PRELOADED_DATABASE": url, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        command, cwd=directory, env=environment, stderr=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(2 * SECONDS, server.kill)
    watchdog.start()
    try:
        yield address_of(server)
    finally:
        server.terminate()
        _, said = server.communicate()
        watchdog.cancel()
        print(said)
    assert server.returncode == 0
    assert "ERROR" not in said


def address_of(server: subprocess.Popen[str]) -> str:
    """Where gunicorn says that it listens."""
    said = []
    assert server.stderr is not None
    for line in server.stderr:
        if found := re.search(r"Listening at: (http://\S+)", line):
            return found[1]
        said.append(line)
    pytest.fail("gunicorn did not start:\n" + "".join(said))
