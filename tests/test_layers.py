"""Imports between the package's layers only point downwards."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import langgraph_session_saver

PACKAGE = "langgraph_session_saver"
ROOT = Path(langgraph_session_saver.__file__).parent

LAYERS = (
    ("errors",),
    ("log", "redaction", "validation"),
    ("sql", "encoding"),
    ("schema",),
    ("migrate", "models", "projection", "retention"),
    ("storage",),
    ("projection.rows", "retention.apply"),
    ("checkpointer",),
    ("sessions", "inspection", "transfer"),
    ("database", "saver"),
    ("",),
    ("server", "cli"),
)
"""From the bottom up; a part imports from itself and from the layers below it."""

LEVELS = {part: level for level, parts in enumerate(LAYERS) for part in parts}

PURE = ("encoding", "projection", "retention")
"""Parts that run no statement."""

MODULES = sorted(ROOT.rglob("*.py"), key=str)


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """The most specific part that a module belongs to."""
    while module not in LEVELS:
        module = module.rpartition(".")[0]
    return module


def imports_of(file: Path) -> set[str]:
    """Every module and name that a file imports, whether at the top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def ours(imported: str) -> str | None:
    """The package's part that an import leads to; None for other packages."""
    if imported != PACKAGE and not imported.startswith(f"{PACKAGE}."):
        return None
    return part_of(imported.removeprefix(PACKAGE).removeprefix("."))


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_a_module_imports_only_from_its_own_part_and_from_below(file: Path) -> None:
    part = part_of(name_of(file))
    imported = {found for name in imports_of(file) if (found := ours(name)) is not None}
    above = {other for other in imported - {part} if LEVELS[other] >= LEVELS[part]}
    assert above == set()


@pytest.mark.parametrize("part", PURE)
def test_a_pure_part_runs_no_statement(part: str) -> None:
    files = [file for file in MODULES if part_of(name_of(file)) == part]
    assert files
    running = {"sqlalchemy.Connection", "sqlalchemy.Engine", "sqlalchemy.select"}
    assert [name_of(file) for file in files if running & imports_of(file)] == []
