"""Encryption at rest: what stays in clear, plaintext that is refused, ciphertext that was moved."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from sqlalchemy import text

from langgraph_session_saver import (
    InvalidConfigError,
    PlaintextError,
    SerializationError,
    SessionSaver,
)
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.rows import State, chain, config, one, put, run
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE

A_SECRET_KEY = b"0123456789abcdef"


def encrypting(key: bytes = A_SECRET_KEY) -> EncryptedSerializer:
    return EncryptedSerializer.from_pycryptodome_aes(key=key)


def spill(_state: State) -> State:
    raise ValueError("marker-error")


async def test_the_file_shows_ids_and_names_and_nothing_else(tmp_path: Path) -> None:
    named = config("marker-thread", session_id="marker-session", owner_id="marker-owner")
    about = {"customer": "marker-metadata", "run_id": "marker-run"}
    async with SessionSaver.from_conn_string(str(tmp_path / "app.db"), serde=encrypting()) as saver:
        state = {"title": "marker-title", "note": "marker-value" * 9, "html": "marker-page"}
        graph = chain(saver, state, {"messages": [HumanMessage("marker-message")]}, spill)
        with suppress(ValueError):
            await run(graph, {"other": "marker-input"}, {**named, "metadata": about})
        stored = content_of(tmp_path)

    in_clear = {"thread", "session", "owner", "run"}
    encrypted = {"metadata", "title", "value", "page", "message", "input", "error"}
    found = {name for name in in_clear | encrypted if f"marker-{name}".encode() in stored}
    assert found == in_clear
    assert b"step1" in stored  # nodes
    assert b"note" in stored  # channels


def content_of(directory: Path) -> bytes:
    """The database's file and its log."""
    return b"".join(path.read_bytes() for path in directory.iterdir())


async def test_an_encrypted_thread_resumes(make_saver: SaverFactory) -> None:
    saver = make_saver(serde=encrypting(), require_encryption=True)
    graph = chain(saver, {"messages": [HumanMessage("hello", id="1")]}, spill)
    with suppress(ValueError):
        await run(graph, {})

    again = make_saver(serde=encrypting(), require_encryption=True)
    mended = chain(again, {"note": 1}, {"note": 2})
    await run(mended, None)

    state = await mended.aget_state(config())
    assert state.values["note"] == 2
    assert state.values["messages"][0].content == "hello"


async def test_another_key_reads_nothing(make_saver: SaverFactory) -> None:
    await put(make_saver(serde=encrypting()), 1, {"note": "x" * 99})

    with pytest.raises(SerializationError, match="cannot be read back"):
        await make_saver(serde=encrypting(b"another key, 16b")).aget_tuple(config())


# -- plaintext --------------------------------------------------------------------------------


def test_a_serde_that_does_not_encrypt_is_refused(make_saver: SaverFactory) -> None:
    with pytest.raises(InvalidConfigError, match="needs a serde that encrypts"):
        make_saver(require_encryption=True)


async def test_without_the_option_plaintext_is_read(make_saver: SaverFactory) -> None:
    await put(make_saver(), 1, {"note": "in clear"})

    found = await make_saver(serde=encrypting()).aget_tuple(config())

    assert found is not None
    assert found.checkpoint["channel_values"] == {"note": "in clear"}


async def test_required_encryption_refuses_a_plaintext_checkpoint_by_name(
    make_saver: SaverFactory,
) -> None:
    await put(make_saver(), 1, {"note": "in clear"})
    saver = make_saver(serde=encrypting(), require_encryption=True)

    with pytest.raises(PlaintextError, match=r"checkpoint .*000001.* is stored in clear, which"):
        await saver.aget_tuple(config())


async def test_a_clone_with_more_types_requires_encryption_too(make_saver: SaverFactory) -> None:
    await put(make_saver(), 1, {"note": "in clear"})
    saver = make_saver(serde=encrypting(), require_encryption=True)

    with pytest.raises(PlaintextError):
        await saver.with_allowlist([("module", "Class")]).aget_tuple(config())


async def test_required_encryption_shows_no_plaintext_in_the_history(
    make_saver: SaverFactory,
) -> None:
    await put(make_saver(), 1, {"note": "in clear"})
    saver = make_saver(serde=encrypting(), require_encryption=True)

    [entry] = await saver.ahistory("t")

    assert "in clear, which require_encryption=True refuses" in str(entry.problem)


PLANTED = [
    ("session_checkpoints", "type", "data", "checkpoint"),
    ("session_checkpoints", "metadata_type", "metadata_data", "the metadata of checkpoint"),
    ("session_blobs", "type", "data", "channel 'note'"),
    ("session_writes", "type", "data", "the write of task 'task' to channel 'note'"),
]


