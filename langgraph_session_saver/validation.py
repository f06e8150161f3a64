"""Checks of the arguments that callers pass, and the length limits of ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from langgraph_session_saver.errors import InvalidConfigError

THREAD_ID_LENGTH = 255

CHANNEL_LENGTH = 255

CHECKPOINT_ID_LENGTH = 255

NAMESPACE_LENGTH = 4_000

MODEL_LENGTH = 2_048


def check_thread_id(thread_id: Any) -> str:
    """A thread id as text.

    Raises:
        InvalidConfigError: It is neither text nor a number, is empty, too long or has a NUL.
    """
    if isinstance(thread_id, bool) or not isinstance(thread_id, str | int | float):
        raise InvalidConfigError(
            f"thread_id is a {type(thread_id).__name__} ({thread_id!r:.80}): pass text or a number"
        )
    text = check_text("thread_id", str(thread_id), THREAD_ID_LENGTH)
    if not text:
        raise InvalidConfigError("thread_id is empty: pass an id, a UUID for example")
    return text


def check_channels(channels: Sequence[str]) -> None:
    """Check channel names.

    Raises:
        InvalidConfigError: A name is too long, or holds what no database takes.
    """
    try:
        _check_channels(tuple(channels))
    except TypeError:  # what has no hash is no name
        _check_channels.__wrapped__(channels)


@lru_cache(maxsize=1_024)
def _check_channels(channels: Sequence[str]) -> None:
    for channel in channels:
        check_text("channel name", channel, CHANNEL_LENGTH)


def check_filter(wanted: Mapping[str, Any] | None) -> None:
    """Check a metadata filter: values are compared in Python, and keys never reach SQL.

    Raises:
        InvalidConfigError: A key is not text.
    """
    for key in wanted or {}:
        if not isinstance(key, str):
            raise InvalidConfigError(
                f"a metadata filter has the key {key!r}, a {type(key).__name__}: keys are text"
            )


def check_count(what: str, count: Any) -> int | None:
    """Check how many to keep.

    Raises:
        InvalidConfigError: It is no whole number from 1 on.
    """
    if count is None:
        return None
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InvalidConfigError(
            f"{what} is {count!r}: pass a whole number from 1 on, or leave it out to keep all"
        )
    return count


def check_age(what: str, age: Any) -> None:
    """Check a limit of age.

    Raises:
        InvalidConfigError: It is no positive `timedelta`.
    """
    if age is not None and (not isinstance(age, timedelta) or age <= timedelta()):
        raise InvalidConfigError(f"{what} is {age!r}: pass a positive datetime.timedelta")


def check_id(what: str, value: Any) -> str:
    """An id as text.

    Raises:
        InvalidConfigError: It is no id that every database could hold.
    """
    found = check_optional_id(what, value)
    if found is None:
        raise InvalidConfigError(f"{what} is None: pass an id")
    return found


def check_moment(what: str, moment: Any) -> datetime | None:
    """A moment, if one is given.

    Raises:
        InvalidConfigError: It is no `datetime` with a time zone.
    """
    if moment is None or (isinstance(moment, datetime) and moment.tzinfo is not None):
        return moment
    raise InvalidConfigError(f"{what} is {moment!r:.80}: pass a datetime with a time zone")


def check_optional_id(what: str, value: Any) -> str | None:
    """An id as text, if one is given.

    Raises:
        InvalidConfigError: It is no id that every database could hold.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidConfigError(f"{what} is a {type(value).__name__}: pass text")
    text = check_text(what, str(value), THREAD_ID_LENGTH)
    if not text:
        raise InvalidConfigError(f"{what} is empty: pass an id, or leave it out")
    return text


def check_text(what: str, value: Any, limit: int) -> str:
    """Text that every database could hold.

    Raises:
        InvalidConfigError: It is not text, too long, or has a NUL or a lone surrogate.
    """
    if not isinstance(value, str):
        raise InvalidConfigError(f"{what} is a {type(value).__name__} ({value!r:.80}): pass text")
    if value.isascii() and len(value) <= limit and "\x00" not in value:
        return value
    if len(value) > limit:
        raise InvalidConfigError(
            f"{what} has {len(value):,} characters, and at most {limit:,} fit: "
            f"{value[:40]!r}… is too long"
        )
    if "\x00" in value:
        raise InvalidConfigError(
            f"{what} {value!r:.80} has a NUL character, which no database takes"
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise InvalidConfigError(
            f"{what} {value!r:.80} has a lone surrogate, which no database takes"
        ) from exc
    return value
