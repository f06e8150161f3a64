"""Texts that would change a statement if they became a part of it, wherever a call takes text.

Each test hands all of `sql_injections.txt` to one argument. A text is a value like any other, or
refused as one; never is it a statement's error, other rows, or a change of other rows.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect

from langgraph_session_saver import (
    InvalidConfigError,
    SessionNotFoundError,
    SessionSaver,
    SessionSaverError,
    ThreadNotFoundError,
)
from tests.support.backends import EACH_ONCE, Backend
from tests.support.houses import everything
from tests.support.rows import config, put
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE

PAYLOADS = [
    line
    for line in Path(__file__).with_name("sql_injections.txt").read_text("utf-8").splitlines()
    if not line.startswith("# ") and line != "#"
]

SHORTEST = 100
"""Payloads that are at least there: nobody emptied the file."""

Call = Callable[[SessionSaver, str], Coroutine[Any, Any, Any]]


def test_there_are_payloads() -> None:
    assert len(PAYLOADS) == len(set(PAYLOADS)) >= SHORTEST


async def fill(saver: SessionSaver) -> None:
    """A thread with a session, a message, a page and an owner."""
    at = await put(saver, 1, {"note": "x"}, config("victim", owner_id="ada"), user="ada")
    await saver.aput_writes(at, [("note", "y")], "task")
    await saver.sessions.aadd_message("victim", "user", "hello")
    await saver.sessions.aadd_version("victim", "<p>page</p>")


async def listed(saver: SessionSaver, where: Any, **options: Any) -> list[str]:
    return [found.checkpoint["id"] async for found in saver.alist(where, **options)]


READS: dict[str, Call] = {
    "filter key": lambda s, text: listed(s, None, filter={text: "ada"}),
    "filter key, of one thread": lambda s, text: listed(s, config("victim"), filter={text: "ada"}),
    "filter value": lambda s, text: listed(s, None, filter={"user": text}),
    "nested filter": lambda s, text: listed(s, None, filter={"user": {text: "ada"}}),
    "thread id": lambda s, text: listed(s, config(text)),
    "thread id, to get": lambda s, text: s.aget_tuple(config(text)),
    "namespace": lambda s, text: listed(s, config("victim", checkpoint_ns=text)),
    "checkpoint id": lambda s, text: listed(s, config("victim", checkpoint_id=text)),
    "checkpoint id, to get": lambda s, text: s.aget_tuple(config("victim", checkpoint_id=text)),
    "owner": lambda s, text: listed(s, config("victim", owner_id=text)),
    "owner of a saver": lambda s, text: listed(s.for_owner(text), None),
    "session id": lambda s, text: s.sessions.aget(text),
    "messages of a session": lambda s, text: none_of(s.sessions.amessages(text)),
    "owner of sessions": lambda s, text: none_of(s.sessions.alist(owner_id=text)),
    "product type of sessions": lambda s, text: none_of(s.sessions.alist(product_type=text)),
    "order of sessions": lambda s, text: s.sessions.alist(order_by=text),
    "order of threads": lambda s, text: s.threads.alist(order_by=text),
    "thread of threads": lambda s, text: s.threads.aget(text),
    "period of usage": lambda s, text: s.sessions.ausage_summary(text),  # type: ignore[arg-type]
    "errors of a session": lambda s, text: none_of(s.sessions.aerrors(text)),
    "cursor": lambda s, text: s.sessions.alist(after=text),
    "value in a cursor": lambda s, text: none_of(
        s.sessions.alist(after=cursor("sessions:id:asc", text), order_by="id", descending=False)
    ),
    "history": lambda s, text: none_of(s.ahistory(text)),
    "run ids": lambda s, text: s.adelete_for_runs([text]),
    "thread to delete": lambda s, text: s.adelete_thread(text),
    "session to delete": lambda s, text: s.sessions.adelete(text),
    "thread to prune": lambda s, text: s.aprune([text], strategy="delete"),
}


async def none_of(page: Coroutine[Any, Any, Any]) -> list[Any]:
    return list(await page)


def cursor(*values: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


REFUSED = {"order of sessions", "order of threads", "period of usage", "cursor"}
"""Arguments that take one of a few texts, and no other."""

MAY_FOLLOW = {"value in a cursor"}
"""Arguments for which there are rows: those that sort after the text."""


@pytest.mark.parametrize("name", READS)
async def test_a_payload_is_a_value_that_nothing_has(
    make_saver: SaverFactory, backend: Backend, name: str
) -> None:
    saver = make_saver()
    await fill(saver)
    before = everything(backend)

    for text in PAYLOADS:
        try:
            found = await READS[name](saver, text)
        except (InvalidConfigError, SessionNotFoundError, ThreadNotFoundError):
            continue
        assert name not in REFUSED, text
        assert not found or name in MAY_FOLLOW, text

    assert everything(backend) == before


WRITES: dict[str, Callable[[str], Any]] = {
    "thread_id": config,
    "session_id": lambda text: config("other", session_id=text),
    "owner_id": lambda text: config("other", owner_id=text),
    "checkpoint_ns": lambda text: config("other", checkpoint_ns=text),
    "run_id": lambda text: config("other", run_id=text),
}


@pytest.mark.parametrize("name", WRITES)
async def test_a_payload_is_stored_as_it_is(
    make_saver: SaverFactory, backend: Backend, name: str
) -> None:
    saver = make_saver()
    await fill(saver)
    before = everything(backend)

    for text in PAYLOADS:
        where = WRITES[name](text)
        try:
            at = await put(saver, 1, {text: text}, where, **{text: text})
        except InvalidConfigError:
            continue
        await saver.aput_writes(at, [(text, text)], text)
        found = await saver.aget_tuple(at)
        assert found is not None, text
        assert found.checkpoint["channel_values"] == {text: text}
        assert found.pending_writes == [(text, text, text)]
        assert await listed(saver, at, filter={text: text}) == [found.checkpoint["id"]], text
        await saver.adelete_thread(where["configurable"]["thread_id"])

    assert everything(backend) == before


async def test_a_payload_in_a_row_is_stored_as_it_is(
    make_saver: SaverFactory, backend: Backend
) -> None:
    saver = make_saver()
    await fill(saver)
    before = everything(backend)

    for text in PAYLOADS:
        await saver.sessions.acreate(text, title=text, owner_id=text, scope_id=text)
        await saver.sessions.aadd_message(text, "user", text)
        await saver.sessions.aadd_version(text, text, description=text)
        session = await saver.sessions.aget(text)
        assert session is not None
        assert (session.title, session.owner_id, session.scope_id) == (text, text, text)
        assert [one.content for one in await saver.sessions.amessages(text)] == [text]
        assert await saver.sessions.adelete(text)

    assert everything(backend) == before


async def test_a_payload_as_prefix_is_a_part_of_names(
    make_saver: SaverFactory, backend: Backend
) -> None:
    await fill(make_saver())
    before = everything(backend)
    existing = set(inspect(backend.engine()).get_table_names())

    for text in PREFIXES:
        saver = make_saver(table_prefix=text)
        try:
            await saver.asetup()
        except SessionSaverError:
            assert set(inspect(backend.engine()).get_table_names()) == existing, text
            continue
        made = set(inspect(backend.engine()).get_table_names()) - existing
        assert all(name.startswith(text) for name in made), text
        existing |= made

    assert everything(backend) == before


PREFIXES = ["'; DROP TABLE sessions; --", '"; DROP TABLE sessions; --', "` --", "%s", ":x", "x' "]


@pytest.mark.parametrize("schema", PAYLOADS[::8])
async def test_a_payload_as_schema_is_the_name_of_one_that_does_not_exist(
    make_saver: SaverFactory, backend: Backend, schema: str
) -> None:
    await fill(make_saver())
    before = everything(backend)

    with pytest.raises(SessionSaverError):
        await make_saver(schema=schema).aget_tuple(config("victim"))

    assert everything(backend) == before
