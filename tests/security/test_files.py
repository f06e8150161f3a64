"""Files that the saver makes are the user's alone; those that exist keep their modes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs
import pytest

from langgraph_session_saver import SessionSaver, StoragePermissionError
from langgraph_session_saver.sql.urls import APP_NAME, URL_VARIABLE

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX")

URLS: dict[str, Callable[[Path], str]] = {
    "path": str,
    "url": lambda file: f"sqlite:///{file}",
    "aiosqlite": lambda file: f"sqlite+aiosqlite:///{file}",
    "file": lambda file: f"sqlite:///file:{file}?mode=rwc&uri=true",
}


@pytest.fixture(autouse=True)
def no_umask() -> Iterator[None]:
    """Every mode is as the program asks for it."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def modes(url: str, directory: Path) -> dict[str, int]:
    """The modes of what is in a directory while a saver uses its database."""
    async with SessionSaver.from_conn_string(url) as saver:
        await saver.asetup()
        return modes_in(directory)


def modes_in(directory: Path) -> dict[str, int]:
    return {str(path.relative_to(directory)): mode(path) for path in directory.rglob("*")}


@pytest.mark.parametrize("kind", URLS)
async def test_a_database_its_log_and_its_directories_are_private(
    tmp_path: Path, kind: str
) -> None:
    url = URLS[kind](tmp_path / "a/b/app.db")

    assert await modes(url, tmp_path) == {
        "a": 0o700,
        "a/b": 0o700,
        "a/b/app.db": 0o600,
        "a/b/app.db-wal": 0o600,
        "a/b/app.db-shm": 0o600,
    }


async def test_what_exists_keeps_its_mode(tmp_path: Path) -> None:
    directory = tmp_path / "shared"
    directory.mkdir(mode=0o755)
    (directory / "app.db").touch(mode=0o640)

    found = await modes(str(directory / "app.db"), tmp_path)

    assert found.pop("shared") == 0o755
    assert set(found.values()) == {0o640}


async def test_a_link_that_is_named_is_followed(tmp_path: Path) -> None:
    link, file = tmp_path / "app.db", tmp_path / "real.db"
    link.symlink_to(file)

    found = await modes(str(link), tmp_path)

    assert found["real.db"] == 0o600


def test_a_uri_that_only_reads_makes_no_file(tmp_path: Path) -> None:
    url = f"sqlite:///file:{tmp_path}/app.db?mode=ro&uri=true"
    with (
        SessionSaver.from_conn_string(url) as saver,
        pytest.raises(StoragePermissionError, match=r"app\.db refused access"),
    ):
        saver.setup()
    assert list(tmp_path.iterdir()) == []


def test_a_backup_is_private(tmp_path: Path) -> None:
    with SessionSaver.from_conn_string(":memory:") as saver:
        saver.backup(tmp_path / "app.backup")
    assert mode(tmp_path / "app.backup") == 0o600


@pytest.fixture
def default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the default database, in an empty home directory."""
    for name in (URL_VARIABLE, "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return platformdirs.user_data_path(APP_NAME) / "sessions.db"


async def test_the_default_database_is_private(tmp_path: Path, default: Path) -> None:
    async with SessionSaver.from_conn_string() as saver:
        await saver.asetup()

    files = {path for path in default.parent.rglob("*") if path.is_file()}
    assert default in files
    assert {mode(path) for path in files} == {0o600}
    assert {mode(path) for path in default.parents if tmp_path in path.parents} == {0o700}


@pytest.mark.parametrize("exists", [True, False], ids=["file", "nothing"])
def test_a_link_at_the_default_path_is_refused(
    tmp_path: Path, default: Path, *, exists: bool
) -> None:
    target = tmp_path / "other.db"
    if exists:
        target.touch()
    default.parent.mkdir(parents=True)
    default.symlink_to(target)

    with pytest.raises(StoragePermissionError, match="is a symbolic link"):
        SessionSaver.from_conn_string()

    assert target.exists() is exists
