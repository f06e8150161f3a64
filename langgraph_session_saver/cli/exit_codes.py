"""Exit codes, and which error ends with which."""

from __future__ import annotations

import re
from enum import IntEnum

from langgraph_session_saver.errors import (
    AmbiguousIdError,
    DatabaseUnavailableError,
    DriverNotInstalledError,
    HistoryLostError,
    InvalidConfigError,
    NotConfirmedError,
    SerializationError,
    SessionSaverError,
    StoragePermissionError,
)


class Exit(IntEnum):
    """What a command ends with."""

    OK = 0
    NO = 1
    """The answer is no: a check failed, or the question whether to go on was declined."""
    USAGE = 2
    """The command, an option or a value of it cannot be used."""
    NOT_FOUND = 3
    """No thread, session or checkpoint is called so, or several are."""
    UNREACHABLE = 4
    """The database cannot be reached, opened or written."""
    FAILED = 5
    """Anything else: a schema of another version, a damaged file, a refused statement."""


EXPLAINED = (
    "Exit codes: 0 done; 1 the answer is no (a check failed, a question was declined); 2 usage; "
    "3 no thread, session or checkpoint is called so, or several are; 4 the database cannot be "
    "reached, opened or written; 5 anything else."
)

_UNREACHABLE = (DatabaseUnavailableError, DriverNotInstalledError, StoragePermissionError)

_PASSWORD = re.compile(r"(://[^\s:/@]*:)[^\s/]+@")


def code_of(error: SessionSaverError) -> Exit:
    """The exit code of an error."""
    # These may be LookupErrors, too, but nobody asked for what they lack by name.
    if isinstance(error, HistoryLostError | SerializationError):
        return Exit.FAILED
    if isinstance(error, LookupError | AmbiguousIdError):
        return Exit.NOT_FOUND
    if isinstance(error, _UNREACHABLE):
        return Exit.UNREACHABLE
    if isinstance(error, InvalidConfigError | NotConfirmedError):
        return Exit.USAGE
    return Exit.FAILED


def without_passwords(text: str) -> str:
    """Text in which a URL that somebody typed in the wrong place shows no password."""
    return _PASSWORD.sub(r"\1***@", text)
