"""A database with something in every table, and all that is in one."""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from sqlalchemy import create_engine, insert

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.schema.tables import build_tables
from langgraph_session_saver.transfer import Progress, copy
from langgraph_session_saver.transfer.records import all_records
from tests.support.backends import Backend
from tests.support.graphs import DELTA, ask, line_of, nested, thread
from tests.support.rows import chain, config

TABLES = build_tables()
RECORDS = all_records(TABLES)
LONG_AGO = datetime(1999, 12, 31, 23, 59, 59, 123456, tzinfo=UTC)


def _fails(_state: Any) -> Any:
    raise RuntimeError("the oven is cold")


def furnish(saver: SessionSaver) -> None:
    """Fill every table: through graphs, and by hand as an application would."""
    usage = {"input_tokens": 12, "output_tokens": 30, "total_tokens": 42}
    scores = {
        "overall": 1e2,
        "dimensions": {"contrast": 72.5, "layout": 1e-7, "typography": 3, "color": 0, "cta": 5},
    }
    written = chain(
        saver,
        {"title": "Bäckerei 🥐", "messages": [AIMessage("Hello", usage_metadata=usage)]},
        {"build_status": "success", "html": "<h1>Bread</h1>", "aesthetic_scores": scores},
        {"html": "<h1>Rolls</h1>", "note": b"\x00\xff", "other": {"deep": [1, None, 2**60]}},
    )
    written.invoke({"messages": [HumanMessage("A page, please")]}, config("written"))
    failed = chain(saver, {"note": "x"}, _fails)
    with suppress(RuntimeError):
        failed.invoke({"messages": [("user", "hi")]}, config("failed"))
    asked = line_of(("ask", ask("how many?"))).compile(checkpointer=saver)
    asked.invoke({"log": []}, thread("asked"))
    nested(None).compile(checkpointer=saver).invoke({"log": []}, thread("nested"))
    DELTA.compile(checkpointer=saver).invoke({"items": ["first"]}, thread("delta"))


def furnish_by_hand(backend: Backend, session_id: str = "by hand") -> None:
    """A session that an application made, with rows that no step projected."""
    engine = create_engine(backend.url)
    with engine.begin() as conn:
        conn.execute(insert(TABLES.sessions), {"id": session_id, "created_at": LONG_AGO})
        twins = {"session_id": session_id, "role": "user", "content": "", "timestamp": LONG_AGO}
        conn.execute(insert(TABLES.messages), [twins, twins, {**twins, "content": "\u00e9\u0301"}])
        conn.execute(
            insert(TABLES.versions),
            [{"session_id": session_id, "version": n, "html": f"<p>{n}", "pinned": n == 0}
             for n in range(2)],
        )  # fmt: skip
    engine.dispose()


def everything(backend: Backend, *, row_ids: bool = True) -> dict[str, list[Any]]:
    """Every row of every table, the same for equal databases of different kinds."""
    engine = create_engine(backend.url)
    found = {}
    with engine.connect() as conn:
        for records in RECORDS:
            rows = [records.pack(row) for row in conn.execute(records.select())]
            at = [n for n, c in enumerate(records.columns) if c in _JSON]
            for values in rows:
                for place in at:
                    values[place] = json.loads(values[place] or "null")
                if records.has_row_id and not row_ids:
                    values[records.columns.index("id")] = None
            found[records.name] = rows
    engine.dispose()
    return found


_JSON = {"graph_state", "build_artifacts", "aesthetic_scores"}


def fill_disk(connection: sqlite3.Connection) -> None:
    """Let a SQLite database grow no further."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")


def copy_and_tell(source: str, target: str) -> None:
    """For a zygote's child: copies, says each page, and waits to be killed after the blobs."""

    pages = count(1)

    def tell(progress: Progress) -> None:
        sys.stdout.write(f"copied {next(pages)}\n")
        sys.stdout.flush()
        if progress.what == "session_writes":
            signal.pause()

    copy(source, target, tell)
