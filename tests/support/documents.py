"""Runs the Python blocks of a document, as a reader does who types them one after the other.

The blocks of every document but the README start from the README's first block: it makes a graph
(`builder`, `config`) and a database (`app.db`) that the others go on with.

A comment after a call of ``print`` may say what it prints::

    print(1 + 1)  # prints 2
"""

from __future__ import annotations

import io
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.support.readme import README, Block, blocks

_EXPECTED = re.compile(r"^ *print\(.*\)  # prints (?P<text>.+)$")


def python_blocks(document: Path) -> list[Block]:
    """The Python blocks of a document that are not files of their own."""
    found = blocks(document.read_text())
    return [block for block in found if block.language == "python" and not block.file]


def run_python_blocks(document: Path, last: str = "") -> dict[str, Any]:
    """Run a document's Python blocks, and check what they print.

    In a thread of their own: `asyncio.run` would drop the event loop that this one may have.

    Args:
        document: The document.
        last: Stop after the first block that contains this.

    Returns:
        The names that the blocks define.
    """
    namespace: dict[str, Any] = {"__name__": "document"}

    def run() -> None:
        if document != README:
            _run_block(README, python_blocks(README)[0], namespace)
        for block in python_blocks(document):
            _run_block(document, block, namespace)
            if last and last in block.body:
                break

    with ThreadPoolExecutor(1) as executor:
        executor.submit(run).result()
    return namespace


def _run_block(document: Path, block: Block, namespace: dict[str, Any]) -> None:
    """Run one block.

    Raises:
        AssertionError: It printed something else than its comments say.
    """
    # Empty lines in front, so that tracebacks show the document's own lines.
    code = "\n" * (block.line - 1) + block.body
    lines = enumerate(code.splitlines(), start=1)
    expected = {n: found["text"] + "\n" for n, line in lines if (found := _EXPECTED.match(line))}
    printed: dict[int, str] = {}

    def record(*values: Any) -> None:
        buffer = io.StringIO()
        print(*values, file=buffer)
        printed[sys._getframe(1).f_lineno] = buffer.getvalue()

    namespace["print"] = record
    exec(compile(code, str(document), "exec"), namespace)
    assert {line: printed.get(line) for line in expected} == expected
