"""Backups and sources of copies that somebody forged, and files that a backup may not replace."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from langgraph_session_saver import InvalidConfigError, SessionSaver, SessionSaverError
from langgraph_session_saver.encoding.chains import LONGEST, StoredBlob, whole
from langgraph_session_saver.encoding.delta import pack, write_number
from langgraph_session_saver.encoding.framing import ZSTD, frame, unframe
from langgraph_session_saver.encoding.keys import thread_key
from langgraph_session_saver.errors import CorruptBlobError, DamagedBackupError, NotABackupError
from langgraph_session_saver.transfer import copy
from langgraph_session_saver.transfer.backup import Digests
from tests.conftest import MakeBackend
from tests.support.backends import EACH_ONCE, Backend, run_sql
from tests.support.houses import RECORDS, everything
from tests.support.rows import config, put
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


@pytest.fixture
def source(make_backend: MakeBackend) -> Backend:
    """A database with a thread."""
    return make_backend("sqlite")


async def forge(source: Backend, rows: list[StoredBlob]) -> None:
    """Make a thread with these values."""
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


async def forged_backup(source: Backend, path: Path, rows: list[StoredBlob]) -> None:
    """Make a backup of a thread with these values."""
    await forge(source, rows)
    with SessionSaver.from_conn_string(source.url) as saver:
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


@pytest.mark.parametrize(("rows", "said"), FORGED.values(), ids=FORGED)
async def test_a_forged_source_is_refused_before_anything_is_copied(
    backend: Backend, source: Backend, rows: list[StoredBlob], said: str
) -> None:
    await forge(source, rows)

    with pytest.raises(CorruptBlobError, match=f"of thread 't' .*{said}"):
        copy(source.url, backend.url)

    assert not any(everything(backend).values())


async def test_the_longest_chain_is_restored(
    make_saver: SaverFactory, source: Backend, tmp_path: Path
) -> None:
    await forged_backup(source, tmp_path / "long", chain(LONGEST))

    done = await make_saver().arestore(tmp_path / "long")

    assert done.written["session_blobs"] == LONGEST + 1


# -- files whose checksum is right ----------------------------------------------------------------

Part = tuple[bytes, Any]
"""A part of a backup's file: its kind and its content."""


def parts_of(backup: bytes) -> list[Part]:
    """The parts of a backup's file, without its first line and its checksum."""
    parts, at = list[Part](), backup.index(b"\n") + 1
    while at < len(backup) - 32:
        start, length = at + 5, int.from_bytes(backup[at + 1 : at + 5], "big")
        content = ormsgpack.unpackb(unframe(backup[start : start + length]))
        parts.append((backup[at : at + 1], content))
        at = start + length
    return parts


def signed(backup: bytes, parts: list[Part]) -> bytes:
    """A backup's file with these parts, and with digests and a checksum that are right."""
    digests = Digests(RECORDS)
    made = backup[: backup.index(b"\n") + 1]
    for kind, content in parts:
        if kind == b"R":
            with suppress(Exception):  # it is no page of rows
                digests.add(RECORDS[content[0]], content[1])
        payload = frame(ormsgpack.packb(digests.end() if kind == b"E" else content))
        made += kind + len(payload).to_bytes(4, "big") + payload
    return made + sha256(made).digest()


@pytest.fixture(scope="module")
def backup(house: Backend, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A backup of a database with rows in every table."""
    file = tmp_path_factory.mktemp("backup") / "house"
    with SessionSaver.from_conn_string(house.url) as saver:
        saver.backup(file)
    return file.read_bytes()


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats()
    | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@settings(
    max_examples=60,
    phases=[Phase.generate],  # a smaller example takes minutes to find
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_a_file_with_any_value_in_it_is_restored_or_leaves_nothing(
    backup: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    file, there = tmp_path / "forged", tmp_path / "there.db"
    there.unlink(missing_ok=True)
    parts = parts_of(backup)
    number = data.draw(st.integers(0, len(parts) - 1))
    kind, content = parts[number]
    if kind == b"R" and data.draw(st.integers(0, 9)):
        row = data.draw(st.sampled_from(content[1]))
        row[data.draw(st.integers(0, len(row) - 1))] = data.draw(plain)
    else:
        parts[number] = (kind, data.draw(plain))
    file.write_bytes(signed(backup, parts))

    with SessionSaver.from_conn_string(there) as saver:
        saver.setup()
        try:
            saver.restore(file)
        except SessionSaverError:
            assert not list(saver.sessions.list())
            assert not list(saver.threads.list())


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
