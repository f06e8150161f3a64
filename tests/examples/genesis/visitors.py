"""A visitor of the pages without scripts: reads what they say, and fills in their forms."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response

from examples.instant_coffee.dom import Node, Page
from examples.web.models import new_id
from tests.examples.genesis.clients import TOKENS

HOST = "http://genesis"


class Visitor:
    """One owner at one page after the other."""

    def __init__(self, http: AsyncClient) -> None:
        self.http = http
        self.response: Response

    async def open(self, path: str) -> Response:
        """Go to a page."""
        self.response = await self.http.get(path, follow_redirects=True)
        return self.response

    async def follow(self, link: str) -> Response:
        """Go where a link leads."""
        (found,) = {node.attributes["href"] for node in self.nodes("a") if node.all_text() == link}
        return await self.open(str(self.response.url.join(found)))

    async def submit(self, button: str, **fields: str) -> Response:
        """Press a button of a form whose fields are filled in; what it answers is the page."""
        path, data = self.form(button, **fields)
        self.response = await self.http.post(path, data=data, follow_redirects=True)
        return self.response

    def form(self, button: str, **fields: str) -> tuple[str, dict[str, str]]:
        """What pressing a button sends, and where to."""
        (pressed,) = (node for node in self.nodes("button") if node.all_text() == button)
        form = next(node for node in pressed.ancestors() if node.tag == "form")
        data = {node.attributes["name"]: _value(node) for node in form.walk() if _is_sent(node)}
        if "name" in pressed.attributes:
            data[pressed.attributes["name"]] = pressed.attributes["value"]
        return form.attributes["action"], data | fields

    def nodes(self, tag: str) -> Iterator[Node]:
        """The elements of a kind."""
        return (node for node in Page(self.response.text).root.walk() if node.tag == tag)

    @property
    def text(self) -> str:
        """What the page says."""
        (main,) = self.nodes("main")
        return main.all_text()

    @property
    def alert(self) -> str:
        """The message of an error."""
        (found,) = (n for n in self.nodes("div") if n.attributes.get("role") == "alert")
        return found.all_text()


def _is_sent(node: Node) -> bool:
    is_field = "name" in node.attributes and node.tag in ("input", "textarea")
    return is_field and (node.attributes.get("type") != "radio" or "checked" in node.attributes)


def _value(node: Node) -> str:
    return node.attributes.get("value", node.text)


@asynccontextmanager
async def visitor_of(app: FastAPI, token: str | None = None) -> AsyncIterator[Visitor]:
    """A visitor who has signed in."""
    transport = ASGITransport(app, raise_app_exceptions=False)
    async with AsyncClient(
        transport=transport, base_url=HOST, headers={"Origin": HOST}, timeout=60, trust_env=False
    ) as http:
        visitor = Visitor(http)
        await visitor.open(f"/?token={token or TOKENS.issue(new_id())}")
        yield visitor
