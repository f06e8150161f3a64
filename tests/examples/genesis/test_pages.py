"""The pages as HTML: signing in, forms, what they refuse, and whose novels they show."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from examples.web.models import new_id
from examples.web.tokens import Tokens
from tests.examples.genesis.clients import SECRET, TOKENS
from tests.examples.genesis.test_api_refusals import rows
from tests.examples.genesis.visitors import HOST, Visitor, visitor_of

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

HOSTILE = """</textarea><script>alert("1")</script><b onload='x'>&lt;"""


@pytest.fixture
async def visitor(app: FastAPI) -> AsyncIterator[Visitor]:
    async with visitor_of(app) as visitor:
        yield visitor


async def begin(visitor: Visitor, title: str = "Salt") -> None:
    """Start a novel, and a conversation on its first stage up to the first question."""
    await visitor.open("/novels")
    await visitor.submit("Start", title=title, seed="salt")
    await visitor.submit("Open")
    await say(visitor, "Begin")


async def say(visitor: Visitor, button: str, **fields: str) -> None:
    """Say something, and wait for what follows."""
    assert (await visitor.submit(button, **fields)).status_code == 200, visitor.text
    app: Any = visitor.http._transport
    await app.app.state.resources.runs.wait()
    await visitor.open(str(visitor.response.url))


# -- signing in ------------------------------------------------------------------------------


async def test_the_printed_address_signs_in_and_the_token_leaves_the_address(app: FastAPI) -> None:
    async with AsyncClient(transport=ASGITransport(app), base_url=HOST) as http:
        answer = await http.get(f"/?token={TOKENS.issue('ada')}")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/novels")
        cookie = answer.headers["Set-Cookie"]
        assert (await http.get("/novels")).status_code == 200

    assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=43200"} <= set(cookie.split("; "))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_over_https_the_cookie_is_sent_over_nothing_else(app: FastAPI, scheme: str) -> None:
    async with AsyncClient(transport=ASGITransport(app), base_url=f"{scheme}://genesis") as http:
        cookie = (await http.get(f"/?token={TOKENS.issue('ada')}")).headers["Set-Cookie"]

    assert ("Secure" in cookie.split("; ")) == (scheme == "https")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/novels", "this needs a token"),
        ("/novels/any", "this needs a token"),
        ("/?token=wrong", "the token is not valid"),
        (f"/?token={Tokens(SECRET, timedelta(-1)).issue('ada')}", "the token has expired"),
    ],
    ids=["none", "none for a novel", "wrong", "expired"],
)
async def test_without_a_valid_token_there_is_only_a_form_for_one(
    app: FastAPI, path: str, said: str
) -> None:
    async with AsyncClient(transport=ASGITransport(app), base_url=HOST) as http:
        answer = await http.get(path, follow_redirects=True)

    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert said in answer.text.lower()
    assert 'name="token"' in answer.text
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("origin", ["http://elsewhere", "http://genesis:81", "null"])
async def test_a_page_of_another_origin_changes_nothing(
    app: FastAPI, visitor: Visitor, origin: str
) -> None:
    await begin(visitor)
    before = await rows(app)
    stage = re.search(r"stage=([\w-]+)", str(visitor.response.url))
    assert stage
    for path, data in (
        ("/novels", {"title": "Tin"}),
        visitor.form("Go on to Worldview"),
        visitor.form("Open", title="Mine"),
        visitor.form("Answer", text="2"),
        (f"/api/stages/{stage[1]}/complete", {}),
    ):
        answer = await visitor.http.post(path, data=data, headers={"Origin": origin})
        assert answer.status_code == 403, path

    assert await rows(app) == before


# -- what there is to see --------------------------------------------------------------------


async def test_a_novel_is_written_without_scripts(visitor: Visitor) -> None:
    await begin(visitor)
    stages = [node.all_text() for node in visitor.nodes("li") if "aria-current" in node.attributes]
    assert stages == ["Initial prompt current"]

    for _ in range(4):
        (first, *_) = (n for n in visitor.nodes("button") if n.attributes.get("name") == "text")
        await say(visitor, first.all_text())
    await say(visitor, "it stands")
    await visitor.submit("Go on to Worldview")

    assert "Worldview current" in visitor.text
    await visitor.submit("Open", kind="agent_autonomous", title="Agent")
    await say(visitor, "Begin")
    assert "The World of" in visitor.text
    await visitor.submit("Open", title="Mine")
    await visitor.submit("Make primary")
    assert re.search("Mine A conversation with you Primary", visitor.text)
    await visitor.submit("Back to Initial prompt")
    assert "Initial prompt current" in visitor.text


async def test_texts_of_a_writer_are_shown_as_texts(visitor: Visitor) -> None:
    await visitor.open("/novels")
    await visitor.submit("Start", title=HOSTILE, premise=HOSTILE)
    await visitor.submit("Open", title=HOSTILE)
    await say(visitor, "Begin", text=HOSTILE)
    await say(visitor, "Answer", text=HOSTILE)
    pages = [visitor.response, await visitor.follow("History"), await visitor.open("/novels")]

    for page in pages:
        assert [node.attributes for node in visitor.nodes("script")] == [
            {"type": "module", "src": "/static/page.js"}
        ]
        assert "<b onload" not in page.text
        assert "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;" in page.text


async def test_everything_that_a_page_needs_is_served_by_the_application(visitor: Visitor) -> None:
    await begin(visitor)
    linked = {
        node.attributes.get("src") or node.attributes["href"]
        for tag in ("script", "link")
        for node in visitor.nodes(tag)
    }
    assert "default-src 'self'" in visitor.response.headers["Content-Security-Policy"]
    assert linked == {"/static/page.js", "/static/page.css", "/static/icon.svg"}
    for path in linked:
        assert (await visitor.http.get(path)).status_code == 200


async def test_older_novels_are_a_page_away(visitor: Visitor) -> None:
    for n in range(21):
        await visitor.http.post("/novels", data={"title": f"Number {n}"})
    await visitor.open("/novels")
    assert "Number 1 " in visitor.text
    assert "Number 0 " not in visitor.text
    await visitor.follow("Older novels")
    assert "Number 0 " in visitor.text


async def test_the_history_shows_what_each_step_has_changed(visitor: Visitor) -> None:
    await begin(visitor)
    await say(visitor, "Answer", text="a ghost story")
    await visitor.follow("History")

    steps = [node.all_text() for node in visitor.nodes("h2")]
    assert steps == [
        "Step 3: propose", "Step 2: ask", "Step 1: propose", "Step 0: start", "Step -1: input",
    ]  # fmt: skip
    added = [node.all_text() for node in visitor.nodes("ins")]
    assert "a ghost story" in added


async def test_the_history_is_read_page_by_page(visitor: Visitor) -> None:
    await begin(visitor)
    for _ in range(4):
        await say(visitor, "Answer", text="2")
    await visitor.follow("History")
    assert "Step -1" not in visitor.text
    await visitor.follow("Older steps")
    assert "Step -1" in visitor.text


# -- what is refused -------------------------------------------------------------------------


async def test_another_owner_s_novel_does_not_exist(app: FastAPI, visitor: Visitor) -> None:
    await begin(visitor)
    here = str(visitor.response.url)
    gets = [here, here.partition("?")[0], here.replace("?", "/history?")]
    posts = [
        visitor.form("Go on to Worldview"),
        visitor.form("Open"),
        visitor.form("Answer", text="2"),
        (here.replace("?", "/primary?"), {}),
    ]
    before = await rows(app)

    async with visitor_of(app) as other:
        answers = [await other.http.get(path) for path in gets]
        answers += [await other.http.post(path, data=data) for path, data in posts]

    assert {answer.status_code for answer in answers} == {404}
    assert not any("Salt" in answer.text for answer in answers)
    assert await rows(app) == before


async def test_a_stage_or_session_of_another_novel_is_not_shown_in_this_one(
    app: FastAPI, visitor: Visitor
) -> None:
    await begin(visitor)
    first = visitor.response.url
    await begin(visitor, "Tin")
    second = visitor.response.url
    before = await rows(app)

    for query in (first.params, second.params.set("session", first.params["session"])):
        url = second.copy_with(params=query)
        assert (await visitor.open(str(url))).status_code == 404
        opened = url.copy_with(path=f"{url.path}/sessions")
        assert (await visitor.http.post(opened, data={"title": "Mine"})).status_code == 404
    assert await rows(app) == before


@pytest.mark.parametrize("path", ["/novels/none", "/novels/%00", "/novels/none/history"])
async def test_what_does_not_exist_is_said_on_a_page(visitor: Visitor, path: str) -> None:
    answer = await visitor.open(path)

    assert answer.status_code in {404, 422}
    assert answer.headers["Content-Type"].startswith("text/html")
    assert visitor.alert


@pytest.mark.parametrize(
    ("button", "fields", "status", "said"),
    [
        ("Go on to Worldview", {}, 422, "genre, tone, audience, idea"),
        ("Go on to Worldview", {"to": "PLOT_OUTLINE"}, 409, "cannot go to PLOT_OUTLINE"),
        ("Go on to Worldview", {"to": "NOWHERE"}, 422, "To: Input should be"),
        ("Answer", {"text": " "}, 422, "Text: String should have at least 1 character"),
        ("Answer", {"text": "a" * 4001}, 422, "at most 4000 characters"),
        ("Answer", {"rounds": "many"}, 422, "Rounds: Input should be a valid integer"),
        ("Open", {"title": ""}, 422, "Title: Field required"),
        ("Open", {"title": "a\x00b"}, 422, "Title: String should match"),
        ("Open", {"kind": "pet"}, 422, "Kind: Input should be"),
    ],
)
async def test_what_is_refused_is_said_on_the_page_and_writes_nothing(
    app: FastAPI,
    visitor: Visitor,
    button: str,
    fields: dict[str, str],
    status: int,
    said: str,
) -> None:
    await begin(visitor)
    before = await rows(app)

    answer = await visitor.submit(button, **fields)

    assert (answer.status_code, said in visitor.alert) == (status, True), visitor.alert
    assert "What kind of story is it?" in visitor.text
    assert await rows(app) == before


async def test_a_title_that_is_refused_leaves_the_list_in_place(visitor: Visitor) -> None:
    await begin(visitor)
    await visitor.open("/novels")
    answer = await visitor.submit("Start", title="a" * 201)

    assert answer.status_code == 422
    assert "at most 200 characters" in visitor.alert
    assert "Salt" in visitor.text


async def test_a_review_of_nothing_is_refused(visitor: Visitor) -> None:
    await begin(visitor)
    await visitor.submit("Open", kind="review")
    answer = await visitor.submit("Begin")

    assert answer.status_code == 409
    assert "There is no INITIAL_PROMPT to review yet" in visitor.alert


# -- two windows -----------------------------------------------------------------------------


async def test_an_answer_from_a_stale_page_is_refused_and_shows_the_present_question(
    visitor: Visitor,
) -> None:
    await begin(visitor)
    path, stale = visitor.form("Answer", text="a western")
    await say(visitor, "Answer", text="a ghost story")

    visitor.response = await visitor.http.post(path, data=stale)

    assert visitor.response.status_code == 412
    assert "since you opened this page" in visitor.alert
    assert "How does it sound?" in visitor.text
    assert "western" not in visitor.text


async def test_of_two_answers_at_once_one_is_taken(visitor: Visitor) -> None:
    await begin(visitor)
    path, data = visitor.form("Answer", text="a ghost story")

    answers = await asyncio.gather(*(visitor.http.post(path, data=data) for _ in range(4)))

    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 303
    assert set(statuses[1:]) <= {409, 412}
    await visitor.open(str(visitor.response.url))
    assert visitor.text.count("a ghost story") == 2  # what was said, and what was decided


async def test_a_stale_page_does_not_move_the_novel(app: FastAPI) -> None:
    owner = TOKENS.issue(new_id())
    async with visitor_of(app, owner) as one, visitor_of(app, owner) as two:
        await begin(one)
        await one.submit("Open", kind="agent_autonomous", title="Agent")
        await one.submit("Make primary")
        await say(one, "Begin")
        await two.open(str(one.response.url))
        await one.submit("Go on to Worldview")

        answer = await two.submit("Go on to Worldview")

    assert answer.status_code == 412
    assert "since you opened this page" in two.alert
    assert "Worldview current" in two.text
