"""The small examples: each is run as a process and prints what its docstring shows."""

import ast
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import httpx
import pytest

import examples
from tests.support.commands import Python
from tests.support.readme import README

FOLDER = Path(examples.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
PAGE = 100
"""Lines of code that are a page, without what the first lines say."""


def docstring_of(name: str) -> str:
    module = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    doc = ast.get_docstring(module)
    assert doc is not None
    return doc


def stated(name: str, what: str) -> str:
    """What a module's first lines say after `Install:` or `Run:`, without the remark behind it."""
    found = re.search(rf"^{what}: +(.+?)(?: {{3,}}\(.*\))?$", docstring_of(name), re.MULTILINE)
    assert found, (name, what)
    return found[1]


def stated_output(name: str) -> str:
    return dedent(re.split(r"^Prints.*:\n", docstring_of(name), flags=re.MULTILINE)[1]).strip()


def same_each_time(printed: str) -> str:
    """Printed text without what differs from run to run: checkpoint ids, times, bytes of rows."""
    printed = re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]+", "<id>", printed)
    printed = re.sub(r"\b\d{4}-\d\d-\d\d\b", "<day>", printed)
    printed = re.sub(r"(?m)\b\d\d:\d\d:\d\d +[\d.]+ k?B +[\d.]+ k?B$", "<time>", printed)
    return re.sub(r"(?<=\S) {2,}", "  ", printed)


def environment(temporary: Path) -> dict[str, str]:
    dropped = ("LANGGRAPH_", "LANGSMITH_", "LANGCHAIN_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    return kept | {"TMPDIR": str(temporary), "PYTHONUTF8": "1"}


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """The directory that the examples put their own temporary directories in."""
    path = tmp_path / "temporary"
    path.mkdir()
    return path


def test_there_are_five_examples() -> None:
    assert NAMES == [
        "custom_projection",
        "own_engine",
        "quickstart",
        "resume_interrupted",
        "thread_history",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_it_prints_what_its_docstring_says_and_leaves_no_files(name: str, temporary: Path) -> None:
    command = stated(name, "Run").removesuffix(" [FILE]").split()
    assert command == ["python", "-m", f"examples.{name}"]

    done = subprocess.run(
        [sys.executable, *command[1:]],
        cwd=FOLDER.parent,
        env=environment(temporary),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )

    assert done.stderr == ""
    assert same_each_time(done.stdout.strip()) == same_each_time(stated_output(name))
    assert done.returncode == 0
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_named_is_kept_with_its_rows(
    python: Python, name: str, temporary: Path, tmp_path: Path
) -> None:
    program = str(FOLDER / f"{name}.py")
    done = python.run(program, "kept.db", cwd=tmp_path, env=environment(temporary))

    assert (done.returncode, done.stderr) == (0, "")
    with closing(sqlite3.connect(tmp_path / "kept.db")) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
        [sessions] = [name for name in tables if name.endswith("sessions")]
        [(count,)] = connection.execute(f"SELECT count(*) FROM {sessions}")
    assert count >= 1


@pytest.mark.parametrize("name", ["quickstart", "resume_interrupted"])
def test_a_file_that_is_no_database_is_a_failure(
    python: Python, name: str, temporary: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("This is not a database. " * 100)

    program = str(FOLDER / f"{name}.py")
    done = python.run(program, "notes.txt", cwd=tmp_path, env=environment(temporary))

    assert done.returncode == 1
    assert "file is not a database" in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_it_fits_on_a_page(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    first_lines = ast.parse(text).body[0].end_lineno or 0
    assert len(text.splitlines()) - first_lines <= PAGE


@pytest.mark.parametrize("name", NAMES)
def test_it_uses_only_public_names(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    module = ast.parse(text)
    imported = [node.module for node in ast.walk(module) if isinstance(node, ast.ImportFrom)]
    ours = [found for found in imported if found and found.startswith("langgraph_session_saver")]
    assert ours == ["langgraph_session_saver"]
    assert not re.search(r"\._[a-z]", text)


@pytest.mark.parametrize("name", NAMES)
def test_its_install_command_names_declared_extras(name: str) -> None:
    project = tomllib.loads(README.with_name("pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = {re.split(r"[\[<>=]", each)[0] for each in extras["examples"]}
    command = stated(name, "Install")
    assert command.startswith("pip install ")
    own, *others = command.replace("'", "").split()[2:]
    named = re.fullmatch(r"langgraph-session-saver(?:\[([a-z,-]+)\])?", own)
    assert named
    assert set(filter(None, (named[1] or "").split(","))) <= set(extras)
    assert set(others) <= declared


def test_the_application_with_its_own_engine_is_served(temporary: Path, tmp_path: Path) -> None:
    command = stated("own_engine", "Serve").split()
    assert command[0] == "uvicorn"
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", *command, "--port", "0", "--app-dir", str(FOLDER.parent)],
            cwd=tmp_path,
            env=environment(temporary),
            stderr=log,
            stdout=log,
        ) as server,
    ):
        try:
            url = address(tmp_path / "log", server)
            with httpx.Client(base_url=url, trust_env=False) as client:
                assert client.put("/customers/c1", params={"name": "Ada"}).status_code == 201
                card = client.post("/customers/c1/cards/leo", params={"colour": "blue"})
                assert card.json() == "A card in blue."
                assert client.get("/customers").json() == [["Ada", "leo", "success", 2]]
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
    assert (tmp_path / "shop.db").exists()
    assert "Application shutdown complete" in (tmp_path / "log").read_text()


def address(log: Path, server: subprocess.Popen[bytes]) -> str:
    """Where a server says that it listens."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if found := re.search(r"running on (http://\S+)", log.read_text()):
            return found[1]
        assert server.poll() is None, log.read_text()
        time.sleep(0.05)
    raise TimeoutError(log.read_text())
