"""A checkpointer for the LangGraph server, which `langgraph.json` names by its path.

    {"checkpointer": {"path": "langgraph_session_saver.server.checkpointer"}}

The server enters `checkpointer` once in each thread that has an event loop, and leaves it at its
end. The environment says the rest:

- `LANGGRAPH_SESSION_SAVER_URL`: the database; default a file in the user's data directory
- `LANGGRAPH_SESSION_SAVER_SCHEMA`, `…_TABLE_PREFIX`: where the tables are
- `LANGGRAPH_SESSION_SAVER_KEEP_LAST`, `…_KEEP_VERSIONS`: how many checkpoints, and pages, are kept
- `LANGGRAPH_SESSION_SAVER_AUTO_SETUP`: `true` (default), or `false` to set nothing up
- `LANGGRAPH_SESSION_SAVER_ON_PROJECTION_ERROR`: `record` (default) or `raise`
- `LANGGRAPH_AES_KEY`: encrypts what is stored, as it does for the server's own checkpointer;
  projections are then off
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
    """Open the saver that the environment describes, with its tables in place, and close it.

    Raises:
        InvalidConfigError: A variable has a value that cannot be used; names the variable.
        SessionSaverError: The database cannot be reached or is not this code's.
    """
    options = options_of_environment()
    # In a thread: it looks at the file system, for which nothing may wait on a server's loop.
    saver = await asyncio.to_thread(SessionSaver.from_conn_string, **options)
    async with saver:
        if options.get("auto_setup", True):
            await saver.asetup()
        yield saver


def options_of_environment() -> dict[str, Any]:
    """The options of `SessionSaver` that environment variables name.

    Raises:
        InvalidConfigError: A variable has a value that cannot be used; names the variable.
    """
    readers: dict[str, Callable[[str, str], Any]] = {
        "schema": _text,
        "table_prefix": _text,
        "keep_last": _number,
        "keep_versions": _number,
        "auto_setup": _truth,
        "on_projection_error": _text,
    }
    options = {}
    for option, read in readers.items():
        name = PREFIX + option.upper()
        if given := os.environ.get(name, "").strip():
            options[option] = read(name, given)
    if os.environ.get(KEY_VARIABLE):
        options["serde"] = EncryptedSerializer.from_pycryptodome_aes()
    return options


def _text(name: str, given: str) -> str:
    del name
    return given


def _number(name: str, given: str) -> int:
    try:
        return int(given)
    except ValueError as exc:
        raise InvalidConfigError(f"{name} is {given!r}: set it to a whole number") from exc


def _truth(name: str, given: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if given.lower() not in words:
        raise InvalidConfigError(f"{name} is {given!r}: set it to true or false")
    return words[given.lower()]