@pytest.mark.parametrize(("table", "typ", "data", "name"), PLANTED, ids=[p[3] for p in PLANTED])
async def test_required_encryption_refuses_a_value_that_was_planted(
    make_saver: SaverFactory, backend: Backend, table: str, typ: str, data: str, name: str
) -> None:
    saver = make_saver(serde=encrypting(), require_encryption=True)
    at = await put(saver, 1, {"note": "x" * 99})
    await saver.aput_writes(at, [("note", "y" * 99)], "task")
    with backend.engine().begin() as conn:
        conn.execute(text(f"UPDATE {table} SET {typ} = 'msgpack', {data} = :d"), {"d": b"\x00\xc0"})

    reader = make_saver(serde=encrypting(), require_encryption=True)
    with pytest.raises(PlaintextError, match=name):
        await reader.aget_tuple(config())


# -- columns in clear -------------------------------------------------------------------------

Set = Callable[[SessionSaver], Coroutine[Any, Any, Any]]

IN_CLEAR: dict[str, Set] = {
    "a title": lambda saver: saver.sessions.aupdate("t", title="x"),
    "a new session's title": lambda saver: saver.sessions.acreate("new", title="x"),
    "a message": lambda saver: saver.sessions.aadd_message("t", "user", "x"),
    "a page": lambda saver: saver.sessions.aadd_version("t", "x"),
    "a state": lambda saver: saver.state.asave_state("t", {"note": "x"}),
    "metadata": lambda saver: saver.state.aupdate_metadata("t", graph_state={"note": "x"}),
    "a build": lambda saver: saver.state.aupdate_build_status("t", "success"),
}


@pytest.mark.parametrize("name", IN_CLEAR)
async def test_an_encrypting_saver_sets_no_column_that_shows_content(
    make_saver: SaverFactory, name: str
) -> None:
    saver = make_saver(serde=encrypting())
    await saver.sessions.acreate("t", owner_id="ada", status="open")

    with pytest.raises(InvalidConfigError, match="would be stored in clear"):
        await IN_CLEAR[name](saver)


@pytest.mark.parametrize("name", IN_CLEAR)
async def test_it_does_where_columns_in_clear_are_asked_for(
    make_saver: SaverFactory, name: str
) -> None:
    saver = make_saver(serde=encrypting(), projections={})
    await saver.sessions.acreate("t")

    assert await IN_CLEAR[name](saver)


async def test_an_encrypting_saver_clears_columns(make_saver: SaverFactory, sql: Sql) -> None:
    await make_saver().sessions.acreate("t", title="x")
    saver = make_saver(serde=encrypting())

    await saver.sessions.aupdate("t", title=None)
    assert await saver.state.aclear_state("t")

    assert one(sql, "sessions")["title"] != "x"


# -- ciphertext that was changed or moved -----------------------------------------------------


async def test_changed_ciphertext_is_refused(make_saver: SaverFactory, backend: Backend) -> None:
    await put(make_saver(serde=encrypting()), 1, {"note": "x" * 99})
    with backend.engine().begin() as conn:
        data = bytearray(conn.execute(text("SELECT data FROM session_blobs")).scalar_one())
        data[-1] ^= 1
        conn.execute(text("UPDATE session_blobs SET data = :d"), {"d": bytes(data)})

    with pytest.raises(SerializationError, match="channel 'note'"):
        await make_saver(serde=encrypting(), require_encryption=True).aget_tuple(config())


async def test_ciphertext_that_is_moved_to_another_row_is_read_there(
    make_saver: SaverFactory, backend: Backend
) -> None:
    """LangGraph's ciphers have no associated data, so a value does not know where it belongs."""
    saver = make_saver(serde=encrypting(), require_encryption=True)
    await put(saver, 1, {"note": "of ada".ljust(99)}, config("ada"))
    await put(saver, 1, {"note": "of bob".ljust(99)}, config("bob"))
    value_of = (
        "SELECT b.data FROM session_blobs b JOIN session_threads t "
        "ON b.thread_key = t.thread_key WHERE t.thread_id = :id"
    )
    with backend.engine().begin() as conn:
        ada, bob = (conn.execute(text(value_of), {"id": i}).scalar_one() for i in ("ada", "bob"))
        move = text("UPDATE session_blobs SET data = :bob WHERE data = :ada")
        conn.execute(move, {"ada": ada, "bob": bob})

    reader = make_saver(serde=encrypting(), require_encryption=True)
    found = await reader.aget_tuple(config("ada"))

    assert found is not None
    assert found.checkpoint["channel_values"]["note"].strip() == "of bob"
