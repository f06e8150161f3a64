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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from pydantic import TypeAdapter, ValidationError

from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.saver import SessionSaver
from langgraph_session_saver.sql.urls import URL_VARIABLE

PREFIX = URL_VARIABLE.removesuffix("URL")


@asynccontextmanager
async def checkpointer() -> AsyncIterator[SessionSaver]:
    """Open the saver that the environment describes, set its database up, and close it at the end.

    Raises:
        InvalidConfigError: A variable has an invalid value; names the variable.
        SessionSaverError: The database cannot be reached or has another schema version.
    """
    options = _options_of_environment()
    # In a thread: it accesses the file system, which would block the server's event loop.
    saver = await asyncio.to_thread(SessionSaver.from_conn_string, **options)
    async with saver:
        if options.get("auto_setup", True):
            await saver.asetup()
        yield saver


def _options_of_environment() -> dict[str, Any]:
    """Read the options of `SessionSaver` from environment variables."""
    options = {}
    for option, (type_, expected) in _OPTIONS.items():
        name = PREFIX + option.upper()
        if value := os.environ.get(name, "").strip():
            try:
                options[option] = TypeAdapter(type_).validate_python(value)
            except ValidationError as exc:
                raise InvalidConfigError(f"{name} is {value!r}: set it to {expected}") from exc
    if os.environ.get("LANGGRAPH_AES_KEY"):
        options["serde"] = EncryptedSerializer.from_pycryptodome_aes()
    return options


_OPTIONS: dict[str, tuple[type[Any], str]] = {
    "schema": (str, "text"),
    "table_prefix": (str, "text"),
    "keep_last": (int, "a whole number"),
    "keep_versions": (int, "a whole number"),
    "auto_setup": (bool, "true or false"),
    "on_projection_error": (str, "record or raise"),
}
"""The type of each option, which Pydantic reads from text, and what to set it to."""
