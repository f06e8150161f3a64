"""Backup and restore: one file, from any database to any other, all or nothing."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event, insert, literal, select, update

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.errors import (
    BackupFileError,
    DamagedBackupError,
    NewerBackupError,
    NotABackupError,
    StorageFullError,
    TransferConflictError,
    ValueTooLargeError,
)
from langgraph_session_saver.transfer import Progress
from langgraph_session_saver.transfer.backup import open_archive
from tests.conftest import MakeBackend
from tests.support.backends import BACKEND_NAMES, EACH_ONCE, Backend, Sql
from tests.support.faces import FACE_NAMES
from tests.support.houses import RECORDS, TABLES, everything, fill_disk, furnish_by_hand
from tests.support.rows import chain, config
from tests.support.savers import SaverFactory
from tests.support.statements import is_waiting

BACKENDS_AND_FACES = EACH_ONCE


@pytest.fixture(scope="module")
def content(house: Backend, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The contents of a backup of the sample database."""
    path = tmp_path_factory.mktemp("backup") / "house.backup"
    with SessionSaver.from_conn_string(house.url) as saver:
        saver.backup(path)
    return path.read_bytes()


@pytest.fixture
def file(content: bytes, tmp_path: Path) -> Path:
    """A backup file of the sample database."""
    path = tmp_path / "house.backup"
    path.write_bytes(content)
    return path


@pytest.fixture
def empty(make_backend: MakeBackend) -> Backend:
    """An empty SQLite database."""
    return make_backend("sqlite")


def restored(backend: Backend, file: Path) -> dict[str, int]:
    with SessionSaver.from_conn_string(backend.url) as saver:
        return saver.restore(file).written


# -- there and back -------------------------------------------------------------------------------


def test_the_sample_database_has_rows_in_every_table(house: Backend) -> None:
    assert all(everything(house).values())


def test_a_backup_of_one_database_restores_into_another(
    house: Backend, file: Path, backend: Backend, make_backend: MakeBackend, tmp_path: Path
) -> None:
    following = dict(zip(BACKEND_NAMES, (*BACKEND_NAMES[1:], BACKEND_NAMES[0]), strict=True))
    target = make_backend(following[backend.name])
    restored(backend, file)
    with SessionSaver.from_conn_string(backend.url) as saver:
        saver.backup(tmp_path / "again.backup")

    restored(target, tmp_path / "again.backup")

    assert everything(target) == everything(house)


@pytest.mark.parametrize("face", FACE_NAMES, indirect=True)
async def test_every_face_backs_up_and_restores(
    house: Backend, make_saver: SaverFactory, backend: Backend, file: Path, tmp_path: Path
) -> None:
    saver = make_saver()
    told: list[Progress] = []

    await saver.arestore(file, told.append)
    counts = await saver.abackup(tmp_path / "again", told.append)

    assert everything(backend) == everything(house)
    assert counts == {name: len(rows) for name, rows in everything(house).items()}
    total = sum(counts.values())
    assert [p.done for p in told if p.what == "session_errors"] == [total, total]
    assert all(p.total == total for p in told)


def test_a_restored_thread_continues_and_so_do_its_numbers(file: Path, backend: Backend) -> None:
    restored(backend, file)
    numbers = [row[0] for row in everything(backend)["messages"]]

    with SessionSaver.from_conn_string(backend.url) as saver:
        chain(saver, {"note": "y"}).invoke({"messages": [("user", "and now?")]}, config("written"))

    new = {row[0] for row in everything(backend)["messages"]} - set(numbers)
    assert len(new) == 1
    assert min(new) > max(numbers)


def test_restoring_twice_changes_nothing(file: Path, backend: Backend) -> None:
    restored(backend, file)
    before = everything(backend)

    assert sum(restored(backend, file).values()) == 0
    assert everything(backend) == before


@pytest.mark.parametrize("backend_name", ["postgresql", "mariadb"], indirect=True)
def test_a_restore_waits_for_a_writer_of_an_existing_thread(
    file: Path, backend: Backend, sql: Sql
) -> None:
    restored(backend, file)
    lock = select(TABLES.threads.c.thread_id).with_for_update()
    with ThreadPoolExecutor(1) as pool, backend.engine().begin() as conn:
        conn.execute(lock).all()
        waiting = pool.submit(restored, backend, file)
        while not is_waiting(backend, sql):
            assert not waiting.done()
        conn.rollback()

        assert not any(waiting.result().values())


