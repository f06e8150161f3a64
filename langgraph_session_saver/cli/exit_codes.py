"""Exit codes, and the exit code of each error."""

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
    """Exit codes of commands; `EXPLAINED` describes them."""

    OK = 0
    NO = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    FAILED = 5


EXPLAINED = (
    "Exit codes: 0 success; 1 a check failed, or a confirmation was declined; 2 usage error; "
    "3 no thread, session or checkpoint matches, or more than one; 4 the database cannot be "
    "reached, opened or written; 5 any other error."
)

_CODES: tuple[tuple[type[Exception], Exit], ...] = (
    (HistoryLostError, Exit.FAILED),  # a LookupError, but not about an id that was typed
    (SerializationError, Exit.FAILED),  # likewise, where it has the serialiser's error as a base
    (AmbiguousIdError, Exit.NOT_FOUND),
    (LookupError, Exit.NOT_FOUND),
    (DatabaseUnavailableError, Exit.UNREACHABLE),
    (DriverNotInstalledError, Exit.UNREACHABLE),
    (StoragePermissionError, Exit.UNREACHABLE),
    (InvalidConfigError, Exit.USAGE),
    (NotConfirmedError, Exit.USAGE),
)
"""The first class that matches an error decides."""

_PASSWORD = re.compile(r"(://[^\s:/@]*:)[^\s/]+@")


def code_of(error: SessionSaverError) -> Exit:
    """The exit code of an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.FAILED)


def without_passwords(text: str) -> str:
    """Mask the passwords of URLs in a text."""
    return _PASSWORD.sub(r"\1***@", text)
