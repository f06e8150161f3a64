"""Content negotiation: the format that a caller prefers."""

from __future__ import annotations

import pytest

from examples.web.negotiation import NotAcceptableError, preferred

FORMATS = {"application/json": "json", "text/markdown": "markdown", "text/html": "html"}
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "json"),
        ("", "json"),
        ("*/*", "json"),
        ("text/html", "html"),
        ("text/*", "markdown"),
        ("text/markdown;q=0.5, text/html;q=0.9", "html"),
        ("application/xml, text/markdown;q=0.1", "markdown"),
        ("*/*, application/json;q=0", "markdown"),
        (BROWSER, "html"),
    ],
)
def test_the_format_of_the_greatest_weight_is_chosen(accept: str | None, expected: str) -> None:
    assert preferred(accept, FORMATS) == expected


@pytest.mark.parametrize("accept", ["application/pdf", "text/html;q=0", "html", "a/b/c"])
def test_a_caller_who_accepts_none_is_told_what_there_is(accept: str) -> None:
    with pytest.raises(NotAcceptableError, match="application/json, text/markdown, text/html"):
        preferred(accept, FORMATS)
