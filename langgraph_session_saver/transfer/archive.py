r"""The file of a backup: written whole or not at all, and checked whole before it is used.

Format 1. All numbers are big-endian; "packed" is MessagePack in the framing of stored values
(`codec.frame`: one byte, 0 for plain, 1 for zlib or 2 for zstd; for these two the unpacked length
as a varint).

    langgraph-session-saver backup 1\n          the first line, with the format's number
    H  length:u32  packed header                 {"schema", "made_at", "tables": [[name, columns]]}
    R  length:u32  packed [table, rows]          the table's index in the header; rows are lists
    …                                            of values in the order of its columns
    E  length:u32  packed end                    {"rows": {name: count}, "digests": {name: digest}}
    SHA-256 of all that is before, 32 bytes

Rows come table by table, each after those that it refers to. Their values are those of
`records`: nothing in them depends on the database that they were read from. A table's digest is
the sum of its rows' fingerprints, so two backups are of equal databases if their ends are equal.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import ormsgpack

from langgraph_session_saver.encoding.framing import frame, unframe
from langgraph_session_saver.errors import (
    BackupFileError,
    CorruptBlobError,
    DamagedBackupError,
    NewerBackupError,
    NotABackupError,
)
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.schema.tables import SCHEMA_VERSION
from langgraph_session_saver.transfer.records import Digest, Records, Values

FORMAT = 1
_NAME = b"langgraph-session-saver backup "
_HEADER, _ROWS, _END = b"H", b"R", b"E"
_LENGTH = struct.Struct(">I")
_HASH_BYTES = 32
_LONGEST_LINE = 64

PathLike = str | os.PathLike[str]


# -- writing ------------------------------------------------------------------------------------


@contextmanager
def written(path: PathLike, every: Sequence[Records]) -> Iterator[ArchiveWriter]:
    """Write a backup under another name in the same directory; it gets its own when it is whole.

    Raises:
        BackupFileError: The disk is full, or the directory cannot be written; no file is left.
    """
    target = Path(path).absolute()
    with _said(target, "written"):
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # mode 0600
    unfinished, file = Path(name), os.fdopen(handle, "wb")
    try:
        writer = ArchiveWriter(file, target, every)
        yield writer
        writer.finish()
        with _said(target, "written"):
            file.close()
            unfinished.replace(target)
            _sync_directory(target.parent)
    except BaseException:
        with suppress(OSError):
            file.close()
        with suppress(OSError):
            unfinished.unlink()
        raise


class ArchiveWriter:
    """Adds pages of rows to a file."""

    def __init__(self, file: BinaryIO, target: Path, every: Sequence[Records]) -> None:
        self._file = file
        self._target = target
        self._hash = sha256()
        self._index = {records.name: at for at, records in enumerate(every)}
        self.digests = {records.name: Digest() for records in every}
        self._write(b"%s%d\n" % (_NAME, FORMAT))
        tables = [[records.name, list(records.columns)] for records in every]
        made_at = utc_now().isoformat()
        self._add(_HEADER, {"schema": SCHEMA_VERSION, "made_at": made_at, "tables": tables})

    def add(self, records: Records, rows: list[Values]) -> None:
        """Write a page of a table's rows."""
        digest = self.digests[records.name]
        for values in rows:
            digest.add(records.fingerprint(values))
        self._add(_ROWS, [self._index[records.name], rows])

    def finish(self) -> None:
        """Write the end, and see it on the disk."""
        rows = {name: digest.rows for name, digest in self.digests.items()}
        digests = {name: str(digest) for name, digest in self.digests.items()}
        self._add(_END, {"rows": rows, "digests": digests})
        self._write(self._hash.digest())
        with _said(self._target, "written"):
            self._file.flush()
            os.fsync(self._file.fileno())

    def _add(self, kind: bytes, content: Any) -> None:
        payload = frame(ormsgpack.packb(content))
        self._write(kind + _LENGTH.pack(len(payload)) + payload)

    def _write(self, data: bytes) -> None:
        with _said(self._target, "written"):
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


