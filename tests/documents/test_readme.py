"""The README: every block runs, and every figure is one that was measured."""

from __future__ import annotations

import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance.capabilities import DetectedCapabilities
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from sqlalchemy import make_url, text

import langgraph_session_saver
from langgraph_session_saver import SessionSaver
from tests.benchmarks.report import markdown
from tests.benchmarks.results import RESULTS, Results
from tests.support.backends import Backend
from tests.support.readme import README, blocks

TEXT = README.read_text()


def run_python_blocks(last: str = "") -> dict[str, Any]:
    """Run the Python blocks one after the other, as somebody who follows the page types them.

    In a thread of their own: `asyncio.run` would drop the event loop that this one may have.

    Args:
        last: Stop after the first block that holds this.
    """
    namespace: dict[str, Any] = {"__name__": "readme"}

    def run() -> None:
        for block in blocks(TEXT):
            if block.language == "python":
                exec(compile(block.body, f"README.md:{block.line}", "exec"), namespace)
                if last and last in block.body:
                    break

    with ThreadPoolExecutor(1) as executor:
        executor.submit(run).result()
    return namespace


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_python_block_runs_in_order(
    in_tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_url(backend.url)
    plain = url.set(drivername={"mariadb": "mysql"}.get(backend.name, backend.name))
    monkeypatch.setenv("DATABASE_URL", plain.render_as_string(hide_password=False))

    namespace = run_python_blocks()

    with backend.engine().connect() as conn:
        rows = conn.execute(text("SELECT build_status, owner_id FROM sessions")).all()
    assert rows == [("success", "ada")]
    connection = sqlite3.connect(in_tmp_path / "app.db")
    roles = [row[0] for row in connection.execute("SELECT role FROM messages ORDER BY id")]
    connection.close()
    assert roles == ["user", "assistant"] * 4
    namespace["engine"].dispose()


def test_the_projection_of_the_page_fills_the_application_s_own_table(
    in_tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "other.db")
    namespace = run_python_blocks(last="class PageRows")

    class Site(TypedDict):
        pages: dict[str, str]

    builder = StateGraph(Site)
    builder.add_node("write", lambda _state: {"pages": {"/": "Bread and rolls", "/us": "Hello"}})
    builder.add_edge(START, "write")
    graph = builder.compile(checkpointer=namespace["saver"])
    graph.invoke({"pages": {}}, {"configurable": {"thread_id": "pages"}})

    engine = namespace["engine"]
    with engine.connect() as conn:
        rows = conn.execute(text("SELECT url, words FROM pages ORDER BY url")).all()
    engine.dispose()
    assert rows == [("/", 3), ("/us", 1)]


def test_the_custom_projection_takes_fewer_than_ten_lines() -> None:
    block = next(b for b in blocks(TEXT) if "PageRows" in b.body)
    definition = block.body[block.body.index("class PageRows") :].splitlines()
    assert len([line for line in definition if line.strip()]) < 10


def test_every_sql_statement_runs_on_every_database(backend: Backend) -> None:
    engine = backend.engine()
    SessionSaver(engine).setup()
    [block] = [b for b in blocks(TEXT) if b.language == "sql"]
    statements = [statement for statement in block.body.split(";") if statement.strip()]
    assert len(statements) == 4
    with engine.connect() as conn:
        for statement in statements:
            assert conn.execute(text(statement)).all() == []


def test_the_first_screen_has_exactly_the_two_commands() -> None:
    named = [b.comment for b in blocks(TEXT) if b.comment is not None]
    assert named == [("command", "run"), ("command", "test")]
    assert [b.line < 26 for b in blocks(TEXT) if b.comment is not None] == [True, True]


def row_of(first_cell: str) -> list[str]:
    """The cells of a table's row after its first."""
    [line] = [line for line in TEXT.splitlines() if line.startswith(f"| {first_cell} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_capabilities_are_those_that_the_conformance_suite_detects() -> None:
    classes: list[type[BaseCheckpointSaver[Any]]] = [
        AsyncSqliteSaver,
        AsyncPostgresSaver,
        SessionSaver,
    ]
    detected = [
        len(DetectedCapabilities.from_instance(cls.__new__(cls)).detected) for cls in classes
    ]
    cells = row_of("`langgraph-checkpoint-conformance` capabilities, of 8")
    assert [int(cell) for cell in cells] == detected


def test_the_figures_are_those_that_were_measured() -> None:
    assert markdown(Results.read(RESULTS).rows) in TEXT


def test_the_sizes_are_those_that_were_measured() -> None:
    results = Results.read(RESULTS)
    sizes = {
        (name, row.database): f"{figure.median:.1f} MB"
        for row in results.rows
        if row.workload == "size" and "vacuumed" in row.what
        for name, figure in ((row.ours, row.value), (row.peer, row.peer_value))
        if figure is not None
    }

    assert row_of("a chat of 400 turns (0.4 MB of text) on disk") == [
        sizes["SqliteSaver", "SQLite"],
        sizes["PostgresSaver", "PostgreSQL"],
        " on SQLite, ".join(sizes["SessionSaver", name] for name in ("SQLite", "PostgreSQL"))
        + " on PostgreSQL",
    ]
    packages = results.about["packages"]
    for name in ("checkpoint-sqlite", "checkpoint-postgres"):
        assert f"{name} {packages[f'langgraph-{name}']}" in TEXT


def test_every_extra_that_the_page_names_exists() -> None:
    pyproject = README.with_name("pyproject.toml").read_text()
    named = set(re.findall(r"\[([a-z][a-z,-]+)\](?!\()", TEXT))
    for extras in named:
        for extra in extras.split(","):
            assert re.search(rf"^{extra} = \[", pyproject, re.MULTILINE), extra


def test_every_public_name_has_a_docstring_whose_first_line_is_a_sentence() -> None:
    for name in langgraph_session_saver.__all__:
        doc = getattr(langgraph_session_saver, name).__doc__
        assert doc, name
        assert doc.splitlines()[0].endswith((".", ":")), name
