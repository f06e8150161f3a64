"""What a call's config says, checked before anything is written. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
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
    """Read a config.

    Raises:
        InvalidConfigError: It names no thread, or an id that no database could hold.
    """
    configurable = configurable_of(config)
    if "thread_id" not in configurable:
        raise InvalidConfigError(
            "the config names no thread: pass config={'configurable': {'thread_id': …}}"
        )
    named = (
        configurable["thread_id"], configurable.get("session_id"), configurable.get("owner_id")
    )  # fmt: skip
    try:
        thread = _known_thread(*named)
    except TypeError:  # what has no hash is no id
        thread = _known_thread.__wrapped__(*named)
    checkpoint_ns, ns_key = configurable.get("checkpoint_ns") or "", b""
    if checkpoint_ns:
        checkpoint_ns = check_text("checkpoint_ns", checkpoint_ns, NAMESPACE_LENGTH)
        ns_key = namespace_key(checkpoint_ns)
    checkpoint_id = configurable.get("checkpoint_id") or None
    if checkpoint_id is not None:
        checkpoint_id = check_text("checkpoint_id", checkpoint_id, CHECKPOINT_ID_LENGTH)
    return Place(thread, checkpoint_ns, ns_key, checkpoint_id)


@lru_cache(maxsize=4_096, typed=True)
def _known_thread(thread_id: Any, session_id: Any, owner_id: Any) -> ThreadRef:
    text = check_thread_id(thread_id)
    return ThreadRef(
        thread_key(text),
        text,
        check_optional_id("session_id", session_id),
        check_optional_id("owner_id", owner_id),
    )


def configurable_of(config: RunnableConfig | None) -> Mapping[str, Any]:
    """The `configurable` part of a config.

    Raises:
        InvalidConfigError: There is none.
    """
    configurable = (config or {}).get("configurable")
    if type(configurable) is not dict and not isinstance(configurable, Mapping):
        raise InvalidConfigError(
            "the config has no 'configurable': pass config={'configurable': {'thread_id': …}}"
        )
    return configurable
