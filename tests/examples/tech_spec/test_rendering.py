"""A document to read: all of its parts as Markdown, and as a page that runs nothing."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

from examples.tech_spec.models import GeneratedTRDDocument
from examples.tech_spec.rendering import to_markdown, to_page

PARTS = {
    "trd_content": "# Salt: technical requirements\n\n| for | by |\n|---|---|\n| mfa | Zitadel |\n",
    "tech_stack_document": "# Technology stack\n\n[PostgreSQL](https://www.postgresql.org)\n",
    "api_specification": "openapi: 3.1.0\n",
    "database_schema": "CREATE TABLE books (id VARCHAR(36));\n",
    "architecture_diagram": "flowchart LR\n    users --> api\n",
}


def document(**parts: Any) -> GeneratedTRDDocument:
    return GeneratedTRDDocument(version=1, **PARTS | parts)


class Tags(HTMLParser):
    """What a page is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.found}


def test_markdown_has_every_part_under_its_heading() -> None:
    text = to_markdown(document())

    headings = [line[2:] for line in text.splitlines() if line.startswith("# ")]
    assert headings == [
        "Salt: technical requirements", "Technology stack", "API specification",
        "Database schema", "Architecture",
    ]  # fmt: skip
    assert "```yaml\nopenapi: 3.1.0\n```" in text
    assert "```mermaid\nflowchart LR\n" in text


def test_a_part_that_is_not_there_has_no_heading() -> None:
    text = to_markdown(document(architecture_diagram=None, tech_stack_document=None))

    assert "Architecture" not in text
    assert "Technology stack" not in text


def test_code_with_a_fence_of_its_own_stays_code() -> None:
    text = to_markdown(document(database_schema="-- ```\n-- <b>````</b>\n"))

    assert "`````sql\n-- ```\n-- <b>````</b>\n`````" in text
    assert "b" not in Tags(to_page(document(database_schema="```\n<b>x</b>\n"))).names


def test_a_page_is_called_after_its_first_heading_and_has_tables_and_links() -> None:
    page = to_page(document())

    assert "<title>Salt: technical requirements</title>" in page
    tags = Tags(page)
    assert {"table", "pre", "h1"} <= tags.names
    assert ("a", {"href": "https://www.postgresql.org"}) in tags.found


@pytest.mark.parametrize(
    "hostile",
    [
        "# <script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        "</main></body><iframe src=//example.org></iframe>",
        '<https://example.org/"onmouseover="alert(1)>',
        "</title><script>alert(1)</script>\n# </title><script>alert(1)</script>",
    ],
)
def test_what_a_prd_has_of_html_is_shown_and_not_run(hostile: str) -> None:
    tags = Tags(to_page(document(trd_content=hostile)))

    assert not tags.names & {"script", "img", "iframe"}
    for _, attributes in tags.found:
        assert not [name for name in attributes if name.startswith("on")]
        assert str(attributes.get("href") or "https:").startswith("https:")
