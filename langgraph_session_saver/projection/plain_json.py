"""Channel values as text and JSON that every database accepts. Pure, and bounded in its work."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import re
from collections.abc import Mapping
from datetime import date, time
from enum import Enum
from typing import Any

DEPTH = 28
"""Levels of nesting: MariaDB's JSON allows 32, and the value is nested in other objects."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class OverBudgetError(ValueError):
    """A value takes more JSON than it is allowed."""


def clean_text(text: str) -> str:
    """Replace NUL and lone surrogates, which databases refuse, by U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def title_of(text: str) -> str:
    """The title that a session gets from a message: its text in one line, shortened."""
    return shorten(" ".join(clean_text(text).split()), 80)


def shorten(text: str, limit: int) -> str:
    """Cut text to a length, with an ellipsis if something is cut off."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def to_json(value: Any, budget: float = math.inf, *, depth: float = DEPTH) -> Any:
    """Convert a value to plain JSON.

    Models and dataclasses become objects of their fields; a value that has no JSON form becomes an
    object that names its type.

    Args:
        value: Any channel value.
        budget: Characters that the JSON may take; conversion stops there. A number counts as at
            most 8.
        depth: Levels of nesting that it may have.

    Raises:
        OverBudgetError: The JSON takes more characters or levels.
    """
    return _Converter(budget, depth).convert(value)


def field_names(value: Any) -> list[str] | None:
    """The fields of a Pydantic model or a dataclass; None for any other value."""
    fields = getattr(type(value), "model_fields", None)
    if fields is not None:
        return [*fields, *(getattr(value, "model_extra", None) or ())]
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    return None


def quick_json(value: Any, budget: int) -> str | None:
    """The text of `to_json(value, budget)`, from C code: ten times as fast for 2 KB.

    Args:
        value: A channel value of bounded size, for all of it is encoded.
        budget: Characters that the text may take.

    Returns:
        The text; None if it takes more, or if `to_json` may change the value.
    """
    try:
        text = _encode(value)
    except (TypeError, ValueError, RecursionError):
        return None
    if len(text) > budget or text.count("{") + text.count("[") > DEPTH:
        return None
    return None if "\\u" in text and _ESCAPED.search(text) else text


_encode = json.JSONEncoder(allow_nan=False).encode

_ESCAPED = re.compile(r"\\u(?:0000|d[89a-f])")
"""What `clean_text` may replace, in JSON."""


class _Converter:
    def __init__(self, budget: float, depth: float) -> None:
        self._left = budget
        self._max_depth = depth
        self._depth = 0

    def convert(self, value: Any) -> Any:
        while isinstance(value, Enum):
            value = value.value
        if isinstance(value, str):
            self._spend(None, len(value) + 2)
            return clean_text(value)
        if value is None or isinstance(value, bool):
            return self._spend(value, 4)
        if isinstance(value, (int, float)):
            is_finite = isinstance(value, int) or math.isfinite(value)
            return self._spend(value if is_finite else str(value), min(len(str(value)), 8))
        if isinstance(value, (date, time)):
            return self._spend(value.isoformat(), 32)
        self._depth += 1
        if self._depth > self._max_depth:
            raise OverBudgetError(f"nested more than {self._max_depth} levels deep")
        converted = self._container(value)
        self._depth -= 1
        return converted

    def _container(self, value: Any) -> Any:
        if isinstance(value, (dict, Mapping)):  # dict first: Mapping is an abstract class
            return {self._key(key): self.convert(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.convert(self._spend(item, 2)) for item in value]
        if isinstance(value, bytes | bytearray):
            self._spend(None, len(value) * 4 // 3)
            return {"$bytes": base64.b64encode(value).decode("ascii")}
        fields = field_names(value)
        if fields is not None:
            return {self._key(name): self.convert(getattr(value, name)) for name in fields}
        return self._spend({"$type": f"{type(value).__module__}.{type(value).__qualname__}"}, 40)

    def _key(self, key: Any) -> str:
        if isinstance(key, Enum):
            key = key.value
        if key is None or isinstance(key, bool):
            key = json.dumps(key)
        text = clean_text(str(key))
        self._spend(None, len(text) + 4)
        return text

    def _spend(self, value: Any, size: int) -> Any:
        """Return a value after its size was taken off what is left, if that is enough."""
        self._left -= size
        if self._left < 0:
            raise OverBudgetError
        return value