def test_equal_databases_have_equal_digests(
    house: Backend, file: Path, backend: Backend, tmp_path: Path
) -> None:
    restored(backend, file)
    with SessionSaver.from_conn_string(backend.url) as saver:
        saver.backup(tmp_path / "again")

    one, other = open_archive(file, RECORDS), open_archive(tmp_path / "again", RECORDS)

    assert one.digests == other.digests
    one.close()
    other.close()


def test_tables_with_a_prefix_take_the_same_file(file: Path, backend: Backend) -> None:
    with SessionSaver(backend.engine(), table_prefix="my_") as saver:
        first, second = saver.restore(file), saver.restore(file)
        again = saver.backup(file)

    assert (first.written, sum(second.written.values())) == (again, 0)


def test_a_value_over_the_limit_is_refused_before_anything_is_written(
    file: Path, empty: Backend
) -> None:
    with SessionSaver.from_conn_string(empty.url) as saver:
        saver.setup()
        saver._context.value_limit = 50

        with pytest.raises(ValueTooLargeError, match="takes at most 50"):
            saver.restore(file)

    assert not any(everything(empty).values())


# -- beside other rows ----------------------------------------------------------------------------


def test_existing_rows_keep_their_ids(file: Path, house: Backend, backend: Backend) -> None:
    with SessionSaver.from_conn_string(backend.url) as saver:
        chain(saver, {"html": "<p>"}).invoke({"messages": [("user", "mine")]}, config("mine"))
    furnish_by_hand(backend, "my own")
    before, own = everything(backend), everything(backend, row_ids=False)
    theirs = everything(house, row_ids=False)

    first, second = restored(backend, file), restored(backend, file)

    assert first == {name: len(rows) for name, rows in everything(house).items()}
    assert sum(second.values()) == 0
    for name, rows in everything(backend, row_ids=False).items():
        expected = theirs[name] + own[name]
        assert len(rows) == len(expected)
        assert all(row in rows for row in expected)
    assert all(row in everything(backend)[name] for name, rows in before.items() for row in rows)


def test_a_conflicting_row_is_refused_and_nothing_is_written(file: Path, backend: Backend) -> None:
    with SessionSaver.from_conn_string(backend.url) as saver:
        saver.setup()
        with backend.engine().begin() as conn:
            conn.execute(insert(TABLES.sessions), {"id": "nested", "title": "Another"})
        before = everything(backend)

        with pytest.raises(TransferConflictError, match=r"sessions has a row \(id 'nested'\)"):
            saver.restore(file)

    assert everything(backend) == before


def test_a_conflict_late_in_the_file_rolls_everything_back(file: Path, backend: Backend) -> None:
    restored(backend, file)
    with backend.engine().begin() as conn:
        conn.execute(TABLES.blobs.delete().where(TABLES.blobs.c.base_key.is_not(None)))
        conn.execute(update(TABLES.errors).values(message="another"))
    before = everything(backend)

    with pytest.raises(TransferConflictError, match="session_errors has a row"):
        restored(backend, file)

    assert everything(backend) == before


# -- files that are none --------------------------------------------------------------------------


def refused(path: Path, backend: Backend, error: type[Exception], words: str) -> None:
    with SessionSaver.from_conn_string(backend.url) as saver, pytest.raises(error, match=words):
        saver.restore(path)
    assert backend.path is not None
    assert not backend.path.exists()  # not even tables were created


def test_a_file_of_another_kind_is_refused(tmp_path: Path, empty: Backend) -> None:
    path = tmp_path / "else"
    for content in (b"", b"\n", b"SQLite format 3\x00", os.urandom(5_000)):
        path.write_bytes(content)
        refused(path, empty, NotABackupError, "is not a backup: it starts with")


def test_a_missing_file_is_refused(tmp_path: Path, empty: Backend) -> None:
    refused(tmp_path / "none", empty, BackupFileError, "cannot be read: No such file")


