"""Keys of stored rows, and the thread, namespace and checkpoint that a call names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from hashlib import blake2b
from random import Random
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig

from langgraph_session_saver.errors import AccessDeniedError, InvalidConfigError
from langgraph_session_saver.validation import (
    NAMESPACE_LENGTH,
    check_checkpoint_id,
    check_optional_id,
    check_text,
    check_thread_id,
)

Typed = tuple[str, bytes]
"""A serialised value: the type and the bytes that a serde's `dumps_typed` returns."""

KEY_BYTES = 16
"""Bytes of a hashed key."""


def hash_key(*parts: str) -> bytes:
    """A key of fixed size for texts of any length: BLAKE2b-128 of their lengths and the texts."""
    lengths = ",".join([str(len(part)) for part in parts])
    text = f"{lengths};{''.join(parts)}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


def thread_key(thread_id: str) -> bytes:
    """The key of a thread's rows."""
    return hash_key(thread_id)


def namespace_key(checkpoint_ns: str) -> bytes:
    """The key of a namespace; empty for the root namespace."""
    return hash_key(checkpoint_ns) if checkpoint_ns else b""


def blob_key(checkpoint_ns: str, channel: str, version: Any) -> bytes:
    """The key of one channel's value at one version."""
    return hash_key(checkpoint_ns, channel, str(version))


def is_unique(version: Any) -> bool:
    """Whether no other value can have this version: plain numbers are repeated by forks."""
    return isinstance(version, str) and "." in version


class CheckpointKey(NamedTuple):
    """The primary key of a checkpoint's row."""

    thread_key: bytes
    ns_key: bytes
    checkpoint_id: str


class ThreadRef(NamedTuple):
    """A thread, and the session and owner that a call names for it, if it does."""

    key: bytes
    thread_id: str
    session_id: str | None = None
    owner_id: str | None = None
    is_limited: bool = False
    """Whether the call may not take a thread or session that has no owner."""

    @classmethod
    def of(
        cls, thread_id: Any, limit: str | None, *, session_id: Any = None, owner_id: Any = None
    ) -> ThreadRef:
        """Check the ids that a call names.

        Args:
            thread_id: The thread.
            limit: The owner that the saver is limited to, if it is.
            session_id: The session that the call names, if it does.
            owner_id: The owner that the call names, if it does.

        Raises:
            InvalidConfigError: An id is not text, too long or not storable.
            AccessDeniedError: The call names another owner than the saver's.
        """
        text = check_thread_id(thread_id)
        session_id = check_optional_id("session_id", session_id)
        owner_id = check_owner(check_optional_id("owner_id", owner_id), limit)
        return cls(thread_key(text), text, session_id, owner_id, limit is not None)

    def admits(self, owner_id: str | None) -> bool:
        """Whether the call may read and change what has this owner, or none."""
        if self.owner_id is None or owner_id == self.owner_id:
            return True
        return owner_id is None and not self.is_limited


def check_owner(owner_id: str | None, limit: str | None) -> str | None:
    """The owner that a call names, else the one that the saver is limited to.

    Raises:
        AccessDeniedError: The call names another one.
    """
    if limit is not None and owner_id not in (None, limit):
        raise AccessDeniedError(
            "the call names another owner_id than that of for_owner(…): leave it out"
        )
    return limit if owner_id is None else owner_id


class Place(NamedTuple):
    """Where a call reads or writes: thread, namespace and checkpoint."""

    thread: ThreadRef
    checkpoint_ns: str
    ns_key: bytes
    checkpoint_id: str | None
    key: CheckpointKey | None
    """The key of the checkpoint that the call names, if it names one."""

    @classmethod
    def of(cls, config: RunnableConfig | None, limit: str | None) -> Place:
        """Read the thread, namespace and checkpoint that a config names.

        Args:
            config: The config.
            limit: The owner that the saver is limited to, if it is.

        Raises:
            InvalidConfigError: There is no thread, or an id is not text, too long or not storable.
            AccessDeniedError: The config names another owner than the saver's.
        """
        configurable = (config or {}).get("configurable")
        usage = "pass config={'configurable': {'thread_id': …}}"
        if not isinstance(
            configurable, (dict, Mapping)
        ):  # dict first: Mapping is an abstract class
            raise InvalidConfigError(f"the config has no 'configurable': {usage}")
        if "thread_id" not in configurable:
            raise InvalidConfigError(f"the config names no thread: {usage}")
        thread = ThreadRef.of(
            configurable["thread_id"],
            limit,
            session_id=configurable.get("session_id"),
            owner_id=configurable.get("owner_id"),
        )
        checkpoint_ns = configurable.get("checkpoint_ns") or ""
        if checkpoint_ns:
            check_text("checkpoint_ns", checkpoint_ns, NAMESPACE_LENGTH)
        checkpoint_id = configurable.get("checkpoint_id") or None
        if checkpoint_id is not None:
            checkpoint_id = check_checkpoint_id("checkpoint_id", checkpoint_id)
        ns_key = namespace_key(checkpoint_ns)
        key = None if checkpoint_id is None else CheckpointKey(thread.key, ns_key, checkpoint_id)
        return cls(thread, checkpoint_ns, ns_key, checkpoint_id, key)

    @property
    def is_root(self) -> bool:
        """Whether this is the thread's root namespace."""
        return not self.checkpoint_ns

    def key_of(self, checkpoint_id: str) -> CheckpointKey:
        """The key of a checkpoint of this namespace."""
        return CheckpointKey(self.thread.key, self.ns_key, checkpoint_id)

    def at(self, checkpoint_id: str) -> RunnableConfig:
        """A config that names a checkpoint of this namespace."""
        return {
            "configurable": {
                "thread_id": self.thread.thread_id,
                "checkpoint_ns": self.checkpoint_ns,
                "checkpoint_id": checkpoint_id,
            }
        }


# A generator of its own, because an application may seed the module's. The system's would release
# the interpreter's lock at each call, and the caller would wait for all other threads.
_random = Random()  # noqa: S311 - not for secrets
random_bits = _random.getrandbits
"""A whole number of so many random bits."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)

_VERSION = re.compile(r"(\d+)(?:\.(.*))?", re.DOTALL)

_COUNTER_DIGITS = 10

_RANDOM_DIGITS = 12


def next_version(current: str | int | None) -> str:
    """The version that follows a channel's current one.

    It ends in random digits, so that two forks of one parent never give different values the same
    version. The number is as wide as in the current version, which may have been imported.
    """
    found = _VERSION.fullmatch(str(current)) if current is not None else None
    number = int(found[1]) + 1 if found else 1
    width = max(_COUNTER_DIGITS, len(found[1])) if found and found[2] else _COUNTER_DIGITS
    return f"{number:0{width}}.{random_bits(4 * _RANDOM_DIGITS):0{_RANDOM_DIGITS}x}"
