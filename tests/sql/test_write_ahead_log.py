"""SQLite's write-ahead log: how large it becomes beside a connection that reads, and afterwards."""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.sql.dialects import sqlite
from tests.support.rows import chain, config

TURNS, SIZE = 50, 100_000


def test_the_log_is_cut_once_the_reader_that_let_it_grow_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LOG_LIMIT", 6_000_000)
    log = tmp_path / "app.db-wal"
    with SessionSaver.from_conn_string(tmp_path / "app.db", keep_last=2) as saver:
        graph = chain(saver, lambda _: {"note": secrets.token_bytes(SIZE)})
        graph.invoke({}, config())
        with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sessions").fetchone()
            for _ in range(TURNS):
                graph.invoke({}, config())
            grown = log.stat().st_size
        for _ in range(2):
            graph.invoke({}, config())

        assert log.stat().st_size <= sqlite.LOG_LIMIT < grown


def test_the_log_does_not_grow_with_the_steps(tmp_path: Path) -> None:
    sizes = []
    with SessionSaver.from_conn_string(tmp_path / "app.db", keep_last=2) as saver:
        graph = chain(saver, lambda _: {"note": secrets.token_bytes(SIZE)})
        for turn in range(4 * TURNS):
            graph.invoke({"messages": [("human", str(turn))]}, config())
            sizes.append((tmp_path / "app.db-wal").stat().st_size)

    assert max(sizes) < 10_000_000 < len(sizes) * SIZE
