"""Channel versions: a counter that sorts as text, and random digits."""

from __future__ import annotations

import re

from langgraph_session_saver.randomness import bits

_VERSION = re.compile(r"(\d+)(?:\.(.*))?", re.DOTALL)
_COUNTER_DIGITS = 10
_RANDOM_DIGITS = 12


def next_version(current: str | int | None) -> str:
    """The version after a channel's current one.

    The random digits keep two forks of one parent from giving different values the same version.
    An imported thread's own width is kept.
    """
    found = _VERSION.fullmatch(str(current)) if current is not None else None
    number = int(found[1]) + 1 if found else 1
    width = max(_COUNTER_DIGITS, len(found[1])) if found and found[2] else _COUNTER_DIGITS
    return f"{number:0{width}}.{bits(4 * _RANDOM_DIGITS):0{_RANDOM_DIGITS}x}"
