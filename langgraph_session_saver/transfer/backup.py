r"""Backup of a database to a file, and restore of a file to a database.

A backup is one snapshot of the database. Its file is written whole or not at all, and verified
whole before it is used. A restore is one transaction, so that nobody sees half of it and a failure
leaves nothing. (200,000 checkpoints with their rows are about 150 MB, which each database takes in
one transaction; the limit of a Galera cluster, `wsrep_max_ws_size`, is 2 GB.)

The file has format 1. All numbers are big-endian; "packed" is MessagePack in the framing of stored
values (`encoding.framing.frame`: one byte, 0 for plain, 1 for zlib or 2 for zstd; for the latter
two the unpacked length as a varint).

    langgraph-session-saver backup 1\n          the first line, with the format's number
    H  length:u32  packed header                 {"schema", "made_at", "tables": [[name, columns]]}
    R  length:u32  packed [table, rows]          the table's index in the header; rows are lists
    …                                            of values in the order of its columns
    E  length:u32  packed end                    {"rows": {name: count}, "digests": {name: digest}}
    SHA-256 of everything before it, 32 bytes

Rows come table by table, each after those that it refers to. Their values are those of
`records`: they do not depend on the database that they were read from. A table's digest is the
sum of its rows' fingerprints, so two backups with equal ends are of equal databases.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import ormsgpack
from sqlalchemy import Connection

from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.encoding.framing import frame, unframe
from langgraph_session_saver.errors import (
    BackupFileError,
    DamagedBackupError,
    InvalidConfigError,
    NewerBackupError,
    NotABackupError,
)
from langgraph_session_saver.log import logger
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.schema.tables import SCHEMA_VERSION
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.transfer.chain_check import ChainCheck
from langgraph_session_saver.transfer.progress import Meter, OnProgress, Transferred
from langgraph_session_saver.transfer.records import (
    Records,
    Values,
    all_records,
    check_fits,
    count,
    largest_of,
)

FORMAT = 1
_NAME = b"langgraph-session-saver backup "
_HEADER, _ROWS, _END = b"H", b"R", b"E"
_LENGTH = struct.Struct(">I")

PathLike = str | os.PathLike[str]


def write_backup(
    context: Context, path: PathLike, progress: OnProgress | None, *, overwrite: bool
) -> Script[dict[str, int]]:
    """Write the database to a file, and return the number of rows by table."""
    every = all_records(context.tables)

    def write_rows(conn: Connection) -> dict[str, int]:
        check_target(Path(path).absolute(), context.dialect.files(conn), overwrite=overwrite)
        with context.dialect.snapshot(conn), new_archive(path, every) as archive:
            meter = Meter(progress, count(conn, every))
            for records in every:
                for page in records.stream(conn):
                    archive.add(records, page)
                    meter.advance(len(page), records.name)
        return archive.digests.rows

    return (yield Request.read(write_rows))  # type: ignore[no-any-return]


def restore_backup(
    context: Context, archive: Archive, progress: OnProgress | None
) -> Script[Transferred]:
    """Add a file's rows to the database."""
    size, name = archive.largest
    check_fits(size, f"a row of {name} in {archive.path}", context.value_limit)

    def add_rows(conn: Connection) -> Transferred:
        done = Transferred.none_of(archive.known)
        meter = Meter(progress, sum(archive.rows.values()))
        was_empty = {name: records.is_empty(conn) for name, records in archive.known.items()}
        for records, page in archive.pages():
            name = records.name
            written = records.add(conn, page, context.dialect, was_empty=was_empty[name])
            done.add(name, len(page), written)
            meter.advance(len(page), name)
        return done

    return (yield Request.write(add_rows))  # type: ignore[no-any-return]


# -- the file -----------------------------------------------------------------------------------


class Digests:
    """The number of rows of each table, and a hash of their content in any order."""

    def __init__(self, every: Sequence[Records]) -> None:
        self.rows = {records.name: 0 for records in every}
        self._sums = self.rows.copy()

    def add(self, records: Records, rows: list[Values]) -> None:
        """Add a page of a table's rows."""
        hashes = (int.from_bytes(records.fingerprint(values), "big") for values in rows)
        self.rows[records.name] += len(rows)
        self._sums[records.name] += sum(hashes)

    def end(self) -> dict[str, Any]:
        """The content of a file's end."""
        sums = {name: f"{total % (1 << 128):032x}" for name, total in self._sums.items()}
        return {"rows": self.rows, "digests": sums}


