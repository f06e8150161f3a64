"""Mistyped URLs are refused: they become no file, and no part of a password is shown."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from langgraph_session_saver import InvalidConfigError, SessionSaver
from langgraph_session_saver.sql.urls import URL_VARIABLE, parse_url

MISTYPED = [
    "postgresql//host/db",
    "postgresql//db.example.com/app.db",
    "postgres:/host/db",
    "postgresql;//host/db",
    "postgresql+psycopg:/host/db",
    "postgresql:\\\\host\\db",
    "postgresql:",
    "PostgreSQL//host/db",
    "postgrsql//host/db",
    "progres:host/db",
    "mysql:user@host/db",
    "mysql//host:3306/db",
    "msyql//host/db",
    "mysql+pymysql;host/db",
    "mariadb:host/db",
    "sqlite//app.db",
    "sqlite:app.db",
    "sqlite3:/app.db",
    "sqlite;///app.db",
    "sqllite:app.db",
    "file:app.db?mode=ro",
    "redis:/host/0",
    "redis//host/0",
    "localhost:5432/db",
    "db.example.com:3306",
    "user:word@host/db",
    "user:pa/ss@host/db",
    "//user:word@host/db",
    "host=localhost dbname=app user=me",
    "://host/db",
    " postgresql://host/db",
    "postgresql ://host/db",
    "sqlite://app.db",
    "sqlite://app.db/more.db",
    "sqlite+aiosqlite://app.db",
]

PATHS = [
    "app.db",
    "app",
    "sqlite",
    "postgres.db",
    "my sessions.db",
    "data/my sessions.db",
    "data//app.db",
    "./postgresql//host/db",
    "../app.db",
    "mysql/app.db",
    "me@example.com/app.db",
    "12:30.db",
    "run:1.db",
    "data/2026-01-01T12:30:00.db",
    "app-sqlite-2026-01-01T12:30.db",
    "a?b=c&d.db",
    "100%.db",
    "a%20b.db",
    "host=web1/app.db",
    "C:app.db",
    "C:\\data\\app.db",
    "C:/data/app.db",
    "\\\\server\\share\\app.db",
    "//server/share/app.db",
    "/var/lib/12:30/me@example.com.db",
    "/var/lib//sqlite:app.db",
]

WITH_PASSWORDS = [
    "postgresql//user:s3cr3t@host/db",
    "postgres:/user:s3cr3t@host/db",
    "mysql;//user:s3cr3t@host/db",
    "user:s3cr3t@host/db",
    "host=localhost user=me password=s3cr3t",
    "://user:s3cr3t@host/db",
    "postgresql://user:word@s3cr3t@host/db",
    "postgresql://user:word@s3cr3t/more@host/db",
    "postgresql://user:word@s3cr3t:7/more@host/db",
    "postgresql://user:word@s3cr3t?a=b@host/db",
    "postgresql://user:word@host:s3cr3t@host/db",
    "postgresql://us/er:s3cr3t@host/db",
    "postgresql://us/er:s3cr3t?more@host/db",
    "postgresql://user:word@host:s3cr3t/db",
    "postgresql+s3cr3t.more://user@host/db",
    "mysql://user:word@s3cr3t@host/db",
    "mysql://host/db?connect_timeout=s3cr3t",
    "sqlite://user:s3cr3t@host/app.db",
    "sqlite://:s3cr3t@/app.db",
]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(url: Any) -> str:
    """The whole traceback."""
    with pytest.raises(InvalidConfigError) as caught:
        SessionSaver.from_conn_string(url)
    return "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("url", MISTYPED)
def test_a_mistyped_url_is_refused_and_becomes_no_file(url: str, directory: Path) -> None:
    assert "sqlite:///file.db" in refusal(url)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_a_file(path: str) -> None:
    url = parse_url(path)

    assert (url.drivername, url.database) == ("sqlite+pysqlite", str(Path(path)))
    assert (url.host, dict(url.query)) == (None, {})


@pytest.mark.parametrize("path", ["sqlite:app.db", "run//today", "user:word@host"])
def test_a_path_object_is_a_file_whatever_its_name(path: str, directory: Path) -> None:
    with SessionSaver.from_conn_string(Path(path)) as saver:
        saver.setup()
    assert (directory / path).exists()


@pytest.mark.parametrize("url", WITH_PASSWORDS)
def test_no_part_of_a_password_is_shown(url: str, directory: Path) -> None:
    assert "s3cr3t" not in refusal(url)
    assert list(directory.iterdir()) == []


def test_a_mistyped_url_of_the_environment_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, "postgresql//user:s3cr3t@host/db")
    assert "s3cr3t" not in refusal(None)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("postgresql://user:pa/s?s:#@host/db", "pa/s?s:#"),
        ("postgresql://user:p%40ss@host/db", "p@ss"),
        ("postgresql://user@tenant:word@host/db", "word"),
        ("mysql://host/db?user=me@tenant", None),
        ("mysql://host/db%40home", None),
    ],
)
def test_a_url_with_special_characters_is_understood(url: str, password: str | None) -> None:
    parsed = parse_url(url)
    assert (parsed.host, parsed.password) == ("host", password)


@pytest.mark.parametrize("given", [b"app.db", 3, object()])
def test_what_is_neither_text_nor_url_nor_path_is_refused(given: Any) -> None:
    assert "cannot be read" in refusal(given)


@pytest.mark.parametrize("given", ["sqlite:///s3cr3t.db", make_url("sqlite://"), Path("app.db")])
def test_a_saver_over_what_is_no_engine_says_what_to_call(given: Any, directory: Path) -> None:
    with pytest.raises(InvalidConfigError, match=r"use SessionSaver\.from_conn_string") as caught:
        SessionSaver(given)
    assert "s3cr3t" not in str(caught.value)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "known"),
    [
        ("postgresql+nodriver://h/db", ["psycopg", "psycopg_async", "asyncpg"]),
        ("postgres+nodriver://h/db", ["psycopg", "psycopg_async", "asyncpg"]),
        ("mysql+nodriver://h/db", ["pymysql", "asyncmy"]),
        ("mariadb+nodriver://h/db", ["pymysql", "asyncmy"]),
        ("sqlite+nodriver:///app.db", ["pysqlite", "aiosqlite"]),
    ],
)
def test_an_unknown_driver_is_refused_with_those_that_are_known(url: str, known: list[str]) -> None:
    said = refusal(url)
    assert "has no driver 'nodriver'" in said
    assert all(f"+{driver}://" in said for driver in known)
