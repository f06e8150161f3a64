"""What a chat costs on disk, beside the official savers.

The chat: `MessagesState` and one node; each turn a 200-character human and an 800-character AI
message of random words; `durability="sync"`; 400 turns.

    python -m tests.benchmarks.chat                       # SQLite only
    python -m tests.benchmarks.chat --postgres-url URL    # an empty database on that server, too

Prints a table and writes `chat.json` beside this file.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sqlite3
import string
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from sqlalchemy import create_engine, make_url, text

from langgraph_session_saver import SessionSaver

RESULT = Path(__file__).with_name("chat.json")
TURNS = 400
PACKAGES = ("langgraph", "langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres")


class Words:
    """Random words of three to nine letters, the same for every saver."""

    def __init__(self) -> None:
        self._random = random.Random(0)
        self._words = [self._word() for _ in range(2_000)]

    def _word(self) -> str:
        return "".join(self._random.choices(string.ascii_lowercase, k=self._random.randint(3, 9)))

    def text(self, length: int) -> str:
        """Words up to a number of characters."""
        words = ""
        while len(words) < length:
            words += self._random.choice(self._words) + " "
        return words[:length]


def run_chat(saver: BaseCheckpointSaver[Any], turns: int = TURNS) -> None:
    """Hold the chat in one thread."""
    words = Words()
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda _state: {"messages": [AIMessage(words.text(800))]})
    builder.add_edge(START, "model")
    graph = builder.compile(checkpointer=saver)
    for _ in range(turns):
        graph.invoke(
            {"messages": [HumanMessage(words.text(200))]},
            {"configurable": {"thread_id": "chat"}},
            durability="sync",
        )


def file_size(path: Path) -> int:
    """Bytes of a SQLite database once its log is merged."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path.stat().st_size


@contextmanager
def _official_sqlite(path: Path) -> Iterator[BaseCheckpointSaver[Any]]:
    with SqliteSaver.from_conn_string(str(path)) as saver:
        yield saver


def measure_sqlite(open_saver: Callable[[Path], Any], turns: int) -> int:
    """Bytes that a saver's SQLite file has after the chat."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "chat.db"
        with open_saver(path) as saver:
            run_chat(saver, turns)
        return file_size(path)


def measure_postgres(url: str, open_saver: Callable[[str], Any], turns: int) -> int:
    """Bytes that a saver's PostgreSQL database has grown by, after VACUUM FULL."""
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as conn:
        conn.execute(text("DROP SCHEMA public CASCADE"))
        conn.execute(text("CREATE SCHEMA public"))
        size = text("SELECT pg_database_size(current_database())")
        before = int(conn.execute(size).scalar_one())
        with open_saver(url) as saver:
            getattr(saver, "setup", lambda: None)()
            run_chat(saver, turns)
        conn.execute(text("VACUUM FULL"))
        after = int(conn.execute(size).scalar_one())
    engine.dispose()
    return after - before


def measure(postgres_url: str | None, turns: int) -> dict[str, int]:
    """Bytes on disk by saver."""
    found = {
        "SessionSaver, SQLite": measure_sqlite(
            lambda path: SessionSaver.from_conn_string(f"sqlite:///{path}"), turns
        ),
        "SqliteSaver": measure_sqlite(_official_sqlite, turns),
    }
    if postgres_url:
        found["SessionSaver, PostgreSQL"] = measure_postgres(
            postgres_url, SessionSaver.from_conn_string, turns
        )
        found["PostgresSaver"] = measure_postgres(
            postgres_url, PostgresSaver.from_conn_string, turns
        )
    return found


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgres-url", help="a database that may be emptied")
    parser.add_argument("--turns", type=int, default=TURNS)
    options = parser.parse_args()
    found = measure(options.postgres_url, options.turns)
    print(f"{'saver':28}{'MB':>8}")
    for saver, size in found.items():
        print(f"{saver:28}{size / 1e6:8.1f}")
    about = {
        "turns": options.turns,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: version(name) for name in PACKAGES},
    }
    RESULT.write_text(json.dumps({"about": about, "bytes": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
