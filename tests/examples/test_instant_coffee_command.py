import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from examples.instant_coffee.briefs import BRIEFS
from examples.instant_coffee.report import read_sessions
from tests.support.commands import Python

ROOT = Path(__file__).resolve().parents[2]
MODULE = ("-m", "examples.instant_coffee")
PATCHBOX = str(BRIEFS / "patchbox.yaml")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def command(*arguments: str) -> list[str]:
    return [sys.executable, *MODULE, *arguments]


def environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("INSTANT_COFFEE")}
    return kept | {"HOME": str(home), "COLUMNS": "120", "NO_COLOR": "1"}


class Run(Protocol):
    def __call__(self, *arguments: str, answers: str = "") -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def run(python: Python, home: Path) -> Run:
    """Runs the command as a process of its own."""

    def run(*arguments: str, answers: str = "") -> subprocess.CompletedProcess[str]:
        return python.run(*MODULE, *arguments, cwd=ROOT, env=environment(home), input=answers)

    return run


def query(home: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(home / ".instant-coffee" / "instant-coffee.db")) as connection:
        return connection.execute(sql).fetchall()


def test_all_twelve_briefs_run_and_are_found_in_plain_sql(run: Run, home: Path) -> None:
    done = run()

    assert done.returncode == 0, done.stderr
    rows = query(home, "SELECT title, product_type, build_status, model_writer FROM sessions")
    assert len(rows) == 12
    assert all(title in done.stdout for title, *_ in rows)
    assert {product_type for _, product_type, *_ in rows} == {
        "ecommerce", "booking", "dashboard", "landing", "card", "invitation",
    }  # fmt: skip
    assert {status for _, _, status, _ in rows} == {"success"}
    assert {writer for *_, writer in rows} == {"offline/writer"}
    ((least,),) = query(
        home, "SELECT MIN(n) FROM (SELECT COUNT(*) n FROM versions GROUP BY session_id)"
    )
    assert least >= 2
    ((unpriced,),) = query(home, "SELECT COUNT(*) FROM token_usage WHERE cost_usd <= 0")
    assert unpriced == 0
    assert len(list((home / ".instant-coffee" / "dist").glob("*/index.html"))) == 12


def test_the_default_directory_is_private(run: Run, home: Path) -> None:
    run(PATCHBOX)

    mode = stat.S_IMODE((home / ".instant-coffee").stat().st_mode)
    assert mode == 0o700


def test_a_killed_run_resumes_where_it_stopped(run: Run, home: Path) -> None:
    process = subprocess.Popen(
        command(PATCHBOX, "--delay", "0.4"),
        env=environment(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while status_of(home) != "building":
        assert time.monotonic() < deadline, "the build never began"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = query(home, "SELECT id FROM messages ORDER BY timestamp")

    done = run(PATCHBOX)

    assert done.returncode == 0, done.stderr
    assert "resumed" in done.stdout
    assert status_of(home) == "success"
    after = query(home, "SELECT id FROM messages ORDER BY timestamp")
    assert set(before) < set(after)
    assert query(home, "SELECT COUNT(*) FROM sessions") == [(1,)]
    assert query(home, "SELECT COUNT(*) FROM messages WHERE role = 'user'") == [(2,)]


def status_of(home: Path) -> str | None:
    try:
        found = query(home, "SELECT build_status FROM sessions")
    except sqlite3.Error:
        return None  # the file or the table is not there yet
    return str(found[0][0]) if found else None


def test_a_finished_run_is_reported_and_fresh_starts_again(run: Run, home: Path) -> None:
    run(PATCHBOX)
    again = run(PATCHBOX)
    fresh = run(PATCHBOX, "--fresh")

    assert "finished before" in again.stdout
    assert again.returncode == fresh.returncode == 0
    assert query(home, "SELECT id FROM sessions ORDER BY id") == [
        ("instant-coffee/patchbox",),
        ("instant-coffee/patchbox/2",),
    ]


def test_interactive_mode_asks_and_puts_the_answer_on_the_page(run: Run, home: Path) -> None:
    done = run(PATCHBOX, "--interactive", answers="Saddle up\n\n")

    page = home / ".instant-coffee" / "dist" / "patchbox" / "index.html"
    assert done.returncode == 0, done.stderr
    assert "What should the main button say?" in done.stdout
    assert "Saddle up" in page.read_text(encoding="utf-8")


def test_a_wrong_brief_ends_with_its_file_and_field_before_anything_is_written(
    run: Run, home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.yaml"
    content = yaml.safe_load(Path(PATCHBOX).read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(content | {"name": ""}), encoding="utf-8")

    done = run(PATCHBOX, str(path))

    assert done.returncode == 2
    assert "wrong.yaml: name:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / ".instant-coffee").exists()


def test_an_unknown_database_is_a_clear_error(run: Run) -> None:
    done = run(PATCHBOX, "--database", "fax://example")

    assert done.returncode == 2
    assert "fax" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_page_that_cannot_be_published_fails_the_command(
    run: Run, home: Path, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "dist"
    in_the_way.write_text("a file", encoding="utf-8")

    done = run(PATCHBOX, "--dist", str(in_the_way))

    assert done.returncode == 1
    assert "could not be written" in done.stderr
    assert status_of(home) == "failed"
    database = f"sqlite:///{home / '.instant-coffee' / 'instant-coffee.db'}"
    (row,) = read_sessions(database, ["instant-coffee/patchbox"])
    assert row.build_status == "failed"
    assert row.overall is not None


def test_a_question_without_default_leaves_the_session_waiting(
    run: Run, home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "open.yaml"
    content = yaml.safe_load(Path(PATCHBOX).read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(content | {"defaults": {}}), encoding="utf-8")

    done = run(str(path))

    assert done.returncode == 1
    assert "'call_to_action'" in done.stderr
    assert query(home, "SELECT status FROM session_threads") == [("interrupted",)]


def test_help_shows_an_example(home: Path) -> None:
    done = subprocess.run(
        command("--help"), env=environment(home), capture_output=True, text=True, check=False
    )

    assert done.returncode == 0
    assert "python -m examples.instant_coffee" in done.stdout
