"""Backups that somebody forged, and files that a backup may not replace."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from langgraph_session_saver import InvalidConfigError, SessionSaver
from langgraph_session_saver.encoding.chains import LONGEST, StoredBlob, whole
from langgraph_session_saver.encoding.delta import pack, write_number
from langgraph_session_saver.encoding.framing import ZSTD, frame
from langgraph_session_saver.encoding.keys import thread_key
from langgraph_session_saver.errors import DamagedBackupError, NotABackupError
from tests.conftest import MakeBackend
from tests.support.backends import EACH_ONCE, Backend, run_sql
from tests.support.houses import everything
from tests.support.rows import config, put
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


@pytest.fixture
def source(make_backend: MakeBackend) -> Backend:
    """A database with a thread."""
    return make_backend("sqlite")


async def forged_backup(source: Backend, path: Path, rows: list[StoredBlob]) -> None:
    """Make a backup of a thread with these values."""
    with SessionSaver.from_conn_string(source.url) as saver:
        await put(saver, 1, {"note": "x"}, config())
        for row in rows:
            run_sql(
                source,
                "INSERT INTO session_blobs (thread_key, blob_key, base_key, depth, level, channel, "
                "type, data) VALUES (:thread, :blob_key, :base_key, :depth, :level, 'doc', :type, "
                ":data)",
                thread=thread_key("t"),
                **row._asdict(),
            )
        saver.backup(path)


def change_of(key: bytes, base: bytes, depth: int) -> StoredBlob:
    return StoredBlob(key, base, depth, 0, "msgpack", frame(pack(((0, 4),))))


def chain(links: int) -> list[StoredBlob]:
    keys = [b"%016d" % n for n in range(links + 1)]
    root = whole(keys[0], ("msgpack", b"\xa3abc"))[1]
    return [root, *(change_of(keys[n], keys[n - 1], n) for n in range(1, links + 1))]


BOMB = bytes((ZSTD,)) + write_number(1 << 31) + bytes(65_000)

FORGED = {
    "its own base": ([change_of(b"a", b"a", 1)], "not before it"),
    "a cycle": ([change_of(b"a", b"b", 1), change_of(b"b", b"a", 2)], "not before it"),
    "no base": ([change_of(b"a", b"gone", 1)], "not before it"),
    "a long chain": (chain(LONGEST + 1), "chain of more than"),
    "a bomb": ([StoredBlob(b"a", None, 0, 0, "msgpack", BOMB)], "claims to unpack"),
}


@pytest.mark.parametrize(("rows", "said"), FORGED.values(), ids=FORGED)
async def test_a_forged_backup_is_refused_before_anything_is_written(
    make_saver: SaverFactory,
    backend: Backend,
    source: Backend,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    rows: list[StoredBlob],
    said: str,
) -> None:
    await forged_backup(source, tmp_path / "forged", rows)

    with pytest.raises(DamagedBackupError, match=f"of thread 't' .*{said}"):
        await make_saver().arestore(tmp_path / "forged")

    assert not any(everything(backend).values())
    assert "forged cannot be restored" in caplog.text  # which the backup said too


async def test_the_longest_chain_is_restored(
    make_saver: SaverFactory, source: Backend, tmp_path: Path
) -> None:
    await forged_backup(source, tmp_path / "long", chain(LONGEST))

    done = await make_saver().arestore(tmp_path / "long")

    assert done.written["session_blobs"] == LONGEST + 1


# -- where a backup is written --------------------------------------------------------------------


def itself(path: Path, _: Path) -> Path:
    return path


def its_log(path: Path, _: Path) -> Path:
    return path.with_name(path.name + "-wal")


def its_index(path: Path, _: Path) -> Path:
    return path.with_name(path.name + "-shm")


def its_journal(path: Path, _: Path) -> Path:
    return path.with_name(path.name + "-journal")


def a_link(path: Path, directory: Path) -> Path:
    (directory / "link").symlink_to(path)
    return directory / "link"


def a_second_name(path: Path, directory: Path) -> Path:
    os.link(path, path.with_name("second"))
    return path.with_name("second")


def a_detour(path: Path, _: Path) -> Path:
    return path.parent / ".." / path.parent.name / path.name


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "target", [itself, its_log, its_index, its_journal, a_link, a_second_name, a_detour]
)
def test_a_backup_never_replaces_a_file_of_its_database(
    source: Backend, tmp_path: Path, target: Callable[[Path, Path], Path], *, overwrite: bool
) -> None:
    assert source.path is not None
    with SessionSaver.from_conn_string(source.url) as saver:
        saver.sessions.create("s")
        path = target(source.path, tmp_path)
        before = source.path.stat()

        with pytest.raises(InvalidConfigError, match="is a file of the database"):
            saver.backup(path, overwrite=overwrite)

        assert source.path.stat().st_ino == before.st_ino
        assert saver.sessions.get("s") is not None


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\x00", b"notes"])
async def test_a_backup_replaces_a_file_that_is_no_backup_only_when_told(
    make_saver: SaverFactory, tmp_path: Path, content: bytes
) -> None:
    saver: Any = make_saver()
    file = tmp_path / "notes.txt"
    file.write_bytes(content)

    with pytest.raises(InvalidConfigError, match="overwrite=True"):
        await saver.abackup(file)
    assert file.read_bytes() == content

    await saver.abackup(file, overwrite=True)
    await saver.abackup(file)
    await saver.arestore(file)


def test_a_restore_of_the_database_itself_is_refused(source: Backend) -> None:
    assert source.path is not None
    with SessionSaver.from_conn_string(source.url) as saver:
        saver.setup()

        with pytest.raises(NotABackupError):
            saver.restore(source.path)
