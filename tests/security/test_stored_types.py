"""Which stored types are rebuilt: LangGraph's setting says it, and the command line is strict."""

from __future__ import annotations

import ast
import importlib
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from typer.testing import CliRunner

import langgraph_session_saver
from langgraph_session_saver import SessionSaver
from langgraph_session_saver.cli.app import app
from langgraph_session_saver.errors import UnreadableValueError
from tests.cli.test_command_line import CHANGING, LOOKING
from tests.support.backends import EACH_ONCE, Sql
from tests.support.command_line import clean_environment
from tests.support.rows import checkpoint, checkpoint_id, config, put
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE
ROOT = Path(langgraph_session_saver.__file__).parents[1]

# -- LangGraph's setting --------------------------------------------------------------------------

ALLOWED = ("with_allowlist", "get_state")
"""Ways of reading that allow the type: by a list, and by the schema of a compiled graph."""


def read_under(strictness: str, directory: Path) -> dict[str, str]:
    """What the program reads in each way; LangGraph takes its setting when it is imported."""
    setting = {"LANGGRAPH_STRICT_MSGPACK": strictness, "PYTHONPATH": str(ROOT)}
    program = "import sys; from tests.security import strictness; strictness.main(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(directory / "app.db")],
        env=clean_environment() | setting,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_a_strict_process_rebuilds_only_the_types_that_are_allowed(tmp_path: Path) -> None:
    found = read_under("true", tmp_path)

    allowed = {way: found.pop(way) for way in ALLOWED}
    assert allowed == dict.fromkeys(ALLOWED, "Page(title='home')")
    how = "allowed_msgpack_modules=[('tests.security.strictness', 'Page')]"
    assert [way for way, said in found.items() if how not in said] == []


def test_a_process_that_is_not_strict_rebuilds_every_type(tmp_path: Path) -> None:
    found = read_under("false", tmp_path)

    assert found == dict.fromkeys(found, "Page(title='home')")


# -- pickle ---------------------------------------------------------------------------------------


async def test_pickled_bytes_are_refused(make_saver: SaverFactory, sql: Sql) -> None:
    await put(make_saver(), 1, {"note": "x" * 100})
    sql("UPDATE session_blobs SET type = 'pickle'")

    with pytest.raises(UnreadableValueError, match=r"'note'.*pickle"):
        await make_saver().aget_tuple(config())


def test_no_module_reads_pickles_or_code() -> None:
    unpickling = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal.loads"}
    found = set()
    for file in (ROOT / "langgraph_session_saver").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                found |= {alias.name for alias in node.names}
                found |= {str(node.module)} if isinstance(node, ast.ImportFrom) else set()
            elif isinstance(node, ast.Attribute | ast.Name):
                found.add(ast.unparse(node))

    assert found & unpickling == set()


# -- the command line -----------------------------------------------------------------------------

SOMEBODY_ELSES = """
from dataclasses import dataclass
@dataclass
class Thing:
    name: str
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module with a class, and databases of which every value holds an instance of it."""
    sys.modules.pop("somebody_elses", None)
    module = tmp_path / "somebody_elses.py"
    module.write_text(SOMEBODY_ELSES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANGGRAPH_SESSION_SAVER_URL", "own.db")
    thing = importlib.import_module("somebody_elses").Thing("a")
    with SessionSaver.from_conn_string("own.db") as saver:
        fill(saver, "demo-bakery", thing)
        saver.backup("demo.backup")
    with SqliteSaver.from_conn_string("old.db") as other:
        fill(other, "official", thing)
    return module


@pytest.fixture
def mark(module: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that exists once the module is imported again."""
    module.write_text("open('imported', 'w').close()\n")
    del sys.modules["somebody_elses"]
    importlib.invalidate_caches()
    with closing(sqlite3.connect("own.db")) as db, db:
        db.execute("UPDATE session_threads SET checkpoint_id = 'older'")  # prune projects it again
    monkeypatch.setenv("LANGGRAPH_AES_KEY", "sixteen new ones")
    return Path("imported")


def fill(saver: Any, thread: str, thing: Any) -> None:
    """Store checkpoints that hold it in values, large and small, in metadata and in writes."""
    at: Any = config(thread, checkpoint_ns="")
    for number in range(1, 5):
        message = AIMessage("hi", additional_kwargs={"thing": thing}, id=str(number))
        values = {"thing": thing, "list": [thing] * 100, "messages": [message], "html": thing}
        made = checkpoint(number, values)
        about: Any = {"source": "loop", "step": number}
        at = saver.put(at, made, about, made["channel_versions"])
        saver.put_writes(at, [("thing", thing), ("__error__", thing)], "task")


@pytest.mark.parametrize("line", [*LOOKING, *CHANGING])
def test_no_command_imports_what_a_row_names(mark: Path, line: str) -> None:
    words = line.replace("FIRST", checkpoint_id(1)).replace("LAST", checkpoint_id(4))

    done = CliRunner().invoke(app, words.split())

    assert not mark.exists()
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception


def test_an_import_refuses_a_type_that_is_not_allowed(mark: Path) -> None:
    done = CliRunner().invoke(app, ["import", "old.db"])

    assert done.exit_code == 5
    assert "of thread 'official' in the SqliteSaver holds a type that may" in done.output
    assert "or the command import --allow somebody_elses:Thing" in done.output
    assert not mark.exists()


@pytest.mark.usefixtures("module")
def test_an_import_rebuilds_a_type_that_the_caller_allows() -> None:
    done = CliRunner().invoke(app, ["import", "old.db", "--allow", "somebody_elses:Thing"])

    assert done.exit_code == 0, done.output
    with SessionSaver.from_conn_string("own.db") as saver:
        found = saver.get_tuple(config("official"))
    assert found is not None
    assert repr(found.checkpoint["channel_values"]["thing"]) == "Thing(name='a')"


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("name", ["somebody_elses", "somebody_elses:Gone", "nobodys:Thing", ""])
def test_what_is_no_class_cannot_be_allowed(name: str) -> None:
    done = CliRunner().invoke(app, ["import", "old.db", "--allow", name])

    assert done.exit_code == 2
    assert "is no class as in app.state:Page" in " ".join(done.output.replace("│", "").split())
