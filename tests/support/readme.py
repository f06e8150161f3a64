"""The documents' code, read from the documents themselves, so that the tests run what they show.

A command that a reader is told to type stands alone in a fenced block, and a comment directly
above the block names it::

    <!-- command: test -->
    ```console
    pip install '.[test]' && pytest
    ```

Run as a script (``readme.py README.md test``) it prints that command. It needs nothing but Python.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
FOLDERS = (".github", "examples", "langgraph_session_saver", "tests")
"""Folders whose Markdown files are documents, beside those at the top level."""

DATA = ROOT / "examples/tech_spec/fixtures"
"""A folder whose Markdown files are what an example works on."""

_FENCE = re.compile(r"^(?P<mark>`{3,}|~{3,})(?P<info>[^`\n]*)$")
_COMMENT = re.compile(r"^<!--\s*(?P<key>[a-z-]+)(?::\s*(?P<value>.*?))?\s*-->$")
_HEADING = re.compile(r"^#{1,6} +(?P<title>.*\S)")
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")


class ReadmeError(ValueError):
    """A document breaks the conventions of this module."""


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: The first word after the fence, possibly empty.
        file: The second word: the name of the file that the block is, possibly empty.
        body: The text between the fences, without the last line's end.
        line: The number of the body's first line, from 1.
        comment: The key and value of the HTML comment on the line above, if there is one.
        heading: The nearest heading above, without its marks.
    """

    language: str
    file: str
    body: str
    line: int
    comment: tuple[str, str] | None
    heading: str


def documents() -> list[Path]:
    """Every Markdown file of the project: the README first, the others by path."""
    found = {
        *ROOT.glob("*.md"),
        *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md")),
    }
    return [README, *sorted(found - {README, *DATA.rglob("*.md")})]


def blocks(text: str) -> list[Block]:
    """Every fenced block of a Markdown text, in order.

    Raises:
        ReadmeError: A block is not closed.
    """
    found: list[Block] = []
    heading, above = "", ""
    for number, lines in _pieces(text):
        fence = _FENCE.match(lines[0])
        if fence is None:
            title = _HEADING.match(lines[0])
            heading, above = title["title"] if title else heading, lines[0]
            continue
        language, _, file = fence["info"].strip().partition(" ")
        comment = _COMMENT.match(above.strip())
        found.append(
            Block(
                language=language,
                file=file.strip(),
                body="\n".join(lines[1:-1]),
                line=number + 1,
                comment=(comment["key"], comment["value"] or "") if comment else None,
                heading=heading,
            )
        )
        above = ""
    return found


def command(text: str, name: str) -> str:
    """The one command under ``<!-- command: name -->``, word for word.

    Raises:
        ReadmeError: There is none, more than one, or it is not exactly one line.
    """
    found = [block for block in blocks(text) if block.comment == ("command", name)]
    if len(found) != 1:
        raise ReadmeError(f"{len(found)} blocks under <!-- command: {name} -->, expected one")
    lines = found[0].body.splitlines()
    if len(lines) != 1 or not lines[0].strip():
        raise ReadmeError(f"line {found[0].line}: the command {name!r} must be exactly one line")
    return lines[0]


def file_block(name: str) -> Block:
    """The one block of all documents that is a file of this name (```` ```python env.py ````).

    Raises:
        ReadmeError: There is none, or more than one.
    """
    found = [b for path in documents() for b in blocks(path.read_text()) if b.file == name]
    if len(found) != 1:
        raise ReadmeError(f"{len(found)} blocks are the file {name!r}, expected one")
    return found[0]


def links(text: str) -> list[str]:
    """The targets of a Markdown text's links and images, outside its fenced blocks."""
    return [
        found["target"]
        for _, lines in _pieces(text)
        if len(lines) == 1
        for found in _LINK.finditer(lines[0])
    ]


def anchors(text: str) -> list[str]:
    """The anchors that GitHub gives to a Markdown text's headings."""
    titles = [_HEADING.match(lines[0]) for _, lines in _pieces(text) if len(lines) == 1]
    return [
        re.sub(r"[^\w\- ]", "", title["title"].lower()).replace(" ", "-")
        for title in titles
        if title
    ]


def _pieces(text: str) -> Iterator[tuple[int, list[str]]]:
    """A text's lines one by one, but each fenced block as a whole; with their first line's number.

    Raises:
        ReadmeError: A block is not closed.
    """
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        start, number = number, number + 1
        if fence := _FENCE.match(lines[start]):
            while number < len(lines) and lines[number].rstrip() != fence["mark"]:
                number += 1
            if number == len(lines):
                raise ReadmeError(f"line {start + 1}: the block is not closed")
            number += 1
        yield start + 1, lines[start:number]


def _main(path: str, name: str) -> None:
    try:
        found = command(Path(path).read_text(encoding="utf-8"), name)
    except ReadmeError as error:
        raise SystemExit(f"{path}: {error}") from error
    sys.stdout.write(found + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:3])
