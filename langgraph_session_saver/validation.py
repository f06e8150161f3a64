"""Checks of the arguments that callers pass, and the length limits of ids.

Every check raises `InvalidConfigError`, which names the argument, what was passed and what to pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from langgraph_session_saver.errors import InvalidConfigError

THREAD_ID_LENGTH = 255
CHANNEL_LENGTH = 255
CHECKPOINT_ID_LENGTH = 255
NAMESPACE_LENGTH = 4_000
MODEL_LENGTH = 2_048


def _invalid(what: str, value: Any, expected: str) -> InvalidConfigError:
    kind = type(value).__name__
    article = "an" if kind[0] in "aeiou" else "a"
    return InvalidConfigError(f"{what} is {article} {kind} ({value!r:.80}): pass {expected}")


def check_thread_id(thread_id: Any) -> str:
    """Return a thread id, text, a UUID or a number, as text."""
    return _as_id("thread_id", thread_id, (str, int, float, UUID), "text, a UUID or a number")


def check_id(what: str, value: Any) -> str:
    """Return an id as text."""
    return _as_id(what, value, (str, int, UUID), "text or a UUID")


def check_optional_id(what: str, value: Any) -> str | None:
    """Return an id as text, if there is one."""
    return None if value is None else check_id(what, value)


def check_checkpoint_id(what: str, value: Any) -> str:
    """Return a checkpoint id, text or a UUID, as text, which may be empty."""
    return check_text(what, str(value) if isinstance(value, UUID) else value, CHECKPOINT_ID_LENGTH)


def _as_id(what: str, value: Any, kinds: tuple[type, ...], expected: str) -> str:
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise _invalid(what, value, expected)
    text = check_text(what, str(value), THREAD_ID_LENGTH)
    if not text:
        raise InvalidConfigError(f"{what} is empty: pass an id, for example a UUID")
    return text


def check_channels(channels: Iterable[str]) -> None:
    """Check channel names."""
    for channel in channels:
        check_text("channel name", channel, CHANNEL_LENGTH)


def check_text(what: str, value: Any, limit: int) -> str:
    """Return text that every database takes: not too long, without NUL and lone surrogates."""
    if not isinstance(value, str):
        raise _invalid(what, value, "text")
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


def check_one_of(what: str, value: Any, known: Collection[str]) -> str:
    """Return one of some known texts."""
    if value not in known:
        raise InvalidConfigError(f"{what} is {value!r:.80}: use one of {', '.join(known)}")
    return str(value)


def check_filter(wanted: Mapping[str, Any] | None) -> None:
    """Check a metadata filter: its values are compared in Python, and its keys never reach SQL."""
    for key in wanted or {}:
        if not isinstance(key, str):
            raise InvalidConfigError(
                f"a metadata filter has the key {key!r}, a {type(key).__name__}: keys are text"
            )


def check_count(what: str, count: Any) -> int | None:
    """Return a retention count, if there is one."""
    if count is None:
        return None
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise _invalid(what, count, "a whole number from 1 on, or leave it out to keep all")
    return count


def check_number(what: str, value: Any, largest: int, smallest: int = 0) -> int:
    """Return a whole number in a range."""
    if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
        raise _invalid(what, value, f"a whole number from {smallest} to {largest}")
    return value


def check_seconds(what: str, value: Any) -> float:
    """Return a time in seconds."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < float("inf"):
        raise _invalid(what, value, "seconds, a number from 0 on")
    return float(value)


def check_age(what: str, age: Any) -> None:
    """Check an age limit, if there is one."""
    if age is not None and (not isinstance(age, timedelta) or age <= timedelta()):
        raise _invalid(what, age, "a positive datetime.timedelta")


def check_moment(what: str, moment: Any) -> datetime | None:
    """Return a moment in UTC, if there is one."""
    if moment is None:
        return None
    try:
        if isinstance(moment, datetime) and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except OverflowError:
        pass
    raise _invalid(what, moment, "a datetime with a time zone, in the years 1 to 9999 of UTC")