@contextmanager
def _file_errors(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        left = " No file was left behind." if what == "written" else ""
        raise BackupFileError(
            exc.errno, f"the backup {path} cannot be {what}: {exc.strerror or exc}.{left}"
        ) from exc


# -- writing ------------------------------------------------------------------------------------


def check_target(path: Path, database: Sequence[Path], *, overwrite: bool) -> None:
    """Check that a backup may be written to a path, where something else may be.

    Raises:
        InvalidConfigError: It is a file of the database, or of anything but a backup.
    """
    if any(_is_same_file(path, file) for file in database):
        raise InvalidConfigError(
            f"{path} is a file of the database that is backed up: name another file"
        )
    if overwrite or not path.is_file():
        return
    with _file_errors(path, "written"), path.open("rb") as file:
        start = file.read(len(_NAME))
    if start != _NAME:
        raise InvalidConfigError(
            f"{path} exists and is not a backup: it starts with {start[:20]!r}. Name another "
            "file, or pass overwrite=True to replace it"
        )


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one does not exist
        return one.resolve() == other.resolve()


@contextmanager
def new_archive(path: PathLike, every: Sequence[Records]) -> Iterator[ArchiveWriter]:
    """Write a backup to a temporary file in the same directory, and rename it when it is whole."""
    target = Path(path).absolute()
    with _file_errors(target, "written"):
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # mode 0600
    unfinished, file = Path(name), os.fdopen(handle, "wb")
    try:
        writer = ArchiveWriter(file, target, every)
        yield writer
        writer.finish()
        with _file_errors(target, "written"):
            file.close()
            unfinished.replace(target)
            _sync_directory(target.parent)
    finally:
        with suppress(OSError):  # after an error, what is left may find no room
            file.close()
        unfinished.unlink(missing_ok=True)


class ArchiveWriter:
    """Adds pages of rows to a file."""

    def __init__(self, file: BinaryIO, target: Path, every: Sequence[Records]) -> None:
        self._file = file
        self._target = target
        self._hash = sha256()
        self._index = {records.name: at for at, records in enumerate(every)}
        self._chains = ChainCheck()
        self.digests = Digests(every)
        self._write(b"%s%d\n" % (_NAME, FORMAT))
        tables = [[records.name, list(records.columns)] for records in every]
        made_at = utc_now().isoformat()
        self._add(_HEADER, {"schema": SCHEMA_VERSION, "made_at": made_at, "tables": tables})

    def add(self, records: Records, rows: list[Values]) -> None:
        """Write a page of a table's rows, and warn of those with which it cannot be restored."""
        self.digests.add(records, rows)
        for values in rows:
            if problem := self._chains.problem(records, values):
                logger.warning(
                    "%s cannot be restored: %s. Delete that thread, and make another backup",
                    self._target, problem,
                )  # fmt: skip
        self._add(_ROWS, [self._index[records.name], rows])

    def finish(self) -> None:
        """Write the end, and wait until it is on the disk."""
        self._add(_END, self.digests.end())
        self._write(self._hash.digest())
        with _file_errors(self._target, "written"):
            self._file.flush()
            os.fsync(self._file.fileno())

    def _add(self, kind: bytes, content: Any) -> None:
        payload = frame(ormsgpack.packb(content))
        self._write(kind + _LENGTH.pack(len(payload)) + payload)

    def _write(self, data: bytes) -> None:
        with _file_errors(self._target, "written"):
            self._file.write(data)
        self._hash.update(data)


def _sync_directory(directory: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# -- reading ------------------------------------------------------------------------------------


_UNEXPECTED = (
    AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError,
)  # fmt: skip
"""What reading rows raises that this package did not write."""


def _is_storable(value: Any) -> bool:
    """Whether some column takes a value of a file: no collection, no integer over 64 bits."""
    if isinstance(value, int):
        return -(1 << 63) <= value < 1 << 63
    return value is None or isinstance(value, str | bytes | float)


def open_archive(path: PathLike, every: Sequence[Records]) -> Archive:
    """Open a backup, after reading it to its end to see that it is one, whole, and not newer."""
    target = Path(path).absolute()
    with _file_errors(target, "read"), ExitStack() as unless_whole:
        file = unless_whole.enter_context(target.open("rb"))
        archive = Archive(file, target, every)
        archive.verify()
        unless_whole.pop_all()
    return archive


class Archive:
    """A backup that has been read to its end, and is whole."""

    def __init__(self, file: BinaryIO, path: Path, every: Sequence[Records]) -> None:
        self._file = file
        self.close = file.close
        self.path = path
        self.known = {records.name: records for records in every}
        self._tables: list[tuple[str, list[str]]] = []
        """The names and columns of the header."""
        self.rows: dict[str, int] = {}
        self.digests: dict[str, str] = {}
        self.largest = (0, "")
        """Bytes of the largest value, and its table."""

    def verify(self) -> None:
        """Read the whole file, and check that its rows can be restored."""
        digests, chains = Digests(list(self.known.values())), ChainCheck()
        try:
            for records, rows in self.pages():
                digests.add(records, rows)
                for values in rows:
                    if not all(map(_is_storable, values)):
                        raise self._damaged(
                            f"a row of {records.name} holds a value that no column takes"
                        )
                    if problem := chains.problem(records, values):
                        raise self._damaged(problem)
                    records.unpack(values)
                self.largest = max(
                    self.largest, (max(map(largest_of, rows), default=0), records.name)
                )
        except NotABackupError:
            raise
        except _UNEXPECTED as exc:
            raise self._damaged(f"it does not decode: {exc}") from exc
        if digests.end() != {"rows": self.rows, "digests": self.digests}:
            raise self._damaged("its rows are not those that its end counts")

    def pages(self) -> Iterator[tuple[Records, list[Values]]]:
        """Read the pages of rows, each with its table."""
        hashed = sha256()
        left = self._file.seek(0, os.SEEK_END) - hashed.digest_size
        self._file.seek(0)
        line = self._file.readline(64)
        self._check_format(line)
        hashed.update(line)
        left -= len(line)
        kind = b""
        while kind != _END:
            head = self._file.read(1 + _LENGTH.size)
            left -= len(head)
            length = _LENGTH.unpack(head[1:])[0] if left >= 0 else 0
            left -= length
            if left < 0:
                raise self._damaged("it ends too early")
            kind, payload = head[:1], self._file.read(length)
            hashed.update(head + payload)
            content = ormsgpack.unpackb(unframe(payload))
            if kind == _HEADER:
                if content["schema"] > SCHEMA_VERSION:
                    raise NewerBackupError(
                        f"{self.path} was made at schema {content['schema']}, and this version "
                        f"knows up to {SCHEMA_VERSION}: upgrade langgraph-session-saver"
                    )
                self._tables = content["tables"]
            elif kind == _ROWS:
                table, rows = content
                yield self._records_of(table), rows
            elif kind == _END:
                self.rows, self.digests = content["rows"], content["digests"]
            else:
                raise self._damaged(f"it has a part of unknown kind {kind!r}")
        if left or self._file.read() != hashed.digest():
            raise self._damaged("its checksum is not that of its content")

    def _check_format(self, line: bytes) -> None:
        number = line.removeprefix(_NAME).strip()
        if not line.startswith(_NAME) or not number.isdigit():
            raise NotABackupError(
                f"{self.path} is not a backup: it starts with {line[:20]!r}, not with "
                f"{_NAME.decode().strip()!r}. Name a file that saver.backup(path) made"
            )
        if int(number) > FORMAT:
            raise NewerBackupError(
                f"{self.path} is a backup of format {int(number)}, and this version reads up to "
                f"{FORMAT}: upgrade langgraph-session-saver"
            )

    def _records_of(self, table: int) -> Records:
        name, columns = self._tables[table]
        if name not in self.known or tuple(columns) != self.known[name].columns:
            raise NewerBackupError(
                f"{self.path} holds rows of {name} with the columns {', '.join(columns)}, which "
                "this version does not know: restore it with the version that made it"
            )
        return self.known[name]

    def _damaged(self, why: str) -> DamagedBackupError:
        return DamagedBackupError(
            f"{self.path} is damaged: {why}. Nothing was written: restore another copy of it"
        )
