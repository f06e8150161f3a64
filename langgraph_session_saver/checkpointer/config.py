"""Parse and check the config of a call. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig

from langgraph_session_saver.encoding.keys import (
    Place,
    ThreadRef,
    namespace_key,
    thread_key,
)
from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.validation import (
    CHECKPOINT_ID_LENGTH,
    NAMESPACE_LENGTH,
    check_optional_id,
    check_text,
    check_thread_id,
)


def place_of(config: RunnableConfig | None) -> Place:
    """Read the thread, namespace and checkpoint that a config names.

    Raises:
        InvalidConfigError: There is no thread, or an id is not text, too long or not storable.
    """
    configurable = configurable_of(config)
    if "thread_id" not in configurable:
        raise InvalidConfigError(
            "the config names no thread: pass config={'configurable': {'thread_id': …}}"
        )
    thread_id = check_thread_id(configurable["thread_id"])
    thread = ThreadRef(
        thread_key(thread_id),
        thread_id,
        check_optional_id("session_id", configurable.get("session_id")),
        check_optional_id("owner_id", configurable.get("owner_id")),
    )
    checkpoint_ns = configurable.get("checkpoint_ns") or ""
    if checkpoint_ns:
        checkpoint_ns = check_text("checkpoint_ns", checkpoint_ns, NAMESPACE_LENGTH)
    checkpoint_id = configurable.get("checkpoint_id") or None
    if checkpoint_id is not None:
        checkpoint_id = check_text("checkpoint_id", checkpoint_id, CHECKPOINT_ID_LENGTH)
    return Place(thread, checkpoint_ns, namespace_key(checkpoint_ns), checkpoint_id)


def configurable_of(config: RunnableConfig | None) -> Mapping[str, Any]:
    """The `configurable` part of a config.

    Raises:
        InvalidConfigError: There is none.
    """
    configurable = (config or {}).get("configurable")
    if not isinstance(configurable, Mapping):
        raise InvalidConfigError(
            "the config has no 'configurable': pass config={'configurable': {'thread_id': …}}"
        )
    return configurable
