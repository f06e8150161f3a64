"""A checkpointer for the LangGraph server, to be named in `langgraph.json`.

    {"checkpointer": {"path": "langgraph_session_saver.server.checkpointer"}}

The server enters `checkpointer` once in each thread with an event loop, and leaves it when the
loop ends. Environment variables configure it:

- `LANGGRAPH_SESSION_SAVER_URL`: the database; default a file in the user's data directory
- `LANGGRAPH_SESSION_SAVER_SCHEMA`, `…_TABLE_PREFIX`: schema and name prefix of the tables
- `LANGGRAPH_SESSION_SAVER_KEEP_LAST`, `…_KEEP_VERSIONS`: how many checkpoints and pages to keep
- `LANGGRAPH_SESSION_SAVER_AUTO_SETUP`: `true` (default), or `false` not to create tables
- `LANGGRAPH_SESSION_SAVER_ON_PROJECTION_ERROR`: `record` (default) or `raise`
- `LANGGRAPH_AES_KEY`: encrypts stored values, as in the server's own checkpointer, and switches
  projections off
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.saver import SessionSaver
from langgraph_session_saver.sql.urls import URL_VARIABLE

PREFIX = URL_VARIABLE.removesuffix("URL")
KEY_VARIABLE = "LANGGRAPH_AES_KEY"


@asynccontextmanager
async def checkpointer() -> AsyncIterator[SessionSaver]:
    """Open the saver that the environment describes, set its database up, and close it at the end.

    Raises:
        InvalidConfigError: A variable has an invalid value; names the variable.
        SessionSaverError: The database cannot be reached or has another schema version.
    """
    options = options_of_environment()
    # In a thread: it accesses the file system, which would block the server's event loop.
    saver = await asyncio.to_thread(SessionSaver.from_conn_string, **options)
    async with saver:
        if options.get("auto_setup", True):
            await saver.asetup()
        yield saver


def options_of_environment() -> dict[str, Any]:
    """Read the options of `SessionSaver` from environment variables.

    Raises:
        InvalidConfigError: A variable has an invalid value; names the variable.
    """
    readers: dict[str, Callable[[str, str], Any]] = {
        "schema": _text,
        "table_prefix": _text,
        "keep_last": _number,
        "keep_versions": _number,
        "auto_setup": _boolean,
        "on_projection_error": _text,
    }
    options = {}
    for option, read in readers.items():
        name = PREFIX + option.upper()
        if value := os.environ.get(name, "").strip():
            options[option] = read(name, value)
    if os.environ.get(KEY_VARIABLE):
        options["serde"] = EncryptedSerializer.from_pycryptodome_aes()
    return options


def _text(_name: str, value: str) -> str:
    return value


def _number(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError as exc:
        raise InvalidConfigError(f"{name} is {value!r}: set it to a whole number") from exc


def _boolean(name: str, value: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if value.lower() not in words:
        raise InvalidConfigError(f"{name} is {value!r}: set it to true or false")
    return words[value.lower()]
