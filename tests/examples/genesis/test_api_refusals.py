"""What the API refuses: each with its status and a problem that says what to do, and no trace."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select

from examples.genesis.models import (
    Base,
)
from examples.web.database import reading
from examples.web.models import new_id
from examples.web.tokens import Tokens
from langgraph_session_saver import models
from tests.examples.genesis.authors import BEGINNING
from tests.examples.genesis.clients import PROBLEM, SECRET, TOKENS, Client

TABLES = (
    *Base.metadata.sorted_tables,
    *(each.__table__ for each in (models.Session, models.Message, models.Thread)),
)


async def rows(app: FastAPI) -> dict[str, list[Any]]:
    """All rows."""
    async with reading(app.state.resources.engine) as orm:
        return {table.name: sorted(map(repr, await orm.execute(select(table)))) for table in TABLES}


@pytest.fixture
async def names(client: Client, app: FastAPI) -> Mapping[str, str]:
    """The ids of a novel with two sessions, and of sessions that are not one of its."""
    owner_id = TOKENS.read(client.http.headers["Authorization"].split()[1]).owner_id
    novel, other = await client.begin(), await client.begin()
    stage = (await client.stage(novel["id"]))["id"]
    foreign = await client.open_session((await client.stage(other["id"]))["id"])
    sessions = [(await client.open_session(stage)).split("/")[-1] for _ in range(2)]
    create = app.state.resources.saver.sessions.acreate
    of_novel = {"scope_type": "GENESIS", "scope_id": novel["novel_id"]}
    return {
        "novel": novel["novel_id"],
        "flow": novel["id"],
        "other_flow": other["id"],
        "stage": stage,
        "primary": sessions[0],
        "second": sessions[1],
        "unbound": (await create(title="Spare", owner_id=owner_id, **of_novel)).id,
        "foreign": foreign.split("/")[-1],
        "of_no_scope": (await create(title="Free", owner_id=owner_id)).id,
        "of_another_owner": (await create(title="Free", owner_id=new_id(), **of_novel)).id,
    }


BIND = "PUT /api/stages/{stage}/sessions/"
ADVANCE = "POST /api/flows/{flow}/advance"
SAY = "POST /api/stages/{stage}/sessions/{primary}/messages"

REFUSED: dict[str, tuple[str, Any, int, str]] = {
    "a session of another novel": (BIND + "{foreign}", {}, 422, "bind a session of this novel"),
    "a session of no scope": (BIND + "{of_no_scope}", {}, 422, "bind a session of this novel"),
    "a session of another owner": (BIND + "{of_another_owner}", {}, 404, "of yours"),
    "a session that is bound": (BIND + "{second}", {}, 409, "bound to this stage already"),
    "a second primary": (BIND + "{unbound}", {"is_primary": True}, 409, "without is_primary"),
    "an unbound primary": (
        "PUT /api/stages/{stage}/primary", {"session_id": "none"}, 404, "bind it first",
    ),
    "a stage out of order": (ADVANCE, {"to": "CHARACTERS"}, 409, "go on to WORLDVIEW"),
    "the same stage": (ADVANCE, {"to": "INITIAL_PROMPT"}, 409, "go on to WORLDVIEW"),
    "an incomplete stage": (ADVANCE, {"to": "WORLDVIEW"}, 422, "genre, tone, audience, idea"),
    "an incomplete stage, completed": (
        "POST /api/stages/{stage}/complete", None, 422, "genre, tone, audience, idea",
    ),
    "an unknown stage": (ADVANCE, {"to": "EPILOGUE"}, 422, "#/to"),
    "no body": (ADVANCE, None, 422, "#"),
    "a body that is no object": (ADVANCE, ["WORLDVIEW"], 422, "#"),
    "an unknown field": (ADVANCE, {"to": "WORLDVIEW", "force": True}, 422, "#/force"),
    "a novel without a title": ("POST /api/flows", {"title": " "}, 422, "#/title"),
    "a title with a control character": ("POST /api/flows", {"title": "a\0b"}, 422, "#/title"),
    "a premise with a NUL": (
        "POST /api/flows", {"title": "a", "premise": "\0"}, 422, "#/premise",
    ),
    "half a character": (SAY, {"text": "\ud800"}, 422, "#/text"),
    "an empty message": (SAY, {"text": "\n"}, 422, "#/text"),
    "a message that is too long": (SAY, {"text": "x" * 4001}, 422, "#/text"),
    "an unknown kind of session": (BIND + "{unbound}", {"kind": "party"}, 422, "#/kind"),
    "an id with a NUL": ("GET /api/flows/%00", None, 422, "#/flow_id"),
    "an unknown flow": ("GET /api/flows/none", None, 404, "of yours"),
    "an unknown session": ("GET /api/stages/{stage}/sessions/none", None, 404, "bind it first"),
    "a page of no flows": ("GET /api/flows?limit=0", None, 422, "#/limit"),
    "a cursor that is none": (
        "GET /api/stages/{stage}/sessions/{primary}/messages?after=none", None, 422, "after",
    ),
    "another flow's page": (
        "GET /api/flows/{flow}/stages?after={other_flow}", None, 422, "no page after",
    ),
    "another stage's page": (
        "GET /api/stages/{stage}/sessions?after={flow}", None, 422, "no page after",
    ),
    "an event of another flow": (
        "GET /api/flows/{flow}/events?last_event_id={other_flow}:1", None, 400, "none to begin",
    ),
    "an event without a number": (
        "GET /api/flows/{flow}/events?last_event_id={flow}:x", None, 400, "none to begin",
    ),
    "an unknown path": ("GET /api/chapters", None, 404, ""),
    "a method that is not there": ("DELETE /api/flows/{flow}", None, 405, ""),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
async def test_it_is_refused_with_a_problem_and_nothing_is_written(
    client: Client, app: FastAPI, names: Mapping[str, str], what: str
) -> None:
    call, body, status, said = REFUSED[what]
    method, path = call.format_map(names).split()
    before = await rows(app)

    content = None if body is None else to_json(body)
    answer = await client.http.request(
        method, path, content=content, headers={"Content-Type": "application/json"}
    )

    problem = answer.json()
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, PROBLEM)
    assert problem["status"] == status
    assert said in problem.get("detail", "")
    assert await rows(app) == before


def to_json(body: Any) -> bytes:
    """JSON in ASCII: half a character too can be written so."""
    return json.dumps(body).encode()


async def test_each_missing_field_of_a_config_is_named(
    client: Client, names: Mapping[str, str]
) -> None:
    answer = await client.http.post(f"/api/flows/{names['flow']}/advance", json={"to": "WORLDVIEW"})

    missing = [error["pointer"] for error in answer.json()["errors"]]
    assert missing == ["#/genre", "#/tone", "#/audience", "#/idea"]


CHANGES = {
    "advance": (ADVANCE, {"to": "WORLDVIEW"}),
    "complete": ("POST /api/stages/{stage}/complete", None),
    "create": ("POST /api/stages/{stage}/sessions", {"title": "Another"}),
    "bind": (BIND + "{unbound}", {}),
    "primary": ("PUT /api/stages/{stage}/primary", {"session_id": "{second}"}),
    "say": (SAY, {"text": BEGINNING}),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_of_what_was_changed_meanwhile_is_refused(
    client: Client, app: FastAPI, names: Mapping[str, str], change: str
) -> None:
    call, body = CHANGES[change]
    method, path = call.format_map(names).split()
    before = await rows(app)

    answer = await client.http.request(method, path, json=body, headers={"If-Match": '"stale"'})

    assert (answer.status_code, answer.headers["Content-Type"]) == (412, PROBLEM)
    assert "Read it again" in answer.json()["detail"]
    assert await rows(app) == before


TOKENS_REFUSED = {
    "none": None,
    "not a token": "Bearer novel",
    "of another secret": f"Bearer {Tokens(SECRET[::-1]).issue('writer')}",
    "expired": f"Bearer {Tokens(SECRET, timedelta(seconds=-1)).issue('writer')}",
}


@pytest.mark.parametrize("token", TOKENS_REFUSED)
async def test_whoever_has_no_valid_token_may_do_nothing(
    client: Client, app: FastAPI, names: Mapping[str, str], token: str
) -> None:
    del client.http.headers["Authorization"]
    headers = {"Authorization": given} if (given := TOKENS_REFUSED[token]) else {}
    before = await rows(app)

    for call, body in [*CHANGES.values(), ("GET /api/flows/{flow}/events", None)]:
        method, path = call.format_map(names).split()
        answer = await client.http.request(method, path, json=body, headers=headers)
        assert (answer.status_code, answer.headers["Content-Type"]) == (401, PROBLEM)
        assert answer.headers["WWW-Authenticate"] == "Bearer"

    assert await rows(app) == before


async def test_a_completed_stage_takes_no_messages_and_no_sessions(
    client: Client, app: FastAPI, names: Mapping[str, str]
) -> None:
    session = f"/api/stages/{names['stage']}/sessions/{names['primary']}"
    await client.say(session)
    await app.state.resources.runs.wait()
    await client.send("POST", f"/api/stages/{names['stage']}/complete")
    before = await rows(app)

    said = await client.http.post(f"{session}/messages", json={"text": "More."})
    made = await client.http.post(
        f"/api/stages/{names['stage']}/sessions", json={"title": "Another"}
    )

    assert (said.status_code, made.status_code) == (409, 409)
    assert await rows(app) == before