def test_a_truncated_file_is_refused(file: Path, empty: Backend) -> None:
    whole = file.read_bytes()
    for length in (40, 50, 200, len(whole) // 2, len(whole) - 33, len(whole) - 1):
        file.write_bytes(whole[:length])
        refused(file, empty, DamagedBackupError, "is damaged")


def test_a_file_with_one_changed_bit_is_refused(file: Path, empty: Backend) -> None:
    whole = file.read_bytes()
    for at in range(33, len(whole), len(whole) // 60):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        file.write_bytes(damaged)
        refused(file, empty, NotABackupError, "is damaged|was made at schema|does not know")


def test_a_file_with_trailing_data_is_refused(file: Path, empty: Backend) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
    refused(file, empty, DamagedBackupError, "checksum")


def test_a_file_of_a_newer_format_is_refused(file: Path, empty: Backend) -> None:
    file.write_bytes(file.read_bytes().replace(b"backup 1\n", b"backup 2\n", 1))
    refused(file, empty, NewerBackupError, "format 2, and this version reads up to 1: upgrade")


def test_a_file_of_a_newer_schema_is_refused(
    file: Path, house: Backend, empty: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langgraph_session_saver.transfer.backup.SCHEMA_VERSION", "9999")
    with SessionSaver.from_conn_string(house.url) as saver:
        saver.backup(file)
    monkeypatch.undo()
    refused(file, empty, NewerBackupError, "made at schema 9999")


# -- files that cannot be written -----------------------------------------------------------------


def test_a_backup_is_private_and_replaces_the_previous_one(house: Backend, file: Path) -> None:
    before = file.stat()
    file.chmod(0o644)
    with SessionSaver.from_conn_string(house.url) as saver:
        saver.backup(str(file))

    assert file.stat().st_ino != before.st_ino
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    open_archive(file, RECORDS).close()


def test_a_missing_directory_is_reported(house: Backend, tmp_path: Path) -> None:
    with (
        SessionSaver.from_conn_string(house.url) as saver,
        pytest.raises(BackupFileError, match="cannot be written: No such file"),
    ):
        saver.backup(tmp_path / "none" / "house.backup")


LIMITED = """
import resource, sys
from langgraph_session_saver import SessionSaver
from langgraph_session_saver.errors import BackupFileError
def fill(progress):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    SessionSaver.from_conn_string(sys.argv[1]).backup(sys.argv[2], fill)
except BackupFileError as error:
    print(error)
"""


def test_a_full_disk_is_reported_and_leaves_no_file(house: Backend, tmp_path: Path) -> None:
    """A limit of 4 KB for files of the process stands for a full disk."""
    directory = tmp_path / "backups"
    directory.mkdir()
    with SessionSaver.from_conn_string(house.url) as saver:
        saver.backup(directory / "house")
    before = (directory / "house").read_bytes()

    said = subprocess.run(
        [sys.executable, "-c", LIMITED, house.url, directory / "house"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert "File too large. No file was left behind." in said.stdout
    assert [(p.name, p.read_bytes()) for p in directory.iterdir()] == [("house", before)]


def test_a_full_disk_leaves_no_partial_restore(file: Path, empty: Backend) -> None:
    with SessionSaver.from_conn_string(empty.url) as saver:
        saver.setup()
        before = everything(empty)
        event.listen(saver._runner.sync_engine, "checkout", lambda c, *_: fill_disk(c))

        with pytest.raises(StorageFullError, match="full"):
            saver.restore(file)

    assert everything(empty) == before


def test_a_cancelled_restore_writes_nothing(file: Path, backend: Backend) -> None:
    def call_off(progress: Progress) -> None:
        if progress.what == "messages":
            raise KeyboardInterrupt

    with SessionSaver.from_conn_string(backend.url) as saver:
        with pytest.raises(KeyboardInterrupt):
            saver.restore(file, call_off)
        assert not any(everything(backend).values())
        saver.restore(file)


def test_a_cancelled_backup_leaves_no_file(house: Backend, tmp_path: Path) -> None:
    def call_off(progress: Progress) -> None:
        raise KeyboardInterrupt

    directory = tmp_path / "backups"
    directory.mkdir()
    with SessionSaver.from_conn_string(house.url) as saver, pytest.raises(KeyboardInterrupt):
        saver.backup(directory / "house", call_off)
    assert list(directory.iterdir()) == []


# -- meanwhile ------------------------------------------------------------------------------------


def test_a_backup_is_a_consistent_snapshot(house: Backend, backend: Backend, file: Path) -> None:
    """Rows written while it runs are not in it."""
    restored(backend, file)
    before = everything(backend)
    engine = backend.engine()

    def rename(progress: Progress) -> None:
        if progress.what == "sessions":
            with engine.begin() as conn:
                conn.execute(insert(TABLES.messages).from_select(
                    ["session_id", "role", "content", "timestamp"],
                    select(
                        TABLES.sessions.c.id, literal("user"), literal("late"),
                        TABLES.sessions.c.created_at,
                    ),
                ))  # fmt: skip

    with SessionSaver.from_conn_string(backend.url) as saver:
        saver.backup(file, rename)

    archive = open_archive(file, RECORDS)
    assert archive.rows == {name: len(rows) for name, rows in before.items()}
    archive.close()
