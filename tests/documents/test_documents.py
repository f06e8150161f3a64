"""The documents: every block runs, every link leads somewhere, every figure was measured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict, get_args

import pytest
import typer
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance.capabilities import DetectedCapabilities
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from sqlalchemy import make_url, text

import langgraph_session_saver
from langgraph_session_saver import SessionSaver
from langgraph_session_saver.cli.app import app
from tests.benchmarks.report import bars_met, documented_tables
from tests.benchmarks.results import RESULTS, Results
from tests.support.backends import Backend, BackendName
from tests.support.command_line import PRELOADED_TOO, CommandLine
from tests.support.documents import python_blocks, run_python_blocks
from tests.support.readme import README, ROOT, Block, anchors, blocks, documents, links
from tests.support.zygote import Zygote

PACKAGE = ROOT / "langgraph_session_saver"
BENCHMARKS = ROOT / "tests/benchmarks/README.md"
ARCHITECTURE = PACKAGE / "README.md"
COMMANDS = PACKAGE / "cli/README.md"
PROJECTIONS = PACKAGE / "projection/README.md"
TEXT = README.read_text()
PROMPT = "$ langgraph-session-saver "


def name_of(value: Path | str) -> str:
    """A document's path, or a database's name, in a test's id."""
    return value.relative_to(ROOT).as_posix() if isinstance(value, Path) else value


def blocks_of(document: Path, language: str) -> list[Block]:
    return [block for block in blocks(document.read_text()) if block.language == language]


def statements_of(document: Path) -> list[Block]:
    """The SQL of a document that is for every database: a file of its own is for one."""
    return [block for block in blocks_of(document, "sql") if not block.file]


def commands_of(document: Path) -> list[Block]:
    return [b for b in blocks_of(document, "console") if b.body.startswith(PROMPT)]


def backends_of(document: Path) -> tuple[BackendName, ...]:
    """The databases that a document's Python blocks run on: all if they ask for DATABASE_URL."""
    return get_args(BackendName) if "DATABASE_URL" in document.read_text() else ("sqlite",)


DOCUMENTS = pytest.mark.parametrize("document", documents(), ids=name_of)
WITH_PYTHON = [(d, name) for d in documents() if python_blocks(d) for name in backends_of(d)]
WITH_SQL = [document for document in documents() if statements_of(document)]
WITH_COMMANDS = [document for document in documents() if commands_of(document)]


# -- what is there ---------------------------------------------------------------------------


def test_the_readme_has_at_most_250_lines() -> None:
    assert len(TEXT.splitlines()) <= 250


def test_the_first_screen_has_the_two_commands_and_ten_lines_of_use() -> None:
    run, test, use = blocks(TEXT)[:3]
    assert [run.comment, test.comment] == [("command", "run"), ("command", "test")]
    assert use.language == "python"
    lines = use.body.splitlines()
    assert len([line for line in lines if line]) <= 10
    assert use.line + len(lines) <= 40


def test_every_document_is_reached_by_links_from_the_readme() -> None:
    reached, waiting = {README}, [README]
    while waiting:
        document = waiting.pop()
        targets = {target.partition("#")[0] for target in links(document.read_text())}
        found = {(document.parent / target).resolve() for target in targets if target}
        waiting += found & set(documents()) - reached
        reached |= found
    assert set(documents()) <= reached


