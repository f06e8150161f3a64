"""Projections under an encrypting serialiser: off unless they are asked for."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.types import interrupt
from sqlalchemy import inspect, text

from tests.projection.samples import spent
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.rows import State, chain, config, counts, one, run
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE

SECRET = "swordfish-4711"
A_SECRET_KEY = b"0123456789abcdef"


def in_clear(backend: Backend) -> list[str]:
    """The columns that contain the secret in clear text."""
    engine = backend.engine()
    needle, found = SECRET.encode(), []
    with engine.connect() as conn:
        for table in inspect(engine).get_table_names():
            for row in conn.execute(text(f"SELECT * FROM {table}")).mappings():
                for column, value in row.items():
                    data = value if isinstance(value, bytes) else repr(value).encode()
                    if needle in data:
                        found.append(f"{table}.{column}")
    return found


def encrypting() -> EncryptedSerializer:
    return EncryptedSerializer.from_pycryptodome_aes(key=A_SECRET_KEY)


def spill(_state: State) -> dict[str, Any]:
    raise ValueError(SECRET)


def ask_secret(_state: State) -> dict[str, Any]:
    return {"note": interrupt(SECRET)}


SPILT = {
    "note": SECRET,
    "title": SECRET,
    "messages": [HumanMessage(SECRET, id="m"), spent(SECRET, 1, 2, id="u")],
    "html": f"<p>{SECRET}",
    "build_artifacts": {SECRET: SECRET},
    "product_type": SECRET,
    "build_status": SECRET,
}


@pytest.mark.parametrize("last", [spill, ask_secret], ids=["error", "interrupt"])
async def test_an_encrypting_serde_leaves_nothing_readable(
    make_saver: SaverFactory, backend: Backend, sql: Sql, last: Any
) -> None:
    graph = chain(make_saver(serde=encrypting()), SPILT, last)

    with suppress(ValueError):
        await run(graph, {"other": SECRET}, {**config(), "metadata": {"customer": SECRET}})

    assert (await graph.aget_state(config())).values["note"] == SECRET
    assert in_clear(backend) == []
    assert one(sql, "session_threads")["status"] in {"error", "interrupted"}
    assert [counts(sql)[t] for t in ("messages", "versions", "session_errors")] == [0, 0, 0]


async def test_an_encrypting_serde_projects_only_what_is_asked_for(
    make_saver: SaverFactory, backend: Backend, sql: Sql
) -> None:
    only: dict[str, Any] = dict.fromkeys(
        ("messages", "html", "title", "build_artifacts", "graph_state", "errors", "build_status")
    )
    saver = make_saver(serde=encrypting(), projections=only)

    await run(chain(saver, {**SPILT, "product_type": "card"}), {})

    assert one(sql, "sessions")["product_type"] == "card"
    assert in_clear(backend) == []
