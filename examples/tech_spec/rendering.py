"""A version of a document to read: as Markdown, and as a page. Pure."""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markdown_it import MarkdownIt

from examples.tech_spec.models import GeneratedTRDDocument

CODE = {
    "api_specification": ("API specification", "yaml"),
    "database_schema": ("Database schema", "sql"),
    "architecture_diagram": ("Architecture", "mermaid"),
}
"""The parts that are not Markdown: their headings, and what they are."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What a browser may do with a page: nothing but show it (the header `Content-Security-Policy`)."""

_renderer = MarkdownIt("js-default", {"html": False})  # what the PRD has of HTML is shown as text
_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True
)


def to_markdown(document: GeneratedTRDDocument) -> str:
    """All parts that a version has, in one text."""
    texts = [document.trd_content, document.tech_stack_document]
    texts += [_code(*CODE[name], getattr(document, name)) for name in CODE]
    return "\n".join(text for text in texts if text)


def to_page(document: GeneratedTRDDocument) -> str:
    """All parts that a version has, on one page."""
    markdown = to_markdown(document)
    title = re.search(r"^# +(.+)$", markdown, re.MULTILINE)
    return _templates.get_template("page.html.j2").render(
        title=title[1] if title else f"Version {document.version}",
        body=_renderer.render(markdown),
    )


def _code(heading: str, language: str, text: str | None) -> str | None:
    if text is None:
        return None
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)  # the text cannot end it
    return f"# {heading}\n\n{fence}{language}\n{text.rstrip()}\n{fence}\n"
