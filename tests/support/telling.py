"""A saver for processes that are killed: it prints each checkpoint that it has saved."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint

from tests.support.watched import WatchedSaver


class TellingSaver(WatchedSaver):
    """Prints each checkpoint that it has saved, with a digest of its values."""

    def has_saved(self, checkpoint: Checkpoint, saved: RunnableConfig) -> None:
        """Print it."""
        tell(**as_saved(checkpoint, saved))


def as_saved(checkpoint: Checkpoint, saved: RunnableConfig) -> dict[str, Any]:
    """What to look for afterwards, of a checkpoint of which a put has returned."""
    return {
        "saved": saved["configurable"]["checkpoint_id"],
        "thread": saved["configurable"]["thread_id"],
        "digest": digest(checkpoint["channel_values"]),
    }


def digest(values: Mapping[str, Any]) -> str:
    """A digest of the page, the messages and the status in a checkpoint."""
    messages = [[message.type, message.content] for message in values.get("messages", [])]
    seen = [messages, values.get("html"), values.get("build_status")]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()


def tell(**what: Any) -> None:
    """Print one line of JSON, by one system call: a kill leaves whole lines."""
    os.write(1, json.dumps(what).encode() + b"\n")
