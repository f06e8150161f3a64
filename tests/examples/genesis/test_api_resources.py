"""The API: resources with their ETags and pages, and a novel in a test's process."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from tests.examples.genesis.authors import BEGINNING
from tests.examples.genesis.clients import Client, client_of


async def test_a_novel_begins_at_its_first_stage(client: Client) -> None:
    answer = await client.http.post("/api/flows", json={"title": " Salt ", "premise": "A sea."})

    novel = answer.json()
    assert answer.status_code == 201
    assert (novel["title"], novel["premise"]) == ("Salt", "A sea.")
    flow = await client.get(f"/api/flows/{novel['id']}")
    assert flow == novel
    assert (flow["current_stage"], flow["status"]) == ("INITIAL_PROMPT", "IN_PROGRESS")
    assert (await client.stage(flow["id"]))["status"] == "RUNNING"


async def test_novels_are_listed_in_pages_the_newest_first(client: Client) -> None:
    begun = [(await client.begin(f"Novel {n}"))["id"] for n in range(5)]

    listed = await client.every("/api/flows", limit=2)

    assert [novel["id"] for novel in listed] == begun[::-1]


async def test_passes_through_stages_are_listed_in_pages_the_oldest_first(
    client: Client, app: FastAPI
) -> None:
    flow_id = (await client.begin())["id"]
    for to in ("WORLDVIEW", "INITIAL_PROMPT", "WORLDVIEW"):
        stage = await client.stage(flow_id)
        if to == "WORLDVIEW":
            await client.say(await client.open_session(stage["id"]))
            await app.state.resources.runs.wait()
        await client.advance(flow_id, to)

    listed = await client.every(f"/api/flows/{flow_id}/stages", limit=1)

    assert [each["stage"] for each in listed] == ["INITIAL_PROMPT", "WORLDVIEW", "INITIAL_PROMPT"]
    assert listed == await client.every(f"/api/flows/{flow_id}/stages")


async def test_sessions_are_listed_in_pages_the_primary_one_first(client: Client) -> None:
    stage = await client.stage((await client.begin())["id"])
    opened = [(await client.open_session(stage["id"])).split("/")[-1] for _ in range(5)]
    await client.send("PUT", f"/api/stages/{stage['id']}/primary", {"session_id": opened[3]})

    listed = await client.every(f"/api/stages/{stage['id']}/sessions", limit=2)

    assert [each["session_id"] for each in listed] == [opened[n] for n in (3, 0, 1, 2, 4)]


async def test_another_owner_sees_none_of_it(client: Client, app: FastAPI) -> None:
    novel = await client.begin()
    stage = await client.stage(novel["id"])
    session = await client.open_session(stage["id"])
    change = f"/api/flows/{novel['id']}/advance"

    async with client_of(app) as other:
        assert (await other.get("/api/flows"))["items"] == []
        for path in (
            f"/api/flows/{novel['id']}",
            f"/api/flows/{novel['id']}/stages",
            f"/api/flows/{novel['id']}/events",
            f"/api/stages/{stage['id']}",
            f"/api/stages/{stage['id']}/sessions",
            *(session + part for part in ("", "/messages", "/history", "/diff?a=1")),
        ):
            assert (await other.http.get(path)).status_code == 404
        answer = await other.http.post(f"{session}/messages", json={"text": BEGINNING})
        assert answer.status_code == 404
        assert (await other.http.post(change, json={"to": "WORLDVIEW"})).status_code == 404


# -- ETags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("resource", ["flow", "stage", "session"])
async def test_what_a_caller_has_is_not_sent_again(client: Client, resource: str) -> None:
    novel = await client.begin()
    stage = await client.stage(novel["id"])
    path = {
        "flow": f"/api/flows/{novel['id']}",
        "stage": f"/api/stages/{stage['id']}",
        "session": await client.open_session(stage["id"]),
    }[resource]
    tag = (await client.http.get(path)).headers["ETag"]

    known = await client.http.get(path, headers={"If-None-Match": f'"other", {tag}'})
    other = await client.http.get(path, headers={"If-None-Match": '"other"'})

    assert (known.status_code, known.content, known.headers["ETag"]) == (304, b"", tag)
    assert (other.status_code, other.headers["ETag"]) == (200, tag)


async def test_each_change_of_a_flow_has_an_etag_of_its_own(client: Client, app: FastAPI) -> None:
    path = await written(client, app)
    tags = [(await client.http.get(path)).headers["ETag"]]

    for to in ("WORLDVIEW", "INITIAL_PROMPT", "WORLDVIEW"):
        answer = await client.http.post(
            f"{path}/advance", json={"to": to}, headers={"If-Match": tags[-1]}
        )
        assert (answer.status_code, answer.json()["current_stage"]) == (200, to)
        tags.append(answer.headers["ETag"])

    assert tags == sorted(set(tags))
    assert (await client.http.get(path)).headers["ETag"] == tags[-1]


async def test_of_two_changes_of_what_was_read_one_is_refused(client: Client, app: FastAPI) -> None:
    flow = await written(client, app)
    tag = {"If-Match": (await client.http.get(flow)).headers["ETag"]}
    body = {"to": "WORLDVIEW"}

    answers = [await client.http.post(f"{flow}/advance", json=body, headers=tag) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 412]


async def written(client: Client, app: FastAPI) -> str:
    """The path of a flow whose first stage an agent has written."""
    flow_id: str = (await client.begin())["id"]
    await client.say(await client.open_session((await client.stage(flow_id))["id"]))
    await app.state.resources.runs.wait()
    return f"/api/flows/{flow_id}"


async def test_a_session_has_another_etag_after_each_message(client: Client, app: FastAPI) -> None:
    stage = await client.stage((await client.begin())["id"])
    session = await client.open_session(stage["id"], "user_interaction")
    tags = [(await client.http.get(session)).headers["ETag"]]

    for text in (BEGINNING, "1"):
        answer = await client.http.post(
            f"{session}/messages", json={"text": text}, headers={"If-Match": tags[-1]}
        )
        assert answer.status_code == 202
        await app.state.resources.runs.wait()
        tags.append((await client.http.get(session)).headers["ETag"])

    assert tags == sorted(set(tags))


# -- sessions ------------------------------------------------------------------------------------


async def test_a_session_asks_and_shows_what_was_said_in_pages(
    client: Client, app: FastAPI
) -> None:
    stage = await client.stage((await client.begin())["id"])
    session = await client.open_session(stage["id"], "user_interaction")
    assert (await client.get(session))["question"] is None

    await client.say(session)
    await app.state.resources.runs.wait()
    asked = (await client.get(session))["question"]
    await client.say(session, "2")
    await app.state.resources.runs.wait()

    assert asked["about"] == "genre"
    assert (await client.get(session))["question"]["about"] == "tone"
    assert (await client.get(f"/api/stages/{stage['id']}"))["config"] == {
        "genre": asked["options"][1]
    }
    first = await client.get(f"{session}/messages?limit=3")
    rest = await client.get(f"{session}/messages?after={first['next']}")
    roles = [message["role"] for message in first["items"] + rest["items"]]
    assert (roles, rest["next"]) == (["user", "assistant", "user", "assistant"], None)


async def test_the_history_of_a_session_is_compared_step_by_step(
    client: Client, app: FastAPI
) -> None:
    stage = await client.stage((await client.begin())["id"])
    session = await client.open_session(stage["id"])
    await client.say(session)
    await app.state.resources.runs.wait()

    newest = await client.get(f"{session}/history?limit=3")
    older = await client.get(
        f"{session}/history?limit=100&before={newest['older']['checkpoint_id']}"
    )
    a, b = older["entries"][-1]["checkpoint_id"], newest["entries"][0]["checkpoint_id"]
    diff = await client.get(f"{session}/diff?a={a}&b={b}")

    assert len(newest["entries"]) == 3
    assert older["older"] is None
    changed = {found["channel"] for found in diff["channels"]}
    assert {"messages", "config", "result"} <= changed
    assert await client.get(f"{session}/diff?a={a}") == diff


async def test_a_second_session_becomes_the_primary_one(client: Client, app: FastAPI) -> None:
    stage = await client.stage((await client.begin())["id"])
    sessions = [await client.open_session(stage["id"]) for _ in range(2)]
    for session in sessions:
        await client.say(session)
    await app.state.resources.runs.wait()
    before = await client.get(f"/api/stages/{stage['id']}")

    chosen = sessions[1].split("/")[-1]
    after = await client.send("PUT", f"/api/stages/{stage['id']}/primary", {"session_id": chosen})

    assert after["config"] != before["config"]
    bound = await client.every(f"/api/stages/{stage['id']}/sessions")
    assert [(each["session_id"] == chosen, each["is_primary"]) for each in bound] == [
        (True, True),
        (False, False),
    ]


async def test_a_session_of_an_earlier_stage_is_bound_to_a_later_one(
    client: Client, app: FastAPI
) -> None:
    flow_id = (await client.begin())["id"]
    stage = await client.stage(flow_id)
    session = await client.open_session(stage["id"])
    await client.say(session)
    await app.state.resources.runs.wait()
    await client.advance(flow_id, "WORLDVIEW")
    later = (await client.stage(flow_id))["id"]

    path = f"/api/stages/{later}/sessions/{session.split('/')[-1]}"
    bound = await client.send("PUT", path, {"kind": "user_interaction"})

    assert (bound["stage_id"], bound["is_primary"], bound["status"]) == (later, True, "ACTIVE")
    assert (await client.get(session))["status"] == "ARCHIVED"


async def test_the_api_is_described_with_its_problems(client: Client) -> None:
    described = await client.get("/openapi.json")

    advance = described["paths"]["/api/flows/{flow_id}/advance"]["post"]
    assert {"200", "401", "404", "409", "412", "422"} <= set(advance["responses"])
    assert described["components"]["schemas"]["Advance"]["properties"]["to"]["examples"]


async def test_health_needs_no_token(client: Client) -> None:
    del client.http.headers["Authorization"]

    assert (await client.get("/health"))["status"] == "ok"


@pytest.mark.parametrize("said", [False, True])
async def test_a_checkpoint_that_does_not_exist_has_no_history(
    client: Client, app: FastAPI, said: bool
) -> None:
    stage = await client.stage((await client.begin())["id"])
    session = await client.open_session(stage["id"])
    if said:
        await client.say(session)
        await app.state.resources.runs.wait()

    answers = {
        path: (await client.http.get(f"{session}/{path}")).status_code
        for path in ("history", "diff?a=none")
    }

    assert answers == {"history": 200 if said else 404, "diff?a=none": 404}
