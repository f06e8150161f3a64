"""The pages in a browser, as a person uses them: by role, label and keyboard."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from examples.web.models import new_id
from tests.conftest import report_missing
from tests.examples.genesis.clients import TOKENS, Server

Serve = Callable[..., Server]

ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
SLOW = 20_000
"""Milliseconds after which nothing is expected any more."""

expect.set_options(timeout=SLOW)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def server(serve: Serve) -> Server:
    return serve()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser(pytestconfig: pytest.Config) -> AsyncIterator[Browser]:
    """Chromium as the system has it."""
    path = shutil.which("chromium")
    if path is None:
        report_missing(pytestconfig, "chromium", "install the package 'chromium'")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path)
        yield browser
        await browser.close()


class Desk:
    """Windows of one writer, who has signed in."""

    def __init__(self, browser: Browser, server: Server) -> None:
        self._browser = browser
        self._link = f"{server.address}/?token={TOKENS.issue(new_id())}"
        self.errors: list[str] = []
        self.hosts: set[str] = set()

    async def window(self, **options: Any) -> Page:
        """Another window, with the list of novels."""
        context: BrowserContext = await self._browser.new_context(**options)
        context.set_default_timeout(SLOW)
        page = await context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        await page.goto(self._link)
        return page


async def begin(page: Page, title: str = "Salt") -> None:
    """Start a novel, and a conversation on its first stage up to the first question."""
    await page.get_by_label("Title").fill(title)
    await page.get_by_label("Seed").fill("salt")
    await page.get_by_role("button", name="Start").click()
    await open_session(page, "A conversation with you")
    await expect(question(page, "What kind of story is it?")).to_be_visible()


async def open_session(page: Page, kind: str) -> None:
    """Open a session in the current stage, and begin."""
    another = page.get_by_text("Open another session")
    if await another.is_visible():
        await another.click()
    await page.get_by_label(kind).check()
    await page.get_by_role("button", name="Open", exact=True).click()
    await page.get_by_role("button", name="Begin").click()


def question(page: Page, text: str) -> Any:
    """A question with its choices."""
    return page.get_by_role("group", name=text)


def progress(page: Page) -> Any:
    """What is told of the work."""
    return page.get_by_role("region", name="What comes next").get_by_role("status")


def current(page: Page) -> Any:
    """The current stage in the row of stages."""
    return page.get_by_role("navigation", name="Stages").locator("[aria-current=step]")


# -- a whole novel ---------------------------------------------------------------------------


async def test_a_stage_is_talked_through_and_bound_to_a_second_session(
    browser: Browser, server: Server
) -> None:
    desk = Desk(browser, server)
    page = await desk.window()
    await begin(page)
    for asked in ("What kind of story is it?", "How does it sound?", "Who is it for?"):
        await question(page, asked).get_by_role("button").nth(1).click()
    await expect(question(page, "What sets it going?")).to_be_visible()
    await page.get_by_label("Or in your own words").fill("a letter that was never sent")
    await page.get_by_role("button", name="Answer").click()
    await page.get_by_role("button", name="it stands").click()
    await expect(progress(page)).to_have_text("Nothing is asked, and nothing under way.")
    brought = page.get_by_role("region", name="What the stage has")
    await expect(brought).to_contain_text("a letter that was never sent")

    await open_session(page, "An agent on its own")
    await expect(progress(page)).to_have_text("Nothing is asked, and nothing under way.")
    await expect(brought).to_contain_text("a letter that was never sent")
    await page.get_by_role("button", name="Make primary").click()
    await expect(brought).not_to_contain_text("a letter that was never sent")
    sessions = page.get_by_role("region", name="Sessions").get_by_role("listitem")
    await expect(sessions.first).to_contain_text("An agent on its own")
    await expect(sessions.first).to_contain_text("Primary")

    await page.get_by_role("button", name="Go on to Worldview").click()
    await expect(current(page)).to_contain_text("Worldview")

    assert desk.errors == []
    assert desk.hosts == {server.address.removeprefix("http://")}


async def test_a_novel_is_written_to_its_end(browser: Browser, server: Server) -> None:
    page = await Desk(browser, server).window()
    await page.get_by_label("Title").fill("Salt")
    await page.get_by_role("button", name="Start").click()
    for after in ("Worldview", "Characters", "Plot outline", "Finished"):
        await open_session(page, "An agent on its own")
        await expect(progress(page)).to_have_text("Nothing is asked, and nothing under way.")
        await page.get_by_role("button", name=f"Go on to {after}").click()
        await expect(current(page)).to_contain_text(after)
    await expect(page.get_by_role("heading", level=3, name="Plot outline")).to_be_visible()
    await page.get_by_role("link", name="Genesis").click()
    await expect(page.get_by_role("listitem")).to_contain_text("Finished")


# -- as it happens ---------------------------------------------------------------------------


async def test_work_is_seen_as_it_goes_on_and_after_a_reload(
    browser: Browser, serve: Serve
) -> None:
    page = await Desk(browser, serve(pause=0.5)).window()
    await begin(page)
    await open_session(page, "An agent on its own")
    await expect(progress(page)).to_contain_text(re.compile("[12] of 4 decisions made"))
    await page.reload()
    await expect(progress(page)).to_contain_text("4 of 4 decisions made")
    await expect(progress(page)).to_have_text("Nothing is asked, and nothing under way.")
    await expect(page.get_by_role("log").get_by_role("listitem")).to_have_count(7)


async def test_a_window_shows_what_another_one_does(browser: Browser, server: Server) -> None:
    desk = Desk(browser, server)
    one, two = await desk.window(), await desk.window()
    await begin(one)
    await two.goto(one.url)
    await one.get_by_role("button", name="gothic mystery").click()
    await two.get_by_role("button", name="dreamlike").click()
    await expect(question(one, "Who is it for?")).to_be_visible()
    await expect(one.get_by_role("log")).to_contain_text("dreamlike")

    await open_session(two, "A conversation with you")
    await two.get_by_role("button", name="Make primary").click()
    mark = one.get_by_role("button", name="Make primary")
    await expect(mark).to_be_visible()
    await mark.click()
    await expect(two.get_by_role("button", name="Make primary")).to_be_visible()


async def test_a_window_that_is_out_of_date_says_so_and_shows_what_is(
    browser: Browser, server: Server
) -> None:
    desk = Desk(browser, server)
    live, stale = await desk.window(), await desk.window(java_script_enabled=False)
    await begin(live)
    await stale.goto(live.url)
    await live.get_by_role("button", name="gothic mystery").click()
    await expect(question(live, "How does it sound?")).to_be_visible()

    await stale.get_by_role("button", name="family saga").click()

    await expect(stale.get_by_role("alert")).to_contain_text("since you opened this page")
    await expect(question(stale, "How does it sound?")).to_be_visible()
    await expect(live.get_by_role("log").get_by_role("listitem")).to_have_count(3)


async def test_a_page_recovers_by_itself_from_a_server_that_is_killed(
    browser: Browser, serve: Serve
) -> None:
    server = serve(pause=0.5)
    page = await Desk(browser, server).window()
    await begin(page)
    await open_session(page, "An agent on its own")
    await expect(progress(page)).to_contain_text(re.compile("[1-3] of 4 decisions made"))
    server.child.kill(signal.SIGKILL)
    await asyncio.to_thread(server.child.wait)
    await expect(page.get_by_text("The server does not answer.")).to_be_visible()

    serve(pause=0, port=server.port)

    await expect(progress(page)).to_have_text("Nothing is asked, and nothing under way.")
    await expect(page.get_by_text("The server does not answer.")).to_be_hidden()
    await expect(page.get_by_role("log").get_by_role("listitem")).to_have_count(7)
    await open_session(page, "A conversation with you")
    await expect(question(page, "What kind of story is it?")).to_be_visible()


# -- for everybody ---------------------------------------------------------------------------


@ON_SQLITE
async def test_the_keyboard_is_enough_and_the_focus_stays(browser: Browser, server: Server) -> None:
    page = await Desk(browser, server).window()
    await page.get_by_label("Title").focus()
    await page.keyboard.type("Salt")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Salt")
    await page.get_by_label("A conversation with you").focus()
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Begin").focus()
    await page.keyboard.press("Space")
    turn = page.get_by_role("region", name="What comes next")
    await expect(turn).to_be_focused()
    await expect(question(page, "What kind of story is it?")).to_be_visible()
    await page.keyboard.press("Tab")
    first = question(page, "What kind of story is it?").get_by_role("button").first
    await expect(first).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(question(page, "How does it sound?")).to_be_visible()
    await expect(turn).to_be_focused()
    await page.get_by_role("button", name="Go on to Worldview").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_be_focused()
    await expect(page.get_by_role("alert")).to_contain_text("tone, audience, idea")
    await page.get_by_role("link", name="Skip to the content").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()


@ON_SQLITE
async def test_what_is_being_typed_stays_while_the_page_changes(
    browser: Browser, server: Server
) -> None:
    desk = Desk(browser, server)
    one, two = await desk.window(), await desk.window()
    await begin(one)
    await one.get_by_text("Open another session").click()
    await one.get_by_label("A review of the draft").check()
    own = one.get_by_label("Or in your own words")
    await own.press_sequentially("a ghost")
    await two.goto(one.url)
    await open_session(two, "An agent on its own")
    await expect(one.get_by_role("region", name="Sessions")).to_contain_text("Initial prompt 2")
    await expect(one.get_by_label("A review of the draft")).to_be_checked()
    await expect(own).to_be_focused()
    await own.press_sequentially(" story")
    await one.get_by_role("button", name="Answer").click()
    await expect(one.get_by_role("log")).to_contain_text("a ghost story")


SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

CONTRASTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgb = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(c => c / 255).map(
      c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const paper = e => {
    for (; e; e = e.parentElement) {
      const found = rgb(getComputedStyle(e).backgroundColor);
      if (found[3] === 255) return found;
    }
  };
  const shown = [...document.body.querySelectorAll("*")].filter(
    e => e.checkVisibility() && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
  return shown.map(e => {
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(paper(e))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), `${e.tagName} ${e.textContent.trim().slice(0, 40)}`];
  });
}"""
"""The contrast of each text on the page with what is behind it (WCAG 2.2)."""


@ON_SQLITE
async def test_every_text_is_readable_in_light_and_dark_and_on_a_telephone(
    browser: Browser, server: Server
) -> None:
    page = await Desk(browser, server).window(viewport={"width": 360, "height": 640})
    await begin(page)
    await page.get_by_role("button", name="gothic mystery").click()
    await open_session(page, "An agent on its own")
    await expect(progress(page)).to_have_text("Nothing is asked, and nothing under way.")
    await page.get_by_role("button", name="Go on to Worldview").click()
    await expect(page.get_by_role("alert")).to_be_focused()
    novel, list_ = page.url, f"{server.address}/novels"
    for url in (None, novel.replace("?", "/history?"), list_, f"{list_}/none"):
        if url:
            await page.goto(url)
        assert await page.evaluate("document.documentElement.scrollWidth") == 360
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            contrasts = await page.evaluate(CONTRASTS)
            assert len(contrasts) > 3
            assert [text for ratio, text in contrasts if ratio < 4.5] == []
