"""The migration command, in processes of its own: what it prints, and its exit codes."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import examples
from tests.examples.tech_spec.conftest import drop_shared
from tests.support.backends import Backend
from tests.support.commands import Python

ROOT = Path(examples.__file__).parent.parent
COMMAND = ("-m", "examples.tech_spec.migrations")


def run(python: Python, url: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "DATABASE_URL": url, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **env}
    return python.run(*COMMAND, *arguments, cwd=ROOT, env=env)


@pytest.fixture
def empty(backend: Backend) -> Iterator[Backend]:
    yield backend
    drop_shared(backend)


def test_a_database_is_upgraded_looked_at_and_downgraded(empty: Backend, python: Python) -> None:
    url = empty.async_url
    assert run(python, url, "current").returncode == 1
    upgraded = run(python, url, "upgrade")
    assert (upgraded.returncode, upgraded.stdout) == (0, "✓ at revision 0002 (was base)\n")
    assert run(python, url, "upgrade").stdout == "✓ at revision 0002 (unchanged)\n"
    assert run(python, url, "current").stdout == "✓ 0002 (head)\n"
    downgraded = run(python, url, "downgrade", "--yes")
    assert downgraded.stdout == "✓ at revision 0001 (was 0002)\n"
    behind = run(python, url, "current")
    assert (behind.returncode, behind.stdout) == (1, "! 0001 (head is 0002: run upgrade)\n")
    listed = run(python, url, "history").stdout
    assert re.search(r"→ +0001 +base .*\n +0002 +0001 +Sessions", listed)


def test_a_downgrade_asks_first(tmp_path: Path, python: Python) -> None:
    url = f"sqlite:///{tmp_path / 'spec.db'}"
    run(python, url, "upgrade")
    asked = run(python, url, "downgrade")
    assert asked.returncode == 1
    assert "Downgrade from 0002" in asked.stderr
    assert run(python, url, "current").stdout == "✓ 0002 (head)\n"


@pytest.mark.parametrize(
    ("url", "arguments", "code", "says"),
    [
        ("postgresql://ada:s3cret@127.0.0.1:9/spec", ["upgrade"], 4, "127.0.0.1"),
        ("sqlite:////proc/none/spec.db", ["current"], 4, "cannot be created"),
        ("nonsense s3cret", ["upgrade"], 2, "cannot be read"),
        ("oracle://ada:s3cret@host/spec", ["upgrade"], 2, "cannot be read"),
        ("sqlite://", ["upgrade", "0815"], 2, "0815"),
        ("sqlite://", ["downgrade", "--yes"], 2, "-1"),
        ("sqlite://", ["sidegrade"], 2, "sidegrade"),
    ],
)
def test_what_goes_wrong_has_a_code_and_a_text_without_passwords(
    url: str, arguments: list[str], code: int, says: str, python: Python
) -> None:
    ran = run(python, url, *arguments)
    assert ran.returncode == code
    assert says in ran.stderr
    assert "s3cret" not in ran.stderr + ran.stdout
    assert "Traceback" not in ran.stderr


def test_the_output_is_coloured_on_a_terminal(tmp_path: Path, python: Python) -> None:
    url = f"sqlite:///{tmp_path / 'spec.db'}"
    assert "\x1b[32m✓" in run(python, url, "upgrade", FORCE_COLOR="1", TERM="xterm").stdout