@contextmanager
def _said(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        left = " No file was left behind." if what == "written" else ""
        raise BackupFileError(
            exc.errno, f"the backup {path} cannot be {what}: {exc.strerror or exc}.{left}"
        ) from exc


# -- reading ------------------------------------------------------------------------------------


@dataclass
class Archive:
    """A backup that has been read from its beginning to its end, and is whole."""

    file: BinaryIO
    path: Path
    tables: list[tuple[str, list[str]]] = field(default_factory=list)
    rows: Mapping[str, int] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    largest: tuple[int, str] = (0, "")
    """Bytes of the largest value, and its table."""

    def verify(self, known: Mapping[str, Records]) -> None:
        """Read all of it, and see that it is whole and that its rows can be restored.

        Raises:
            NotABackupError: It is something else, or damaged, or newer than this code.
        """
        digests = {name: Digest() for name in known}
        for name, rows in self.pages():
            records = self._refuse_unknown(name, known)
            try:
                for values in rows:
                    digests[name].add(records.fingerprint(values))
            except (ValueError, TypeError, IndexError, AttributeError) as exc:
                raise self._damaged(f"a row of {name} does not decode: {exc}") from exc
            sizes = (len(v) for values in rows for v in values if isinstance(v, str | bytes))
            self.largest = max(self.largest, (max(sizes, default=0), name))
        rows_of = {name: digest.rows for name, digest in digests.items()}
        sums = {name: str(digest) for name, digest in digests.items()}
        if (rows_of, sums) != (self.rows, self.digests):
            raise self._damaged("its rows are not those that its end counts")

    def _refuse_unknown(self, name: str, known: Mapping[str, Records]) -> Records:
        columns = dict(self.tables)[name]
        if name not in known or tuple(columns) != known[name].columns:
            raise NewerBackupError(
                f"{self.path} holds rows of {name} with the columns {', '.join(columns)}, which "
                "this code does not know: restore it with the version that made it"
            )
        return known[name]

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def pages(self) -> Iterator[tuple[str, list[Values]]]:
        """The pages of rows from the first one, each with its table's name.

        Raises:
            DamagedBackupError: The file was changed meanwhile.
        """
        try:
            yield from self._pages()
        except (CorruptBlobError, ValueError, TypeError, KeyError, IndexError) as exc:
            if isinstance(exc, NotABackupError):
                raise
            raise self._damaged(str(exc)) from exc

    def _pages(self) -> Iterator[tuple[str, list[Values]]]:
        self.file.seek(0, os.SEEK_END)
        left = self.file.tell() - _HASH_BYTES
        self.file.seek(0)
        line = self.file.readline(_LONGEST_LINE)
        self._check_name(line)
        hashed = sha256(line)
        left -= len(line)
        kind = b""
        while kind != _END:
            head = self.file.read(1 + _LENGTH.size)
            left -= len(head)
            if left < 0:
                raise self._damaged("it ends too early")
            kind, length = head[:1], _LENGTH.unpack(head[1:])[0]
            if length > left:
                raise self._damaged("it ends too early")
            payload = self.file.read(length)
            left -= length
            hashed.update(head)
            hashed.update(payload)
            if kind == _ROWS:
                at, rows = ormsgpack.unpackb(unframe(payload))
                yield self.tables[at][0], rows
            else:
                self._note(kind, ormsgpack.unpackb(unframe(payload)))
        if left or self.file.read() != hashed.digest():
            raise self._damaged("its checksum is not that of its content")

    def _check_name(self, line: bytes) -> None:
        number = line.removeprefix(_NAME).strip()
        if not line.startswith(_NAME) or not number.isdigit():
            raise NotABackupError(
                f"{self.path} is not a backup: it starts with {line[:20]!r}, not with "
                f"{_NAME.decode().strip()!r}. Name a file that saver.backup(path) made"
            )
        if int(number) > FORMAT:
            raise NewerBackupError(
                f"{self.path} is a backup of format {int(number)}, and this code reads up to "
                f"{FORMAT}: upgrade langgraph-session-saver"
            )

    def _note(self, kind: bytes, content: dict[str, Any]) -> None:
        if kind == _HEADER:
            self._check_schema(content["schema"])
            self.tables = [(name, columns) for name, columns in content["tables"]]
        elif kind == _END:
            self.rows, self.digests = content["rows"], content["digests"]
        else:
            raise self._damaged(f"it has a part of unknown kind {kind!r}")

    def _check_schema(self, schema: str) -> None:
        if schema > SCHEMA_VERSION:
            raise NewerBackupError(
                f"{self.path} was made at schema {schema}, and this code knows up to "
                f"{SCHEMA_VERSION}: upgrade langgraph-session-saver"
            )

    def _damaged(self, why: str) -> DamagedBackupError:
        return DamagedBackupError(
            f"{self.path} is damaged: {why}. Nothing was written: restore another copy of it"
        )


def opened(path: PathLike, every: Sequence[Records]) -> Archive:
    """Open a backup, after reading it to its end.

    Raises:
        NotABackupError: It is something else, or damaged, or newer than this code.
        BackupFileError: It cannot be read.
    """
    target = Path(path).absolute()
    with _said(target, "read"):
        archive = Archive(target.open("rb"), target)
    try:
        with _said(target, "read"):
            archive.verify({records.name: records for records in every})
    except BaseException:
        archive.close()
        raise
    return archive
