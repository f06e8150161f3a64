"""Moving many sessions to PostgreSQL takes no more memory than moving few.

`MOVING_SESSIONS=20000 pytest tests/transfer/test_transfer_at_scale.py -s` moves 200,000 checkpoints
and prints the time and memory used; by default a hundredth of that is moved.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.transfer.backup import open_archive
from tests.benchmarks.filling import CHUNK, TEMPLATE, _copy
from tests.conftest import MakeBackend
from tests.support.backends import Backend
from tests.support.houses import RECORDS
from tests.support.rows import chain, config

SESSIONS = int(os.environ.get("MOVING_SESSIONS", "200"))
CHECKPOINTS = 10
"""Of each session."""

MEGABYTES = 200


@pytest.fixture
def house(make_backend: MakeBackend) -> Backend:
    """A SQLite database with many sessions."""
    backend = make_backend("sqlite")
    with SessionSaver.from_conn_string(backend.url) as saver:
        say = {"messages": [("assistant", "word " * 20)]}
        chat = chain(saver, say, say, say)
        for text in ("one", "two"):
            chat.invoke({"messages": [("user", text * 20)], "title": "Chat"}, config(TEMPLATE))
    engine = create_engine(backend.url)
    for first in range(1, SESSIONS, CHUNK):
        _copy(engine, range(first, min(first + CHUNK, SESSIONS)), owners=50)
    engine.dispose()
    return backend


def moved(what: str, backend: Backend, file: Path) -> dict[str, Any]:
    """The result of a backup or restore, run in a process."""
    command = [sys.executable, "-m", "tests.support.moving", what, backend.url, str(file)]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(said.stdout)
    print(f"\n{what} {backend.name}: {found['rows']:,} rows in {found['seconds']:.1f} s, ", end="")
    print(f"{found['peak']:.0f} MB at most, {found['before']:.0f} MB before", end="")
    return found


def test_many_sessions_move_to_postgresql_in_little_memory(
    house: Backend, make_backend: MakeBackend, tmp_path: Path
) -> None:
    target = make_backend("postgresql")
    first, second = tmp_path / "first", tmp_path / "second"

    told = [
        moved("backup", house, first),
        moved("restore", target, first),
        moved("backup", target, second),
        moved("restore", target, first),
    ]

    one, other = open_archive(first, RECORDS), open_archive(second, RECORDS)
    print(f"\n{one.rows}, {first.stat().st_size / 1e6:.0f} MB")
    assert one.rows["sessions"] == SESSIONS
    assert one.rows["session_checkpoints"] == SESSIONS * CHECKPOINTS
    assert (one.rows, one.digests) == (other.rows, other.digests)
    assert all(said["finished"] for said in told)
    assert max(said["peak"] for said in told) < MEGABYTES
    one.close()
    other.close()
