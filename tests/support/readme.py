"""The README's code, read from the README itself, so that what it says is what is run.

A command that a person is told to type stands alone in a fenced block, and a comment directly
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
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"

_FENCE = re.compile(r"^(?P<mark>`{3,}|~{3,})(?P<info>[^`\n]*)$")
_COMMENT = re.compile(r"^<!--\s*(?P<key>[a-z-]+)(?::\s*(?P<value>.*?))?\s*-->$")


class ReadmeError(ValueError):
    """The README does not keep to its own convention."""


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: The word after the fence, possibly empty.
        body: What stands between the fences, without the last line's end.
        line: The number of the body's first line, from 1.
        comment: The key and value of the HTML comment on the line above, if there is one.
        heading: The nearest heading above, without its marks.
    """

    language: str
    body: str
    line: int
    comment: tuple[str, str] | None
    heading: str


def blocks(text: str) -> list[Block]:
    """Every fenced block of a Markdown text, in order.

    Raises:
        ReadmeError: A block is not closed.
    """
    found: list[Block] = []
    lines = text.splitlines()
    heading, above, number = "", "", 0
    while number < len(lines):
        line = lines[number]
        fence = _FENCE.match(line)
        if fence is None:
            if re.match(r"^#{1,6} ", line):
                heading = line.lstrip("#").strip()
            above = line
            number += 1
            continue
        start = number + 1
        end = next(
            (at for at in range(start, len(lines)) if lines[at].rstrip() == fence["mark"]), None
        )
        if end is None:
            raise ReadmeError(f"line {start}: the block is not closed")
        comment = _COMMENT.match(above.strip())
        found.append(
            Block(
                language=fence["info"].strip(),
                body="\n".join(lines[start:end]),
                line=start + 1,
                comment=(comment["key"], comment["value"] or "") if comment else None,
                heading=heading,
            )
        )
        above, number = "", end + 1
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


def _main(path: str, name: str) -> None:
    try:
        said = command(Path(path).read_text(encoding="utf-8"), name)
    except ReadmeError as error:
        raise SystemExit(f"{path}: {error}") from error
    sys.stdout.write(said + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:3])
