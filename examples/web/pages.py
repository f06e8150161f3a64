"""Pages made on the server: their headers, and errors that are told on the page."""

import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, ClassVar, Protocol

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.templating import Jinja2Templates

from examples.web import problems

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Templates(Jinja2Templates):
    """The templates of pages; `problem.html` is that of an error without a page of its own."""

    def render(
        self, request: Request, template: str, problem: JSONResponse | None, **context: Any
    ) -> Response:
        """Make a page; with a problem, it has the problem's status and headers."""
        context["problem"] = json.loads(bytes(problem.body)) if problem else None
        page: Response = self.TemplateResponse(request, template, context, headers=HEADERS)
        if problem:
            page.status_code = problem.status_code
            of_problem = problem.headers.items()
            page.headers.update({k: v for k, v in of_problem if not k.startswith("content-")})
        return page


class Page(Protocol):
    """A page that has forms; the `state.page` of a request from one of them."""

    async def show(self, problem: JSONResponse | None = None) -> Response:
        """Show what is the case now, and a problem that there was."""


class PageRoute(APIRoute):
    """A route whose errors are told on the page that the form is on, or on one of their own."""

    templates: ClassVar[Templates]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handle(request)
            except problems.EXPECTED as exc:
                problem = await problems.answer_to(request, exc)
            if request.method == "POST" and hasattr(request.state, "page"):
                page: Page = request.state.page
                with suppress(*problems.EXPECTED):
                    return await page.show(problem)
            return self.templates.render(request, "problem.html", problem)

        return told
