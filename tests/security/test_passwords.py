"""No part of a password of a URL is shown, whether the URL can be read or not."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from langgraph_session_saver import SessionSaver, SessionSaverError
from langgraph_session_saver.cli.app import app

RARE = "QXZJ"
"""Characters of which no message has three in a row, or two beside a mark."""

PASSWORDS = st.text(alphabet=RARE + "@:/?#&=%+ '\"\\;,[]!", min_size=3, max_size=12)

URLS = [
    "postgresql://bob:{}@127.0.0.1:1/db",
    "postgresql+asyncpg://bob:{}@127.0.0.1:1/db",
    "mysql://bob:{}@127.0.0.1:1/db",
    "postgres://bob:{}@127.0.0.1",
    "postgresql:/bob:{}@h/db",
    "postgresql//bob:{}@h/db",
    "postgresql:bob:{}@h/db",
    "postgresql;//bob:{}@h/db",
    "postgrsql://bob:{}@h/db",
    "://bob:{}@h/db",
    "//bob:{}@h/db",
    "bob:{}@h",
    "bob:{}@h:5432/db",
    "b:x{}@h",
    "sqlite://bob:{}@h/app.db",
    "host=127.0.0.1 dbname=db user=bob password={}",
]


def parts(password: str) -> set[str]:
    """The substrings of three characters that can only come from the password."""
    every = (password[n : n + 3] for n in range(len(password) - 2))
    return {part for part in every if sum(one in RARE for one in part) >= 2}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(url="bob:{}@h", password="p@QXZss:QXZword")
@example(url="postgresql:/bob:{}@h/db", password="QXZJQ")
@given(url=st.sampled_from(URLS), password=PASSWORDS)
def test_no_part_of_a_password_is_shown(
    url: str, password: str, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    caplog.set_level(logging.INFO)
    named = url.format(password)

    shown = said(named) + typed(named) + caplog.text

    assert [part for part in parts(password) if part in shown] == []
    assert list(directory.iterdir()) == []


def said(url: str) -> str:
    """What the errors of a saver say, those among them that caused others."""
    try:
        with SessionSaver.from_conn_string(url, retry_for=0) as saver:
            shown = repr(saver) + repr(saver.sessions)
            saver.setup()
    except SessionSaverError as exc:
        return "".join(traceback.format_exception(exc))
    return shown


def typed(url: str) -> str:
    """What the command line prints."""
    runner = CliRunner()
    commands = (
        ["threads", "list", "--url", url],
        ["copy", url, url],
        ["db", "upgrade", "--url", url],
    )
    done = [runner.invoke(app, command) for command in commands]
    return "".join(one.output + "".join(map(str, one.exc_info or ())) for one in done)