@DOCUMENTS
def test_every_link_to_a_file_or_a_heading_leads_there(document: Path) -> None:
    for link in links(document.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@DOCUMENTS
def test_every_block_is_of_a_kind_that_a_test_runs_or_compares(document: Path) -> None:
    for block in blocks(document.read_text()):
        if block.language == "console":
            is_run = block.body.startswith(PROMPT) or (block.comment or ("",))[0] == "command"
        elif block.language == "json":
            is_run = bool(block.file)
        else:
            is_run = block.language in {"python", "sql"} or block.comment == ("tree", "")
        assert is_run, f"{name_of(document)}:{block.line}"


@DOCUMENTS
def test_every_module_that_is_named_exists(document: Path) -> None:
    named = set(
        re.findall(r"`((?:langgraph_session_saver|tests|examples)/[\w/.-]+)`", document.read_text())
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_architecture_shows_every_package_and_public_module() -> None:
    [tree] = [block for block in blocks(ARCHITECTURE.read_text()) if block.comment == ("tree", "")]
    shown = [line.split()[0] for line in tree.body.splitlines() if line]
    packages = [f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")]
    modules = [path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]
    assert sorted(shown) == sorted(packages + modules)


# -- Python ----------------------------------------------------------------------------------


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("document", "database"), WITH_PYTHON, ids=name_of)
def test_every_python_block_runs_and_prints_what_it_says(
    document: Path,
    database: BackendName,
    make_backend: Callable[[BackendName], Backend],
    in_tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = make_backend(database)
    url = make_url(backend.url)
    plain = url.set(drivername={"mariadb": "mysql"}.get(backend.name, backend.name))
    monkeypatch.setenv("DATABASE_URL", plain.render_as_string(hide_password=False))

    run_python_blocks(document)


def test_the_documented_projection_fills_the_application_s_own_table(in_tmp_path: Path) -> None:
    namespace = run_python_blocks(PROJECTIONS, last="class PageRows")

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


def test_the_documented_projection_takes_fewer_than_ten_lines() -> None:
    [block] = [b for b in python_blocks(PROJECTIONS) if "class PageRows" in b.body]
    definition = block.body[block.body.index("class PageRows") :].splitlines()
    assert len([line for line in definition if line.strip()]) < 10


# -- SQL -------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", WITH_SQL, ids=name_of)
def test_every_sql_statement_runs_on_every_database(document: Path, backend: Backend) -> None:
    engine = backend.engine()
    SessionSaver(engine).setup()
    with engine.connect() as conn:
        for block in statements_of(document):
            for statement in filter(str.strip, block.body.split(";")):
                assert conn.execute(text(statement)).all() == []


# -- commands --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program() -> Iterator[Zygote]:
    """Forks processes that have the command line imported."""
    with Zygote(PRELOADED_TOO) as zygote:
        yield zygote


def same_each_time(printed: str) -> str:
    """Printed text without what differs from run to run: checkpoint ids, times, bytes."""
    printed = re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]+", "<id>", printed)
    printed = re.sub(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?|\b\d\d:\d\d:\d\d\b", "<time>", printed)
    printed = re.sub(r"\b[\d.]+ k?B\b", "<size>", printed)
    return re.sub(r" {2,}", "  ", printed)


@pytest.mark.parametrize("document", WITH_COMMANDS, ids=name_of)
def test_every_command_prints_what_its_block_shows(
    document: Path, program: Zygote, in_tmp_path: Path
) -> None:
    # 120 would do for ids of 12 characters; steps of a fast machine share more than that.
    cli = CommandLine(program, in_tmp_path, COLUMNS="132", LANGGRAPH_SESSION_SAVER_URL="demo.db")
    shown_ids: list[str] = []
    for block in commands_of(document):
        line, _, output = block.body.removeprefix(PROMPT).partition("\n")
        words = line.split()
        if shown_ids:
            entries = cli("history", "demo-bakery", "--json").json["entries"]
            ids = dict(zip(shown_ids, (entry["checkpoint_id"] for entry in entries), strict=True))
            words = [ids.get(word, word) for word in words]
        done = cli(*words)
        assert (done.code, done.err) == (0, "")
        assert same_each_time(done.out.strip()) == same_each_time(output.strip()), line
        if words[0] == "history":
            shown_ids = re.findall(r"\b[0-9a-f]{8}-[0-9a-f-]+", output)


def test_the_guide_of_the_command_line_names_every_command() -> None:
    top: Any = typer.main.get_command(app)
    rows = [line for line in COMMANDS.read_text().splitlines() if line.startswith("| `")]
    named = {word for row in rows for word in re.findall(r"`([a-z -]+)`", row.split("|")[1])}
    expected = {
        f"{name} {sub}" if sub else name
        for name, found in top.commands.items()
        for sub in getattr(found, "commands", {"": None})
    }
    assert named == expected


# -- files and names -------------------------------------------------------------------------


@DOCUMENTS
def test_a_json_block_is_the_file_that_it_names(document: Path) -> None:
    for block in blocks_of(document, "json"):
        assert json.loads(block.body) == json.loads((document.parent / block.file).read_text())


@DOCUMENTS
def test_every_extra_that_is_named_exists(document: Path) -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    for extras in re.findall(r"\[([a-z][a-z,-]+)\]['`]", document.read_text()):
        for extra in extras.split(","):
            assert re.search(rf"^{extra} = \[", pyproject, re.MULTILINE), extra


def test_the_newest_entry_of_the_changelog_is_the_version_of_the_package() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    [newest, *_] = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert f'version = "{newest}"' in pyproject


def test_every_public_name_has_a_docstring_whose_first_line_is_a_sentence() -> None:
    for name in langgraph_session_saver.__all__:
        doc = getattr(langgraph_session_saver, name).__doc__
        assert doc, name
        assert doc.splitlines()[0].endswith((".", ":")), name


# -- figures ---------------------------------------------------------------------------------


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


@pytest.mark.parametrize("document", [README, BENCHMARKS], ids=name_of)
def test_the_figures_are_those_that_were_measured(document: Path) -> None:
    rows = Results.read(RESULTS).rows
    assert documented_tables(rows)[document] in document.read_text()
    assert f"{bars_met(rows)} meet" in document.read_text()


def test_the_ten_rows_of_the_readme_are_met_bars_and_missed_ones() -> None:
    table = documented_tables(Results.read(RESULTS).rows)[README]
    assert (table.count("✓"), table.count("✗")) == (5, 5)


def test_the_sizes_are_those_that_were_measured() -> None:
    results = Results.read(RESULTS)
    sizes = {
        (name, row.database): f"{figure.median:.1f} MB"
        for row in results.rows
        if row.workload == "size" and "vacuumed" in row.what
        for name, figure in ((row.ours, row.value), (row.peer, row.peer_value))
        if figure is not None
    }
    ours, peers = sizes["SessionSaver", "SQLite"], sizes["SqliteSaver", "SQLite"]

    assert row_of("a chat of 400 turns (0.4 MB of text) on disk") == [
        peers,
        sizes["PostgresSaver", "PostgreSQL"],
        f"{ours} on SQLite, {sizes['SessionSaver', 'PostgreSQL']} on PostgreSQL",
    ]
    assert f"400 turns takes {ours} on SQLite, where the official saver takes {peers}" in (
        " ".join(TEXT.split())
    )
    packages = results.about["packages"]
    for name in ("checkpoint-sqlite", "checkpoint-postgres"):
        assert f"{name} {packages[f'langgraph-{name}']}" in TEXT
